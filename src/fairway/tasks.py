"""Job names, and the functions they stand for."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import structlog

from fairway.queue import jobs
from fairway.queue.worker import Handler
from fairway.registry import sessions, upstreams
from fairway.registry.sweep import sweep
from fairway.settings import environment

if TYPE_CHECKING:
    from fairway.app import Fairway

log = structlog.get_logger("fairway.tasks")

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
STAGED_SECONDS = 3_600.0
HOLD_SECONDS = 5.0

# The period of each recurring job, in ms
RECURRING = {"sweep": HOUR_MS}


def handlers(app: Fairway) -> dict[str, Handler]:
    return {"sweep": lambda _: run_sweep(app)}


def slow(app: Fairway) -> dict[str, Handler]:
    """What may take minutes, and is done beside the others."""
    return {upstreams.REFRESH: lambda key: run_refresh(app, int(key))}


def run_refresh(app: Fairway, channel_id: int) -> int | None:
    """Bring a channel to what its upstream is, in a process of its own: reading a large index keeps the interpreter busy
    for seconds, in which nobody would be answered, and memory is given back. When it is to be done again (ms).
    """
    with app.database.read() as session:
        if channel_id not in upstreams.channels_with(session):
            return None  # it was taken away since
    command = [sys.executable, "-m", "fairway", "upstream", "refresh", "--channel-id", str(channel_id)]
    # our own program, with numbers
    with subprocess.Popen(command, env=environment(app.loaded), stdin=subprocess.DEVNULL) as child:  # noqa: S603
        while True:
            try:
                child.wait(HOLD_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if app.stopping:
                    child.terminate()
                    child.wait()
                    break
                with app.database.write() as session:
                    jobs.hold(session, upstreams.REFRESH, key=str(channel_id), now=app.now())
    app.publisher.poke()
    with app.database.write() as session:
        return upstreams.plan(session, channel_id, now=app.now(), died=child.returncode not in (0, 1))


def run_sweep(app: Fairway) -> int | None:
    """Throw away what was deleted or superseded long enough ago, and what died uploads left in staging."""
    with app.database.write() as session:
        sessions.forget(session, now=app.now())
    swept = sweep(app.database, app.blobs, now=app.now(), keep_ms=app.settings.keep_ms)
    staged = app.staging.sweep(STAGED_SECONDS)
    log.info("sweep", channels=swept.channels, files=swept.files, objects=swept.objects, staged=staged)
    return None
