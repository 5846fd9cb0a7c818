"""Jobs: at most one waits for each kind and key. A job reads the present when it runs and carries no change with it, so
it may run late, or twice, or once for many.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import exists, or_, select, true, update
from sqlalchemy.orm import Session

from fairway.db.models import Job
from fairway.db.upsert import insert_missing

LEASE_MS = 600_000
# who says now and then that it goes on is missed the sooner
HELD_MS = 30_000
BACKOFF_MS = (10_000, 60_000, 300_000, 1_800_000)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that somebody works on. `run_at` is when it was due: another time in its row means that it was asked for anew
    since.
    """

    id: int
    kind: str
    key: str
    attempts: int
    run_at: int


def enqueue(session: Session, kind: str, *, key: str = "", run_at: int) -> None:
    """Ask for a job; if one is waiting already, it is left as it is."""
    values = {"kind": kind, "key": key, "run_at": run_at, "lease_until": 0, "attempts": 0}
    insert_missing(session, Job, values, key=["kind", "key"])


def hasten(session: Session, kind: str, *, run_at: int, key: str | None = None) -> None:
    """Let jobs of a kind, or one of them, wait no longer than until `run_at`: a clock that ran ahead may have put them
    off for years. One that is worked on may have looked already, and is done once more.
    """
    late = update(Job).where(Job.kind == kind)
    if key is None:
        late = late.where(Job.run_at > run_at)
    else:
        late = late.where(Job.key == key, or_(Job.run_at > run_at, Job.lease_until > 0))
    session.execute(late.values(run_at=run_at))


def hold(session: Session, kind: str, *, key: str, now: int) -> None:
    """A job takes long: whoever works on it says so now and then, several times in `HELD_MS`."""
    session.execute(update(Job).where(Job.kind == kind, Job.key == key).values(lease_until=now + HELD_MS))


def release(session: Session) -> None:
    """Nobody can be at a job any more: whoever had taken one died with it."""
    session.execute(update(Job).where(Job.lease_until > 0).values(lease_until=0))


def is_due(session: Session, kinds: Collection[str], *, now: int) -> bool:
    return bool(session.scalar(select(exists().where(Job.run_at <= now, Job.kind.in_(kinds)))))


def claim(session: Session, *, now: int, kinds: Collection[str] | None = None) -> Claimed | None:
    """Take the job that is due longest, of these kinds or of any. A worker that dies with it loses it when its lease ends."""
    # A lease that ends much later than any could was taken by a clock that ran ahead. Not one that ends a moment later: what
    # another thread or machine takes for now may be some milliseconds on, and two would have the same job.
    free = ~Job.lease_until.between(now + 1, now + 2 * LEASE_MS)
    mine = true() if kinds is None else Job.kind.in_(kinds)
    due = select(Job).where(Job.run_at <= now, free, mine).order_by(Job.run_at).limit(1)
    job = session.scalar(due.with_for_update(skip_locked=True))
    if job is None:
        return None
    job.lease_until = now + LEASE_MS
    job.attempts += 1
    return Claimed(job.id, job.kind, job.key, job.attempts, job.run_at)


def finish(session: Session, job: Claimed, *, again_at: int | None = None) -> None:
    """The job is done; `again_at` keeps a recurring one for its next time. One that was asked for meanwhile stays due."""
    row = session.get(Job, job.id, with_for_update=True)
    if row is None:
        return
    if row.run_at == job.run_at:
        if again_at is None:
            session.delete(row)
            return
        row.run_at = again_at
    row.lease_until, row.attempts, row.error = 0, 0, None


def fail(session: Session, job: Claimed, error: str, *, now: int) -> None:
    """The job failed: it waits longer each time, and keeps the last error for people to read."""
    row = session.get(Job, job.id, with_for_update=True)
    if row is not None:
        if row.run_at == job.run_at:
            row.run_at = now + BACKOFF_MS[min(job.attempts, len(BACKOFF_MS)) - 1]
        row.lease_until, row.error = 0, error[:1_000]
