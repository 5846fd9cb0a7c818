"""Does a version satisfy a match spec? For pages that say which one a dependency would get; a solver asks its own code.

Reads what `spec.parse` reads, but for builds that are regular expressions. Where a text is of a shape that conda clients
read differently, it says what rattler does.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable
from functools import lru_cache

from fairway.conda import spec, version
from fairway.errors import PackageRefused

Test = Callable[[str], bool]

COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_TOKEN = re.compile(r"[,|()]|[^,|()]+")
_ATOM = re.compile(r"(==|!=|>=|<=|~=|>|<)?(.+?)(\.\*)?")
_NUMBER = re.compile(r"(==|!=|>=|<=|>|<)([0-9]+)")


@lru_cache(maxsize=1024)
def fits(text: str) -> Callable[[str, str, int], bool] | None:
    """What tells of a version, a build and a build number whether they satisfy a spec; none of one nobody can read."""
    try:
        wanted = spec.parse(text)
        of_version = versions(wanted.version) if wanted.version is not None else None
    except (PackageRefused, RecursionError):
        return None
    if wanted.build is not None and wanted.build.startswith("^"):
        # A regular expression of a stranger's can take for ever, and nobody is answered meanwhile: Python's matcher goes
        # back again and again, and gives the interpreter to nobody. The clients' does not, so they may try it.
        return None
    of_build = builds(wanted.build) if wanted.build is not None else None
    of_number = numbers(wanted.build_number) if wanted.build_number is not None else None

    def test(number: str, build: str, build_number: int) -> bool:
        try:
            return (
                (of_version is None or of_version(number))
                and (of_build is None or of_build(build))
                and (of_number is None or of_number(build_number))
            )
        except (PackageRefused, RecursionError):
            return False  # a version that no client can read, or more parentheses than anybody writes

    return test


def versions(written: str) -> Test:
    """`,` binds more closely than `|`."""
    tokens = _TOKEN.findall(written)
    test, rest = any_of(tokens, 0)
    if rest != len(tokens):
        raise PackageRefused(code="depends_invalid")
    return test


def any_of(tokens: list[str], at: int) -> tuple[Test, int]:
    test, at = all_of(tokens, at)
    tests = [test]
    while at < len(tokens) and tokens[at] == "|":
        test, at = all_of(tokens, at + 1)
        tests.append(test)
    return (lambda number: any(one(number) for one in tests)) if len(tests) > 1 else test, at


def all_of(tokens: list[str], at: int) -> tuple[Test, int]:
    test, at = single(tokens, at)
    tests = [test]
    while at < len(tokens) and tokens[at] == ",":
        test, at = single(tokens, at + 1)
        tests.append(test)
    return (lambda number: all(one(number) for one in tests)) if len(tests) > 1 else test, at


def single(tokens: list[str], at: int) -> tuple[Test, int]:
    if at >= len(tokens):
        raise PackageRefused(code="depends_invalid")
    if tokens[at] != "(":
        return atom(tokens[at]), at + 1
    test, at = any_of(tokens, at + 1)
    return test, at + 1


def atom(written: str) -> Test:
    found = _ATOM.fullmatch(written)
    if written == "*" or found is None:
        return lambda _: True
    sign, number, star = found.groups()
    if star:
        wanted = sign != "!="
        return lambda one: version.starts_with(one, number) is wanted
    key = version.sort_key(number)
    if sign == "~=":
        series = re.sub(r"[._-]?[^._-]*$", "", number)
        if not series:
            return lambda one: version.sort_key(one) >= key and version.epoch(one) == version.epoch(number)
        return lambda one: version.sort_key(one) >= key and version.starts_with(one, series)
    compare = COMPARE[sign or "=="]
    return lambda one: bool(compare(version.sort_key(one), key))


def builds(written: str) -> Test:
    compiled = re.compile(fnmatch.translate(written))  # it never goes back, however many stars there are
    return lambda build: compiled.match(build) is not None


def numbers(written: str) -> Callable[[int], bool]:
    found = _NUMBER.fullmatch(written)
    if found is None:
        raise PackageRefused(code="depends_invalid")
    compare, wanted = COMPARE[found[1]], int(found[2])
    return lambda number: bool(compare(number, wanted))
