"""Which channel a dependency comes from, and which version of it, for who asks.

Clients take a name from the first channel of their list that has it for their platform, whatever versions that one has.
So of the channels that relations lead to, in their order (`relating.order`), the first that has the name there supplies it.
Of what none of them has, some other channel that the actor may read is named, which clients would have to be told of.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fairway.conda import matching, shards, version
from fairway.conda.names import KNOWN_SUBDIRS, NOARCH
from fairway.conda.shards import Build
from fairway.db.models import Channel, Package, Shard, ShardBytes, Subdir
from fairway.errors import PackageRefused
from fairway.registry import access, relating
from fairway.registry.actor import Actor
from fairway.registry.listed import bits_of
from fairway.registry.listing import NAMES_AT_ONCE, Head
from fairway.registry.relating import Placed

BYTES_MOST = 4 << 20
"""How many bytes of shards are looked into for one page: of the largest of them only the newest version is said."""
CHANNELS_MOST = 6
TESTS_MOST = 100_000
"""How many builds are held against a spec for one page, all specs together: about a second, in which nobody else is served."""
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Supplier:
    """The channel that has a name. `kind` says how it stands to the one that asks: this, base, overrides, or other, which
    no relation leads to. `newest` is its newest version of it, `fitting` the newest that satisfies the spec: "" if none
    does, None if that was not looked at.
    """

    channel: str
    kind: str
    newest: str
    fitting: str | None


@dataclass(frozen=True, slots=True)
class Having:
    """A channel that has a name; not `there` if it has it for other platforms only."""

    channel_id: int
    channel: str
    kind: str
    newest: str
    there: bool


def suppliers(
    session: Session, actor: Actor, head: Head, specs: Mapping[str, str], platforms: Collection[str]
) -> dict[str, Supplier]:
    """By spec, of those that some channel meets which the actor may read. `specs` says which name each is of, `platforms`
    for which subdirs it has to be, beside noarch.

    One statement for each step that relations lead away, one for the names, and two for each channel that supplies some.
    """
    wanted = set(specs.values())
    if not wanted:
        return {}
    having = those_that_have(session, actor, wanted, relating.order(session, head.id), platforms)
    subdirs = sought_in(platforms)
    builds: dict[str, Sequence[Build]] = {name: () for name, one in having.items() if not one.there}
    room = BYTES_MOST
    for channel_id in list(dict.fromkeys(one.channel_id for one in having.values() if one.there))[:CHANNELS_MOST]:
        names = [name for name, one in having.items() if one.there and one.channel_id == channel_id]
        found, used = builds_of(session, channel_id, names, subdirs, most=room)
        builds |= found
        room -= used
    tests = TESTS_MOST
    supplied: dict[str, Supplier] = {}
    for spec, name in specs.items():
        if (one := having.get(name)) is not None:
            some = builds.get(name)
            tests -= len(some or ())
            supplied[spec] = Supplier(one.channel, one.kind, one.newest, fitting(spec, some if tests >= 0 else None))
    return supplied


def sought_in(platforms: Collection[str]) -> set[str]:
    """The subdirs in which something may be for a package of these."""
    # what runs anywhere may need something that is made for each platform
    return set(KNOWN_SUBDIRS) if NOARCH in platforms else {*platforms, NOARCH}


def those_that_have(
    session: Session, actor: Actor, names: Iterable[str], placed: Sequence[Placed], platforms: Collection[str]
) -> dict[str, Having]:
    """For each of some names the channel it comes from for a package of these platforms; of those that are not related the
    one whose package is downloaded most, and only if there is none at all one that has it for other platforms. One
    statement, unless these are very many.
    """
    places = {one.id: one for one in placed}
    bits = bits_of(sought_in(platforms))
    best: dict[str, tuple[tuple[bool, int, int, str], Having]] = {}
    some = sorted(names)
    for begin in range(0, len(some), NAMES_AT_ONCE):
        query = (
            select(Package.name, Package.channel_id, Channel.name, Package.version, Package.downloads, Package.places)
            .join(Channel, Channel.id == Package.channel_id)
            .where(Package.name.in_(some[begin : begin + NAMES_AT_ONCE]), Package.version != "")
            .where((Package.channel_id + 0).in_(access.visible_to(actor)))
        )
        for name, channel_id, channel, newest, downloads, bits_there in session.execute(query):
            one = places.get(channel_id)
            there = bool(bits & bits_there)
            rank = (not there, *((len(placed), -downloads, channel) if one is None else (one.place, 0, "")))
            if name not in best or rank < best[name][0]:
                best[name] = rank, Having(channel_id, channel, OTHER if one is None else one.kind, newest, there)
    return {name: having for name, (_, having) in best.items()}


def builds_of(
    session: Session, channel_id: int, names: Sequence[str], subdirs: Iterable[str], *, most: int
) -> tuple[dict[str, list[Build]], int]:
    """What a channel has of some names in some subdirs, the smallest shards first, `most` bytes of them; and how many bytes
    that were. A name is left out as a whole. Two statements.
    """
    place = (ShardBytes.subdir_id == Shard.subdir_id) & (ShardBytes.sha256 == Shard.sha256)
    query = (
        select(Shard.name, ShardBytes.id, func.length(ShardBytes.data))
        .join(Subdir, Subdir.id == Shard.subdir_id)
        .join(ShardBytes, place)
        .where(Subdir.channel_id == channel_id, Subdir.name.in_(list(subdirs)), Shard.name.in_(names[:NAMES_AT_ONCE]))
    )
    sizes: dict[str, int] = {}
    ids: dict[str, list[int]] = {}
    for name, number, size in session.execute(query):
        sizes[name] = sizes.get(name, 0) + size
        ids.setdefault(name, []).append(number)
    used = 0
    found: dict[str, list[Build]] = {}
    names_of: dict[int, str] = {}
    for name in sorted(sizes, key=lambda one: sizes[one]):
        used += sizes[name]
        if used > most:
            used -= sizes[name]
            break
        found[name] = []
        names_of |= dict.fromkeys(ids[name], name)
    for number, data in session.execute(select(ShardBytes.id, ShardBytes.data).where(ShardBytes.id.in_(names_of))):
        found[names_of[number]] += shards.builds(shards.decompressed(data))
    return found, used


def fitting(spec: str, builds: Sequence[Build] | None) -> str | None:
    """The newest version that satisfies a spec, "" if none does; None if nobody can say."""
    test = matching.fits(spec)
    if test is None or builds is None:
        return None
    best, key = "", b""
    for one in builds:
        try:
            here = version.sort_key(one.version)
        except PackageRefused:
            continue
        if here > key and test(one.version, one.build, one.build_number):
            best, key = one.version, here
    return best
