"""What every upload dialect does between its own request and its own answer.

The body is read only after the key was found good for the channel. It streams to a staged file, a mebibyte at a time,
hashed and written in a worker thread: memory stays constant whatever the size.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync
from fastapi import Request
from starlette.requests import ClientDisconnect

from fairway.app import Fairway
from fairway.blobs.staging import StagedFile
from fairway.blobs.store import failure
from fairway.db.engine import UNCHANGED
from fairway.errors import Invalid, Malformed, StorageFull, TooLarge, Unavailable
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.registry.lookup import Miss
from fairway.registry.publish import Offer, Published
from fairway.web.deps import app_of, limits_of, who_asks

BUFFER = 1 << 20
IDLE_SECONDS = 30.0
# Slower than anybody's line: who sends a byte now and then holds a connection, a file and a key's rights for ever.
SLOWEST = 16 << 10  # bytes a second, on average
PATIENCE_SECONDS = 60.0  # before that is asked for
LONGEST_SECONDS = 4 * 3600.0
# A refused body is read on so far, because a client that finds the connection cut never sees the reason.
DRAIN_BYTES = 64 << 20
DRAIN_SECONDS = 20.0
# Uploads that are being stored at once: half of the threads, so that a database or a store that hangs leaves the others
# to those who read.
AT_ONCE = 16
UNMET_SAID = 100
TURN_SECONDS = 10.0
_turns: RunVar[asyncio.Semaphore] = RunVar("turns")


async def admit(request: Request, channel: str) -> tuple[Actor, StagedFile]:
    """Who uploads, if they may, and a place for the file, which is counted. Before a byte of the body is read.

    Raises as `entitle` does; RateLimited.
    """
    actor = await entitle(request, channel)
    # a key counts for itself; who is signed in, with however many browsers, once
    limits_of(request).uploads.take(actor.token_id or f"user {actor.user_id}")
    app = app_of(request)
    return actor, app.staging.open(app.settings.max_file_size)


async def entitle(request: Request, channel: str) -> Actor:
    """Who uploads, if they may. What decides is mostly at hand, as it is for readers; the transaction at the end decides
    again, on the rows. Raises as access.require does; Unavailable.
    """
    try:
        return permitted(request, channel, rows=False)
    except Miss:
        return await run_sync(partial(permitted, request, channel, rows=True))


def permitted(request: Request, channel: str, *, rows: bool) -> Actor:
    app = app_of(request)
    actor = who_asks(request, rows=rows)
    app.lookup.view().require(actor, Action.UPLOAD, channel, rows=rows)
    if app.lookup.away:
        # readers get what was last known; a body that cannot be published need not be sent
        raise Unavailable(UNCHANGED)
    return actor


def announced(request: Request, app: Fairway) -> None:
    """Refuse by Content-Length what would be refused anyway. Raises: TooLarge, Malformed, StorageFull."""
    size = announced_size(request) or 0
    # a multipart body is a little longer than its file
    if size > app.settings.max_file_size + BUFFER:
        raise TooLarge(f"The file is larger than {app.settings.max_file_size} bytes, which is the limit here.")
    require_room(app, size)


def announced_size(request: Request) -> int | None:
    """The Content-Length, if there is one. Raises: Malformed."""
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not text.isdecimal():
        raise Malformed("The Content-Length is not a number.", code="body_length")
    return int(text)


def require_room(app: Fairway, size: int) -> None:
    """Pass if the reserve is still free when `size` more bytes are staged, and it is where the database may be: deleting
    and sweeping need room too. Raises: StorageFull, before a byte was written.
    """
    reserve = app.settings.disk_reserve
    if free_bytes(app.staging.folder) < reserve + size or free_bytes(app.settings.data) < reserve:
        raise StorageFull


def free_bytes(folder: Path) -> int:
    try:
        found = os.statvfs(folder)
    except OSError as error:
        raise failure(error) from None
    return found.f_bavail * found.f_frsize


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises: Malformed: it stopped arriving, or the client went away."""
    stream = request.stream()
    started, size = time.monotonic(), 0
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
        size += len(chunk)
        keep_pace(time.monotonic() - started, size)
        if chunk:
            yield chunk


def keep_pace(seconds: float, size: int) -> None:
    """Pass while a body of which `size` bytes came in so many seconds arrives fast enough. Raises: Malformed."""
    if seconds > LONGEST_SECONDS:
        raise Malformed(f"The upload took more than {LONGEST_SECONDS / 3600:.0f} hours.", code="upload_timeout")
    if seconds > PATIENCE_SECONDS and size < seconds * SLOWEST:
        raise Malformed(
            f"The file arrived with less than {SLOWEST >> 10} KiB a second; the upload was given up.",
            code="upload_timeout",
        )


class Buffered:
    """Gathers small pieces, and hands them to a staged file in a thread. `write` itself never waits for the disk."""

    def __init__(self, staged: StagedFile) -> None:
        self._staged = staged
        self._waiting: list[bytes] = []
        self._size = 0

    def write(self, piece: bytes) -> None:
        self._waiting.append(piece)
        self._size += len(piece)

    async def settle(self) -> None:
        """Let nobody's body fill the memory."""
        if self._size >= BUFFER:
            await run_sync(self.flush)

    def flush(self) -> None:
        """Hand over what is left. For a thread that may wait for the disk."""
        if self._waiting:
            data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting, self._size = [], 0
            self._staged.write(data)


async def stage_raw(request: Request, body: Buffered) -> None:
    """The whole body towards the staged file. Raises: TooLarge, StorageFull, Malformed."""
    async for chunk in chunks(request):
        body.write(chunk)
        await body.settle()


async def drain(request: Request) -> None:
    """Read on, for a while, what was refused; so that the client gets to read the answer."""
    left = DRAIN_BYTES
    with contextlib.suppress(Exception):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in request.stream():
                left -= len(chunk)
                if left < 0:
                    return


async def take(app: Fairway, actor: Actor, staged: StagedFile, body: Buffered, offer: Offer) -> Published:
    """Publish a staged file, once the rest of its body is in it: in one go, because each way to a thread and back costs
    a small upload as much as its hashes do. Raises as registry.publish.accept does, and Unavailable: too many wait.
    """
    offer = replace(offer, sha256=checked_sha256(offer.sha256))

    def finish() -> Published:
        body.flush()
        return app.take(actor, staged, offer)

    turns = turns_of_this_loop()
    try:
        async with asyncio.timeout(TURN_SECONDS):
            await turns.acquire()
    except TimeoutError:
        raise Unavailable(
            "Too many uploads are waiting to be stored; nothing was changed. Try again in a moment."
        ) from None
    try:
        return await run_sync(finish)
    finally:
        turns.release()


def turns_of_this_loop() -> asyncio.Semaphore:
    try:
        return _turns.get()
    except LookupError:
        _turns.set(turns := asyncio.Semaphore(AT_ONCE))
        return turns


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
        "unmet": list(published.unmet[:UNMET_SAID]),
        "hides": published.hides,
    }
