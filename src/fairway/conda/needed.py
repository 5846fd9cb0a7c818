"""Which channels does a package need? The smallest list that a real solve finds enough, in the order of their priority.

Nothing is guessed from names: a list is only answered if the solver installs the package from it, a name always coming
from the first channel that has it, as clients do it. In this order lists are tried: the channel alone; the channels it is
related to, as CEP 42 orders them; those and another channel that has what they lack; all of these; some of these, in
every order. What was found is then made smaller for as long as the solver agrees.

Where shards come from is for the caller to say (`Supply`): this runs in a process that knows no database.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, permutations

import msgspec

from fairway.conda import partial, solver, version
from fairway.conda.partial import Part, Parts
from fairway.conda.question import Answer, Chosen, Place, Question, Supply
from fairway.conda.solver import TookTooLong, Unreadable, Unsolvable
from fairway.errors import PackageRefused

ATTEMPTS = 60
SUPPLIERS = 12
ROUNDS = 3
NAMES_MOST = 60_000
BYTES_MOST = 300 << 20
UNREADABLE = "A record that is needed cannot be read by the solver: "
EXPLAINED = 6_000  # characters of the solver's reason
UNMET_MOST = 50
LACKING_MOST = 2_000
SYSTEM = re.compile(r"(__[a-z0-9_]+[^,\n]*?)(?: \*)?, for which no candidates were found")


class Exhausted(Exception):
    """There is more to look at than this may take."""


class World:
    """What is known so far: which channels have which of the names that may be needed, and their records."""

    def __init__(self, supply: Supply, parts: Parts, subdirs: Sequence[str]) -> None:
        self._supply, self._parts, self._subdirs = supply, parts, subdirs
        self.places: dict[int, Place] = {}
        self.names: set[str] = set()
        self.having: dict[str, set[int]] = {}
        self._held: dict[tuple[int, str], dict[str, Part]] = {}
        self._documents: dict[tuple[int, str], tuple[int, solver.Document]] = {}
        self._size = 0

    def take(self, places: Sequence[Place]) -> None:
        """Look into some channels too, and wherever that leads. Raises: Exhausted, Unreadable."""
        new = [place for place in places if place.id not in self.places]
        if not new:
            return
        self.places |= {place.id: place for place in new}
        fresh = self._load([place.id for place in new], self.names)
        while fresh:
            self.names |= fresh
            if len(self.names) > NAMES_MOST:
                raise Exhausted
            fresh = self._load(list(self.places), fresh)

    def _load(self, channels: Sequence[int], names: set[str]) -> set[str]:
        """The names that were not known before."""
        found = self._supply.find(channels, sorted(names))
        missing = [one for one in found if one.sha256 not in self._parts]
        for begin in range(0, len(missing), partial.AT_ONCE):
            some = missing[begin : begin + partial.AT_ONCE]
            for one, data in zip(some, self._supply.read(some), strict=True):
                self._parts.put(one.sha256, data)
        fresh: set[str] = set()
        for one in found:
            part = self._parts.get(one.sha256)
            self._held.setdefault((one.channel, one.subdir), {})[one.name] = part
            self.having.setdefault(one.name, set()).add(one.channel)
            self._size += part.size
            fresh.update(part.needs)
        if self._size > BYTES_MOST:
            raise Exhausted
        return fresh - self.names

    def lacking(self) -> list[str]:
        """Names that may be needed and that no channel has so far."""
        return sorted(self.names - self.having.keys())[:LACKING_MOST]

    def versions(self, channel: int, name: str) -> list[str]:
        """Those that this channel has, the oldest first."""
        parts = (self._held.get((channel, subdir), {}).get(name) for subdir in self._subdirs)
        keys = {one: key_of(one) for part in parts if part is not None for one in part.versions}
        return sorted((one for one, key in keys.items() if key is not None), key=lambda one: keys[one] or b"")

    def documents(self, channels: Sequence[int]) -> list[solver.Document]:
        """Raises: Unreadable."""
        return [
            self._document(channel, subdir)
            for channel in channels
            for subdir in self._subdirs
            if (channel, subdir) in self._held
        ]

    def _document(self, channel: int, subdir: str) -> solver.Document:
        held = self._held[channel, subdir]
        kept = self._documents.get((channel, subdir))
        if kept is None or kept[0] != len(held):
            pieces = partial.document(subdir, held.values())
            kept = len(held), solver.Document(self.places[channel].name, subdir, pieces)
            self._documents[channel, subdir] = kept
        return kept[1]


class Failed(msgspec.Struct, frozen=True):
    """What the solver said of a list that is not enough. Not `decided`: it was stopped."""

    explanation: str
    decided: bool = True


class Search:
    """One search. `left` gives the seconds it may still take."""

    def __init__(self, question: Question, supply: Supply, parts: Parts, left: Callable[[], float]) -> None:
        self.question, self._supply, self._left = question, supply, left
        self.world = World(supply, parts, question.subdirs)
        self.home = next(place for place in question.related if place.id == question.home)
        self.attempts = 0
        self._tried: dict[tuple[str | None, tuple[int, ...], bool], list[Chosen] | Failed] = {}
        self._asked_for: list[list[str]] = []
        self._others: list[int] = []
        self._more_than_tried = False

    def answer(self) -> Answer:
        question = self.question
        self.world.names.add(question.name)
        try:
            self.world.take([self.home])
            versions = self.world.versions(question.home, question.name)
            if not versions:
                return self._no(f"There is no {question.name} for {question.subdirs[0]} in {self.home.name}.")
            newest = versions[-1]
            if question.version is not None:
                return self._of_version(question.version, versions)
            channels = self._search(newest)
            if channels is not None:
                return self._yes(channels, newest, newest=newest)
            why = self._why(newest)
            if len(versions) > 1 and (channels := self._search(None)) is not None:
                return self._yes(channels, None, newest=newest, why=why)
            return msgspec.structs.replace(why, version=newest, newest=newest)
        except Exhausted:
            return msgspec.structs.replace(
                self._no("What this package may need is more than can be looked through here."), decided=False
            )
        except Unreadable as error:
            return self._no(f"{UNREADABLE}{solver.plain(str(error))[:300]}.")

    def _of_version(self, wanted: str, versions: Sequence[str]) -> Answer:
        """`1.0` is the version `1.0.0` too, as for every client."""
        alike = [one for one in versions if key_of(one) == key_of(wanted)]
        if not alike:
            return self._no(
                f"There is no {self.question.name} {wanted} for {self.question.subdirs[0]} in {self.home.name}; the newest "
                f"is {versions[-1]}."
            )
        channels = self._search(alike[-1])
        if channels is None:
            return msgspec.structs.replace(self._why(alike[-1]), version=alike[-1], newest=versions[-1])
        return self._yes(channels, alike[-1], newest=versions[-1])

    # --- lists that are enough -------------------------------------------------------------------------------------

    def _search(self, pinned: str | None) -> list[int] | None:
        """The smallest list that is enough, the first before the others; none if there is none."""
        home = self.question.home
        related = [place.id for place in self.question.related]
        if self._enough([home], pinned):
            return [home]
        if len(related) > 1:
            self.world.take(self.question.related)
            if self._enough(related, pinned):
                return self._reduced(related, pinned)
        for found in self._with_others(related, pinned):
            return self._reduced(found, pinned)
        return None

    def _with_others(self, related: list[int], pinned: str | None) -> Iterator[list[int]]:
        """Lists that are enough, with channels that are not related but have what is lacking."""
        for one in self._others:
            if self._enough([*related, one], pinned):
                yield [*related, one]
        for _ in range(ROUNDS):
            for place in self._more():
                self.world.take([place])
                self._others.append(place.id)
                if self._enough([*related, place.id], pinned):
                    yield [*related, place.id]
        others = self._others
        if len(others) > 1 and self._enough([*related, *others], pinned):
            yield [*related, *others]
        if not self._enough([*related, *others], pinned, strict=False):
            return  # whatever the order
        for size in (2, 3):
            for some in combinations(others, size):
                for order in permutations(some):
                    if self._enough([*related, *order], pinned):
                        yield [*related, *order]

    def _more(self) -> list[Place]:
        """Channels nobody looked into yet that have what is lacking; the best first."""
        lacking = self.world.lacking()
        if not lacking or len(self._asked_for) >= ROUNDS or lacking in self._asked_for:
            return []
        self._asked_for.append(lacking)
        places = self._supply.suppliers(lacking)
        new = [place for place in places if place.id not in self.world.places]
        room = max(0, SUPPLIERS - len(self._others))
        self._more_than_tried = self._more_than_tried or len(new) > room
        return new[:room]

    def _reduced(self, channels: list[int], pinned: str | None) -> list[int]:
        """The same list with nothing in it that can be left out, or a smaller one."""
        home = self.question.home
        names = {one.channel for one in self._solution(channels, pinned)}
        used = [one for one in channels if one == home or self.world.places[one].name in names]
        if self._enough(used, pinned):
            channels = used
        for one in [one for one in reversed(channels) if one != home]:
            fewer = [other for other in channels if other != one]
            if self._enough(fewer, pinned):
                channels = fewer
        order = [*(place.id for place in self.question.related if place.id in self.world.places), *self._others]
        for size in range(1, len(channels) - 1):
            for some in combinations([one for one in order if one != home], size):
                fewer = sorted([home, *some], key=order.index)
                if self._enough(fewer, pinned):
                    return fewer
        return channels

    def _enough(self, channels: Sequence[int], pinned: str | None, *, strict: bool = True) -> bool:
        """Whether the package can be installed from these channels; if not `strict`, in some order of them at least, and
        maybe in none. Raises: Unreadable, for its own channel alone.
        """
        place = (pinned, tuple(channels), strict)
        if place not in self._tried:
            if self.attempts >= ATTEMPTS or self._left() <= 0:
                return False
            self.attempts += 1
            self._tried[place] = self._attempt(channels, pinned, strict=strict)
        return not isinstance(self._tried[place], Failed)

    def _attempt(self, channels: Sequence[int], pinned: str | None, *, strict: bool) -> list[Chosen] | Failed:
        question = self.question
        spec = question.name if pinned is None else f'{question.name}[version="=={pinned}"]'
        try:
            return solver.solve(
                solver.of_channel(self.home.name, spec),
                self.world.documents(channels),
                question.virtual,
                # one that does not come to an end must leave some time for the others
                seconds=max(0.1, min(self._left(), question.seconds / 3)),
                strict=strict,
            )
        except Unsolvable as error:
            return Failed(str(error))
        except TookTooLong:
            return Failed("", decided=False)
        except Unreadable as error:
            if pinned is None and list(channels) == [question.home]:
                raise
            return Failed(f"{UNREADABLE}{solver.plain(str(error))[:300]}")

    def _solution(self, channels: Sequence[int], pinned: str | None) -> list[Chosen]:
        found = self._tried[pinned, tuple(channels), True]
        return [] if isinstance(found, Failed) else found

    # --- answers ---------------------------------------------------------------------------------------------------

    def _yes(self, channels: list[int], pinned: str | None, *, newest: str, why: Answer | None = None) -> Answer:
        packages = self._solution(channels, pinned)
        having = self.world.having
        before = channels[: channels.index(self.question.home)]
        hidden_by = next((one for one in before if one in having[self.question.name]), None)
        return Answer(
            solvable=True,
            version=next(one.version for one in packages if one.name == self.question.name),
            newest=newest,
            channels=channels,
            packages=sorted(packages, key=lambda one: one.name),
            smallest=self._is_smallest(channels, pinned),
            shared=sorted(one.name for one in packages if len(having[one.name] & set(channels)) > 1),
            hidden_by=hidden_by,
            reason="" if why is None else why.reason,
            explanation="" if why is None else why.explanation,
            unmet=[] if why is None else why.unmet,
            attempts=self.attempts,
        )

    def _is_smallest(self, channels: list[int], pinned: str | None) -> bool:
        """Whether every smaller list was tried and is not enough: one of the channel alone, and for three and more
        channels each of the others that are known.
        """
        home = self.question.home
        if len(channels) > 2 and self._more_than_tried:
            return False
        known = [one for one in self.world.places if one != home]
        tried = {frozenset(order) for of, order, strict in self._tried if of == pinned and strict}
        smaller = (frozenset((home, *some)) for size in range(len(channels) - 1) for some in combinations(known, size))
        return all(one in tried for one in smaller) and all(
            not isinstance(found, Failed) or found.decided for found in self._tried.values()
        )

    def _why(self, pinned: str) -> Answer:
        """Why no list is enough, from what the solver said."""
        failed = [
            (order, strict, one)
            for (of, order, strict), one in self._tried.items()
            if of == pinned and isinstance(one, Failed)
        ]
        stopped = self._left() <= 0 or self.attempts >= ATTEMPTS or any(not one.decided for _, _, one in failed)
        order, one = self._telling(failed)
        text = solver.plain(one.explanation)
        unmet = partial.named_in(text, self.world.lacking())[:UNMET_MOST]
        system = sorted(set(SYSTEM.findall(text)))
        if text.startswith(UNREADABLE):
            reason = f"{text}."
        elif not text:
            reason = f"The solver found no answer in {self.question.seconds:g} seconds."
        elif unmet:
            reason = f"These dependencies are met by no channel you may read: {', '.join(unmet)}."
        elif system:
            reason = f"The system that was asked for does not have: {', '.join(system)}."
        else:
            names = ", ".join(self.world.places[one].name for one in order)
            reason = f"The dependencies cannot all be met at once by the packages in {names}."
        return msgspec.structs.replace(self._no(reason), explanation=shortened(text), unmet=unmet, decided=not stopped)

    def _telling(self, failed: Sequence[tuple[tuple[int, ...], bool, Failed]]) -> tuple[tuple[int, ...], Failed]:
        """The failure that tells most: that of all channels with no regard to their order; else the one with fewer words
        of all channels, and of those that are related together with the best of the others.
        """
        for order, strict, one in failed:
            if not strict and one.explanation:
                return order, one
        related = [place.id for place in self.question.related]
        lists = [(*related, *self._others), (*related, *self._others[:1])]
        full = [(order, one) for order, strict, one in failed if strict and order in lists]
        full = full or [(order, one) for order, _, one in failed]
        return min(full, key=lambda pair: len(pair[1].explanation) or EXPLAINED * 1000)

    def _no(self, reason: str) -> Answer:
        return Answer(
            solvable=False,
            reason=reason,
            attempts=self.attempts,
        )


def key_of(text: str) -> bytes | None:
    """What a version is sorted by; none if it is no version."""
    try:
        return version.sort_key(text)
    except PackageRefused:
        return None


def shortened(text: str) -> str:
    """Whole lines of it, as many as somebody may read."""
    if len(text) <= EXPLAINED:
        return text
    return text[:EXPLAINED].rpartition("\n")[0] + "\n..."
