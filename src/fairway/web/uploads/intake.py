"""What every upload dialect does between its own request and its own answer.

The body is read only after the key was found good for the channel. It streams to a staged file, a mebibyte at a time,
hashed and written in a worker thread: memory stays constant whatever the size.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from anyio.to_thread import run_sync
from fastapi import Request
from starlette.requests import ClientDisconnect

from fairway.app import Fairway
from fairway.blobs.staging import StagedFile
from fairway.errors import Invalid, Malformed, TooLarge
from fairway.registry import access
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.registry.publish import Offer, Published

BUFFER = 1 << 20
IDLE_SECONDS = 30.0
# A refused body is read on so far, because a client that finds the connection cut never sees the reason.
DRAIN_BYTES = 64 << 20
DRAIN_SECONDS = 20.0


def may_upload(app: Fairway, actor: Actor, channel: str) -> None:
    """Raises as access.require does. Before a byte of the body is read."""
    with app.database.read() as session:
        access.channel_for(session, actor, Action.UPLOAD, channel)


def announced(request: Request, app: Fairway) -> None:
    """Refuse by Content-Length what would be refused anyway. Raises: TooLarge, Malformed."""
    text = request.headers.get("content-length")
    if text is None:
        return
    if not text.isdecimal():
        raise Malformed("The Content-Length is not a number.", code="body_length")
    # a multipart body is a little longer than its file
    if int(text) > app.settings.max_file_size + BUFFER:
        raise TooLarge(f"The file is larger than {app.settings.max_file_size} bytes, which is the limit here.")


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises: Malformed: it stopped arriving, or the client went away."""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Malformed(
                f"Nothing arrived for {IDLE_SECONDS:.0f} seconds; the upload was given up.", code="upload_timeout"
            ) from None
        except ClientDisconnect:
            raise Malformed("The connection ended before the file did.", code="body_length") from None
        if chunk:
            yield chunk


class Buffered:
    """Gathers small pieces, and hands them to a staged file in a thread. `write` itself never waits for the disk."""

    def __init__(self, staged: StagedFile) -> None:
        self._staged = staged
        self._waiting: list[bytes] = []
        self._size = 0

    def write(self, piece: bytes) -> None:
        self._waiting.append(piece)
        self._size += len(piece)

    async def settle(self, *, least: int = BUFFER) -> None:
        if self._size >= least and self._waiting:
            data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting, self._size = [], 0
            await run_sync(self._staged.write, data)


async def stage_raw(request: Request, staged: StagedFile) -> None:
    """The whole body into the staged file. Raises: TooLarge, StorageFull, Malformed."""
    buffered = Buffered(staged)
    async for chunk in chunks(request):
        buffered.write(chunk)
        await buffered.settle()
    await buffered.settle(least=0)


async def drain(request: Request) -> None:
    """Read on, for a while, what was refused; so that the client gets to read the answer."""
    left = DRAIN_BYTES
    with contextlib.suppress(Exception):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in request.stream():
                left -= len(chunk)
                if left < 0:
                    return


async def take(app: Fairway, actor: Actor, staged: StagedFile, offer: Offer) -> Published:
    """Publish a staged file. Raises as registry.publish.accept does."""
    return await run_sync(app.take, actor, staged, replace(offer, sha256=checked_sha256(offer.sha256)))


def checked_sha256(text: str | None) -> str | None:
    if text is None or text == "":
        return None
    text = text.lower()
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise Invalid("The announced sha256 is not 64 hexadecimal digits.", code="digest_mismatch")
    return text


def as_dict(published: Published) -> dict[str, object]:
    """What the JSON answers say of an upload."""
    return {
        "channel": published.channel,
        "subdir": published.subdir,
        "filename": published.filename,
        "sha256": published.sha256,
        "size": published.size,
        "indexed_timestamp": published.indexed_timestamp,
        "created": published.created,
        "replaced": published.replaced,
        "indexed": published.indexed,
        "warnings": list(published.warnings),
    }
