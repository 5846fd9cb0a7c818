"""Small objects on their way into memory: each fetched once, however many ask, and none waited for without end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import anyio
from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from fairway.blobs.hot import Hot
from fairway.errors import Unavailable

# A store that hangs holds a thread until its own limit, a minute; these are not taken from those that need no store.
THREADS = 16
WAIT_SECONDS = 10.0
AWAY_SECONDS = 2.0
"""After a failure nobody else waits for so long: they are told at once."""


class Fetching:
    """From one place, for one event loop."""

    def __init__(self, hot: Hot) -> None:
        self._hot = hot
        self._tasks: dict[str, asyncio.Task[bytes]] = {}
        self._limiter: CapacityLimiter | None = None
        self._away_until = 0.0

    async def get(self, path: str, fetch: Callable[[], bytes]) -> bytes:
        """What `fetch` gives, run in a thread; kept under `path` if it is small. Raises as it does, and Unavailable."""
        if time.monotonic() < self._away_until:
            raise Unavailable("Where this file is kept does not answer. Try again in a moment.")
        task = self._tasks.get(path)
        if task is None:
            task = self._tasks[path] = asyncio.ensure_future(self._fetch(path, fetch))
            task.add_done_callback(lambda done: self._done(path, done))
        # shielded: who goes away takes the bytes from nobody else
        return await asyncio.shield(task)

    async def _fetch(self, path: str, fetch: Callable[[], bytes]) -> bytes:
        if self._limiter is None:
            self._limiter = CapacityLimiter(THREADS)
        try:
            with anyio.fail_after(WAIT_SECONDS):
                data = await run_sync(fetch, abandon_on_cancel=True, limiter=self._limiter)
        except (TimeoutError, Unavailable) as error:
            self._away_until = time.monotonic() + AWAY_SECONDS
            if isinstance(error, Unavailable):
                raise
            raise Unavailable("Where this file is kept does not answer. Try again in a moment.") from None
        self._hot.put(path, data)
        return data

    def _done(self, path: str, task: asyncio.Task[bytes]) -> None:
        self._tasks.pop(path, None)
        if not task.cancelled():
            task.exception()  # seen, also when everybody has gone away
