"""The records that are published of a name, wherever they are from: a package of ours or of an upstream.

Both have one row in `shards`, and its bytes hold the records, so whoever wants to know what clients see reads these.
Everything here reads: the session first, then places.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from fairway.conda import shards
from fairway.db import quick
from fairway.db.models import Shard, ShardBytes, Subdir
from fairway.registry import sweep

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


def records(session: Session, channel_id: int, subdir: str, name: str) -> Records:
    """What is published of a name in a subdir; nothing if that is not there."""
    place = subdirs(session, [channel_id], [subdir]).get((channel_id, subdir))
    if place is None:
        return {}
    held = data(session, place[0], hashes(session, place[0], [name]).values())
    return {
        filename: record
        for one in held.values()
        for filename, record in shards.records(shards.decompressed(one)).items()
    }
