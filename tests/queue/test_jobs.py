"""Jobs: one for each kind and key, taken by one worker at a time, tried again, never lost."""

import threading

import pytest
from sqlalchemy import select

from fairway.db.models import Job
from fairway.queue import jobs, worker
from tests.support.waiting import eventually

MINUTE = 60_000


def enqueue(database, kind="sweep", *, key="", run_at=0):
    with database.write() as session:
        jobs.enqueue(session, kind, key=key, run_at=run_at)


def claim(database, now):
    with database.write() as session:
        return jobs.claim(session, now=now)


def waiting(database):
    with database.read() as session:
        return [(job.kind, job.key, job.run_at, job.attempts, job.error) for job in session.scalars(select(Job).order_by(Job.id))]  # fmt: skip


def test_a_job_waits_once_for_each_kind_and_key(database):
    enqueue(database, run_at=5)
    enqueue(database, run_at=1)
    enqueue(database, key="other", run_at=7)
    enqueue(database, "refresh", run_at=8)
    assert waiting(database) == [
        ("sweep", "", 5, 0, None), ("sweep", "other", 7, 0, None), ("refresh", "", 8, 0, None),
    ]  # fmt: skip


def test_a_job_that_is_held_is_missed_soon_and_at_once_when_nobody_can_have_it(database):
    enqueue(database, "refresh", key="7")
    assert claim(database, 10).key == "7"
    with database.write() as session:
        jobs.hold(session, "refresh", key="7", now=20)
    assert claim(database, 20 + jobs.HELD_MS - 1) is None
    assert claim(database, 20 + jobs.HELD_MS).attempts == 2
    with database.write() as session:
        jobs.release(session)
    assert claim(database, 20 + jobs.HELD_MS).attempts == 3


def test_a_job_is_taken_once_also_where_two_clocks_differ_a_little(database):
    enqueue(database, "refresh")
    assert claim(database, 1_000) is not None
    assert claim(database, 990) is None


def test_the_job_that_is_due_longest_comes_first_and_none_before_its_time(database):
    for key, run_at in (("late", 30), ("early", 10), ("middle", 20)):
        enqueue(database, key=key, run_at=run_at)
    assert claim(database, 9) is None
    assert [claim(database, 25).key, claim(database, 25).key, claim(database, 25)] == ["early", "middle", None]


def test_a_job_is_taken_once_and_comes_back_when_its_worker_dies(database):
    enqueue(database)
    first = claim(database, 100)
    assert (first.kind, first.key, first.attempts) == ("sweep", "", 1)
    assert claim(database, 100 + jobs.LEASE_MS - 1) is None
    again = claim(database, 100 + jobs.LEASE_MS)
    assert (again.id, again.attempts) == (first.id, 2)


def test_workers_at_once_never_share_a_job(database):
    for n in range(12):
        enqueue(database, key=str(n))
    taken, lock = [], threading.Lock()

    def work():
        while (job := claim(database, 1)) is not None:
            with lock:
                taken.append(job.key)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken, key=int) == [str(n) for n in range(12)]


def test_a_finished_job_is_gone_and_a_recurring_one_waits_for_its_next_time(database):
    enqueue(database)
    enqueue(database, "once")
    now = 1_000
    done = worker.run_due(
        database, {"sweep": lambda _: None, "once": lambda _: None}, {"sweep": MINUTE}, clock=lambda: now
    )
    assert done == 2
    assert waiting(database) == [("sweep", "", now + MINUTE, 0, None)]


def test_a_failed_job_is_tried_again_after_longer_and_longer_and_says_why(database):
    enqueue(database)
    now = 0
    delays = []

    def fail(_):
        raise RuntimeError("no disk\n" + "x" * 2_000)

    for _ in range(6):
        assert worker.run_due(database, {"sweep": fail}, {"sweep": MINUTE}, clock=lambda now=now: now) == 0
        ((_, _, run_at, _, error),) = waiting(database)
        delays.append(run_at - now)
        now = run_at
    assert delays == [10_000, 60_000, 300_000, 1_800_000, 1_800_000, 1_800_000]
    assert error.startswith("no disk")
    assert len(error) <= 1_000
    assert worker.run_due(database, {"sweep": lambda _: None}, {"sweep": MINUTE}, clock=lambda: now) == 1
    assert waiting(database) == [("sweep", "", now + MINUTE, 0, None)]


def test_one_that_fails_does_not_hold_up_the_others(database):
    enqueue(database, "bad", run_at=0)
    enqueue(database, "good", run_at=1)
    ran = []

    def bad(_):
        raise RuntimeError("bad")

    assert worker.run_due(database, {"bad": bad, "good": ran.append}, {}, clock=lambda: 10) == 1
    assert ran == [""]


def test_a_job_nobody_here_knows_is_kept(database):
    enqueue(database, "of-a-newer-version")
    assert worker.run_due(database, {}, {}, clock=lambda: 10) == 0
    assert [row[0] for row in waiting(database)] == ["of-a-newer-version"]


def test_recurring_jobs_are_ensured_once(database):
    for now in (0, 5):
        worker.ensure(database, {"sweep": MINUTE}, now=now)
    assert waiting(database) == [("sweep", "", MINUTE, 0, None)]


@pytest.mark.parametrize("act", ["finish", "again", "fail"])
def test_a_job_that_went_away_meanwhile_is_no_trouble(database, act):
    enqueue(database)
    job = claim(database, 1)
    with database.write() as session:
        jobs.finish(session, job)
    with database.write() as session:
        if act == "fail":
            jobs.fail(session, job, "late", now=1)
        else:
            jobs.finish(session, job, again_at=None if act == "finish" else 9)
    assert waiting(database) == []


@pytest.mark.parametrize("act", ["finish", "again", "fail"])
def test_a_job_that_was_asked_for_while_it_ran_is_due_again(database, act):
    """It may have looked before the change for which it was asked: a refresh that ends as its upstream is changed."""
    enqueue(database, run_at=1)
    job = claim(database, 5)
    with database.write() as session:
        jobs.enqueue(session, "sweep", run_at=7)
        jobs.hasten(session, "sweep", key="", run_at=7)
    assert claim(database, 8) is None
    with database.write() as session:
        if act == "fail":
            jobs.fail(session, job, "late", now=9)
        else:
            jobs.finish(session, job, again_at=None if act == "finish" else MINUTE)
    again = claim(database, 10)
    assert again is not None
    with database.write() as session:
        jobs.finish(session, again)
    assert waiting(database) == []


def test_a_slow_job_keeps_no_other_slow_one_waiting(fairway):
    """Else one upstream that drips would keep all others as old as they are."""
    together = threading.Barrier(2, timeout=30)

    def meet(_key):
        together.wait()

    for key in ("one", "two"):
        enqueue(fairway.database, "refresh", key=key)
    fairway.start({}, {}, {"refresh": meet})
    eventually(lambda: waiting(fairway.database) == [])
