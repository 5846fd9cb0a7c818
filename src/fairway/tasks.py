"""Job names, and the functions they stand for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from fairway.errors import FairwayError, Unavailable
from fairway.queue import jobs
from fairway.queue.worker import Handler
from fairway.registry import fetches, sessions, upstreams
from fairway.registry.sweep import sweep
from fairway.settings import environment

if TYPE_CHECKING:
    from fairway.app import Fairway

log = structlog.get_logger("fairway.tasks")

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
STAGED_SECONDS = 3_600.0
HOLD_SECONDS = 5.0
LOOK_SECONDS = 1.0

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
        due, begun = upstreams.due_at(session, channel_id), app.now()

    def hold() -> None:
        with suppress(FairwayError), app.database.write() as session:  # the next time will do
            jobs.hold(session, upstreams.REFRESH, key=str(channel_id), now=app.now())

    hold()
    returned = run_child(app, ["fairway", "upstream", "refresh", "--channel-id", str(channel_id)], hold)
    app.publisher.poke()
    with app.database.write() as session:
        died = returned not in (0, 1)
        return upstreams.plan(session, channel_id, now=app.now(), died=died, due=due, begun=begun)


def build(app: Fairway, subdir_id: int) -> None:
    """Write the flat documents of a large subdir, in a process of its own for the same reasons. Raises: Unavailable."""
    if run_child(app, ["fairway.building", str(subdir_id)]) != 0 and not app.stopping:
        raise Unavailable("The process that was to write the index ended before it was done.")


def run_child(app: Fairway, module: Sequence[str], hold: Callable[[], None] = lambda: None) -> int:
    """Run a module of ours to its end, or until the server stops; what it returned. `hold` is called now and then. It has nothing
    to read: the pipe is there to end when this process does (`confined.end_with_input`).
    """
    # our own program, with numbers
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", *module], env=environment(app.loaded), stdin=subprocess.PIPE
    ) as child:
        held = time.monotonic()
        while True:
            try:
                return child.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if app.stopping:
                    child.terminate()
                elif time.monotonic() - held > HOLD_SECONDS:
                    held = time.monotonic()
                    hold()


def run_sweep(app: Fairway) -> int | None:
    """Throw away what was deleted or superseded long enough ago, and what died uploads left in staging."""
    with app.database.write() as session:
        sessions.forget(session, now=app.now())
    fetches.forget(app.database, now=app.now())
    swept = sweep(app.database, app.blobs, now=app.now(), keep_ms=app.settings.keep_ms)
    staged = app.staging.sweep(STAGED_SECONDS)
    log.info("sweep", channels=swept.channels, files=swept.files, objects=swept.objects, staged=staged)
    return None
