"""channeldata.json, made of many rows when somebody asks: once for all who ask together, few at a time, and kept within
bounds. Nobody needs a key to ask for a public one, and a large one takes seconds and tens of megabytes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

THREADS = 2
BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Made:
    """A document as of a level, the channel's number of changes."""

    level: int
    sha256: str
    body: bytes


@dataclass(slots=True)
class _Making:
    """`level` is none until it begins: whoever comes before may wait for it, whatever they have seen."""

    task: asyncio.Task[Made] = field(init=False)
    level: int | None = None


class ChannelData:
    """For one event loop. `level_of` and `body_of` are asked in a thread, in this order: a body is never older."""

    def __init__(self, level_of: Callable[[int], int], body_of: Callable[[int], bytes], *, most: int = BYTES) -> None:
        self._level_of, self._body_of, self._most = level_of, body_of, most
        self._kept: OrderedDict[int, Made] = OrderedDict()
        self._size = 0
        self._making: dict[int, _Making] = {}
        self._limiter = CapacityLimiter(THREADS)

    def kept(self, channel_id: int, level: int) -> Made | None:
        made = self._kept.get(channel_id)
        if made is None or made.level < level:
            return None
        self._kept.move_to_end(channel_id)
        return made

    async def get(self, channel_id: int, level: int) -> Made:
        """The document, not older than the level."""
        # it may have been finished since the asker looked for it, in a thread
        if (made := self.kept(channel_id, level)) is not None:
            return made
        making = self._making.get(channel_id)
        if making is None or (making.level is not None and making.level < level):
            making = self._making[channel_id] = _Making()
            making.task = asyncio.ensure_future(self._make(channel_id, making))
            making.task.add_done_callback(partial(self._done, channel_id, making))
        # shielded: who goes away takes it from nobody else
        return await asyncio.shield(making.task)

    async def _make(self, channel_id: int, making: _Making) -> Made:
        def make() -> Made:
            making.level = level = self._level_of(channel_id)
            body = self._body_of(channel_id)
            return Made(level, hashlib.sha256(body).hexdigest(), body)

        made = await run_sync(make, limiter=self._limiter)
        self._keep(channel_id, made)
        return made

    def _keep(self, channel_id: int, made: Made) -> None:
        there = self._kept.pop(channel_id, None)
        if there is not None:
            self._size -= len(there.body)
            if there.level > made.level:
                made = there
        self._kept[channel_id] = made
        self._size += len(made.body)
        # the last one stays whatever its size: it would be made anew for each who asks
        while self._size > self._most and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self._size -= len(gone.body)

    def _done(self, channel_id: int, making: _Making, task: asyncio.Task[Made]) -> None:
        if self._making.get(channel_id) is making:
            del self._making[channel_id]
        if not task.cancelled():
            task.exception()  # seen, also when everybody has gone away
