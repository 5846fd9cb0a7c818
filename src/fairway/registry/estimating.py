"""How much a mirror would hold: out of what was read of the upstream's index already, so that nobody else is asked, and with what it
may cost bounded, since somebody waits; or, at the server's machine, out of what the upstream says now.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fairway.conda import choice as choices
from fairway.conda import foreign
from fairway.conda.choice import Choice
from fairway.conda.foreign import Found
from fairway.db.models import ShardBytes, Subdir, Upstream, UpstreamName, UpstreamSubdir
from fairway.remote.channel import Reading

SECONDS = 2.0
NAMES_AT_ONCE = 50


class Extent(StrEnum):
    """How much of the upstream's index an estimate is made of."""

    WHOLE = "whole"
    PART = "part"  # time was up, or not every platform was read yet: there is more
    UNREAD = "unread"  # nothing of it is here, or what is here was read for a choice before
    CHOSEN = "chosen"  # only what the choice that is saved wants is here, and this is another


@dataclass(frozen=True, slots=True)
class Share:
    """What a mirror would hold of a platform: packages, records, each of which stands for a file, and the bytes of these."""

    subdir: str
    names: int
    records: int
    size: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a mirror would hold, all in all and by platform."""

    extent: Extent
    shares: tuple[Share, ...] = ()

    @property
    def records(self) -> int:
        return sum(share.records for share in self.shares)

    @property
    def size(self) -> int:
        return sum(share.size for share in self.shares)


def estimate(
    session: Session,
    channel_id: int,
    url: str,
    choice: Choice,
    subdirs: Sequence[str] | None,
    *,
    seconds: float = SECONDS,
) -> Estimate:
    """What a mirror of `url` would hold in a channel with that choice, on these platforms or all. Who may see it the caller
    asks.
    """
    row = session.get(Upstream, channel_id)
    query = (
        select(Subdir.name, Subdir.id, UpstreamSubdir.validators)
        .join(UpstreamSubdir, UpstreamSubdir.subdir_id == Subdir.id)
        .where(Subdir.channel_id == channel_id)
        .order_by(Subdir.name)
    )
    found = [one for one in session.execute(query) if subdirs is None or one.name in subdirs]
    places = {one.name: one.id for one in found}
    # without validators it is to be read anew (`upstreams.read_anew`): what is here is of another choice than the row says
    if row is None or row.url != url or not places or not all(one.validators for one in found):
        return Estimate(Extent.UNREAD)
    kept = Choice() if row.wanted is None else Choice.parse(row.wanted)
    whole = Extent.WHOLE if row.good_at else Extent.PART
    if choice == kept:
        totals = [total(session, name, place) for name, place in places.items()]
        return Estimate(whole, tuple(one for one in totals if one.names))
    if not kept.everything:
        return Estimate(Extent.CHOSEN)
    reading = Kept(session, places, time.monotonic() + seconds)
    wanted = choices.chosen(choice, reading.names(choice), reading.records)
    shares = tuple(share(name, wanted[name].values()) for name in places if name in wanted)
    return Estimate(Extent.PART if reading.over else whole, shares)


def of_readings(readings: Mapping[str, Reading]) -> Estimate:
    """What readings of a choice, or of everything, come to. Raises: RemoteError, Invalid."""
    shares = []
    for subdir, reading in sorted(readings.items()):
        held = [foreign.records(name, subdir, written)[0] for name, written in reading.fetch(list(reading.sources))]
        shares.append(share(subdir, [found for found in held if found]))
    return Estimate(Extent.WHOLE, tuple(one for one in shares if one.names))


def total(session: Session, subdir: str, place: int) -> Share:
    sums = select(func.count(), func.sum(UpstreamName.records), func.sum(UpstreamName.size))
    names, records, size = session.execute(sums.where(UpstreamName.subdir_id == place, UpstreamName.records > 0)).one()
    return Share(subdir, names, int(records or 0), int(size or 0))


def share(subdir: str, held: Collection[Sequence[Found]]) -> Share:
    return Share(subdir, len(held), sum(map(len, held)), sum(one.record["size"] for records in held for one in records))


@dataclass(slots=True)
class Kept:
    """The records that are kept of an upstream, by `{subdir: its row}`, until `deadline` (monotonic seconds)."""

    session: Session
    places: dict[str, int]
    deadline: float
    over: bool = False

    def names(self, choice: Choice) -> list[str]:
        """Those that may be wanted: a thousand patterns and a hundred thousand names take their time too."""
        query = select(UpstreamName.name).where(UpstreamName.subdir_id.in_(self.places.values())).distinct()
        wanted = []
        for name in sorted(self.session.scalars(query)):
            if self.late():
                break
            if choice.may_want(name):
                wanted.append(name)
        return wanted

    def late(self) -> bool:
        self.over = self.over or time.monotonic() > self.deadline
        return self.over

    def records(self, names: Sequence[str]) -> Iterator[tuple[str, str, Sequence[Found]]]:
        subdirs = {place: subdir for subdir, place in self.places.items()}
        for at in range(0, len(names), NAMES_AT_ONCE):
            query = (
                select(UpstreamName.subdir_id, UpstreamName.name, ShardBytes.data)
                .join(
                    ShardBytes,
                    (ShardBytes.subdir_id == UpstreamName.subdir_id) & (ShardBytes.sha256 == UpstreamName.sha256),
                )
                .where(UpstreamName.subdir_id.in_(subdirs), UpstreamName.name.in_(names[at : at + NAMES_AT_ONCE]))
            )
            for place, name, data in self.session.execute(query):
                if self.late():
                    return
                yield subdirs[place], name, foreign.decode(data)
