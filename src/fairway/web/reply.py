"""An answer whose every part is known before the first byte goes out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.types import Message, Send

from fairway.web.protection import Headers

BODY, START = "http.response.body", "http.response.start"


class Reply:
    """`head` is complete but for the request's id. The bytes are `body`, or the whole file at `path`, which the server
    sends by itself, or `chunks`, each awaited in one of `threads`, or `stream`; `size` counts them, `sent` those that
    went out.
    """

    __slots__ = ("body", "chunks", "head", "path", "sent", "size", "status", "stream", "threads")

    def __init__(
        self,
        status: int,
        head: Headers,
        body: bytes = b"",
        *,
        path: Path | None = None,
        chunks: Iterator[bytes] | None = None,
        stream: AsyncIterator[bytes] | None = None,
        threads: CapacityLimiter | None = None,
        size: int = 0,
    ) -> None:
        self.status, self.head, self.body = int(status), head, body  # not the enumeration's member: logs show it
        self.path, self.chunks, self.stream, self.size = path, chunks, stream, size or len(body)
        self.threads, self.sent = threads, 0

    async def send(self, send: Send, request_id: str) -> None:
        headers = [*self.head, (b"x-request-id", request_id.encode())]
        start = {"type": START, "status": self.status, "headers": headers}
        if self.chunks is not None:
            await self._stream(send, start, self.chunks)
            return
        if self.stream is not None:
            await self._follow(send, start, self.stream)
            return
        await send(start)
        if self.path is not None:
            await send({"type": "http.response.pathsend", "path": str(self.path)})
        else:
            await send({"type": BODY, "body": self.body})
        self.sent = self.size

    async def _follow(self, send: Send, start: Message, stream: AsyncIterator[bytes]) -> None:
        """What raises in here breaks the connection off before its end, which is how a client learns of it."""
        async with aclosing(stream):  # type: ignore[type-var]  # it is a generator
            await send(start)
            async for chunk in stream:
                await send({"type": BODY, "body": chunk, "more_body": True})
                self.sent += len(chunk)
        await send({"type": BODY, "body": b""})

    async def _stream(self, send: Send, start: Message, chunks: Iterator[bytes]) -> None:
        end: Any = object()
        try:
            await send(start)
            while (chunk := await run_sync(next, chunks, end, limiter=self.threads)) is not end:
                await send({"type": BODY, "body": chunk, "more_body": True})
                self.sent += len(chunk)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                await run_sync(close, limiter=self.threads)
        await send({"type": BODY, "body": b""})
