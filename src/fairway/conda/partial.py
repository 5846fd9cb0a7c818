"""From the shards of some names to a repodata.json that holds nothing else, for the solver.

What becomes of a shard is kept under its hash: a part of such a document, and the names that its records need. It says
nothing of hashes, licences and texts, which no solver asks for and which are half of the bytes.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from fairway.conda import shards
from fairway.conda.spec import NAME

AT_ONCE = 200  # shards that are asked for together
KEPT_BYTES = 128 << 20
NEEDLESS = (
    "sha256", "md5", "license", "license_family", "legacy_bz2_md5", "legacy_bz2_size", "summary", "url", "run_exports",
    "attestations", "indexed_timestamp",
)  # fmt: skip
SECTIONS = (("packages",), ("packages.conda",), ("v3", "tar.bz2"), ("v3", "conda"))

_decode = msgspec.msgpack.Decoder().decode


class Part(msgspec.Struct, frozen=True):
    """`sections` are the `"key":{...}` pairs of each of SECTIONS, joined by commas; `size` is what they take."""

    sections: tuple[bytes, ...]
    needs: tuple[str, ...]
    versions: tuple[str, ...]
    size: int


class Parts:
    """Parts by the hash of their shard. What was used last stays, `most` bytes of it. Not thread-safe."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self._most, self._size = most, 0
        self._kept: OrderedDict[bytes, Part] = OrderedDict()
        self._current: dict[bytes, Part] = {}

    def __contains__(self, sha256: bytes) -> bool:
        return sha256 in self._current or sha256 in self._kept

    def put(self, sha256: bytes, data: bytes) -> None:
        self._current[sha256] = part(data)

    def get(self, sha256: bytes) -> Part:
        """One that is there. While a search goes on, none that it asked for is let go (see `settle`)."""
        found = self._current.get(sha256)
        if found is None:
            found = self._current[sha256] = self._kept.pop(sha256)
            self._size -= found.size
        return found

    def settle(self) -> None:
        """A search has come to its end: keep as much as may be kept."""
        for sha256, found in self._current.items():
            self._kept[sha256] = found
            self._size += found.size
        self._current.clear()
        while self._size > self._most:
            _, gone = self._kept.popitem(last=False)
            self._size -= gone.size


def part(data: bytes) -> Part:
    """What becomes of a shard. Nothing in it is believed but that it is msgpack."""
    document = _decode(shards.decompressed(data))
    sections: list[bytes] = []
    needs: set[str] = set()
    versions: set[str] = set()
    for path in SECTIONS:
        records: Any = document
        for key in path:
            records = records.get(key) if isinstance(records, dict) else None
        pairs = []
        for key, record in (records if isinstance(records, dict) else {}).items():
            if not isinstance(key, str) or not isinstance(record, dict):
                continue
            try:
                pairs.append(b"%b:%b" % (orjson.dumps(key), encoded(record)))
            except TypeError:
                continue  # nothing that a repodata.json can hold
            needs.update(needed_by(record))
            versions.add(str(record.get("version")))
        sections.append(b",".join(pairs))
    return Part(tuple(sections), tuple(needs), tuple(versions), sum(map(len, sections)) + 100 * len(needs) + 200)


def encoded(record: dict[str, Any]) -> bytes:
    for key in NEEDLESS:
        record.pop(key, None)
    return orjson.dumps(record, default=_hexadecimal)


def _hexadecimal(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError


def needed_by(record: Mapping[str, Any]) -> Iterator[str]:
    """The names of a record's `depends` and of what its extras depend on. Virtual packages are in no channel."""
    lists = [record.get("depends")]
    extra = record.get("extra_depends")
    lists += extra.values() if isinstance(extra, dict) else ()
    for specs in lists:
        for spec in specs if isinstance(specs, list) else ():
            name = name_of(spec) if isinstance(spec, str) else ""
            if name:
                yield name


@lru_cache(maxsize=50_000)  # packages depend on the same few things
def name_of(spec: str) -> str:
    found = NAME.match(spec)
    return "" if found is None else found[1].lower()


def document(subdir: str, parts: Iterable[Part]) -> Iterator[bytes]:
    """A repodata.json in pieces."""
    held = list(parts)

    def section(number: int) -> Iterator[bytes]:
        comma = b""
        for one in held:
            if one.sections[number]:
                yield comma
                yield one.sections[number]
                comma = b","

    yield b'{"info":' + orjson.dumps({"subdir": subdir}) + b',"packages":{'
    yield from section(0)
    yield b'},"packages.conda":{'
    yield from section(1)
    yield b'},"removed":[],"repodata_version":1'
    if any(one.sections[2] or one.sections[3] for one in held):
        yield b',"v3":{"tar.bz2":{'
        yield from section(2)
        yield b'},"conda":{'
        yield from section(3)
        yield b"}}"
    yield b"}"


def named_in(text: str, names: Sequence[str]) -> list[str]:
    """Those names that the text says."""
    words = {word.lower() for word in re.findall(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", text)}
    return [name for name in names if name in words]
