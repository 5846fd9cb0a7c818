"""Which process fetches which file of an upstream: one for all that share a database (`remote.sharing`).

A claim is a row with a lease. The process that holds it says so every few seconds for all it holds, in one statement,
so a claim outlives its process by no more than a lease. Clocks that differ by more than that between machines cost a
second fetch and nothing else: what is kept is the same file.

On SQLite there is one server, and a row is needed only where a mirror's job, a process of its own, may want the file.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import structlog
from sqlalchemy import Table, bindparam, delete, false, null, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from fairway import errors
from fairway.db.engine import Database
from fairway.db.models import Copy, Fetch
from fairway.errors import FairwayError, RemoteError
from fairway.registry.copies import Offer
from fairway.remote.sharing import State, Turn

log = structlog.get_logger("fairway.fetches")

LEASE_MS = 10_000
SLACK_MS = 5_000  # who asks has looked at the clock before it waited for the row, which may have been renewed meanwhile
BEAT_SECONDS = 3.0
LINGER_SECONDS = 10.0  # for those who look now and then what has become of a fetch
FORGET_MS = 60_000

BOOT = Path("/proc/sys/kernel/random/boot_id")
TABLE = cast("Table", Fetch.__table__)
KINDS: dict[str, type[RemoteError]] = {
    kind.__name__: kind
    for kind in (
        errors.RemoteRefused,
        errors.RemoteMissing,
        errors.RemoteDenied,
        errors.RemoteWrong,
        errors.RemoteUnavailable,
    )
}


def this_machine() -> str:
    """The running kernel: what one process has written, every other one under it reads at once. A file system of the
    network does not promise that. "" if it cannot be told.
    """
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


@cache
def taking(dialect: str) -> Any:
    """Insert a claim, or take over one that nobody holds. Two who do so at once get one row between them."""
    insert: Any = sqlite.insert(TABLE) if dialect == "sqlite" else postgresql.insert(TABLE)
    # a lease that ends later than any could was taken by a clock that ran ahead
    held = TABLE.c.lease_until.between(bindparam("now") + 1, bindparam("now") + LEASE_MS + SLACK_MS)
    changes = {name: insert.excluded[name] for name in ("owner", "machine", "lease_until", "ended", "error")}
    made = insert.values(
        subdir_id=bindparam("subdir_id"),
        filename=bindparam("filename"),
        sha256=bindparam("sha256"),
        owner=bindparam("owner"),
        machine=bindparam("machine"),
        lease_until=bindparam("now") + LEASE_MS,
        ended=false(),
        error=null(),
    )
    key = ["subdir_id", "filename", "sha256"]
    return made.on_conflict_do_update(index_elements=key, set_=changes, where=or_(TABLE.c.ended, ~held)).returning(
        TABLE.c.owner
    )


class Fetches:
    """The claims of this process."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self.database, self.now = database, clock
        self.machine = this_machine()
        self._live: set[str] = set()
        self._ended: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def of(self, offer: Offer) -> FileClaim | None:
        """None if no other process can want the file."""
        return FileClaim(self, offer) if offer.mirrored or not self.database.is_sqlite else None

    def close(self) -> None:
        """Nothing is fetched any more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
            self._tell()
            with self._lock:
                self._ended = dict.fromkeys(self._ended, 0.0)
            self._tell()

    def hold(self, owner: str) -> None:
        with self._lock:
            self._live.add(owner)
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._beat, name="fetches", daemon=True)
                self._thread.start()

    def let_go(self, owner: str) -> None:
        with self._lock:
            self._live.discard(owner)
            self._ended[owner] = time.monotonic() + LINGER_SECONDS

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            self._tell()

    def _tell(self) -> None:
        """Prolong what is under way, and forget what ended a while ago."""
        with self._lock:
            live = sorted(self._live)
            over = sorted(owner for owner, until in self._ended.items() if until < time.monotonic())
        if not live and not over:
            return
        try:
            with self.database.write() as session:
                if live:
                    mine = update(Fetch).where(Fetch.owner.in_(live), ~Fetch.ended)
                    session.execute(mine.values(lease_until=self.now() + LEASE_MS))
                if over:
                    session.execute(delete(Fetch).where(Fetch.owner.in_(over)))
        except FairwayError as error:
            log.warning("fetches.tell", error=error.detail)
            return
        except Exception:
            log.exception("fetches.tell")
            return
        with self._lock:
            for owner in over:
                del self._ended[owner]


class FileClaim:
    """`remote.sharing.Claim`, of one file."""

    def __init__(self, fetches: Fetches, offer: Offer) -> None:
        self._fetches, self._database = fetches, fetches.database
        self._key = {"subdir_id": offer.subdir_id, "filename": offer.filename, "sha256": offer.sha256}

    def take(self) -> Turn:
        owner = secrets.token_hex(16)
        values = {**self._key, "owner": owner, "machine": self._fetches.machine, "now": self._fetches.now()}
        dialect = "sqlite" if self._database.is_sqlite else "postgresql"
        kept = select(Copy.id).filter_by(**self._key).where(Copy.fetched_at.is_not(None))
        try:
            with self._database.write() as session:
                if session.scalar(taking(dialect), values) is None:
                    found = session.execute(select(Fetch.owner, Fetch.machine).filter_by(**self._key)).first()
                    # gone between the two statements: it is looked for, and not found, by no name
                    return self._theirs(*found) if found else Turn(State.THEIRS)
                # Asked only now: who let go of the claim had kept the file before. And whoever asks may be half a second
                # behind what others have done.
                if session.scalar(kept) is not None:
                    raise _HereAlready  # noqa: TRY301 - the row stays as it was, for those who follow its fetch
        except _HereAlready:
            return Turn(State.GOOD)
        self._fetches.hold(owner)
        return Turn(State.OURS, owner)

    def look(self, owner: str) -> Turn:
        columns = select(Fetch.owner, Fetch.machine, Fetch.lease_until, Fetch.ended, Fetch.error)
        with self._database.read() as session:
            found = session.execute(columns.filter_by(**self._key)).first()
        if found is None or found.owner != owner:
            return Turn(State.FREE)
        if found.ended:
            error = error_of(found.error)
            return Turn(State.GOOD if error is None else State.FAILED, owner, error=error)
        now = self._fetches.now()
        return (
            self._theirs(owner, found.machine)
            if now < found.lease_until <= now + LEASE_MS + SLACK_MS
            else Turn(State.FREE)
        )

    def end(self, owner: str, ended: State, error: RemoteError | None = None) -> None:
        self._fetches.let_go(owner)
        mine = update(Fetch).filter_by(**self._key).where(Fetch.owner == owner)
        mine = mine.values(lease_until=0) if ended is State.FREE else mine.values(ended=True, error=said_of(error))
        try:
            with self._database.write() as session:
                session.execute(mine)
        except FairwayError as problem:
            log.warning("fetches.end", error=problem.detail)

    def _theirs(self, owner: str, machine: str) -> Turn:
        return Turn(State.THEIRS, owner, here=bool(machine) and machine == self._fetches.machine)


class _HereAlready(Exception):
    """Rolls back a claim that is not needed."""


def said_of(error: RemoteError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    kind = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in KINDS or kind is RemoteError)
    return {"kind": kind, "code": error.code, "detail": error.detail, "seconds": error.seconds}


def error_of(said: dict[str, Any] | None) -> RemoteError | None:
    if said is None:
        return None
    made = KINDS.get(said["kind"], RemoteError)(said["detail"])
    made.code, made.seconds = said["code"], said["seconds"]
    return made


def forget(database: Database, *, now: int) -> None:
    """Forget what killed processes were fetching."""
    with database.write() as session:
        session.execute(delete(Fetch).where(~Fetch.lease_until.between(now - FORGET_MS, now + FORGET_MS)))
