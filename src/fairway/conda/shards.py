"""Sharded repodata (CEP 16): one small document for each package name, and an index of their hashes.

Encoding is deterministic (sorted keys, one zstd level, no time), so an unchanged package keeps its shard's hash, and a
client keeps its copy. `base_url` and `shards_base_url` are relative: mamba mangles absolute ones, and a mirror or a
mount prefix must not break them.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import orjson

from fairway.conda.record import Section, shard_value
from fairway.conda.repodata import NO_RELATIONS, Entry, Relations

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZstdError = zstd.ZstdError

# Hashes do not compress, so on repodata level 1 is as small as 3 and twice as fast; shards are small enough for more.
SHARD_LEVEL = 6
INDEX_LEVEL = 1
SHARDS_BASE_URL = "./shards/"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def shard(entries: Iterable[Entry]) -> bytes:
    """The shard of one package name, compressed. Each entry's record is JSON; both maps are always there, because
    rattler demands `packages` and conda demands `packages.conda`.
    """
    sections: dict[int, dict[str, Any]] = {}
    for entry in entries:
        sections.setdefault(entry.section, {})[entry.key] = shard_value(orjson.loads(entry.record))
    return encoded(sections)


def encoded(sections: Mapping[int, Mapping[str, Any]]) -> bytes:
    """The shard of records that are as it holds them, by section and key."""
    document: dict[str, Any] = {
        "packages": sections.get(Section.PACKAGES, {}),
        "packages.conda": sections.get(Section.PACKAGES_CONDA, {}),
    }
    v3 = {
        extension: sections[section]
        for extension, section in (("conda", Section.V3_CONDA), ("tar.bz2", Section.V3_TAR_BZ2))
        if section in sections
    }
    if v3:
        document["v3"] = v3
    return compressed(_encode(document), SHARD_LEVEL)


def records(data: bytes) -> dict[str, dict[str, Any]]:
    """What a shard that `shard` made holds, decompressed: each record by its file name, hashes as hexadecimal text."""
    document = _decode(data)
    v3 = document.get("v3") or {}
    sections = [(document.get("packages"), ""), (document.get("packages.conda"), "")]
    sections += [(v3.get(extension), f".{extension}") for extension in ("tar.bz2", "conda")]
    return {
        key + extension: {name: value.hex() if isinstance(value, bytes) else value for name, value in record.items()}
        for found, extension in sections
        for key, record in (found or {}).items()
    }


class Build(msgspec.Struct, frozen=True):
    """What of a record a match spec looks at."""

    version: str
    build: str = ""
    build_number: int = 0


class _Builds(msgspec.Struct):
    packages: dict[str, Build] = {}
    packages_conda: dict[str, Build] = msgspec.field(default_factory=dict, name="packages.conda")
    v3: dict[str, dict[str, Build]] = {}


_decode_builds = msgspec.msgpack.Decoder(_Builds).decode


def builds(data: bytes) -> list[Build]:
    """What a shard holds, decompressed, and no more of it than a match spec looks at; nothing of one that is none."""
    try:
        found = _decode_builds(data)
    except msgspec.DecodeError:
        return []
    parts = (found.packages, found.packages_conda, *found.v3.values())
    return [build for part in parts for build in part.values()]


def index(subdir: str, shards: Mapping[str, bytes], relations: Relations = NO_RELATIONS) -> bytes:
    """The shard index, compressed. `shards` maps a name to the 32 bytes of its shard's sha256, in the order of names;
    `relations` are the channel's.
    """
    info = {"base_url": "", **relations.info, "shards_base_url": SHARDS_BASE_URL, "subdir": subdir}
    return compressed(_encode({"info": info, "shards": shards, "version": 1}), INDEX_LEVEL)


def compressed(data: bytes, level: int) -> bytes:
    """One zstd frame that says its content's size."""
    return zstd.compress(data, level)


def decompressed(data: bytes) -> bytes:
    """What `compressed` made; only for what we wrote ourselves, since it has no limit."""
    return zstd.decompress(data)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
