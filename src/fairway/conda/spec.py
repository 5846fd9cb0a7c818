"""The match specs a package may carry in `depends`, `constrains` and `extra_depends` (CEP 29, 43, 44, 45, 48).

One unreadable spec in one record makes clients fail on the whole package name, so what is let in is a grammar we can
read to its end. It is written to accept nothing that rattler refuses; the tests hold it to that.

Builders write the short form everywhere (`numpy >=1.2`), while a v3 record must say `numpy[version=">=1.2"]`:
`bracketed` is that translation, with the spellings py-rattler's indexer chooses.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Never

import msgspec

from fairway.conda import version as versions
from fairway.conda.names import shown
from fairway.errors import PackageRefused

MAX_LENGTH = 1_024
V3_KEYS = ("extras", "flags", "when")
KEYS = ("version", "build", "build_number", *V3_KEYS)

EXTRA = re.compile(r"[a-z0-9_.+-]{1,64}", re.ASCII)
FLAG = re.compile(r"[a-z0-9_]+(?::[a-z0-9_]+)?", re.ASCII)
_FLAG_PATTERN = re.compile(r"[a-z0-9_*]+(?::[a-z0-9_*]+)?", re.ASCII)

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_SPEC = re.compile(
    rf"(?:(?P<channel>[a-z0-9_][a-z0-9_./-]*)::)?(?P<name>{_NAME})(?P<rest>[^\[\]]*)(?P<bracket>\[.*\])?"
)
_PAIR = re.compile(
    r"""\s*(?P<key>[a-z_]+)\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|\[(?P<list>[^\[\]]*)\]|(?P<bare>[^\s,\[\]"']+))"""
    r"\s*(?P<comma>,|$)"
)
_ATOM = re.compile(r"(?P<op>==|!=|>=|<=|~=|=|>|<)?(?P<version>[0-9A-Za-z_.+!-]+?)(?P<stars>\*|(?:\.\*)*)")
# What nearly every spec says, which is bracket form already: taking it apart took a third of reading a small package.
_USUAL_ATOM = r"(?:[<>=!]=|[<>])[0-9A-Za-z]{1,9}(?:\.[0-9A-Za-z]{1,9}){0,9}"
_USUAL = re.compile(rf"{_USUAL_ATOM}(?:[,|]{_USUAL_ATOM})*", re.ASCII)
_GROUP = re.compile(r"\(a(?:[,|]a)*\)")
_BUILD = re.compile(r"[A-Za-z0-9_.+*]+|\^[A-Za-z0-9_.+*?|()]+\$", re.ASCII)
_BUILD_NUMBER = re.compile(r"(==|!=|>=|<=|>|<)?([0-9]{1,9})")
_WORD = re.compile(rf"\s*(?P<word>\(|\)|{_NAME}\s*(?:[<>=!~][^\s()\[\]]*)?(?:\[[^\]]*\])?)\s*")


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A match spec, read. `version` is without spaces and as bracket form has it; None where nothing was said."""

    name: str
    channel: str | None = None
    version: str | None = None
    build: str | None = None
    build_number: str | None = None
    extras: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    when: str | None = None

    @property
    def needs_v3(self) -> bool:
        return bool(self.extras or self.flags or self.when)

    def bracketed(self) -> str:
        """The form of CEP 48: the bare name, or the name and everything else in brackets.

        Raises: PackageRefused, code `depends_invalid`, for a spec with a channel, which v3 has no place for.
        """
        if self.channel is not None:
            _refuse(f"{self.channel}::{self.name}", "a package with v3 features cannot depend on a channel")
        pairs = [
            f'{key}="{value}"'
            for key, value in (("version", self.version), ("build", self.build), ("build_number", self.build_number))
            if value is not None
        ]
        pairs += [
            f"{key}=[{','.join(names)}]" for key, names in (("extras", self.extras), ("flags", self.flags)) if names
        ]
        if self.when is not None:
            pairs.append(f'when="{self.when}"')
        return f"{self.name}[{','.join(pairs)}]" if pairs else self.name


@lru_cache(maxsize=4096)  # the packages of a build farm depend on the same few things
def parse(text: str) -> Spec:
    """Reads a spec in short form, bracket form or both together.

    Raises: PackageRefused, code `depends_invalid`.
    """
    if len(text) > MAX_LENGTH:
        _refuse(text, f"it has more than {MAX_LENGTH} characters")
    if not (text.isascii() and text.isprintable()):
        _refuse(text, "it has characters other than printable ASCII")
    found = _SPEC.fullmatch(text.strip())
    if found is None:
        _refuse(text, "it does not begin with a package name")
    version, build = _positional(text, found["rest"])
    pairs = _pairs(text, found["bracket"])
    if ("version" in pairs and version) or ("build" in pairs and build):
        _refuse(text, "it says the same thing twice")
    if "version" in pairs:
        version = _version(text, _strict(text, str(pairs["version"])))
    if "build" in pairs:
        build = _build(text, str(pairs["build"]))
    return Spec(
        name=found["name"].lower(),
        channel=found["channel"],
        version=version,
        build=build,
        build_number=_build_number(text, pairs.get("build_number")),
        extras=_names(text, pairs.get("extras"), EXTRA),
        flags=_names(text, pairs.get("flags"), _FLAG_PATTERN),
        when=_condition(text, pairs.get("when")),
    )


def _positional(text: str, rest: str) -> tuple[str | None, str | None]:
    """`version`, `version build` or `=version=build`, behind the name."""
    if rest and rest[0] not in " =<>!~":
        _refuse(text, "its name has a character that names do not have")
    words = _closed(rest).split()
    if len(words) == 1:
        # `1.0=py_0` and `==1.0=py_0` name a build too; in `=1.0` and `>=1.0` the sign belongs to the version.
        glued = re.fullmatch(r"(=?=?[^=<>!~,|]+)=([^=<>!~,|]+)", words[0])
        words = list(glued.groups()) if glued else words
    if len(words) > 2:
        _refuse(text, "it has more than a name, a version and a build")
    if len(words) == 2:
        exact = re.fullmatch(r"=([^=,|*]+)", words[0])  # beside a build, a single `=` means exactly
        return _version(text, f"=={exact[1]}" if exact else words[0]), _build(text, words[1])
    return (_version(text, words[0]) if words else None), None


def _closed(written: str) -> str:
    """Without the spaces around `,` and `|` and behind an operator, which divide nothing."""
    return re.sub(r"([<>=!~])\s+(?![<>=!~])", r"\1", re.sub(r"\s*([,|])\s*", r"\1", written.strip()))


def _strict(text: str, value: str) -> str:
    # Inside brackets rattler forgives no spaces.
    return _refuse(text, "the version in its brackets has a space") if " " in value else value


def _version(text: str, written: str) -> str:
    if _USUAL.fullmatch(written):
        return written
    compact = _closed(written)
    shape, before = re.sub(r"[^,|()]+", "a", compact), ""
    while shape != before:
        shape, before = _GROUP.sub("a", shape), shape
    if not re.fullmatch(r"a(?:[,|]a)*", shape):
        _refuse(text, "its version has an empty part or a parenthesis too many")
    return re.sub(r"[^,|()]+", lambda atom: _atom(text, atom[0]), compact)


def _atom(text: str, written: str) -> str:
    """One comparison, spelled as bracket form needs it: there `1.2` would be read by some as `1.2.*`."""
    if written in ("*", "=*", "==*"):
        return "*"
    found = _ATOM.fullmatch(written)
    if found is None or (found["op"] and found["stars"].count("*") > 1):
        _refuse(text, f"'{shown(written)}' is no version or comparison")
    op, number, stars = found["op"] or "", found["version"], found["stars"]
    try:
        versions.sort_key(number)
    except PackageRefused:
        _refuse(text, f"'{shown(number)}' is no version")
    if not stars:
        return f"{number}.*" if op == "=" else f"{op or '=='}{number}"
    # `==2.7.*` is meant as `2.7.*`, and conda reads it so everywhere; rattler only where it stands alone.
    if op in ("", "=", "=="):
        return f"{number}.*"
    # A bound has no wildcard; clients read `>=1.2.*` as `>=1.2`, and `>1.2.*` too.
    return f"!={number}.*" if op == "!=" else f"{'>=' if op == '>' else op}{number}"


def _build(text: str, written: str) -> str:
    if not _BUILD.fullmatch(written):
        _refuse(text, f"'{shown(written)}' is no build string or pattern of one")
    if written.startswith("^"):
        try:
            re.compile(written)
        except re.error:
            _refuse(text, f"'{shown(written)}' is no regular expression")
    return written


def _build_number(text: str, written: str | list[str] | None) -> str | None:
    if written is None:
        return None
    found = _BUILD_NUMBER.fullmatch(written) if isinstance(written, str) else None
    if found is None:
        _refuse(text, "its build_number is no number or comparison")
    return f"{found[1] or '=='}{found[2]}"


def _pairs(text: str, bracket: str | None) -> dict[str, str | list[str]]:
    pairs: dict[str, str | list[str]] = {}
    inner = bracket[1:-1].strip() if bracket else ""
    position = 0
    comma = bool(bracket)  # `name[]` is what remains when there is nothing to say, and is refused as unfinished
    while position < len(inner):
        found = _PAIR.match(inner, position)
        if found is None:
            _refuse(text, "its brackets do not hold key=value pairs")
        key = found["key"]
        if key not in KEYS or key in pairs:
            _refuse(text, f"'{shown(key)}' has no place in its brackets (or is there twice)")
        if found["list"] is not None:
            if key not in ("extras", "flags"):
                _refuse(text, f"its {key} is a list")
            pairs[key] = [item.strip().strip("\"'") for item in found["list"].split(",")]
        else:
            pairs[key] = next(value for value in (found["double"], found["single"], found["bare"]) if value is not None)
        position, comma = found.end(), found["comma"] == ","
    if comma:
        _refuse(text, "its brackets end too early")
    return pairs


def _names(text: str, written: str | list[str] | None, pattern: re.Pattern[str]) -> tuple[str, ...]:
    if written is None:
        return ()
    names = [written.strip()] if isinstance(written, str) else written
    if not all(pattern.fullmatch(name) for name in names):
        _refuse(text, "a name in its extras or flags is not one")
    return tuple(names)


def _condition(text: str, written: str | list[str] | None) -> str | None:
    """The value of `when` (CEP 43): specs joined by `and`, `or` and parentheses, written without needless spaces."""
    if written is None:
        return None
    condition = str(written)
    position = depth = 0
    operand = True  # what comes next: a spec (or an opening parenthesis), or something that joins
    words: list[str] = []
    while position < len(condition):
        found = _WORD.match(condition, position)
        if found is None:
            _refuse(text, "its condition cannot be read")
        word, position = found["word"].strip(), found.end()
        if word in ("(", ")"):
            depth += 1 if word == "(" else -1
            if depth < 0 or operand != (word == "("):
                _refuse(text, "the parentheses of its condition do not match")
        elif operand != (word not in ("and", "or")):
            _refuse(text, "its condition joins nothing, or things without 'and' or 'or'")
        else:
            words.append(word if not operand else _short(text, word))
            operand = not operand
            continue
        words.append(word)
    if operand or depth:
        _refuse(text, "its condition is not complete")
    return " ".join(words).replace("( ", "(").replace(" )", ")")


def _short(text: str, written: str) -> str:
    """A spec inside a condition: `name`, or `name` and a comparison without a space between."""
    spec = parse(written)
    if spec.needs_v3 or spec.channel or spec.build or spec.build_number:
        _refuse(text, "a part of its condition says more than a name and a version")
    if spec.version is None or spec.version == "*":
        return spec.name
    # `1.2.*` needs a sign in front to stand right behind a name.
    return spec.name + re.sub(r"(?<![^,|(])([^,|()<>=!~*]+)\.\*", r"=\1", spec.version)


def _refuse(text: str, why: str) -> Never:
    raise PackageRefused(f"The dependency '{shown(text)}' cannot be read: {why}.", code="depends_invalid")
