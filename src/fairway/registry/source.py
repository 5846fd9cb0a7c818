"""The records that are published of a name, wherever they are from: a package of ours or of an upstream.

Both have one row in `shards`, and its bytes hold the records, so whoever wants to know what clients see reads these.
Everything here reads: the session first, then places. Shards never change, so what was made of one is kept by its hash.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from fairway.conda import shards
from fairway.db import quick
from fairway.db.models import Shard, ShardBytes, Subdir
from fairway.registry import sweep

NAMES_AT_ONCE = 1_000
MEMORY_FACTOR = 5  # what a record takes as objects, of what it takes as msgpack: 4.1 measured

Records = Mapping[str, Mapping[str, Any]]
"""Records by their file names."""

SUBDIRS = select(Subdir.channel_id, Subdir.name, Subdir.id, Subdir.changed).where(
    Subdir.channel_id.in_(bindparam("channels", expanding=True)), Subdir.name.in_(bindparam("subdirs", expanding=True))
)
HASHES = select(Shard.name, Shard.sha256).where(
    Shard.subdir_id == bindparam("subdir_id"),
    Shard.name.in_(bindparam("names", expanding=True)),
    Shard.sha256.is_not(None),
)
BYTES = select(ShardBytes.sha256, ShardBytes.data).where(
    ShardBytes.subdir_id == bindparam("subdir_id"), ShardBytes.sha256.in_(bindparam("hashes", expanding=True))
)
NAMES = (
    select(Shard.name)
    .where(Shard.subdir_id == bindparam("subdir_id"), Shard.name > bindparam("after"), Shard.sha256.is_not(None))
    .order_by(Shard.name)
    .limit(NAMES_AT_ONCE)
)


def subdirs(
    session: Session, channel_ids: Iterable[int], names: Iterable[str]
) -> dict[tuple[int, str], tuple[int, int]]:
    """The number of each of these subdirs of these channels, and its change number; those that are there."""
    found: dict[tuple[int, str], tuple[int, int]] = {}
    wanted = list(names)
    for some in sweep.batched(channel_ids):
        rows = quick.of(session).execute(SUBDIRS, {"channels": some, "subdirs": wanted})
        found |= {(channel_id, name): (subdir_id, changed) for channel_id, name, subdir_id, changed in rows}
    return found


def hashes(session: Session, subdir_id: int, names: Iterable[str]) -> dict[str, bytes]:
    """The hash of the shard of each of these names that the subdir has."""
    found: dict[str, bytes] = {}
    for some in sweep.batched(names):
        rows = quick.of(session).execute(HASHES, {"subdir_id": subdir_id, "names": some})
        found |= {name: bytes(sha256) for name, sha256 in rows}
    return found


def data(session: Session, subdir_id: int, wanted: Iterable[bytes]) -> dict[bytes, bytes]:
    """Shards by their hashes."""
    found: dict[bytes, bytes] = {}
    for some in sweep.batched(wanted):
        rows = quick.of(session).execute(BYTES, {"subdir_id": subdir_id, "hashes": some})
        found |= {bytes(sha256): bytes(held) for sha256, held in rows}
    return found


def names(session: Session, channel_id: int, subdir: str) -> Iterator[str]:
    """The names that are published in a subdir, in their order."""
    place = subdirs(session, [channel_id], [subdir]).get((channel_id, subdir))
    after = ""
    while place is not None:
        some = [name for (name,) in quick.of(session).execute(NAMES, {"subdir_id": place[0], "after": after})]
        yield from some
        if len(some) < NAMES_AT_ONCE:
            return
        after = some[-1]


def records(session: Session, channel_id: int, subdir: str, name: str, *, kept: Decoded | None = None) -> Records:
    """What is published of a name in a subdir; nothing if that is not there. Not to be changed: others may hold it too."""
    place = subdirs(session, [channel_id], [subdir]).get((channel_id, subdir))
    if place is None:
        return {}
    return of_names(session, place[0], [name], kept=kept).get(name, {})


def of_names(
    session: Session, subdir_id: int, wanted: Sequence[str], *, kept: Decoded | None = None
) -> dict[str, Records]:
    """The same for some names at once, of which those are in the answer that the subdir has. Two statements for each few
    hundred names, and none for the bytes of what is kept.
    """
    found: dict[str, Records] = {}
    missing: dict[str, bytes] = {}
    for name, sha256 in hashes(session, subdir_id, wanted).items():
        have = None if kept is None else kept.get(sha256)
        if have is None:
            missing[name] = sha256
        else:
            found[name] = have
    read = data(session, subdir_id, missing.values())
    for name, sha256 in missing.items():
        document = shards.decompressed(read[sha256])
        found[name] = made = shards.records(document)
        if kept is not None:
            kept.put(sha256, made, MEMORY_FACTOR * len(document))
    return found


class Decoded:
    """Records by the hash of their shard. What was asked for last stays, `most` bytes of it. Thread-safe."""

    def __init__(self, most: int = 32 << 20) -> None:
        self._most, self._size = most, 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, tuple[Records, int]] = OrderedDict()

    @property
    def size(self) -> int:
        return self._size

    def get(self, sha256: bytes) -> Records | None:
        with self._lock:
            found = self._kept.get(sha256)
            if found is None:
                return None
            self._kept.move_to_end(sha256)
            return found[0]

    def put(self, sha256: bytes, made: Records, size: int) -> None:
        with self._lock:
            before = self._kept.pop(sha256, None)
            self._size += size - (0 if before is None else before[1])
            self._kept[sha256] = made, size
            while self._size > self._most and self._kept:
                self._size -= self._kept.popitem(last=False)[1][1]
