"""One file on its way here from another server, and those who read it while it arrives.

All followers read the growing file through one descriptor. Nobody gets all of it before its hash and size are those of
the index: the last piece is held back until then, so whoever is sent a wrong file sees it break off, and never a whole
wrong file. A follower that leaves stops nothing; the bytes stay as long as somebody reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from fairway.blobs.staging import Digest, StagedFile
from fairway.blobs.store import failure
from fairway.errors import FairwayError, RemoteUnavailable, RemoteWrong
from fairway.remote.addresses import Location
from fairway.remote.answer import Answer
from fairway.remote.credentials import Credential

HELD_BACK = 64 << 10  # the end of an archive without which no reader takes it for whole
PIECE = 256 << 10
SLOWEST, PATIENCE_SECONDS = 16 << 10, 60.0  # bytes a second that a server must send, once it has had so long


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file: where it is, and what it must be (hex in lower case, bytes; what is None is not known). `limit` is how
    large it may be if its size is not known.
    """

    url: str
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None
    limit: int = 1 << 40
    credential: Credential | None = None

    @property
    def most(self) -> int:
        return self.limit if self.size is None else self.size

    def check(self, digest: Digest, shown: str) -> None:
        """Raises `RemoteWrong`: these are other bytes."""
        if self.size is not None and digest.size != self.size:
            raise RemoteWrong(
                f"{shown}: it has {digest.size:,} bytes, and its index says {self.size:,}.", code="remote_mismatch"
            )
        for name, want, got in (("sha256", self.sha256, digest.sha256), ("md5", self.md5, digest.md5)):
            if want is not None and want != got:
                raise RemoteWrong(f"{shown}: its {name} is not the one in its index.", code="remote_mismatch")
            if want is not None:
                return


class Transfer:
    """One file on its way. What followers may read grows in `_grow`, and ends in `_end`."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        at = Location.parse(wanted.url)
        self.server = at.origin
        self.shown = at.shown(wanted.credential.secret if wanted.credential else "")
        self.size = wanted.size
        self.error: FairwayError | None = None
        self.verified = False
        self._stored = False  # by another process, and there is nothing to follow
        self._readable = 0
        self._users = 1  # the thread that writes
        self._fd = -1
        self._of: Path | None = None  # whose bytes `_fd` has
        self._changed = threading.Condition()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    # --- the thread that writes ------------------------------------------------------------------------------------

    def bring(self, answer: Answer, staged: StagedFile) -> Digest:
        """Write the body into the staged file. Raises `RemoteError`, `StorageFull`, `Unavailable`."""
        wanted = self.wanted
        if wanted.size is not None and answer.size not in {None, wanted.size}:
            raise RemoteWrong(
                f"{self.shown}: it has {answer.size:,} bytes, and its index says {wanted.size:,}.",
                code="remote_mismatch",
            )
        path = staged.path
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise failure(error) from error
        try:
            return self._bring(answer, staged, fd)
        finally:
            os.close(fd)

    def _bring(self, answer: Answer, staged: StagedFile, fd: int) -> Digest:
        wanted = self.wanted
        self.size = wanted.size if wanted.size is not None else answer.size
        written, begun = 0, time.monotonic()
        for chunk in answer.chunks():
            staged.write(chunk)
            written += len(chunk)
            self.read_from(fd, staged.path, written - HELD_BACK)
            seconds = time.monotonic() - begun
            if seconds > PATIENCE_SECONDS and written < seconds * SLOWEST:
                raise RemoteUnavailable(f"{self.shown}: It sends less than 16 KiB a second.", code="remote_timeout")
        digest = staged.finish()
        wanted.check(digest, self.shown)
        self.read_from(fd, staged.path, digest.size - HELD_BACK)
        self.take(fd, staged.path)
        self.size = digest.size
        return digest

    def read_from(self, fd: int, path: Path, readable: int) -> None:
        """So many bytes of a staged file may be read, which `fd` reads and which may be another one than before. Raises
        `RemoteUnavailable`: it begins with other bytes than were sent to some already.
        """
        if readable > self._readable:
            self.take(fd, path)
            with self._changed:
                self._readable = readable
                self._wake()

    def take(self, fd: int, path: Path) -> None:
        if self._of == path:
            return
        try:
            if self._fd < 0:
                self._fd = os.dup(fd)
            elif not _same(self._fd, fd, self._readable):
                raise RemoteUnavailable(
                    f"{self.shown}: It came anew, with other bytes than before. Try again in a moment."
                )
            else:
                os.dup2(fd, self._fd, inheritable=False)  # at once: somebody may be reading
        except OSError as error:
            raise failure(error) from error
        self._of = path

    def good(self, size: int) -> None:
        """All of it has come and is what it should be."""
        with self._changed:
            self.verified, self._readable = True, size
            self._wake()

    def stored(self) -> None:
        """Another process has brought it into the store."""
        with self._changed:
            if self._readable:  # by a process that is gone, and nobody knows how those bytes would have ended
                self.error = RemoteUnavailable(f"{self.shown}: It broke off. Try again in a moment.")
            self._stored = True
            self._wake()

    def failed(self, error: FairwayError) -> None:
        with self._changed:
            if not self.verified:
                self.error = error
            self._wake()

    def _wake(self) -> None:
        self._changed.notify_all()
        waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            with contextlib.suppress(RuntimeError):  # that loop has ended
                loop.call_soon_threadsafe(_settle, waiter)

    # --- followers -------------------------------------------------------------------------------------------------

    def join(self) -> bool:
        """Whether the bytes are still to be had, as they then are until `leave`."""
        with self._changed:
            if self._users == 0 or self.error is not None:
                return False
            self._users += 1
            return True

    def leave(self) -> None:
        with self._changed:
            self._users -= 1
            if self._users:
                return
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def readable(self, at: int, end: int | None) -> int:
        """How many bytes may be read at `at` now, if the asker will read up to `end` (None: all). Raises the error that
        ended the transfer, also for bytes that have come.
        """
        if self.error is not None:
            # one exception for each: a traceback grows with every raise
            raise _again(self.error)
        if self._stored:
            raise InStore
        until = self._readable
        if end is not None:
            until = min(until, end if self.verified else end - HELD_BACK)
        return max(0, until - at)

    def over(self, at: int, end: int | None) -> bool:
        return self.verified and (at >= self._readable or (end is not None and at >= end))

    def wait(self, at: int, end: int | None) -> int:
        """`readable`, when that is something or all is over."""
        with self._changed:
            while not (found := self.readable(at, end)) and not self.over(at, end):
                self._changed.wait()
            return found

    async def wait_async(self, at: int, end: int | None) -> int:
        while True:
            with self._changed:
                if (found := self.readable(at, end)) or self.over(at, end):
                    return found
                loop = asyncio.get_running_loop()
                waiter: asyncio.Future[None] = loop.create_future()
                self._waiters.append((loop, waiter))
            await waiter

    def read(self, at: int, length: int) -> bytes:
        try:
            return os.pread(self._fd, length, at)
        except OSError as error:
            raise failure(error) from error

    async def read_async(self, at: int, length: int) -> bytes:
        """Without a thread if the bytes are in memory, as what has just come is."""
        buffer = bytearray(length)
        try:
            got = os.preadv(self._fd, [buffer], at, os.RWF_NOWAIT)
        except OSError:  # not in memory, or a file system that cannot say
            return await asyncio.to_thread(self.read, at, length)
        return bytes(memoryview(buffer)[:got])


class InStore(Exception):
    """There is nothing to follow."""


class Follower:
    """One who reads. Use it as a context manager, or `close` it; its iterators do not close it."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._open = True

    @property
    def size(self) -> int | None:
        """Of the whole file, as far as it is known."""
        return self._transfer.size

    def ready(self) -> bool:
        """Wait until there is something to send, or an error: which is raised, while an answer can still have a status.
        A small file has then been verified. False if another process has brought it, and it is in the store.
        """
        try:
            self._transfer.wait(0, None)
        except InStore:
            return False
        return True

    async def ready_async(self) -> bool:
        try:
            await self._transfer.wait_async(0, None)
        except InStore:
            return False
        return True

    def finish(self) -> None:
        """Wait until all has come and is good. Raises what went wrong."""
        for _ in self.positions(1 << 62, None):
            raise AssertionError

    def positions(self, at: int, end: int | None) -> Iterator[tuple[int, int]]:
        while length := min(self._transfer.wait(at, end), PIECE):
            yield at, length
            at += length

    def chunks(self, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes from `start`, at most `length` of them, as they come. The end is the end of a good file; everything
        else raises: `RemoteError`, `StorageFull`, `Unavailable`.
        """
        for at, size in self.positions(start, None if length is None else start + length):
            yield self._transfer.read(at, size)

    async def stream(self, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """`chunks`, in an event loop and without a thread."""
        at, end = start, None if length is None else start + length
        while size := min(await self._transfer.wait_async(at, end), PIECE):
            yield await self._transfer.read_async(at, size)
            at += size

    def close(self) -> None:
        if self._open:
            self._open = False
            self._transfer.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_open", False):
            self.close()


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _same(one: int, other: int, size: int) -> bool:
    """Whether two files begin with the same bytes."""
    return all(
        os.pread(one, min(PIECE, size - at), at) == os.pread(other, min(PIECE, size - at), at)
        for at in range(0, size, PIECE)
    )


def _again(error: FairwayError) -> FairwayError:
    """The same error, to be raised once more."""
    made = type(error)(error.detail, code=error.code)
    if isinstance(error, RemoteUnavailable) and isinstance(made, RemoteUnavailable):
        made.seconds = error.seconds
    return made
