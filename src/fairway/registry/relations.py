"""What channels need of each other, found from what their packages depend on; and what nobody has.

A *dependency* of a channel is a name that the newest version of some package in it depends on. It is met by who has that
name in the index: inside the channel, by the channels its relations lead to (`relating.order`), or by another that
whoever asks may read. What a solver would make of versions is for the solver to say. Only channels that the actor may
read are counted or named: what is in others changes nothing.

`wants` holds each channel's dependencies and whether it has them, kept up to date by the database itself; so only what
a channel lacks is looked up elsewhere (docs/decisions/0035 has figures).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, case, exists, func, literal, or_, select, text
from sqlalchemy.orm import Session, aliased

from fairway.db import quick
from fairway.db.models import Channel, Package, Relation, Want
from fairway.registry import access, needs, relating, sweep
from fairway.registry.actor import Actor
from fairway.registry.listing import Head
from fairway.registry.paging import Page, page
from fairway.registry.relating import Placed

SHOWN = 12
"""How many channels are named on each side."""

NEEDED_BY = 5
FEW = 2_000
SOME = """
    SELECT * FROM (SELECT n.name AS needed, p.name FROM needs n JOIN packages p ON p.id = n.package_id
    WHERE n.name = :name{0} AND p.channel_id = :channel_id ORDER BY n.package_id LIMIT :most) AS some{0}
"""
ELSEWHERE = 1_000_000  # behind every channel that relations lead to


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A channel beside another. `kind` is "base" or "overrides" where a relation says so, `direct` if one of the two says
    it itself; "other" where only dependencies do. `met` is how many dependencies the one that builds has from it.
    """

    name: str
    kind: str
    met: int
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Related:
    """What a channel builds on, in the order in which clients load it and then the most useful first, and what builds on
    it. Of its `total` dependencies `inside` are met by itself, and `unmet` by nobody.
    """

    total: int
    inside: int
    related: int  # met by the channels that relations lead to
    elsewhere: int  # met only by others
    unmet: int
    builds_on: tuple[Neighbour, ...]
    built_on_by: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Unmet:
    """A name nobody has, how many packages of the channel depend on it, and some of them."""

    name: str
    packages: int
    needed_by: tuple[str, ...]


def related(session: Session, actor: Actor, head: Head) -> Related:
    """Five statements, and one for each step that relations lead away."""
    placed = [one for one in relating.order(session, head.id) if one.id != head.id]
    mine = Want.channel_id == head.id
    total, inside = session.execute(
        select(func.count(), func.count(case((Want.here, 1)))).select_from(Want).where(mine)
    ).one()
    met, elsewhere = met_by(session, actor, head, placed)
    readable = set(session.scalars(access.visible_to(actor).where(Channel.id.in_([one.id for one in placed]))))
    others = most_useful(session, actor, head, placed) if elsewhere else ()
    return Related(
        total=total,
        inside=inside,
        related=sum(met.values()),
        elsewhere=elsewhere,
        unmet=total - inside - sum(met.values()) - elsewhere,
        builds_on=(
            *(Neighbour(one.name, one.kind, met.get(one.id, 0), one.direct) for one in placed if one.id in readable),
            *others,
        ),
        built_on_by=built_on_by(session, actor, head),
    )


def there(package: Any, actor: Actor) -> Any:
    """Whether a package is in the index of a channel that the actor may read."""
    # found by its name: of the channels there are, hardly any have it; the sum hides the other index from SQLite
    return and_(package.version != "", (package.channel_id + 0).in_(access.visible_to(actor)))


def met_by(session: Session, actor: Actor, head: Head, placed: Sequence[Placed]) -> tuple[dict[int, int], int]:
    """How many dependencies that a channel lacks each of some channels meets, `{id: how many}`, each counted for the
    first that has it; and how many only others do. One statement.
    """
    ranks = case({one.id: one.place for one in placed}, value=Package.channel_id, else_=ELSEWHERE) if placed else None
    best = (
        select(func.min(literal(ELSEWHERE) if ranks is None else ranks).label("best"))
        .select_from(Want)
        .join(Package, and_(Package.name == Want.name, there(Package, actor)))
        .where(Want.channel_id == head.id, ~Want.here)
        .group_by(Want.name)
        .subquery()
    )
    counts: dict[int, int] = dict(
        session.execute(select(best.c.best, func.count()).group_by(best.c.best)).tuples().all()
    )
    return {one.id: counts[one.place] for one in placed if one.place in counts}, counts.get(ELSEWHERE, 0)


def most_useful(session: Session, actor: Actor, head: Head, placed: Sequence[Placed]) -> tuple[Neighbour, ...]:
    """Other channels that have what a channel and those it is related to lack, the most of it first. One statement."""
    near = aliased(Package)
    met = exists().where(
        near.channel_id.in_([one.id for one in placed]), near.name == Want.name, near.version != "",
    )  # fmt: skip
    count = func.count()
    query = (
        select(Channel.name, count)
        .select_from(Want)
        .join(Package, and_(Package.name == Want.name, there(Package, actor)))
        .join(Channel, Channel.id == Package.channel_id)
        .where(Want.channel_id == head.id, ~Want.here, ~met)
        .group_by(Channel.name)
        .order_by(count.desc(), Channel.name)
        .limit(SHOWN)
    )
    return tuple(Neighbour(name, "other", int(met)) for name, met in session.execute(query))


def built_on_by(session: Session, actor: Actor, head: Head) -> tuple[Neighbour, ...]:
    """The channels that name this one, and those that lack what it has; the most of it first. Two statements."""
    visible = access.visible_to(actor)
    here = aliased(Channel)
    naming = (
        select(Channel.name, Relation.base_id)
        .join(Relation, Relation.channel_id == Channel.id)
        .join(here, here.id == head.id)
        .where(or_(Relation.base_id == head.id, Relation.overrides_id == head.id), relating.shows(Channel, here))
        .where(Channel.id.in_(visible))
        .order_by(Channel.name)
    )
    said = {name: "base" if base == head.id else "overrides" for name, base in session.execute(naming)}
    count = func.count()
    # of a small channel each package is looked for among all that is lacked anywhere, of a large one the other way round:
    # whose column is hidden in a sum has no index, and SQLite begins with it
    lacked = Want.name if head.packages < FEW else Want.name + ""
    lacking = (
        select(Channel.name, count)
        .select_from(Want)
        .join(Package, and_(Package.channel_id == head.id, Package.name == lacked, Package.version != ""))
        .join(Channel, Channel.id == Want.channel_id)
        .where(~Want.here, (Want.channel_id + 0).in_(visible))
        .group_by(Channel.name)
        .order_by(count.desc(), Channel.name)
    )
    met = dict(session.execute(lacking).tuples().all())
    first = [Neighbour(name, kind, met.get(name, 0), direct=True) for name, kind in said.items()]
    first.sort(key=lambda one: -one.met)
    others = [Neighbour(name, "other", number) for name, number in met.items() if name not in said]
    return tuple((first + others)[:SHOWN])


def unmet(session: Session, actor: Actor, head: Head, *, cursor: str = "", limit: int = 50) -> Page[Unmet]:
    """The dependencies of a channel that no channel meets which the actor may read, by name. Two statements. Raises:
    Malformed (cursor).
    """
    has = exists().where(Package.name == Want.name, there(Package, actor))
    query = select(Want.name, Want.packages).where(Want.channel_id == head.id, ~Want.here, ~has)
    rows, following, previous = page(
        session, query, (Want.name,), cursor=cursor, limit=limit, key=lambda row: (row.name,)
    )
    who = needed_by(session, head, [row.name for row in rows])
    return Page([Unmet(row.name, row.packages, who.get(row.name, ())) for row in rows], following, previous)


def needed_by(session: Session, head: Head, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Some packages of a channel that depend on each of these names. One statement, which stops at the first few."""
    if not names:
        return {}
    parts = " UNION ALL ".join(SOME.format(number) for number in range(len(names)))
    values = {f"name{number}": name for number, name in enumerate(names)}
    found: dict[str, tuple[str, ...]] = {}
    for needed, name in session.execute(text(parts), {"channel_id": head.id, "most": NEEDED_BY, **values}):
        found[needed] = (*found.get(needed, ()), name)
    return found


# --- at an upload ---------------------------------------------------------------------------------------------------


def near() -> Any:
    """The ids of a channel and of all that its relations lead to, as clients are told of them."""
    here, target = aliased(Channel), aliased(Channel)
    found = select(bindparam("channel_id", type_=Want.channel_id.type).label("id")).cte("near", recursive=True)
    step = (
        select(target.id)
        .select_from(found)
        .join(Relation, Relation.channel_id == found.c.id)
        .join(here, here.id == found.c.id)
        .join(target, or_(target.id == Relation.base_id, target.id == Relation.overrides_id))
        .where(relating.shows(here, target))
    )
    return select(found.union(step).c.id)


# Asked with every upload: kept, because making a statement costs more than running it.
HAVE = (
    select(Package.name)
    .where(Package.channel_id.in_(near()), Package.name.in_(bindparam("names", expanding=True)), Package.version != "")
    .distinct()
)


def lacking(session: Session, channel_id: int, names: Iterable[str]) -> set[str]:
    """Those of some names that neither a channel has nor any that its relations lead to, for everybody alike. One
    statement, unless these are very many.
    """
    wanted = set(names)
    found: set[str] = set()
    for some in sweep.batched(wanted):
        rows = quick.of(session).execute(HAVE, {"channel_id": channel_id, "names": some})
        found.update(name for (name,) in rows)
    return wanted - found


def lacking_for(
    session: Session, channel_id: int, records: Mapping[int, Mapping[str, Any]]
) -> dict[int, tuple[str, ...]]:
    """What each of some records depends on and nobody of these has, by whatever their numbers are. One statement."""
    needed = {number: needs.names_in(record) for number, record in records.items()}
    found = lacking(session, channel_id, set().union(*needed.values()))
    return {number: tuple(sorted(names & found)) for number, names in needed.items()}
