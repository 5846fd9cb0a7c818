"""A file from another server for everybody who asks for it at the same time: fetched once, read while it arrives.

The first who asks starts a thread of a few, which writes into a staged file. All others follow: they read the growing
file, through one descriptor. Nobody gets all of it before its hash and size are those of the index: the last piece is
held back until then, so whoever is sent a wrong file sees it break off, and never a whole wrong file.

A follower that leaves stops nothing. Whatever happens, the staged file goes; the bytes stay as long as somebody reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from fairway.blobs.staging import Digest, StagedFile, StagingArea
from fairway.blobs.store import failure
from fairway.errors import FairwayError, RemoteUnavailable, RemoteWrong, Unavailable
from fairway.remote.addresses import Location
from fairway.remote.answer import Answer
from fairway.remote.client import Client
from fairway.remote.credentials import Credential

log = structlog.get_logger("fairway.remote")

HELD_BACK = 64 << 10  # the end of an archive without which no reader takes it for whole
PIECE = 256 << 10
SECONDS = 4 * 3_600.0
LINGER_SECONDS = 10.0  # who looked for a file just before it was stored comes here just after
SLOWEST, PATIENCE_SECONDS = 16 << 10, 60.0  # bytes a second that a server must send, once it has had so long
AT_ONCE, OF_ONE = 16, 8
WAITING = 512

Store = Callable[[StagedFile, Digest], object]


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
        self._readable = 0
        self._users = 1  # the thread that writes
        self._fd = -1
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
        try:
            self._fd = os.open(staged.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise failure(error) from error
        self.size = wanted.size if wanted.size is not None else answer.size
        written, begun = 0, time.monotonic()
        for chunk in answer.chunks():
            staged.write(chunk)
            written += len(chunk)
            self._grow(written - HELD_BACK)
            seconds = time.monotonic() - begun
            if seconds > PATIENCE_SECONDS and written < seconds * SLOWEST:
                raise RemoteUnavailable(f"{self.shown}: It sends less than 16 KiB a second.", code="remote_timeout")
        digest = staged.finish()
        wanted.check(digest, self.shown)
        self.size = digest.size
        return digest

    def _grow(self, readable: int) -> None:
        if readable > self._readable:
            with self._changed:
                self._readable = readable
                self._wake()

    def good(self, size: int) -> None:
        """All of it has come and is what it should be."""
        with self._changed:
            self.verified, self._readable = True, size
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


class Follower:
    """One who reads. Use it as a context manager, or `close` it; its iterators do not close it."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._open = True

    @property
    def size(self) -> int | None:
        """Of the whole file, as far as it is known."""
        return self._transfer.size

    def ready(self) -> None:
        """Wait until there is something to send, or an error: which is raised, while an answer can still have a status.
        A small file has then been verified.
        """
        self._transfer.wait(0, None)

    async def ready_async(self) -> None:
        await self._transfer.wait_async(0, None)

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


class Transfers:
    """All files on their way, by a key of the asker's. `at_once` are fetched at a time, and `of_one` from one server, so
    that a slow one does not keep the others from everybody; the rest wait for their turn.
    """

    def __init__(
        self,
        client: Client,
        staging: StagingArea,
        *,
        at_once: int = AT_ONCE,
        of_one: int = OF_ONE,
        seconds: float = SECONDS,
        room: Callable[[int], None] = lambda size: None,  # noqa: ARG005
    ) -> None:
        """`room` raises `StorageFull` if so many more bytes must not be staged."""
        self._client, self._staging, self._seconds, self._room = client, staging, seconds, room
        self._at_once, self._of_one = at_once, of_one
        self._changed = threading.Condition()
        self._known: dict[Hashable, Transfer] = {}
        self._waiting: list[tuple[Hashable, Transfer, Store]] = []
        self._running: Counter[str] = Counter()  # by server
        self._stored: dict[Hashable, float] = {}  # what was stored a moment ago
        self._stopped = False

    def follow(self, key: Hashable, wanted: Wanted, store: Store) -> Follower | None:
        """Follow the file of `key`, which is fetched if nobody has begun to; none if it was stored a moment ago, and the
        asker had looked for it before. `store` gets the staged file in the thread of the transfer, once it is known to be
        good; if it raises, followers still get their bytes, and the next who asks begins anew.

        Raises `RemoteRefused` for a URL that is none, `RemoteUnavailable`: too many wait already.
        """
        with self._changed:
            self._forget()
            known = self._known.get(key)
            if known is not None and known.join():
                return Follower(known)
            if key in self._stored:
                return None
            if self._stopped or len(self._waiting) >= WAITING:
                raise RemoteUnavailable("This server is fetching too many files at once. Try again in a moment.")
            transfer = Transfer(wanted)
            transfer.join()
            self._known[key] = transfer
            self._waiting.append((key, transfer, store))
            self._begin()
            return Follower(transfer)

    def under_way(self) -> int:
        with self._changed:
            return len(self._known)

    def close(self) -> None:
        """Stop all; every follower gets an error, within a second."""
        with self._changed:
            self._stopped = True
            waiting, self._waiting = self._waiting, []
            for key, transfer, _ in waiting:
                transfer.failed(RemoteUnavailable(f"{transfer.shown}: not fetched, because this server is stopping."))
                transfer.leave()
                self._known.pop(key, None)
            self._changed.wait_for(lambda: not self._running.total())

    def _begin(self) -> None:
        """Start what may be started, in the order of asking."""
        for one in self._waiting[:]:
            if self._running.total() >= self._at_once:
                return
            if self._running[one[1].server] < self._of_one:
                self._waiting.remove(one)
                self._running[one[1].server] += 1
                threading.Thread(target=self._run, args=one, name="transfer", daemon=True).start()

    def _run(self, key: Hashable, transfer: Transfer, store: Store) -> None:
        wanted, stored = transfer.wanted, False
        try:
            self._room(wanted.size or 0)
            with (
                self._staging.open(wanted.most) as staged,
                self._client.get(
                    wanted.url,
                    credential=wanted.credential,
                    limit=wanted.most,
                    seconds=self._seconds,
                    over=lambda: self._stopped,
                ) as answer,
            ):
                digest = transfer.bring(answer, staged)
                transfer.good(digest.size)
                store(staged, digest)
                stored = True
        except FairwayError as error:
            event = "transfer.not_stored" if transfer.verified else "transfer.failed"
            log.warning(event, file=transfer.shown, code=error.code, error=error.detail)
            transfer.failed(error)
        except Exception:
            log.exception("transfer.failed", file=transfer.shown)
            transfer.failed(Unavailable("The file could not be fetched; this server's log says why."))
        finally:
            with self._changed:
                if self._known.get(key) is transfer:  # else it failed, and somebody has begun anew
                    del self._known[key]
                if stored:
                    self._stored[key] = time.monotonic()
                self._running -= Counter({transfer.server: 1})
                if not self._stopped:
                    self._begin()
                self._changed.notify_all()
            transfer.leave()

    def _forget(self) -> None:
        limit = time.monotonic() - LINGER_SECONDS
        for key in [key for key, at in self._stored.items() if at < limit]:
            del self._stored[key]


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _again(error: FairwayError) -> FairwayError:
    """The same error, to be raised once more."""
    made = type(error)(error.detail, code=error.code)
    if isinstance(error, RemoteUnavailable) and isinstance(made, RemoteUnavailable):
        made.seconds = error.seconds
    return made
