"""What a place for blobs must do, whichever it is, and how its failures become ours.

Every method may be called from any thread. A blob is immutable: its key contains its hash, so `put` of a key that is
there already replaces bytes by the same bytes. That heals a damaged blob and makes it young again, which keeps it safe
from a sweep that has just decided to remove an old, unused one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from fairway.blobs.keys import Key
from fairway.errors import FairwayError, StorageFull, Unavailable

CHUNK = 1 << 20
"""Bytes a stream yields at once: large enough that the cost per chunk vanishes, small enough for slow readers."""

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Stat:
    """`size` in bytes; `modified` when it was last put, in UTC."""

    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed object: `path` as in `Key.path`, `size` in bytes, `modified` in UTC."""

    path: str
    size: int
    modified: datetime


class BlobStore(Protocol):
    """Where bytes are. Every method raises `Unavailable` when the store does not answer or refuses this server."""

    def put(self, key: Key, data: bytes) -> None:
        """Store `data`; it survives a power cut once this returns. Raises `StorageFull`."""
        ...

    def put_file(self, key: Key, path: Path) -> None:
        """Store the closed or flushed file at `path` as `put` does; the file may be gone afterwards. Memory stays
        constant whatever its size. Raises `StorageFull`.
        """
        ...

    def put_files(self, files: Sequence[tuple[Key, Path]]) -> None:
        """`put_file` for each, faster for many: all are durable at the end. After an error some are stored."""
        ...

    def get(self, key: Key) -> bytes:
        """All bytes of a blob that is known to be small. Raises `BlobMissing`."""
        ...

    def stream(self, key: Key, start: int = 0, length: int | None = None, chunk: int = CHUNK) -> Iterator[bytes]:
        """The bytes from offset `start`, at most `length` of them, in pieces of at most `chunk` bytes.

        Raises `BlobMissing` at the call, before the first piece is asked for. A range beyond the end yields less, or
        nothing.
        """
        ...

    def stat(self, key: Key) -> Stat | None:
        """Size and time of a blob, or None if there is none."""
        ...

    def delete(self, key: Key) -> bool:
        """Remove a blob; False if there was none."""
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every object below the folder `prefix` ("" or ending in "/"), in no particular order. Objects that come or
        go meanwhile may be listed or not.
        """
        ...

    def local_path(self, key: Key) -> Path | None:
        """The file that holds the blob, to be sent by the kernel; None if there is no such file on this machine."""
        ...

    def presign(self, key: Key, seconds: int, *, filename: str | None = None, media_type: str) -> str | None:
        """A URL with which anyone may GET the blob for `seconds`, under `filename` if the store can say so; None if
        this store cannot make one.
        """
        ...

    def check(self) -> None:
        """Return if the store can be used now, else raise `Unavailable` with one sentence for the administrator."""
        ...

    def close(self) -> None:
        """Release what the store holds. Using it afterwards is a mistake."""
        ...


def check_prefix(prefix: str) -> str:
    """`prefix` itself; raises `ValueError` unless it is "" or a relative folder path ending in "/"."""
    if prefix and (not prefix.endswith("/") or prefix.startswith("/") or ".." in prefix.split("/")):
        raise ValueError(f"{prefix!r} is not the prefix of a folder of blobs")
    return prefix


def pieces(data: memoryview, chunk: int) -> Iterator[bytes]:
    """`data` in pieces of `chunk` bytes; the last one may be shorter."""
    for begin in range(0, len(data), chunk):
        yield bytes(data[begin : begin + chunk])


def no_space(error: OSError) -> bool:
    """Whether `error` says that the disk, a quota or the largest allowed file is exhausted."""
    return error.errno in _NO_SPACE


def failure(error: OSError) -> FairwayError:
    """The error of Fairway that says what happened to a file of ours, without its path."""
    if no_space(error):
        return StorageFull()
    reason = os.strerror(error.errno) if error.errno else "unknown reason"
    return Unavailable(f"The storage folder of this server cannot be used now: {reason}.")
