"""Which channel a channel builds on, and which it goes before: as its owner says it, and as clients read it (CEP 42).

What is said stays said. It is *in effect*, and so in what clients fetch, only while the other channel is there and at
least as open as the one that names it: nobody learns from a relation of a channel they may not read. A private channel
is never named, because who may read it changes with every member; `docs/decisions/0035` has the reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, or_, select, text
from sqlalchemy.orm import Session, aliased

from fairway.conda.repodata import Relations
from fairway.db.glance import Reads
from fairway.db.models import Channel, Relation
from fairway.db.upsert import upsert
from fairway.errors import Invalid
from fairway.registry import access
from fairway.registry.actor import Actor, Visibility

DEEPEST = 10
"""How many channels behind each other clients follow (CEP 42, `channel_relations_max_depth`)."""

KINDS = ("base", "overrides")
LOCK = text("LOCK TABLE relations IN SHARE ROW EXCLUSIVE MODE")

Base, Overridden = aliased(Channel), aliased(Channel)


def shows(channel: Any, target: Any) -> Any:
    """Whether what a channel says of another is in effect, as a condition on their rows."""
    whole = or_(
        target.visibility == Visibility.PUBLIC,
        and_(target.visibility == Visibility.INTERNAL, channel.visibility != Visibility.PUBLIC),
    )
    return and_(target.deleted_at.is_(None), whole)


# Asked with every subdir that is empty: kept, because making a statement costs more than running it.
EMITTED = (
    select(Base.name, Overridden.name)
    .select_from(Relation)
    .join(Channel, Channel.id == Relation.channel_id)
    .outerjoin(Base, and_(Base.id == Relation.base_id, shows(Channel, Base)))
    .outerjoin(Overridden, and_(Overridden.id == Relation.overrides_id, shows(Channel, Overridden)))
    .where(Relation.channel_id == bindparam("channel_id"))
)


def emitted(reads: Reads, channel_id: int) -> Relations:
    """What clients are told of a channel's relations."""
    for base, overrides in reads.execute(EMITTED, {"channel_id": channel_id}):
        return Relations(base, overrides)
    return Relations()


def shown(session: Session, actor: Actor, channel_ids: Iterable[int]) -> dict[int, Relations]:
    """The relations of some channels that are in effect, as far as the actor may read the others. One statement."""
    visible = access.visible_to(actor)
    query = (
        select(Relation.channel_id, Base.name, Overridden.name)
        .join(Channel, Channel.id == Relation.channel_id)
        .outerjoin(Base, and_(Base.id == Relation.base_id, shows(Channel, Base), Base.id.in_(visible)))
        .outerjoin(
            Overridden,
            and_(Overridden.id == Relation.overrides_id, shows(Channel, Overridden), Overridden.id.in_(visible)),
        )
        .where(Relation.channel_id.in_(list(channel_ids)))
    )
    found = {channel_id: Relations(base, overrides) for channel_id, base, overrides in session.execute(query)}
    return {channel_id: found.get(channel_id, Relations()) for channel_id in channel_ids}


@dataclass(frozen=True, slots=True)
class Said:
    """What an owner said of another channel, and whether clients are told."""

    name: str
    in_effect: bool


def said(session: Session, actor: Actor, channel_id: int) -> dict[str, Said]:
    """By kind, all that the owner of a channel said, of channels the actor may read. One statement."""
    found: dict[str, Said] = {}
    other = aliased(Channel)
    for kind, column in (("base", Relation.base_id), ("overrides", Relation.overrides_id)):
        query = (
            select(other.name, shows(Channel, other))
            .select_from(Relation)
            .join(Channel, Channel.id == Relation.channel_id)
            .join(other, other.id == column)
            .where(Relation.channel_id == channel_id, other.id.in_(access.visible_to(actor)))
        )
        for name, in_effect in session.execute(query):
            found[kind] = Said(name, bool(in_effect))
    return found


# --- saying it ------------------------------------------------------------------------------------------------------


def change(
    session: Session, actor: Actor, channel: Channel, *, base: str | None, overrides: str | None
) -> dict[str, list[str | None]]:
    """Say which channels go before and after one that the actor manages: a name, "" for none, None as it is. What
    changed, as `{kind: [before, after]}`.

    Raises: Invalid: no such channel that the actor may read; one that fewer people may read; itself; one for both; a
    loop; too many behind each other.
    """
    wanted = {kind: name.strip() for kind, name in zip(KINDS, (base, overrides), strict=True) if name is not None}
    if not wanted:
        return {}
    if session.get_bind().dialect.name == "postgresql":
        # one at a time: of two changes that are a loop together each would be right alone
        session.execute(LOCK)
    row = session.get(Relation, channel.id, populate_existing=True)
    before = {"base": row and row.base_id, "overrides": row and row.overrides_id}
    after = before | {kind: target_of(session, actor, channel, name) for kind, name in wanted.items()}
    if before == after:
        return {}
    if after["base"] is not None and after["base"] == after["overrides"]:
        raise Invalid("One channel cannot go both before and after this one.", code="relation_invalid")
    edges = {
        found.channel_id: (found.base_id, found.overrides_id)
        for found in session.execute(select(*Relation.__table__.c))
    }
    edges[channel.id] = (after["base"], after["overrides"])
    require_order(edges, channel, wanted)
    require_depth(edges, channel)
    upsert(
        session,
        Relation,
        [{"channel_id": channel.id, "base_id": after["base"], "overrides_id": after["overrides"]}],
        key=["channel_id"],
        replace=["base_id", "overrides_id"],
    )
    if row is not None:
        session.expire(row)
    ids = [number for number in (*before.values(), *after.values()) if number is not None]
    names = dict(session.execute(select(Channel.id, Channel.name).where(Channel.id.in_(ids))).tuples().all())
    return {
        kind: [names.get(before[kind] or 0), names.get(after[kind] or 0)]
        for kind in KINDS
        if before[kind] != after[kind]
    }


def target_of(session: Session, actor: Actor, channel: Channel, name: str) -> int | None:
    """Raises: Invalid: it cannot be named."""
    if not name:
        return None
    if not access.readable(session, actor, name):
        raise Invalid(f"There is no channel {name[:80]} here that you may read.", code="relation_invalid")
    if name == channel.name:
        raise Invalid("A channel has no relation to itself.", code="relation_invalid")
    target = access.find(session, name)
    if target is None:  # deleted since
        raise Invalid(f"There is no channel {name[:80]} here that you may read.", code="relation_invalid")
    if target.visibility == Visibility.PRIVATE:
        raise Invalid(
            f"{name} is private: its name would be told to everybody who reads {channel.name}, members or not. Make it "
            "internal first, or have clients name both channels.",
            code="relation_invalid",
        )
    if channel.visibility == Visibility.PUBLIC and target.visibility != Visibility.PUBLIC:
        raise Invalid(
            f"{channel.name} is public and {name} is not: who cannot read {name} would be sent there.",
            code="relation_invalid",
        )
    return target.id


Edges = Mapping[int, tuple[int | None, int | None]]


def require_order(edges: Edges, channel: Channel, wanted: Mapping[str, str]) -> None:
    """Pass if the channels around this one can be put into an order. Raises: Invalid.

    Nothing is said of where the loop is: it may lead through channels that this actor does not know.
    """
    below: dict[int, set[int]] = {}
    for one, (base, overrides) in edges.items():
        if base is not None:
            below.setdefault(base, set()).add(one)
        if overrides is not None:
            below.setdefault(one, set()).add(overrides)
    if channel.id in distances(below, below.get(channel.id, ())):
        names = " and ".join(name for name in wanted.values() if name)
        raise Invalid(
            f"That would be a loop: {channel.name} would have to go before itself. Look at what {names or 'the other'} builds on and goes before.",
            code="relation_loop",
        )


def require_depth(edges: Edges, channel: Channel) -> None:
    """Pass if clients can follow the relations to their ends, from here and from whoever names this one. The steps are
    counted a little too high where a channel can be reached in two ways. Raises: Invalid.

    Nor is it said how many there would be: some of those may be channels that this actor does not know.
    """
    ahead = {one: {number for number in pair if number is not None} for one, pair in edges.items()}
    behind: dict[int, set[int]] = {}
    for one, numbers in ahead.items():
        for number in numbers:
            behind.setdefault(number, set()).add(one)
    steps = [max(distances(graph, graph.get(channel.id, ())).values(), default=0) for graph in (ahead, behind)]
    if sum(steps) > DEEPEST:
        raise Invalid(
            f"Clients follow at most {DEEPEST} channels behind each other, and with that there would be more.",
            code="relation_depth",
        )


def distances(graph: Mapping[int, Iterable[int]], first: Iterable[int]) -> dict[int, int]:
    """How far it is to each channel that can be reached, the `first` ones being one step away."""
    found: dict[int, int] = {}
    border = set(first)
    while border:
        steps = max(found.values(), default=0) + 1
        found |= dict.fromkeys(border, steps)
        border = {after for one in border for after in graph.get(one, ())} - found.keys()
    return found


# --- whom it concerns -----------------------------------------------------------------------------------------------


def naming(session: Session, channel_id: int) -> set[int]:
    """The channels whose documents depend on who may read this one: itself, if it names others, and who names it."""
    mine = or_(Relation.channel_id == channel_id, Relation.base_id == channel_id, Relation.overrides_id == channel_id)
    return set(session.scalars(select(Relation.channel_id).where(mine)))


@dataclass(frozen=True, slots=True)
class Placed:
    """A channel among those that clients load together, the one that goes before all others having `place` 0. `kind` is
    "this", "base" or "overrides"; `direct` if this channel itself says so.
    """

    id: int
    name: str
    place: int
    kind: str
    visibility: Visibility
    direct: bool = False


def order(session: Session, channel_id: int) -> list[Placed]:
    """A channel and all that its relations lead to, in the order in which clients load them (CEP 42): what goes before
    it, itself, what goes after it. As clients do it, for everybody alike: none of them is less open than the channel.

    One statement for each step, at most `DEEPEST`.
    """
    names: dict[int, tuple[str, Visibility]] = {}
    edges: dict[int, tuple[int | None, int | None]] = {}
    border = {channel_id}
    for _ in range(DEEPEST + 1):
        query = (
            select(Channel.id, Channel.name, Channel.visibility, Base.id, Overridden.id)
            .outerjoin(Relation, Relation.channel_id == Channel.id)
            .outerjoin(Base, and_(Base.id == Relation.base_id, shows(Channel, Base)))
            .outerjoin(Overridden, and_(Overridden.id == Relation.overrides_id, shows(Channel, Overridden)))
            .where(Channel.id.in_(border), Channel.deleted_at.is_(None))
        )
        for found, name, visibility, base, overrides in session.execute(query):
            names[found], edges[found] = (name, Visibility(visibility)), (base, overrides)
        border = {one for pair in edges.values() for one in pair if one is not None} - edges.keys()
        if not border:
            break
    return [
        Placed(one, name, place, kind_of(edges, channel_id, one), visibility, one in edges[channel_id])
        for place, one in enumerate(sorted_out(edges, channel_id))
        if one in names
        for name, visibility in (names[one],)
    ]


def sorted_out(edges: Edges, channel_id: int) -> list[int]:
    """The channels in CEP 42's order: depth first, so that those that belong together stay together."""
    above: dict[int, list[int]] = {one: [] for one in edges}
    for one, (base, overrides) in edges.items():
        if base is not None:
            above[one].append(base)
        if overrides is not None:
            above.setdefault(overrides, []).append(one)
    done: dict[int, None] = {}
    begun: set[int] = set()

    def visit(one: int) -> None:
        if one in begun:
            return
        begun.add(one)
        for higher in above.get(one, ()):
            visit(higher)
        done[one] = None

    visit(channel_id)
    for one in edges:
        visit(one)
    return list(done)


def kind_of(edges: Edges, channel_id: int, one: int) -> str:
    """Whether a channel goes before or after this one, as far as relations say; of what neither is said, after."""
    if one == channel_id:
        return "this"
    border, seen = {channel_id}, set[int]()
    while border:
        seen |= border
        higher = {pair[0] for at in border if (pair := edges.get(at)) and pair[0] is not None}
        higher |= {above for above, pair in edges.items() if pair[1] in border}
        border = {number for number in higher if number is not None} - seen
    return "base" if one in seen else "overrides"
