"""What was seen first of an upstream's files: their hash, and when they were there.

The first hash of a file is its hash. A record that claims another later is not taken; the file is noted, for people to
look at (SECURITY.md E6). Files that go are noted too: they are listed in `removed`, and may be served on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import structlog
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from fairway.conda import foreign
from fairway.conda.foreign import Found
from fairway.db.models import Copy, ShardBytes, UpstreamName
from fairway.errors import Invalid
from fairway.registry import sweep

log = structlog.get_logger("fairway.refresh")


class FirstSeen:
    """What we know of the files of some names in a subdir, within a transaction."""

    def __init__(self, session: Session, subdir_id: int, names: Iterable[str], *, now: int) -> None:
        self._session, self._subdir_id, self._now = session, subdir_id, now
        self.conflicts = 0
        self.before: dict[str, dict[str, Found]] = {}
        """The records we had: `{name: {file name: record}}`."""
        self._hashes: dict[str, bytes] = {}
        self._copies: dict[str, Copy] = {}
        noted = session.scalar(select(exists().where(Copy.subdir_id == subdir_id)))
        for some in sweep.batched(names):
            self._load(some, copies=bool(noted))

    def _load(self, names: Sequence[str], *, copies: bool) -> None:
        query = (
            select(UpstreamName.name, UpstreamName.sha256, ShardBytes.data)
            .join(ShardBytes, (ShardBytes.subdir_id == self._subdir_id) & (ShardBytes.sha256 == UpstreamName.sha256))
            .where(UpstreamName.subdir_id == self._subdir_id, UpstreamName.name.in_(names))
        )
        for name, sha256, data in self._session.execute(query):
            self._hashes[name] = sha256
            with suppress(Invalid):  # a damaged one must not keep others from coming
                self.before[name] = {one.filename: one for one in foreign.decode(data)}
        if copies:
            noted = select(Copy).where(Copy.subdir_id == self._subdir_id, Copy.name.in_(names))
            self._copies |= {copy.filename: copy for copy in self._session.scalars(noted)}

    def settled(self, name: str, found: Sequence[Found]) -> list[Found]:
        """The records of a name as they are kept: with the hash and the time that were seen first."""
        before = self.before.get(name, {})
        settled: list[Found] = []
        seen: int | None
        for one in found:
            old, copy = before.get(one.filename), self._copies.get(one.filename)
            first, seen = one.sha256.hex(), None
            if copy is not None:  # before the record: another hash may have been accepted since
                first, seen = copy.sha256, copy.indexed_at
            elif old is not None:
                first, seen = old.sha256.hex(), old.record.get("indexed_timestamp")
            if first != one.sha256.hex():
                self._conflict(one, old, copy)
                if old is not None:
                    settled.append(old)
                continue
            one.record["indexed_timestamp"] = seen or one.record.get("indexed_timestamp") or self._now
            if copy is not None:
                copy.gone_at = copy.claimed = None
            settled.append(one)
        there = {one.filename for one in found}
        for filename, old in before.items():
            if filename not in there:
                copy = self._noted(name, old)
                copy.gone_at = copy.gone_at or self._now
        return settled

    def replaced(self, hashes: Mapping[str, bytes]) -> list[bytes]:
        """The shards we had that are not these, by name."""
        return [sha256 for name, sha256 in self._hashes.items() if hashes.get(name) != sha256]

    def _conflict(self, one: Found, old: Found | None, copy: Copy | None) -> None:
        self.conflicts += 1
        claimed = one.sha256.hex()
        log.warning("upstream.changed", subdir=self._subdir_id, file=one.filename, claimed=claimed)
        if old is not None:
            copy = self._noted(one.record["name"], old)
        if copy is not None:
            copy.claimed = claimed

    def _noted(self, name: str, old: Found) -> Copy:
        copy = self._copies.get(old.filename)
        if copy is None:
            md5 = old.record.get("md5")
            copy = self._copies[old.filename] = Copy(
                subdir_id=self._subdir_id,
                filename=old.filename,
                name=name,
                sha256=old.sha256.hex(),
                md5=md5.hex() if md5 else "",
                size=old.record["size"],
                indexed_at=old.record.get("indexed_timestamp") or self._now,
                fetched_at=None,
            )
            self._session.add(copy)
        return copy
