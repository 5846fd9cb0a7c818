"""Uploads that arrive together: one transaction, and each its own outcome."""

import threading
from collections import deque

import msgspec
import pytest
from sqlalchemy import func, select

from fairway.conda.names import Filename
from fairway.db.engine import BUSY
from fairway.db.models import Artifact, Audit
from fairway.errors import ArtifactExists, QuotaExceeded, Unavailable
from fairway.registry import admit, channels, publish
from fairway.registry.actor import CONSOLE
from fairway.registry.committer import Committer, Waiting, take
from tests.support.builders import conda_package


def submission(world, package, *, actor=CONSOLE, channel="lab", **offer):
    filename, data = package
    offer = publish.Offer(channel, Filename.parse(filename), **offer)
    with world.app.staging.open(1 << 30) as staged:
        staged.write(data)
        return publish.Submission(
            publish.receive(world.app.intake, staged, offer, now=world.now), actor, offer, world.now
        )


class Held:
    """A database whose first write waits, so that others gather behind it; it counts transactions."""

    def __init__(self, database):
        self._database = database
        self.begun, self.go, self.writes = threading.Event(), threading.Event(), 0

    def write(self):
        self.writes += 1
        self.begun.set()
        assert self.go.wait(10)
        return self._database.write()


def together(world, submissions, first):
    """Publish `submissions` at once, behind `first` whose transaction is under way; what became of each, and the
    number of transactions.
    """
    held = Held(world.app.database)
    committer = Committer(held)
    outcomes = {}

    def bring(number, one):
        try:
            outcomes[number] = committer.publish(one)
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=bring, args=(-1, first))]
    threads[0].start()
    assert held.begun.wait(10)
    for number, one in enumerate(submissions):
        thread = threading.Thread(target=bring, args=(number, one))
        thread.start()
        threads.append(thread)
        queue = committer._queues[one.offer.channel]
        while len(queue) <= number:
            thread.join(0.001)
    held.go.set()
    for thread in threads:
        thread.join()
    assert committer._queues == {}
    return [outcomes[number] for number in range(len(submissions))], held.writes


def test_those_who_wait_share_one_transaction(world):
    waiting = [submission(world, conda_package("demo", f"1.{n}")) for n in range(20)]
    outcomes, writes = together(world, waiting, submission(world, conda_package("first")))
    assert writes == 2
    assert [outcome.filename for outcome in outcomes] == [one.place[1] for one in waiting]
    assert {outcome.change for outcome in outcomes} == {2}
    assert sorted(world.shards()) == ["demo", "first"]
    with world.app.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Audit).where(Audit.action == "artifact.publish")) == 21


def test_a_refusal_is_an_outcome_of_its_own_and_keeps_no_other_out(world):
    waiting = [
        submission(world, conda_package("demo", "1.0")),
        submission(world, conda_package("other"), actor=world.actor("viewer")),
        submission(world, conda_package("first")),
        submission(world, conda_package("demo", "2.0"), actor=world.actor("uploader")),
    ]
    outcomes, writes = together(world, waiting, submission(world, conda_package("first")))
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "Published",
        "NotAllowed",
        "ArtifactExists",
        "Published",
    ]
    assert writes == 2
    with world.app.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Artifact)) == 3


def test_two_for_one_place_never_share_a_transaction(world):
    one, other = conda_package("demo"), conda_package("demo", about={"summary": "other bytes"})
    waiting = [submission(world, one), submission(world, other), submission(world, one, same_is_fine=True)]
    outcomes, writes = together(world, waiting, submission(world, conda_package("first")))
    assert outcomes[0].created
    assert isinstance(outcomes[1], ArtifactExists)
    assert outcomes[2].created is False
    assert writes == 4


def test_the_quota_counts_what_comes_in_the_same_transaction(world):
    waiting = [submission(world, conda_package("demo", f"1.{n}")) for n in range(3)]
    first = submission(world, conda_package("first"))
    room = first.received.digest.size + waiting[0].received.digest.size + waiting[1].received.digest.size
    with world.app.database.write() as session:
        channels.set_quota(session, CONSOLE, "lab", room, now=world.now)
    outcomes, _ = together(world, waiting, first)
    assert [type(outcome) for outcome in outcomes] == [publish.Published, publish.Published, QuotaExceeded]


def test_a_fault_of_one_is_not_the_fault_of_all(world, monkeypatch):
    def picky(session, channel, submissions):
        if any("1.1" in one.place[1] for one in submissions):
            raise ZeroDivisionError
        return real(session, channel, submissions)

    real = admit.publish
    monkeypatch.setattr(admit, "publish", picky)
    waiting = [submission(world, conda_package("demo", f"1.{n}")) for n in range(3)]
    outcomes, _ = together(world, waiting, submission(world, conda_package("first")))
    assert [type(outcome) for outcome in outcomes] == [publish.Published, ZeroDivisionError, publish.Published]


def test_a_database_that_is_away_refuses_everybody_and_the_next_are_served(world, monkeypatch):
    def away(_session, _channel, _submissions):
        raise Unavailable("away")

    waiting = [submission(world, conda_package("demo", f"1.{n}")) for n in range(3)]
    first = submission(world, conda_package("first"))
    with monkeypatch.context() as patched:
        patched.setattr(admit, "publish", away)
        outcomes, writes = together(world, waiting, first)
    assert [(type(outcome), outcome.detail) for outcome in outcomes] == [(Unavailable, BUSY)] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3
    assert writes == 1  # who waited behind the first does not wait as long again
    assert world.app.committer.publish(first).created


@pytest.mark.parametrize("count", [1, 64, 65])
def test_no_transaction_carries_more_than_its_share(world, count):
    package = submission(world, conda_package("demo"))
    named = [
        publish.Submission(
            publish.Received(
                msgspec.structs.replace(package.received.facts, filename=f"demo-{n}-0.conda"),
                package.received.digest,
            ),
            CONSOLE,
            package.offer,
            1,
        )
        for n in range(count)
    ]
    queue = deque(Waiting(one) for one in named)
    assert len(take(queue)) == min(count, 64)
    assert len(queue) == max(0, count - 64)
