"""Which records of another channel a mirror wants: by name, match spec and licence, the newest of each, and what they need.

Names and licences are patterns as of a shell (`lib*`). A record is wanted if its name matches a pattern or it satisfies a
spec; with neither given all are. What is needed is chosen by the specs of those who need it, so that the mirror can be
solved against by itself, as far as the upstream can.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fairway.conda import matching
from fairway.conda import spec as specs
from fairway.conda import version as versions
from fairway.conda.foreign import Found
from fairway.conda.names import KNOWN_SUBDIRS
from fairway.errors import Invalid, PackageRefused

MOST_PATTERNS, LONGEST = 1_000, 300

# What a channel has of some names: subdir, name, records
Records = Callable[[Sequence[str]], Iterable[tuple[str, str, Sequence[Found]]]]


@dataclass(frozen=True, slots=True)
class Choice:
    """`newest` is how many versions of each name, in each subdir; none: all. With `closure` also what they need."""

    names: tuple[str, ...] = ()
    specs: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    newest: int | None = None
    closure: bool = False

    @classmethod
    def parse(cls, wanted: Mapping[str, Any]) -> Choice:
        """From what people send and rows keep. Raises: Invalid, code `upstream_invalid`."""
        unknown = sorted(set(wanted) - {"names", "specs", "licences", "newest", "closure"})
        if unknown:
            raise _refuse(f"there is nothing to choose by called {unknown[0][:40]}")
        lists = {kind: wanted.get(kind) or () for kind in ("names", "specs", "licences")}
        for kind, texts in lists.items():
            if isinstance(texts, str) or len(texts) > MOST_PATTERNS:
                raise _refuse(f"{kind} are a list of at most {MOST_PATTERNS}")
            if not all(isinstance(text, str) and 0 < len(text) <= LONGEST for text in texts):
                raise _refuse(f"each of {kind} is a text of 1 to {LONGEST} characters")
        newest, closure = wanted.get("newest"), wanted.get("closure", False)
        if newest is not None and (type(newest) is not int or newest < 1):
            raise _refuse("the newest are one or more")
        for text in lists["specs"]:
            if matching.fits(text) is None:
                raise _refuse(f"'{text[:80]}' is no match spec")
        return cls(
            names=tuple(lists["names"]),
            specs=tuple(lists["specs"]),
            licences=tuple(lists["licences"]),
            newest=newest,
            closure=bool(closure),
        )

    @property
    def everything(self) -> bool:
        return self == Choice()

    def may_want(self, name: str) -> bool:
        """False for a name of which nothing is wanted for its own sake, whatever its records are."""
        return (
            not (self.names or self.specs)
            or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names)
            or any(name_of(text) == name for text in self.specs)
        )

    def pick(self, name: str, found: Sequence[Found]) -> list[Found]:
        """Those of a name's records in a subdir that are wanted for their own sake."""
        picked = list(found)
        if (self.names or self.specs) and not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names):
            tests = [test for text in self.specs if name_of(text) == name and (test := matching.fits(text))]
            picked = [one for one in picked if any(satisfies(one, test) for test in tests)]
        if self.licences:
            picked = [one for one in picked if self._licensed(one)]
        return latest(picked, self.newest)

    def _licensed(self, one: Found) -> bool:
        licence = str(one.record.get("license") or "").lower()
        return any(fnmatch.fnmatchcase(licence, pattern.lower()) for pattern in self.licences)


def check_platforms(subdirs: Iterable[str]) -> None:
    """Raises: Invalid, code `upstream_invalid`: conda knows no such platform."""
    unknown = sorted(set(subdirs) - KNOWN_SUBDIRS)
    if unknown:
        raise Invalid(f"There is no platform {unknown[0][:40]}.", code="upstream_invalid")


def latest(found: Sequence[Found], newest: int | None) -> list[Found]:
    """Those of the newest versions, in the order they came."""
    if newest is None:
        return list(found)
    keys = sorted({versions.sort_key(one.record["version"]) for one in found}, reverse=True)[:newest]
    return [one for one in found if versions.sort_key(one.record["version"]) in keys]


def chosen(choice: Choice, names: Iterable[str], records: Records) -> dict[str, dict[str, list[Found]]]:
    """`{subdir: {name: records}}` of all that is wanted, out of these names and what they need. `records` gives what the
    channel has of some names, and is asked again for a name that others need.
    """
    taken: dict[tuple[str, str], dict[str, Found]] = {}
    due: list[Found] = []

    def take(subdir: str, name: str, found: Iterable[Found]) -> None:
        there = taken.setdefault((subdir, name), {})
        for one in found:
            if one.filename not in there:
                there[one.filename] = one
                due.append(one)

    for subdir, name, found in records([name for name in names if choice.may_want(name)]):
        take(subdir, name, choice.pick(name, found))
    asked: set[str] = set()
    while choice.closure and due:
        texts = {text for one in due for text in one.record["depends"]} - asked
        asked |= texts
        due.clear()
        needed: dict[str, list[str]] = {}
        for text in sorted(texts):
            of = name_of(text)
            if of is not None and not of.startswith("__"):
                needed.setdefault(of, []).append(text)
        for subdir, name, found in records(list(needed)):
            for text in needed[name]:
                test = matching.fits(text)
                fitting = [one for one in found if test is None or satisfies(one, test)]
                take(subdir, name, latest(fitting, choice.newest))
    result: dict[str, dict[str, list[Found]]] = {}
    for (subdir, name), files in taken.items():
        if files:
            result.setdefault(subdir, {})[name] = sorted(files.values(), key=lambda one: one[:2])
    return result


def satisfies(one: Found, test: Callable[[str, str, int], bool]) -> bool:
    record = one.record
    return test(record["version"], record["build"], record["build_number"])


@lru_cache(maxsize=4096)
def name_of(text: str) -> str | None:
    """The name a spec is for; none of one that cannot be read."""
    try:
        return specs.parse(text).name
    except PackageRefused:
        return None


def _refuse(why: str) -> Invalid:
    return Invalid(f"That mirror cannot be made: {why}.", code="upstream_invalid")
