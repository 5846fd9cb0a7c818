"""What administrators do to accounts and jobs, and that the last of them stays."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select

from fairway import errors
from fairway.db.models import Audit, Job, User
from fairway.queue import jobs
from fairway.registry import administer, oversight
from fairway.registry.actor import CONSOLE, NOBODY
from fairway.registry.oversight import State


def act(world, do, *arguments, actor=CONSOLE, **options):
    with world.app.database.write() as session:
        return do(session, actor, *arguments, now=world.now, **options)


def user(world, name):
    with world.app.database.read() as session:
        return session.scalars(select(User).where(User.name == name)).one()


def lines(world, *actions):
    with world.app.database.read() as session:
        query = select(Audit).where(Audit.action.in_(actions)).order_by(Audit.id)
        return [(line.action, line.actor, line.subject) for line in session.scalars(query)]


def test_who_is_suspended_is_nobody_until_they_are_let_in_again(world):
    key = world.key("viewer", "read")
    admin = world.actor("admin")
    for _ in range(2):
        act(world, administer.suspend, "Viewer ", actor=admin)
    assert world.app.lookup.view().actor(key, rows=True).invalid
    for _ in range(2):
        act(world, administer.resume, "viewer", actor=admin)
    assert world.app.lookup.view().actor(key, rows=True).name == "viewer"
    assert lines(world, "user.suspend", "user.resume") == [
        ("user.suspend", "admin", "viewer"),
        ("user.resume", "admin", "viewer"),
    ]


def test_the_last_administrator_stays(world):
    admin = world.actor("admin")
    for do, more in ((administer.suspend, {}), (administer.set_admin, {"is_admin": False})):
        with pytest.raises(errors.Invalid) as caught:
            act(world, do, "admin", **more)
        assert caught.value.code == "last_admin"
    act(world, administer.set_admin, "owner", actor=admin, is_admin=True)
    with pytest.raises(errors.Invalid):
        act(world, administer.suspend, "admin", actor=admin)
    act(world, administer.suspend, "admin", actor=world.actor("owner"))
    with pytest.raises(errors.Invalid):  # who is suspended does not count
        act(world, administer.set_admin, "owner", is_admin=False)
    act(world, administer.set_admin, "admin", is_admin=False)
    with pytest.raises(errors.Invalid) as caught:
        act(world, administer.set_admin, "admin", is_admin=True)
    assert caught.value.code == "user_suspended"
    assert (user(world, "owner").is_admin, user(world, "admin").is_admin) == (True, False)


def test_of_two_administrators_who_take_each_other_down_one_stays(world):
    act(world, administer.set_admin, "owner", is_admin=True)
    outcomes = []

    def take_down(by, whom):
        try:
            act(world, administer.set_admin, whom, actor=by, is_admin=False)
            outcomes.append("done")
        except errors.Invalid:
            outcomes.append("kept")

    pairs = [(world.actor("admin"), "owner"), (world.actor("owner"), "admin")]
    threads = [threading.Thread(target=take_down, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done", "kept"]
    assert user(world, "owner").is_admin + user(world, "admin").is_admin == 1


@pytest.mark.parametrize(
    ("name", "scope", "refusal"),
    [("owner", "admin", errors.NotAllowed), ("admin", "upload", errors.NotAllowed), (None, "", errors.AuthRequired)],
)
def test_only_administrators_may(world, name, scope, refusal):
    actor = world.actor(name, scope) if name else NOBODY
    for do, arguments, more in (
        (administer.suspend, ("viewer",), {}),
        (administer.resume, ("viewer",), {}),
        (administer.set_admin, ("viewer",), {"is_admin": True}),
        (administer.retry, (1,), {}),
    ):
        with pytest.raises(refusal):
            act(world, do, *arguments, actor=actor, **more)
    assert not user(world, "viewer").is_admin
    for do, arguments in ((administer.suspend, ("none",)), (administer.resume, ("none",)), (administer.retry, (99,))):
        with pytest.raises(errors.NotFound):
            act(world, do, *arguments)


def test_jobs_are_seen_in_their_state_and_tried_again(world):
    with world.app.database.write() as session:
        for kind in ("failed", "later", "running"):
            jobs.enqueue(session, kind, run_at=world.now + (5 if kind == "later" else 0))
    with world.app.database.write() as session:
        failed = jobs.claim(session, now=world.now)
        jobs.fail(session, failed, "no room", now=world.now)
    with world.app.database.write() as session:
        assert jobs.claim(session, now=world.now).kind == "running"
    with world.app.database.read() as session:
        rows = {row.kind: row for row in oversight.jobs(session, CONSOLE, now=world.now)}
        (only,) = oversight.jobs(session, CONSOLE, state=State.FAILED, now=world.now)
    assert {kind: row.state for kind, row in rows.items()} == {
        "failed": State.FAILED, "later": State.WAITING, "running": State.RUNNING,
    }  # fmt: skip
    assert (only.error, only.attempts, only.run_at > world.now) == ("no room", 1, True)
    for row in rows.values():
        act(world, administer.retry, row.id)
    with world.app.database.read() as session:
        due = {job.kind: job.run_at for job in session.scalars(select(Job))}
    assert (due["failed"], due["later"]) == (world.now, world.now)
    assert {line[2] for line in lines(world, "job.retry")} == {"failed/", "later/"}
