"""Every storage key, its media type and its cache policy: the only place that builds or reads a path in the store.

    packages/ab/cd/<sha256>                                a package, shared by every channel that has the same bytes
    index/<channel>/<subdir>/<kind>/<sha256>               one version of an index document
    index/<channel>/<subdir>/shards/ab/<sha256>            a shard: in memory under this name; stored before 0022
    index/<channel>/-/<kind>/<sha256>                      the same for a document of the whole channel

A key contains the hash of its bytes, so what is stored under it never changes and may be put twice. The channel is
named by its number: renaming a channel moves nothing.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass


class Cache(enum.StrEnum):
    """How long an answer made of these bytes stays true.

    `IMMUTABLE`: its URL names the content, so it holds for ever. `CURRENT`: its URL stays and the content behind it
    moves on with the next publication, so a client has to ask again (the hash is the ETag).
    """

    IMMUTABLE = "immutable"
    CURRENT = "current"


@dataclass(frozen=True, slots=True)
class Key:
    """Where one blob is: `path` is relative, of plain ASCII, without `.` or `..`. Made by the functions below only.

    `channel_id` and `subdir` are None for a package, and `subdir` is None for a document of the whole channel.
    """

    path: str
    media_type: str
    cache: Cache
    sha256: str
    channel_id: int | None = None
    subdir: str | None = None


BINARY = "application/octet-stream"
JSON = "application/json"

MEDIA_TYPES = {
    "repodata.json": JSON,
    "repodata.json.zst": BINARY,
    "run_exports.json": JSON,
    "run_exports.json.zst": BINARY,
    "repodata_shards.msgpack.zst": BINARY,
    "channeldata.json": JSON,
}
"""Each kind of index document. Compressed ones are files of their own, not an encoding of another: no zstd type."""

_WHOLE_CHANNEL = "-"
_HASH = re.compile(r"[0-9a-f]{64}")
_SUBDIR = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_PACKAGE = re.compile(r"packages/[0-9a-f]{2}/[0-9a-f]{2}/([0-9a-f]{64})")
_INDEX = re.compile(r"index/([1-9][0-9]{0,18})/([^/]+)/([^/]+)(?:/[0-9a-f]{2})?/([0-9a-f]{64})")


def package(sha256: str) -> Key:
    """The bytes of one package file. Raises `ValueError` if `sha256` is not 64 lower case hex digits."""
    return Key(f"packages/{_hash(sha256)[:2]}/{sha256[2:4]}/{sha256}", BINARY, Cache.IMMUTABLE, sha256)


def shard(channel_id: int, subdir: str, sha256: str) -> Key:
    """The compressed shard of one package name. Raises `ValueError` for a value that cannot be part of a path."""
    path = f"{subdir_prefix(channel_id, subdir)}shards/{_hash(sha256)[:2]}/{sha256}"
    return Key(path, BINARY, Cache.IMMUTABLE, sha256, channel_id, subdir)


def document(channel_id: int, subdir: str | None, kind: str, sha256: str) -> Key:
    """One version of the index document `kind`, a key of `MEDIA_TYPES`. `subdir` None means: of the whole channel.

    Raises `ValueError` for an unknown kind or a value that cannot be part of a path.
    """
    if kind not in MEDIA_TYPES:
        raise ValueError(f"there is no index document called {kind!r}")
    path = f"{subdir_prefix(channel_id, subdir)}{kind}/{_hash(sha256)}"
    return Key(path, MEDIA_TYPES[kind], Cache.CURRENT, sha256, channel_id, subdir)


def packages_prefix() -> str:
    """What the paths of all packages begin with."""
    return "packages/"


def index_prefix() -> str:
    """What the paths of all index objects of all channels begin with."""
    return "index/"


def channel_prefix(channel_id: int) -> str:
    """What the paths of all index objects of one channel begin with."""
    if channel_id < 1:
        raise ValueError(f"{channel_id} is not the number of a channel")
    return f"index/{channel_id:d}/"


def subdir_prefix(channel_id: int, subdir: str | None) -> str:
    """What the paths of all index objects of one subdir begin with; None is for those of the whole channel."""
    if subdir is None:
        return f"{channel_prefix(channel_id)}{_WHOLE_CHANNEL}/"
    if not _SUBDIR.fullmatch(subdir):
        raise ValueError(f"{subdir!r} cannot be a subdir")
    return f"{channel_prefix(channel_id)}{subdir}/"


def shards_prefix(channel_id: int, subdir: str) -> str:
    """What the paths of all shards of one subdir begin with."""
    return f"{subdir_prefix(channel_id, subdir)}shards/"


def documents_prefix(channel_id: int, subdir: str | None, kind: str) -> str:
    """What the paths of all versions of one index document begin with."""
    if kind not in MEDIA_TYPES:
        raise ValueError(f"there is no index document called {kind!r}")
    return f"{subdir_prefix(channel_id, subdir)}{kind}/"


def parse(path: str) -> Key | None:
    """The key a listed path belongs to; None for an object Fairway did not make, which a sweep must leave alone."""
    if found := _PACKAGE.fullmatch(path):
        key = package(found[1])
        return key if key.path == path else None
    found = _INDEX.fullmatch(path)
    if not found:
        return None
    channel_id, folder, kind, sha256 = int(found[1]), found[2], found[3], found[4]
    subdir = None if folder == _WHOLE_CHANNEL else folder
    try:
        if kind != "shards":
            key = document(channel_id, subdir, kind, sha256)
        elif subdir is None:
            return None
        else:
            key = shard(channel_id, subdir, sha256)
    except ValueError:
        return None
    # building it again is what proves the fan-out folders right
    return key if key.path == path else None


def _hash(sha256: str) -> str:
    if not _HASH.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is not a SHA-256 in lower case hex")
    return sha256
