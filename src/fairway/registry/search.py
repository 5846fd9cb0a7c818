"""Finding packages. The database fetches candidates, one ranking in Python orders them, alike on every database.

Every query goes through `access.visible_to` before anything is counted, ordered or cut off: what somebody may not read
changes nothing in what they find. (So nobody is told how much more there is in channels they could join.)

Candidates come from an index of trigrams: FTS5 on SQLite, pg_trgm on PostgreSQL (migration 0004), where without that
extension each row is looked at. They are fetched in the order of the ranking, and only as many kinds as the page needs:
names that begin so, names that hold it, names spelt like it if there is hardly anything else, and summaries.

Among what matches alike, packages with files of ours come before those that are only an upstream's: a channel elsewhere
has a hundred thousand names, and must not push a team's own off the page, nor out of the candidates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from rapidfuzz.distance import OSA
from sqlalchemy import ColumnElement, Select, and_, case, column, func, or_, select, table, text
from sqlalchemy.orm import Session, aliased

from fairway.conda.text import has_control
from fairway.db.models import Channel, Package, Upstream
from fairway.errors import Malformed
from fairway.registry import access, listing, upstreams
from fairway.registry.actor import Actor, Visibility

CANDIDATES = 500
FEW = 5
"""With fewer names than this that hold what was asked for, names that are spelt like it are looked for too."""

NEAR_MIN = 4  # letters: of three, one wrong is another word
TERMS_MAX = 8
LAST_LETTER = "\U0010ffff"
MOST_DOWNLOADED = 3_000
OTHER = aliased(Package)
LEAST = select(OTHER.downloads).order_by(OTHER.downloads.desc()).offset(MOST_DOWNLOADED).limit(1).scalar_subquery()
AMONG_MOST = Package.downloads > func.coalesce(LEAST, -1)
"""Where the best of what is common are found at once: whoever is not among these is downloaded less. An index says who they
are; their rows are looked at only where they match.
"""
OURS_FIRST = case((Package.live > 0, 0), else_=1)
WORDS = table("package_words", column("rowid"), column("package_words"))


class Kind(IntEnum):
    """How a package matches, the best first."""

    EXACT = 0  # the whole name
    PREFIX = 1  # the name's beginning
    WORD = 2  # a word of the name
    PART = 3  # somewhere in the name
    NEAR = 4  # the name is spelt nearly so
    SUMMARY = 5  # the summary, perhaps together with the name


@dataclass(frozen=True, slots=True)
class Hit:
    """A package that was found. `version` is its newest that is not yanked, "" if all are. `spans` are the places in
    the name that matched, from and to; `upstream` is what it comes from, none if files of ours are among it. Times in ms.
    """

    channel: str
    visibility: Visibility
    name: str
    version: str
    summary: str
    licence: str
    platforms: tuple[str, ...]
    downloads: int
    updated_at: int
    kind: Kind
    spans: tuple[tuple[int, int], ...] = ()
    upstream: str | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """What is looked through: one channel, what installs on a platform, whose licence holds this text, what was
    published since (ms).
    """

    channel: str | None = None
    platform: str | None = None
    licence: str | None = None
    since: int | None = None


def search(
    session: Session,
    actor: Actor,
    asked: str,
    filters: Filters = Filters(),
    *,
    limit: int = 25,
    cursor: str = "",
) -> tuple[list[Hit], str | None]:
    """The best matches, and the cursor of the next page if there is one. Raises: Malformed: a cursor we never gave."""
    terms = asked.lower().split()[:TERMS_MAX]
    if cursor and not (cursor.isdecimal() and cursor.isascii()):
        raise Malformed("The cursor is not one this server gave.", code="cursor_invalid")
    begin = int(cursor or 0)
    if not terms or has_control(asked) or begin > 2 * CANDIDATES:
        return [], None
    if filters.channel is not None and not access.readable(session, actor, filters.channel):
        # not asked of a channel that is hidden: the more it holds, the longer that would take
        return [], None
    hits = sorted(found(session, scope_of(actor, filters), terms, most=begin + limit + 1), key=lambda one: one[0])
    page = named(session, [hit for _, hit in hits[begin : begin + limit]])
    return page, str(begin + limit) if len(hits) > begin + limit else None


def named(session: Session, hits: list[Hit]) -> list[Hit]:
    """The same with the names of the upstreams. One statement, if any comes from one."""
    homes = {hit.channel for hit in hits if hit.upstream is not None}
    if not homes:
        return hits
    query = select(Channel.name, Upstream.url).join(Upstream, Upstream.channel_id == Channel.id)
    urls = dict(session.execute(query.where(Channel.name.in_(homes))).tuples().all())
    return [
        hit if hit.upstream is None else replace(hit, upstream=upstreams.name_of(urls.get(hit.channel, "")))
        for hit in hits
    ]


Ranked = tuple[tuple[Any, ...], Hit]
Candidates = Select[*tuple[Any, ...]]


def scope_of(actor: Actor, filters: Filters) -> Candidates:
    """All that may be found."""
    query: Candidates = (
        select(
            Package.id,
            Channel.name.label("channel"),
            Channel.visibility,
            Package.name,
            Package.version,
            Package.summary,
            Package.licence,
            Package.places,
            Package.downloads,
            Package.updated_at,
            Package.live,
        )
        .join(Channel, Channel.id == Package.channel_id)
        .where(Package.shown, Package.channel_id.in_(access.visible_to(actor)))
    )
    if filters.channel is not None:
        query = query.where(Channel.name == filters.channel)
    if filters.platform is not None:
        query = query.where(listing.on_platform(filters.platform))
    if filters.licence:
        query = query.where(contains(func.lower(Package.licence), filters.licence.lower()))
    if filters.since is not None:
        query = query.where(Package.updated_at >= filters.since)
    return query


def found(session: Session, scope: Candidates, terms: Sequence[str], *, most: int) -> Iterable[Ranked]:
    """The best `most` at least, in no order."""
    heads = [
        joined for joined in dict.fromkeys((" ".join(terms), "-".join(terms), "_".join(terms))) if " " not in joined
    ]
    hits: dict[int, Ranked] = {}

    mixed = session.scalar(select(Upstream.channel_id).limit(1)) is not None
    # an upstream's most downloaded must not end the search before what is ours
    best = and_(AMONG_MOST, Package.live > 0) if mixed else AMONG_MOST
    first = (OURS_FIRST,) if mixed else ()

    def take(*which: ColumnElement[bool], limit: int = CANDIDATES) -> None:
        # negated: else the database walks through all packages in this order, hoping to find so many soon
        query = scope.where(*which).order_by(*first, -Package.downloads, Package.name, Channel.name).limit(limit)
        for row in session.execute(query):
            ranked = None if row.id in hits else rank(row, terms, heads)
            if ranked is not None:
                hits[row.id] = ranked

    words = words_of(session)
    take(Package.name.in_(heads))
    # one after the other here and below: SQLite would look at every row for an OR
    for head in heads:
        if len(head) <= 3:
            take(best, begins(head), limit=most)
        if len(hits) < most:
            take(begins(head), limit=most)
    if len(hits) >= most or all(len(term) < 3 for term in terms):
        return hits.values()
    take(words.named(terms))
    if len(hits) < FEW and len(terms) == 1 and len(terms[0]) >= NEAR_MIN:
        size = len(terms[0])
        slack = tolerance(size)
        for alike in (begins(terms[0][:2]), words.named([terms[0][-3:]])):  # few errors are in both places
            take(func.length(Package.name).between(size - slack, size + slack), alike)
    if len(hits) < most:
        take(best, Like().anywhere(terms), limit=most)
    if len(hits) < most:
        take(words.anywhere(terms))
    return hits.values()


def begins(head: str) -> ColumnElement[bool]:
    """Names that begin so: a range of their index."""
    return and_(Package.name >= head, Package.name < head + LAST_LETTER)


def rank(row: Any, terms: Sequence[str], heads: Sequence[str]) -> Ranked | None:
    """Where a candidate stands: its kind, how far its spelling is, whose it is, downloads, then the name. None: it is no
    match.
    """
    name: str = row.name
    head = next((head for head in heads if name.startswith(head)), None)
    distance = 0
    spans: tuple[tuple[int, int], ...] = ()
    if head is not None:
        kind = Kind.EXACT if name == head else Kind.PREFIX
        spans = ((0, len(head)),)
    elif all(term in name for term in terms):
        at = [word_at(name, term) for term in terms]
        kind = Kind.WORD if all(place is not None for place in at) else Kind.PART
        begins = (name.index(term) if place is None else place for term, place in zip(terms, at, strict=True))
        spans = merged((begin, begin + len(term)) for begin, term in zip(begins, terms, strict=True))
    elif len(terms) == 1 and (near := distance_to(name, terms[0])) is not None:
        kind, distance = Kind.NEAR, near
    else:
        summary = row.summary.lower()
        if not all(term in name or term in summary for term in terms):
            return None
        kind = Kind.SUMMARY
        spans = merged((name.index(term), name.index(term) + len(term)) for term in terms if term in name)
    hit = Hit(
        channel=row.channel,
        visibility=Visibility(row.visibility),
        name=name,
        version=row.version,
        summary=row.summary,
        licence=row.licence,
        platforms=listing.platforms_in(row.places),
        downloads=row.downloads,
        updated_at=row.updated_at,
        kind=kind,
        spans=spans,
        upstream=None if row.live else "",
    )
    return (int(kind), distance, not row.live, -row.downloads, name, row.channel), hit


def word_at(name: str, term: str) -> int | None:
    """Where the term stands in the name as a word: between anything but letters and digits."""
    begin = name.find(term)
    while begin >= 0:
        end = begin + len(term)
        if not name[begin - 1 : begin].isalnum() and not name[end : end + 1].isalnum():
            return begin
        begin = name.find(term, begin + 1)
    return None


def merged(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Spans in order, those that touch made one."""
    done: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if done and begin <= done[-1][1]:
            done[-1] = (done[-1][0], max(end, done[-1][1]))
        else:
            done.append((begin, end))
    return tuple(done)


def tolerance(size: int) -> int:
    """How many letters may be wrong in a term of that many."""
    return 1 if size <= 4 else 2 if size <= 8 else 3


def distance_to(name: str, term: str) -> int | None:
    """How many letters are wrong, missing, too many or swapped; none if that is too many."""
    most = tolerance(len(term))
    distance = OSA.distance(name, term, score_cutoff=most)
    return distance if len(term) >= NEAR_MIN and distance <= most else None


# --- each database's index of words -------------------------------------------------------------------------------


def words_of(session: Session) -> Like | Words:
    return Words() if session.get_bind().dialect.name == "sqlite" else Like()


def has_index(session: Session) -> bool:
    """Whether this database has one: PostgreSQL may not have been allowed to."""
    if session.get_bind().dialect.name == "sqlite":
        return True
    return session.scalar(text("SELECT to_regclass('ix_packages_name_trigrams')")) is not None


class Like:
    """PostgreSQL: LIKE, which its trigram indexes answer."""

    def named(self, terms: Sequence[str]) -> ColumnElement[bool]:
        """Names that hold all terms."""
        return and_(*(contains(Package.name, term) for term in terms))

    def anywhere(self, terms: Sequence[str]) -> ColumnElement[bool]:
        """Packages that hold all terms in name or summary."""
        summary = func.lower(Package.summary)
        return and_(*(or_(contains(Package.name, term), contains(summary, term)) for term in terms))


class Words(Like):
    """SQLite: the FTS5 table. What it finds may hold the trigrams of a term and not the term, so names are looked at
    again; terms of one or two letters it cannot find.
    """

    def named(self, terms: Sequence[str]) -> ColumnElement[bool]:
        parts = [part for term in terms for part in trigrams(term)]
        holds = super().named(terms)
        return and_(matching("name", parts), holds) if parts else holds

    def anywhere(self, terms: Sequence[str]) -> ColumnElement[bool]:
        return matching("name summary", [part for term in terms for part in trigrams(term)])


def trigrams(term: str) -> list[str]:
    return list(dict.fromkeys(term[begin : begin + 3] for begin in range(len(term) - 2)))


def matching(columns: str, parts: Iterable[str]) -> ColumnElement[bool]:
    """Packages whose columns hold all these trigrams."""
    quoted = ('"' + part.replace('"', '""') + '"' for part in parts)
    asked = f"{{{columns}}} : ({' AND '.join(quoted)})"
    return Package.id.in_(select(WORDS.c.rowid).where(WORDS.c.package_words.op("MATCH")(asked)))


def contains(value: Any, term: str) -> ColumnElement[bool]:
    """`value` holds `term` as it is: its % and _ are no wildcards."""
    escaped = term.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    condition: ColumnElement[bool] = value.like(f"%{escaped}%", escape="\\")
    return condition
