"""Runs due jobs, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from fairway.db.engine import Database
from fairway.queue import jobs

log = structlog.get_logger("fairway.jobs")

Handler = Callable[[str], int | None]
"""Does a job, by its key; gives the time (ms) at which it is to be done again, if it is."""


def run_due(
    database: Database,
    handlers: Mapping[str, Handler],
    recurring: Mapping[str, int],
    *,
    clock: Callable[[], int],
) -> int:
    """Run what is due; how many jobs that was. `recurring` maps a kind to its period in ms.

    A job nobody handles is left for a newer version to take.
    """
    done = 0
    while True:
        with database.read() as session:  # nearly always nothing, and that needs no lock
            if not jobs.is_due(session, handlers.keys(), now=clock()):
                return done
        with database.write() as session:
            job = jobs.claim(session, now=clock(), kinds=handlers.keys())
        if job is None:
            return done
        try:
            again_at = handlers[job.kind](job.key)
        except Exception as error:
            log.exception("job.failed", kind=job.kind, key=job.key, attempts=job.attempts)
            with database.write() as session:
                jobs.fail(session, job, str(error), now=clock())
            continue
        period = recurring.get(job.kind)
        with database.write() as session:
            jobs.finish(session, job, again_at=again_at if period is None else clock() + period)
        log.info("job.done", kind=job.kind, key=job.key)
        done += 1


def ensure(database: Database, recurring: Mapping[str, int], *, now: int) -> None:
    """Make sure that each recurring job waits for its next time."""
    with database.write() as session:
        for kind, period in recurring.items():
            jobs.enqueue(session, kind, run_at=now + period)
            jobs.hasten(session, kind, run_at=now + period)
