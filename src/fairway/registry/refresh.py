"""Bringing what we have of an upstream channel to what it is now: the only writer of upstream names.

For each subdir: see which names have changed; read those, some at a time, and keep the shard we make of each (*pending*,
so nobody sees it, but a refresh that was broken off goes on from there); at the end show all of them at once, in one
transaction. Until then clients get the last whole state, however long it takes and whatever the upstream does.

The first hash that is seen of a file is its hash: a record that says another later is not taken, and the file is noted.
The time at which a file was first seen is its `indexed_timestamp` (CEP 47) if the upstream says none, and stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from fairway.conda import foreign, shards
from fairway.conda.choice import Choice
from fairway.conda.foreign import Found, Written
from fairway.conda.names import KNOWN_SUBDIRS, NOARCH
from fairway.db.engine import Database
from fairway.db.models import (
    Channel,
    ShardBytes,
    Subdir,
    Upstream,
    UpstreamName,
    UpstreamSubdir,
)
from fairway.db.upsert import insert_missing, upsert
from fairway.errors import FairwayError, RemoteMissing
from fairway.registry import described, index, mirror, sweep, theirs
from fairway.registry.firstseen import FirstSeen
from fairway.remote import channel as remote
from fairway.remote.channel import Kind, Reading
from fairway.remote.client import Validators

log = structlog.get_logger("fairway.refresh")

NAMES_AT_ONCE = 200
SHOWN_AT_ONCE = 500
PROGRESS_SECONDS = 1.0
# Most channels have a few of these; asking for all thirty-four each time would be rude.
USUAL = (NOARCH, "linux-64", "linux-aarch64", "linux-ppc64le", "osx-64", "osx-arm64", "win-64", "win-arm64")

NOTHING = Reading(Kind.JSON, Validators(), "", {}, lambda _: iter(()))


@dataclass(slots=True)
class Done:
    """What a refresh did: names that changed and went, records that were dropped, and files whose hash the upstream has
    changed. `errors` by subdir, in words; `unchanged` subdirs were not read.
    """

    names: int = 0
    gone: int = 0
    records: int = 0
    dropped: int = 0
    conflicts: int = 0
    subdirs: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)


class Superseded(Exception):
    """This refresh is of an upstream that the channel has no more, or not so."""


@dataclass(slots=True)
class Refresh:
    """One refresh of one channel. `now` and `monotonic` are clocks: ms since 1970, and seconds for pauses between lines of
    progress. `wanted` says which records of a name a mirror wants.
    """

    database: Database
    upstream: remote.Upstream
    channel_id: int
    now: Callable[[], int]
    choice: Choice | None = None
    done: Done = field(default_factory=Done)
    _told: float = 0.0
    _begun: tuple[int, object] | None = None

    def run(self, subdirs: Sequence[str] | None) -> Done:
        """All subdirs, those named or those it has. One that fails keeps what it had and stops no other; when the channel
        gets another upstream, or none, or wants other records of it, this ends: whoever did that has asked for another.
        """
        try:
            self._run(subdirs)
        except Superseded:
            log.info("upstream.superseded", channel=self.channel_id)
        return self.done

    def _run(self, subdirs: Sequence[str] | None) -> None:
        with self.database.read() as session:
            row = session.get(Upstream, self.channel_id)
            if row is None or row.url != self.upstream.url:
                raise Superseded
            self._begun = row.created_at, row.wanted
        names = list(subdirs) if subdirs is not None else self._known()
        if self.choice is not None and not self.choice.everything:
            self._chosen(names, self.choice)
        else:
            for name in names:
                with self._noted(name), ExitStack() as stack:
                    self._subdir(stack, name)
        if subdirs is not None:
            self._leave(subdirs)
        described.bring(self.database, self.upstream, self.channel_id, now=self.now())
        with self.database.write() as session:
            self._finish(session)

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        """What goes wrong with a subdir is said of it, and stops nothing else."""
        try:
            yield
        except RemoteMissing:
            self._gone(name)
        except FairwayError as error:
            self._failed(name, error)

    def _chosen(self, names: Sequence[str], choice: Choice) -> None:
        """What a mirror wants of all subdirs together, since what one needs may be in another: all or nothing."""
        with ExitStack() as stack:
            readings: dict[str, Reading] = {}
            for name in names:
                with self._noted(name):
                    reading = self.upstream.look(stack, name, None, {})
                    if reading is not None:
                        readings[name] = reading
            if self.done.errors:
                return
            try:
                narrow = mirror.narrowed(readings, choice)
            except FairwayError as error:
                self._failed(next(iter(readings)), error)
                return
            for name, reading in narrow.items():
                with self._noted(name):
                    self._apply(name, self._place(name), reading, {})

    def _known(self) -> list[str]:
        """The subdirs to ask for: the usual ones, and whatever was there before."""
        with self.database.read() as session:
            query = select(Subdir.name).where(Subdir.channel_id == self.channel_id, Subdir.upstream)
            there = set(session.scalars(query))
        return [*USUAL, *sorted((there & KNOWN_SUBDIRS) - set(USUAL))]

    # --- a subdir --------------------------------------------------------------------------------------------------

    def _subdir(self, stack: ExitStack, name: str) -> None:
        with self.database.read() as session:
            place = session.scalar(select(Subdir.id).where(Subdir.channel_id == self.channel_id, Subdir.name == name))
            before = None if place is None else session.get(UpstreamSubdir, place)
            kind = None if before is None else Kind(before.kind)
            known = remote.unpack_known(None if before is None else before.validators)
        self._tell("reading", name, 0, 0)
        reading = self.upstream.look(stack, name, kind, known)
        if reading is None:
            if place is not None:
                self._unchanged(place, name, known)
            return
        self._apply(name, place if place is not None else self._place(name), reading, known)

    def _apply(self, name: str, place: int, reading: Reading, known: Mapping[str, Validators]) -> None:
        """Bring what we have of a subdir to what was read."""
        changed, gone = self._compare(place, reading)
        self._tell("records", name, 0, len(changed))
        read, dropped = 0, self.done.dropped
        self.done.dropped += reading.dropped
        for some in gathered(reading.fetch(changed), NAMES_AT_ONCE):
            self._keep(place, name, reading, some)
            read += len(some)
            self._tell("records", name, read, len(changed))
        fresh = {**known, remote.DOCUMENTS[reading.kind]: reading.validators}
        exports = self._exports(name, fresh)
        self._tell("showing", name, len(changed), len(changed))
        self._show(place, name, reading, gone, exports, fresh, dropped=self.done.dropped - dropped)
        self.done.subdirs.append(name)

    def _place(self, name: str) -> int:
        with self.database.write() as session:
            self._lock(session)
            values = {"channel_id": self.channel_id, "name": name, "changed": 0, "upstream": True}
            insert_missing(session, Subdir, values, key=["channel_id", "name"])
            place = session.scalars(select(Subdir.id).where(Subdir.channel_id == self.channel_id, Subdir.name == name))
            return place.one()

    def _compare(self, place: int, reading: Reading) -> tuple[list[str], list[str]]:
        """The names to read, and those that have gone."""
        with self.database.read() as session:
            query = select(UpstreamName.name, UpstreamName.source).where(UpstreamName.subdir_id == place)
            have = dict(session.execute(query).tuples().all())
        changed = [name for name, source in reading.sources.items() if have.get(name) != source]
        return changed, [name for name in have if name not in reading.sources]

    def _keep(self, place: int, subdir: str, reading: Reading, some: Sequence[tuple[str, list[Written]]]) -> None:
        """Make the shards of some names and keep them, with what packages are listed with. One transaction."""
        read: dict[str, list[Found]] = {}
        for name, written in some:
            found, dropped = foreign.records(name, subdir, written)
            self.done.dropped += dropped
            read[name] = found
        now = self.now()
        with self.database.write() as session:
            self._lock(session)
            seen = FirstSeen(session, place, read, now=now)
            for name, found in read.items():
                read[name] = seen.settled(name, found)
            self.done.conflicts += seen.conflicts
            encoded = {name: foreign.encode(found) for name, found in read.items() if found}
            hashes = {name: shards.sha256(data) for name, data in encoded.items()}
            upsert(
                session,
                ShardBytes,
                [
                    {"subdir_id": place, "sha256": hashes[name], "retired_at": None, "data": data}
                    for name, data in encoded.items()
                ],
                key=["subdir_id", "sha256"],
                replace=["retired_at"],
            )
            theirs.retire_hidden(session, place, seen.replaced(hashes), now=now)
            rows = [
                {
                    "subdir_id": place,
                    "name": name,
                    "source": reading.sources[name],
                    "sha256": hashes.get(name, b""),  # none: nothing of it is wanted
                    "records": len(found),
                    "size": sum(one.record["size"] for one in found),
                    "urls": {one.filename: one.url for one in found if one.url} or None,
                    "exports": None,
                    "pending": True,
                }
                for name, found in read.items()
            ]
            kept = ["source", "sha256", "records", "size", "urls", "pending"]
            upsert(session, UpstreamName, rows, key=["subdir_id", "name"], replace=kept)
            theirs.relist(session, self.channel_id, subdir, read, seen.before, now=now)
        self.done.names += len(read)
        self.done.records += sum(map(len, read.values()))

    def _lock(self, session: Session) -> None:
        """The channel's row, as whoever publishes does: totals stay exact, and nobody waits for each other.

        Raises: Superseded. Whoever changes the upstream holds the same row: what was read of another server's channel, or
        of one that is not wanted any more, is never written to this one.
        """
        session.execute(select(Channel.id).where(Channel.id == self.channel_id).with_for_update(key_share=True))
        row = session.get(Upstream, self.channel_id, populate_existing=True)
        if row is None or (row.created_at, row.wanted) != self._begun:
            raise Superseded

    # --- showing ---------------------------------------------------------------------------------------------------

    def _show(
        self,
        place: int,
        name: str,
        reading: Reading,
        gone: Sequence[str],
        exports: Mapping[str, bytes] | None,
        known: Mapping[str, Validators],
        *,
        dropped: int,
    ) -> None:
        """Make everything that was read of a subdir what clients see: one transaction, one change."""
        now = self.now()
        with self.database.write() as session:
            self._lock(session)
            subdir = session.get_one(Subdir, place, with_for_update={"key_share": True}, populate_existing=True)
            query = select(UpstreamName.name).where(UpstreamName.subdir_id == place, UpstreamName.pending)
            shown = list(session.scalars(query))
            self._remove(session, place, name, gone, now)
            if exports is not None:
                theirs.write_exports(session, place, exports)
            subdir.upstream = True
            if shown or gone or not subdir.changed or exports is not None:
                subdir.changed += 1
                session.flush()
                index.write_shards(session, place, subdir.changed, [*shown, *gone], now=now, upstream=True)
            session.execute(update(UpstreamName).where(UpstreamName.subdir_id == place).values(pending=False))
            totals = select(func.sum(UpstreamName.records), func.sum(UpstreamName.size))
            records, size = session.execute(totals.where(UpstreamName.subdir_id == place)).one()
            values = {
                "subdir_id": place,
                "kind": reading.kind.value,
                "validators": remote.pack(known),
                "base_url": reading.base_url,
                "records": int(records or 0),
                "size": int(size or 0),
                "dropped": dropped,
                "checked_at": now,
                "good_at": now,
                "error": None,
            }
            upsert(
                session,
                UpstreamSubdir,
                [values],
                key=["subdir_id"],
                replace=[key for key in values if key != "subdir_id"],
            )
        self.done.gone += len(gone)
        log.info("upstream.shown", channel=self.channel_id, subdir=name, names=len(shown), gone=len(gone))

    def _leave(self, wanted: Sequence[str]) -> None:
        """Let go of the subdirs that are wanted no more, as if the upstream had nothing there."""
        with self.database.read() as session:
            query = select(Subdir.id, Subdir.name).where(Subdir.channel_id == self.channel_id, Subdir.upstream)
            others = session.execute(query.where(Subdir.name.not_in(wanted))).tuples().all()
        for place, name in others:
            _, gone = self._compare(place, NOTHING)
            self._show(place, name, NOTHING, gone, None, {}, dropped=0)
            with self.database.write() as session:
                self._lock(session)
                session.execute(delete(UpstreamSubdir).where(UpstreamSubdir.subdir_id == place))
                session.execute(update(Subdir).where(Subdir.id == place).values(upstream=False))

    def _remove(self, session: Session, place: int, subdir: str, gone: Sequence[str], now: int) -> None:
        """Names that the upstream has no more: their files are noted as gone, their packages counted anew."""
        for some in sweep.batched(gone):
            read: dict[str, list[Found]] = {name: [] for name in some}
            seen = FirstSeen(session, place, read, now=now)
            for name in some:
                seen.settled(name, [])
            session.execute(delete(UpstreamName).where(UpstreamName.subdir_id == place, UpstreamName.name.in_(some)))
            theirs.retire_hidden(session, place, seen.replaced({}), now=now)
            theirs.relist(session, self.channel_id, subdir, read, seen.before, now=now)

    def _exports(self, subdir: str, known: dict[str, Validators]) -> dict[str, bytes] | None:
        """Run exports (CEP 12), where the upstream has them in a document of their own; `known` learns of it. A channel
        without them, or with broken ones, is served all the same.
        """
        try:
            found = self.upstream.exports(subdir, known)
        except FairwayError as error:
            log.warning("upstream.exports", channel=self.channel_id, subdir=subdir, error=error.detail)
            return None
        if found is None:
            return None
        exports, validators = found
        known.update(validators)
        return exports

    def _unchanged(self, place: int, name: str, known: Mapping[str, Validators]) -> None:
        now = self.now()
        fresh = dict(known)
        exports = self._exports(name, fresh)
        with self.database.write() as session:
            self._lock(session)
            if exports is not None:
                subdir = session.get_one(Subdir, place, with_for_update={"key_share": True})
                subdir.changed += 1
                session.flush()
                theirs.write_exports(session, place, exports)
                index.write_shards(session, place, subdir.changed, [], now=now, upstream=True)
            values = {"checked_at": now, "good_at": now, "error": None, "validators": remote.pack(fresh)}
            session.execute(update(UpstreamSubdir).where(UpstreamSubdir.subdir_id == place).values(values))
        self.done.unchanged.append(name)

    def _gone(self, name: str) -> None:
        """The upstream has no such subdir. One that it had is left as it was: an empty answer is more often a fault of
        the upstream's than the end of a platform. One without noarch is no channel to every client, and still has what it has.
        """
        with self.database.read() as session:
            query = select(UpstreamSubdir.subdir_id).join(Subdir, Subdir.id == UpstreamSubdir.subdir_id)
            had = session.scalar(query.where(Subdir.channel_id == self.channel_id, Subdir.name == name))
        if had is not None:
            self._failed(name, RemoteMissing(f"The upstream has no {name} any more; what it had is served on."))

    def _failed(self, name: str, error: FairwayError) -> None:
        self.done.errors[name] = error.detail
        log.warning("upstream.failed", channel=self.channel_id, subdir=name, error=error.detail)
        with self.database.write() as session:
            self._lock(session)
            place = select(Subdir.id).where(Subdir.channel_id == self.channel_id, Subdir.name == name).scalar_subquery()
            values = {"checked_at": self.now(), "error": error.detail[:1_000]}
            session.execute(update(UpstreamSubdir).where(UpstreamSubdir.subdir_id == place).values(values))

    # --- progress --------------------------------------------------------------------------------------------------

    def _tell(self, phase: str, subdir: str, done: int, total: int) -> None:
        at = time.monotonic()
        if at - self._told < PROGRESS_SECONDS and done:
            return
        self._told = at
        progress = {"phase": phase, "subdir": subdir, "done": done, "total": total}
        with self.database.write() as session:
            session.execute(update(Upstream).where(Upstream.channel_id == self.channel_id).values(progress=progress))

    def _finish(self, session: Session) -> None:
        now = self.now()
        self._lock(session)
        if self.done.subdirs:
            session.execute(update(Channel).where(Channel.id == self.channel_id).values(updated_at=now))
        upstream = session.get_one(Upstream, self.channel_id, with_for_update=True)
        good = bool(self.done.subdirs or self.done.unchanged) and not self.done.errors
        upstream.checked_at, upstream.progress = now, None
        upstream.failures = 0 if good else upstream.failures + 1
        upstream.error = None if good else in_words(self.done.errors)
        if good:
            upstream.good_at = now


def in_words(errors: Mapping[str, str]) -> str:
    """The first error, and how many subdirs had one."""
    if not errors:
        return "The upstream has none of the platforms that conda clients know."
    subdir, first = next(iter(errors.items()))
    return f"{subdir}: {first}" if len(errors) == 1 else f"{subdir}: {first} ({len(errors) - 1} more platforms failed.)"


def gathered(found: Iterable[tuple[str, list[Written]]], size: int) -> Iterable[list[tuple[str, list[Written]]]]:
    batch: list[tuple[str, list[Written]]] = []
    for one in found:
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
