"""Job names, and the functions they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from fairway.registry import sessions
from fairway.registry.sweep import sweep

if TYPE_CHECKING:
    from fairway.app import Fairway

log = structlog.get_logger("fairway.tasks")

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
STAGED_SECONDS = 3_600.0

# The period of each recurring job, in ms
RECURRING = {"sweep": HOUR_MS}


def handlers(app: Fairway) -> dict[str, Callable[[str], None]]:
    return {"sweep": lambda _: run_sweep(app)}


def run_sweep(app: Fairway) -> None:
    """Throw away what was deleted or superseded long enough ago, and what died uploads left in staging."""
    with app.database.write() as session:
        sessions.forget(session, now=app.now())
    swept = sweep(app.database, app.blobs, now=app.now(), keep_ms=app.settings.keep_ms)
    staged = app.staging.sweep(STAGED_SECONDS)
    log.info("sweep", channels=swept.channels, files=swept.files, objects=swept.objects, staged=staged)
