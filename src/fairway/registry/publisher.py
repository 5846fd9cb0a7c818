"""Keeps the index up to date: on request, and for ever in the background.

Shards are made by whoever changes a package (`registry.index`), so what is left to do here are the flat documents, and
whatever a crash, a restored backup, another process or a failed build left behind. One thread builds, those who wait for
a change number wait for it, and a build covers every change it found. The background thread compares levels and keeps no
list of work, so there is nothing it could lose.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from sqlalchemy import true, update

from fairway.blobs.staging import StagingArea
from fairway.blobs.store import BlobStore
from fairway.db.engine import Database
from fairway.db.models import Pointer
from fairway.errors import FairwayError, Unavailable
from fairway.registry import flat, index

log = structlog.get_logger("fairway.index")

# Flat documents wait this long, so that a burst of uploads is one build; and three times as long as building took, so
# that building takes a quarter of one core at most; but not for ever.
QUIET_SECONDS, QUIET_MOST = 0.25, 30.0
LOOK_SECONDS = 2.0  # how often the background looks for what others left
LEASE_MS = 20_000  # also how long a publisher that was killed holds up the others
BACKOFF_SECONDS = (1, 2, 5, 15, 60)


@dataclass(slots=True)
class Slot:
    """The flat documents of one subdir in this process: how far they are known to be, and whether somebody builds."""

    ready: threading.Condition = field(default_factory=threading.Condition)
    built: int = 0
    building: bool = False


class Publisher:
    """Thread-safe. `clock` gives the time in ms."""

    def __init__(self, database: Database, blobs: BlobStore, staging: StagingArea, *, clock: Callable[[], int]) -> None:
        self._database, self._blobs, self._staging, self._clock = database, blobs, staging, clock
        self._slots: dict[int, Slot] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures: dict[tuple[str, int], tuple[int, float]] = {}
        self._apart: Callable[[int], None] | None = None

    # --- on request ---

    def poke(self) -> None:
        """Something was changed: the background need not wait for its next look."""
        self._wake.set()

    def wait_flat(self, subdir_id: int, change: int, *, seconds: float) -> bool:
        """Return once the flat documents have reached `change`; false if that took longer or failed (the background
        goes on).
        """
        deadline = time.monotonic() + seconds
        slot = self._slot(subdir_id)
        with slot.ready:
            while slot.built < change:
                if not slot.building:
                    slot.building = True
                    break
                if not slot.ready.wait(timeout=deadline - time.monotonic()):
                    return False
            else:
                return True
        try:
            self._build(subdir_id, slot)
        except FairwayError as error:
            log.warning("index.build", subdir=subdir_id, error=error.detail)
            return False
        return slot.built >= change

    def _build(self, subdir_id: int, slot: Slot) -> None:
        """Build once; the caller has set `slot.building`, which ends here whatever happens."""
        reached = 0
        started = time.monotonic()
        try:
            if self._apart is not None and self._is_large(subdir_id):
                self._apart(subdir_id)
                with self._database.read() as session:
                    reached = flat.reached(session, subdir_id)
            else:
                reached = flat.build_flat(self._database, self._blobs, self._staging, subdir_id, now=self._clock())
        finally:
            with slot.ready:
                slot.building = False
                slot.built = max(slot.built, reached)
                slot.ready.notify_all()
        log.debug("index.build", subdir=subdir_id, change=reached, seconds=time.monotonic() - started)

    def _is_large(self, subdir_id: int) -> bool:
        with self._database.read() as session:
            return flat.is_large(session, subdir_id)

    def _slot(self, subdir_id: int) -> Slot:
        with self._lock:
            return self._slots.setdefault(subdir_id, Slot())

    # --- in the background ---

    def start(self, *, apart: Callable[[int], None] | None = None) -> None:
        """`apart` builds the flat documents of a large subdir in another process: in this one it would keep the
        interpreter from everybody else for seconds. Raises: FairwayError.
        """
        self._apart = apart
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=60)

    def _run(self) -> None:
        while not self._stopping.is_set():  # the first look is at once: what a crash left behind
            started = time.monotonic()
            try:
                self.catch_up()
            except FairwayError as error:
                log.warning("index.look", error=error.detail)
            except Exception:
                log.exception("index.look")
            took = time.monotonic() - started
            self._stopping.wait(min(max(QUIET_SECONDS, 3 * took), QUIET_MOST))
            if self._wake.wait(timeout=LOOK_SECONDS):
                self._wake.clear()

    def catch_up(self) -> int:
        """Build whatever is behind; how many builds that took. A subdir that fails does not hold up the others."""
        builds = 0
        for kind, work, behind in (("shards", self._shards, index.behind), ("flat", self._flat, flat.behind)):
            with self._database.read() as session:
                due = behind(session)
            for subdir_id in due:
                if self._stopping.is_set():
                    return builds
                builds += self._attempt(kind, subdir_id, work)
        return builds

    def _attempt(self, kind: str, subdir_id: int, work: Callable[[int], bool]) -> bool:
        """Do the work, unless it failed a moment ago; whether it was done."""
        tries, not_before = self._failures.get((kind, subdir_id), (0, 0.0))
        if time.monotonic() < not_before:
            return False
        try:
            done = work(subdir_id)
        except Exception as error:
            delay = BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS) - 1)]
            self._failures[kind, subdir_id] = (tries + 1, time.monotonic() + delay)
            known = isinstance(error, FairwayError)
            log.warning(
                "index.build", subdir=subdir_id, kind=kind, retry_in=delay, exc_info=not known, error=str(error)
            )
            return False
        self._failures.pop((kind, subdir_id), None)
        return done

    def _shards(self, subdir_id: int) -> bool:
        failed = index.rebuild(self._database, subdir_id, now=self._clock())
        if failed:
            raise Unavailable(f"These packages have no shard, see above: {', '.join(failed[:10])}")
        return True

    def _flat(self, subdir_id: int) -> bool:
        if not self._lease(subdir_id):
            return False  # another process is at it
        try:
            slot = self._slot(subdir_id)
            with slot.ready:
                busy, slot.building = slot.building, True
            if not busy:
                self._build(subdir_id, slot)
            return not busy
        finally:
            self._lease(subdir_id, give_back=True)

    def _lease(self, subdir_id: int, *, give_back: bool = False) -> bool:
        """Whether this process is to build a subdir's flat documents. Only saves double work: the flip decides. On
        SQLite there is one server process, so there is nobody to take turns with.
        """
        if self._database.is_sqlite:
            return True
        now = self._clock()
        with self._database.write() as session:
            # a lease from a clock that runs ahead, or ran, is nobody's
            held = Pointer.lease_until.between(now, now + LEASE_MS)
            free = true() if give_back else ~held
            taken = session.execute(
                update(Pointer)
                .where(Pointer.subdir_id == subdir_id, free)
                .values(lease_until=0 if give_back else now + LEASE_MS)
            )
            # no pointer yet: a first build, which is small
            return taken.rowcount > 0 or session.get(Pointer, subdir_id) is None  # type: ignore[attr-defined]
