"""A file from another server for everybody who asks for it at the same time: fetched once, read while it arrives.

The first who asks starts a thread of a few, which writes into a staged file; all others follow (`remote.arriving`). With
a claim, other processes follow too: the thread there reads this one's staged file (`remote.sharing`). Whatever happens,
the staged file goes.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable

import structlog

from fairway.blobs.staging import Digest, StagedFile, StagingArea
from fairway.errors import FairwayError, RemoteError, RemoteUnavailable, Unavailable
from fairway.remote.arriving import HELD_BACK, Follower, Transfer, Wanted
from fairway.remote.client import Client
from fairway.remote.sharing import Claim, State, Turn

log = structlog.get_logger("fairway.remote")

SECONDS = 4 * 3_600.0
LINGER_SECONDS = 10.0  # who looked for a file just before it was stored comes here just after
LOOK_SECONDS = 0.1  # between two looks at what another process fetches
BLIND_SECONDS = 30.0  # how long to follow while nobody can tell what becomes of it
ELSEWHERE_SECONDS = 45.0  # how long to wait for another machine: clients give up after a minute
AT_ONCE, OF_ONE = 16, 8
WAITING = 512

Store = Callable[[StagedFile, Digest], object]


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
        self._waiting: list[tuple[Hashable, Transfer, Store, Claim | None]] = []
        self._running: Counter[str] = Counter()  # by server
        self._stored: dict[Hashable, float] = {}  # what was stored a moment ago
        self._stopped = False
        self._stop = threading.Event()

    def follow(self, key: Hashable, wanted: Wanted, store: Store, claim: Claim | None = None) -> Follower | None:
        """Follow the file of `key`, which is fetched if nobody has begun to; none if it was stored a moment ago, and the
        asker had looked for it before. `store` gets the staged file in the thread of the transfer, once it is known to be
        good; if it raises, followers still get their bytes, and the next who asks begins anew. With a `claim` other
        processes may be fetching it, or want to follow this one.

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
            self._waiting.append((key, transfer, store, claim))
            self._begin()
            return Follower(transfer)

    def under_way(self) -> int:
        with self._changed:
            return len(self._known)

    def close(self) -> None:
        """Stop all; every follower gets an error, within a second."""
        with self._changed:
            self._stopped = True
            self._stop.set()
            waiting, self._waiting = self._waiting, []
            for key, transfer, *_ in waiting:
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

    def _run(self, key: Hashable, transfer: Transfer, store: Store, claim: Claim | None) -> None:
        stored = False
        try:
            stored = self._fetch(transfer, store, None) if claim is None else self._share(transfer, store, claim)
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

    def _fetch(self, transfer: Transfer, store: Store, name: str | None) -> bool:
        wanted = transfer.wanted
        self._room(wanted.size or 0)
        with (
            self._staging.open(wanted.most, name=name) as staged,
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
        return True

    def _share(self, transfer: Transfer, store: Store, claim: Claim) -> bool:
        """Fetch, or follow who does, until it is here: then true."""
        while True:
            turn = claim.take()
            if turn.state is State.THEIRS:
                turn = self._watch(transfer, claim, turn)
            if turn.state is State.OURS:
                return self._claimed(transfer, store, claim, turn.owner)
            if turn.state is State.GOOD:
                if not transfer.verified:
                    transfer.stored()
                return True
            if turn.error is not None:
                raise turn.error

    def _claimed(self, transfer: Transfer, store: Store, claim: Claim, owner: str) -> bool:
        ended, said = State.FREE, None
        try:
            stored = self._fetch(transfer, store, owner)
            ended = State.GOOD
        except RemoteError as error:
            # what was wrong elsewhere is so for all who wait; what is wrong here another process may not suffer from
            if not self._stopped and not transfer.verified:
                ended, said = State.FAILED, error
            raise
        finally:
            claim.end(owner, ended, said)
        return stored

    def _watch(self, transfer: Transfer, claim: Claim, turn: Turn) -> Turn:
        """Follow another process: what became of its fetch."""
        owner, fd = turn.owner, None
        path = self._staging.path_of(owner)
        seen = time.monotonic()
        until = seen + ELSEWHERE_SECONDS
        try:
            while turn.state is State.THEIRS:
                if fd is None and turn.here:
                    fd = self._staging.peek(owner)
                if fd is not None:
                    transfer.read_from(fd, path, os.fstat(fd).st_size - HELD_BACK)
                elif time.monotonic() > until:
                    raise RemoteUnavailable(
                        f"{transfer.shown}: Another process of this server is fetching it. Try again in a moment."
                    )
                if self._stop.wait(LOOK_SECONDS):
                    raise RemoteUnavailable(f"{transfer.shown}: not fetched, because this server is stopping.")
                try:
                    turn, seen = claim.look(owner), time.monotonic()
                except Unavailable:  # who fetches goes on without it, too
                    if time.monotonic() - seen > BLIND_SECONDS:
                        raise
            if turn.state is State.GOOD and fd is not None:
                size = os.fstat(fd).st_size
                transfer.read_from(fd, path, size - HELD_BACK)
                transfer.take(fd, path)
                transfer.good(size)
            return turn
        finally:
            if fd is not None:
                os.close(fd)

    def _forget(self) -> None:
        limit = time.monotonic() - LINGER_SECONDS
        for key in [key for key, at in self._stored.items() if at < limit]:
            del self._stored[key]
