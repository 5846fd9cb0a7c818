"""What is in an archive, as it is kept for pages: one zstd frame of entries, in the order of paths.

An entry is its kind, its size, a tab and its path; entries are divided by NUL, which no path has. Kinds are those of paths.json in
one letter: `h` a file, `s` a symbolic link, `d` a directory. A size of -1 was not said.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MOST = 50_000
"""Entries that are kept of an archive: those of a large package, and not the millions of a hostile one."""

LEVEL = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """`kind` is `h`, `s` or `d`, `size` in bytes or -1."""

    path: str
    size: int
    kind: str


def packed(entries: Iterable[tuple[str, int, str]]) -> bytes:
    """`entries` are path, size in bytes or -1, and a `path_type` of paths.json."""
    kept = sorted(islice(entries, MOST))
    return zstd.compress("\0".join(f"{kind[0]}{size}\t{path}" for path, size, kind in kept).encode(), LEVEL)


def entries(data: bytes) -> Iterator[Entry]:
    """What `packed` kept."""
    text = zstd.decompress(data).decode()
    for line in text.split("\0") if text else ():
        head, _, path = line.partition("\t")
        yield Entry(path, int(head[1:]), head[0])
