"""Which channels are needed to install a package: asked of a real solver, and remembered.

The answer is about what the asker may read and about nothing else. Channels that are not related are looked for among
those that `access.visible_to` lets through, by the names that are lacking. An answer is kept with these names, with who
had them, and with how far the index of each channel that was looked into had come; it is given again to whoever would
get the same: nobody learns from it what they could not have found out.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fairway.conda import version as versions
from fairway.conda.names import NOARCH, shown
from fairway.conda.question import Answer, Found, Place, Question
from fairway.db.engine import Database
from fairway.db.models import Channel, Package
from fairway.errors import NotFound, Unavailable
from fairway.registry import access, listing, relating, source, sweep, virtual
from fairway.registry.access import Action
from fairway.registry.actor import Actor, Visibility
from fairway.registry.relating import Placed
from fairway.registry.virtual import System
from fairway.sandbox.solving import Solvers

SECONDS = 10.0
PROCESSES = 2
WAITING_MOST = 6
"""How many callers may be here at once, computing or waiting for a solver: each keeps a thread of the server."""

KEPT_MOST = 2_000
ALIKE_MOST = 4  # answers of one question that are kept, for askers who may read different channels
SUPPLIERS_MOST = 40
UNDECIDED_SECONDS = 300.0  # for so long nobody tries again what took too long
USUAL = "linux-64"

Related = Callable[[Session, Actor, int], Sequence[int]]
"""The channels that a channel is related to and that the actor may read, by their ids, itself among them: the ones that
come first in CEP 42 first.
"""


@dataclass(frozen=True, slots=True)
class NeededChannel:
    """`related` if the package's channel says so itself, or is it; other ones only happen to have what it needs."""

    name: str
    visibility: Visibility
    related: bool


@dataclass(frozen=True, slots=True)
class Installed:
    """A package of the solution. `size` in bytes; none where the record does not say."""

    name: str
    version: str
    build: str
    channel: str
    subdir: str
    filename: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Needed:
    """What is needed to install a package on a platform.

    If it is `solvable`, `channels` is the list, the first before the others, `version` what is installed from it and
    `packages` all of it; the newest version there may be another, `newest`, and then `reason` says why not that one.
    `smallest`: every smaller list was tried. `shared` are packages that several of the channels have, of which the order
    decides. `hidden_by` is a channel of the list that comes first and has a package of this name too.

    If it is not, `reason` is a sentence, `explanation` the solver's own words in lines, and `unmet` are dependencies that
    no channel has which the asker may read. Not `decided`: it took too long to find out.
    """

    channel: str
    name: str
    platform: str
    solvable: bool
    decided: bool
    version: str
    newest: str
    channels: tuple[NeededChannel, ...]
    packages: tuple[Installed, ...]
    smallest: bool
    shared: tuple[str, ...]
    hidden_by: str | None
    unmet: tuple[str, ...]
    reason: str
    explanation: str

    @property
    def size(self) -> int:
        """Bytes to download for all of it."""
        return sum(one.size or 0 for one in self.packages)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that may be asked: the channel can be read and has the package. `related` as `Related` gives it."""

    channel_id: int
    name: str
    version: str | None
    system: System
    related: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer, and what it holds for: how far each subdir of the `channels` had come that were looked into, and who had
    the names that were lacking. `until` is of the monotonic clock.
    """

    answer: Answer
    changed: dict[tuple[int, str], int]
    channels: tuple[int, ...]
    lacking: list[tuple[list[str], list[int]]]
    until: float


def in_order(session: Session, _actor: Actor, channel_id: int) -> list[int]:
    """The channels that clients load with this one, as `Related` says."""
    return [placed.id for placed in relating.order(session, channel_id)]


@dataclass(slots=True)
class Solving:
    """Thread-safe. What takes long waits in threads of the callers, never more than WAITING_MOST of them."""

    database: Database
    related: Related = in_order
    seconds: float = SECONDS
    solvers: Solvers = field(default_factory=lambda: Solvers(processes=PROCESSES))
    solved: int = 0  # how often a solver was asked
    _kept: OrderedDict[Asked, list[Kept]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _places: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(WAITING_MOST))
    _under_way: dict[Any, Future[Answer]] = field(default_factory=dict)

    def known(
        self, actor: Actor, channel: str, name: str, system: System | None = None, version: str | None = None
    ) -> Needed | None:
        """The answer, if it is at hand: a few statements. Raises as `which` does."""
        with self.database.read() as session:
            return self.at_hand(
                session, actor, channel, ask(session, self.related, actor, channel, name, system, version)
            )

    def at_hand(
        self,
        session: Session,
        actor: Actor,
        channel: str,
        asked: Asked,
        named: Mapping[int, NeededChannel] | None = None,
    ) -> Needed | None:
        """The same for who has a question already, and maybe the channels it names."""
        answer = self._find(session, actor, asked)
        return None if answer is None else view(session, channel, asked, answer, named)

    def which(
        self, actor: Actor, channel: str, name: str, system: System | None = None, version: str | None = None
    ) -> Needed:
        """The answer, for the newest version unless one is named, and for what the package usually runs on unless another
        system is. May take `seconds` and a few more.

        Raises: as `access.require` does; NotFound: no such package; Malformed: no such version can be; Unavailable: too
        many ask, or the database does not answer.
        """
        with self.database.read() as session:
            asked = ask(session, self.related, actor, channel, name, system, version)
            found = self.at_hand(session, actor, channel, asked)
            if found is not None:
                return found
        answer = self._compute(actor, asked)
        with self.database.read() as session:
            return view(session, channel, asked, answer)

    def close(self) -> None:
        self.solvers.close()

    # --- what is kept ----------------------------------------------------------------------------------------------

    def _find(self, session: Session, actor: Actor, asked: Asked) -> Answer | None:
        """One that holds for this actor now."""
        with self._lock:
            kept = list(self._kept.get(asked, ()))
        for one in kept:
            if one.until > time.monotonic() and one.changed == generations(session, one.channels, asked.system) and all(
                [place.id for place in suppliers(session, actor, lacking, asked.system)] == had
                for lacking, had in one.lacking
            ):  # fmt: skip
                with self._lock, suppress(KeyError):
                    self._kept.move_to_end(asked)
                return one.answer
        return None

    def _keep(self, asked: Asked, kept: Kept) -> None:
        with self._lock:
            alike = self._kept.setdefault(asked, [])
            alike[:] = [one for one in alike if one.lacking != kept.lacking][1 - ALIKE_MOST :]
            alike.append(kept)
            self._kept.move_to_end(asked)
            while len(self._kept) > KEPT_MOST:
                self._kept.popitem(last=False)

    def _compute(self, actor: Actor, asked: Asked) -> Answer:
        """Once for all who ask the same at the same time and may read the same. Raises: Unavailable."""
        if not self._places.acquire(blocking=False):
            raise Unavailable("Too many are asking which channels a package needs. Try again in a moment.")
        try:
            with self._lock:
                other = self._under_way.get((actor, asked))
                if other is None:
                    mine: Future[Answer] = Future()
                    self._under_way[actor, asked] = mine
            if other is not None:
                return other.result(timeout=3 * self.seconds)
            try:
                answer = self._solve(actor, asked)
            except BaseException as error:
                mine.set_exception(error)
                raise
            else:
                mine.set_result(answer)
                return answer
            finally:
                with self._lock:
                    del self._under_way[actor, asked]
        except TimeoutError:
            raise Unavailable from None
        finally:
            self._places.release()

    def _solve(self, actor: Actor, asked: Asked) -> Answer:
        with self.database.read() as session:  # one moment of the rows for all that is asked
            query = select(Channel.id, Channel.name).where(Channel.id.in_(asked.related))
            named = dict(session.execute(query).tuples().all())
            question = Question(
                name=asked.name,
                version=asked.version,
                home=asked.channel_id,
                related=[Place(one, named[one]) for one in asked.related],
                subdirs=list(asked.system.subdirs),
                virtual=list(asked.system.virtual),
                seconds=self.seconds,
            )
            rows = Rows(session, actor, asked)
            answer = self.solvers.ask(question, rows)
            channels = tuple(sorted(rows.looked_into))
            changed = generations(session, channels, asked.system)
        self.solved += 1
        until = math.inf if answer.decided else time.monotonic() + UNDECIDED_SECONDS
        self._keep(asked, Kept(answer, changed, channels, rows.lacking, until))
        return answer


class Rows:
    """The supply of one search: what one actor may read. Whatever the child asks for, it gets nothing else.

    `allowed` are the channels it may ask about; `lacking` which names suppliers were asked for, and whom that gave.
    """

    def __init__(self, session: Session, actor: Actor, asked: Asked) -> None:
        self._session, self._actor, self._system = session, actor, asked.system
        self.allowed = set(asked.related)
        self.lacking: list[tuple[list[str], list[int]]] = []
        self._subdirs: dict[int, dict[str, int]] = {}

    @property
    def looked_into(self) -> Iterable[int]:
        """The channels that were really asked about."""
        return self._subdirs.keys()

    def find(self, channels: Sequence[int], names: Sequence[str]) -> list[Found]:
        found = []
        for channel in channels:
            for subdir, number in self._of(channel).items():
                hashes = source.hashes(self._session, number, names)
                found += [Found(channel, subdir, name, sha256) for name, sha256 in hashes.items()]
        return found

    def read(self, wanted: Sequence[Found]) -> list[bytes]:
        by_place: dict[int, set[bytes]] = {}
        for one in wanted:
            by_place.setdefault(self._of(one.channel)[one.subdir], set()).add(one.sha256)
        held: dict[bytes, bytes] = {}
        for number, hashes in by_place.items():
            held |= source.data(self._session, number, hashes)
        missing = [one.name for one in wanted if one.sha256 not in held]
        if missing:
            raise Unavailable(f"The index of {missing[0]} is damaged: 'fairway fsck' says how.")
        return [held[one.sha256] for one in wanted]

    def suppliers(self, names: Sequence[str]) -> list[Place]:
        places = suppliers(self._session, self._actor, names, self._system)
        self.lacking.append((list(names), [place.id for place in places]))
        self.allowed |= {place.id for place in places}
        return places

    def _of(self, channel: int) -> dict[str, int]:
        """The subdirs of a channel, by their names."""
        if channel not in self.allowed:
            raise Unavailable
        if channel not in self._subdirs:
            rows = source.subdirs(self._session, [channel], self._system.subdirs)
            self._subdirs[channel] = {subdir: number for (_, subdir), (number, _) in rows.items()}
        return self._subdirs[channel]


def ask(
    session: Session,
    related: Related,
    actor: Actor,
    channel: str,
    name: str,
    system: System | None,
    version: str | None,
) -> Asked:
    """The question, if the actor may ask it. Raises: as `access.require` does, NotFound, PackageRefused."""
    access.pass_gate(session, actor, Action.READ, channel)
    query = (
        select(Channel.id, Package.places)
        .join(Package, Package.channel_id == Channel.id)
        .where(Channel.name == channel, Channel.deleted_at.is_(None), Package.name == name)
        .where(Package.live + Package.remote > 0)
    )
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"There is no package {shown(name)} in {channel}.")
    channel_id, places = row
    wanted = related(session, actor, channel_id)
    seen = set(session.scalars(access.visible_to(actor).where(Channel.id.in_(wanted))))
    return Asked(
        channel_id=channel_id,
        name=name,
        version=None if version is None else versions.parse(version),
        system=usual(listing.platforms_in(places)) if system is None else system,
        related=tuple(one for one in dict.fromkeys(wanted) if one in seen),
    )


def readable(session: Session, actor: Actor, placed: Sequence[Placed]) -> dict[int, NeededChannel]:
    """Those of some related channels that the actor may read, in the same order. One statement, unless all are public."""
    closed = [one.id for one in placed if one.visibility is not Visibility.PUBLIC]
    seen = set(session.scalars(access.visible_to(actor).where(Channel.id.in_(closed)))) if closed else set()
    return {
        one.id: NeededChannel(one.name, one.visibility, related=True)
        for one in placed
        if one.visibility is Visibility.PUBLIC or one.id in seen
    }


def usual(platforms: Sequence[str]) -> System:
    """The system that somebody means who names none for a package of these platforms: Linux, if it is for it."""
    if USUAL in platforms or NOARCH in platforms or not platforms:
        return virtual.system(USUAL)
    return virtual.system(platforms[0])


def suppliers(session: Session, actor: Actor, names: Sequence[str], system: System) -> list[Place]:
    """The channels the actor may read that have some of these names for a system, those with most of them first."""
    having: Counter[tuple[int, str]] = Counter()
    for some in sweep.batched(names):
        query = (
            select(Channel.id, Channel.name, func.count())
            .join(Package, Package.channel_id == Channel.id)
            .where(Package.name.in_(some), listing.on_platform(system.platform), Package.live + Package.remote > 0)
            .where(Channel.id.in_(access.visible_to(actor)))
            .group_by(Channel.id, Channel.name)
        )
        for channel_id, channel, count in session.execute(query):
            having[channel_id, channel] += count
    best = sorted(having.items(), key=lambda one: (-one[1], one[0][1]))[:SUPPLIERS_MOST]
    return [Place(channel_id, channel) for (channel_id, channel), _ in best]


def generations(session: Session, channels: Sequence[int], system: System) -> dict[tuple[int, str], int]:
    """How far the index of each of these has come; nothing for a subdir that is not there yet."""
    found = source.subdirs(session, channels, system.subdirs)
    return {place: changed for place, (_, changed) in found.items()}


def view(
    session: Session, channel: str, asked: Asked, answer: Answer, named: Mapping[int, NeededChannel] | None = None
) -> Needed:
    """One statement, unless all channels of the answer are among those that are `named`."""
    ids = {*answer.channels, *(() if answer.hidden_by is None else (answer.hidden_by,))}
    found = dict(named or {})
    if not ids <= found.keys():
        query = select(Channel.id, Channel.name, Channel.visibility).where(Channel.id.in_(ids))
        found = {
            row.id: NeededChannel(row.name, Visibility(row.visibility), row.id in asked.related)
            for row in session.execute(query)
        }
    if not ids <= found.keys():
        raise NotFound  # a channel was deleted this very moment
    return Needed(
        channel=channel,
        name=asked.name,
        platform=asked.system.platform,
        solvable=answer.solvable,
        decided=answer.decided,
        version=answer.version,
        newest=answer.newest,
        channels=tuple(found[one] for one in answer.channels),
        packages=tuple(
            Installed(one.name, one.version, one.build, one.channel, one.subdir, one.filename, one.size)
            for one in answer.packages
        ),
        smallest=answer.smallest,
        shared=tuple(answer.shared),
        hidden_by=None if answer.hidden_by is None else found[answer.hidden_by].name,
        unmet=tuple(answer.unmet),
        reason=answer.reason,
        explanation=answer.explanation,
    )
