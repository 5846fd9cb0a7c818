"""The values that reading a package yields. They travel from the reading child process to the server as msgpack."""

from __future__ import annotations

from typing import Any

import msgspec

MEBI = 1 << 20
GIBI = 1 << 30


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one package may cost to read. Sizes in bytes, counted on decompressed output while streaming.

    The figures are those of our threat model; `ratio` (output : input) applies to a payload above `ratio_from` bytes.
    """

    file_size: int = 2 * GIBI
    info_size: int = 256 * MEBI
    info_members: int = 20_000
    payload_size: int = 50 * GIBI
    payload_members: int = 500_000
    ratio: int = 100
    ratio_from: int = 256 * MEBI
    path_length: int = 4_096
    component_length: int = 255
    depth: int = 128
    zstd_window: int = 128 * MEBI
    json_size: int = 1 * MEBI
    paths_size: int = 64 * MEBI
    text_size: int = 256 * 1024


class PathsSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What `info/paths.json` says in sum. `size` is the installed size in bytes; `scripts` run at install or removal;
    `listing` is what `conda.listing` makes of it.
    """

    files: int = 0
    size: int = 0
    scripts: tuple[str, ...] = ()
    listing: bytes = b""


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds, read and bounded but not yet judged: raw JSON values and texts of its `info/` part."""

    index: dict[str, Any]
    about: dict[str, Any]
    run_exports: dict[str, list[str]]
    paths: PathsSummary
    licences: tuple[tuple[str, str], ...] = ()
    recipe: str | None = None
    link: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """One package file, understood. `record` is its repodata entry without what only the server knows (hashes, size,
    `indexed_timestamp`); every other key of `info/index.json` is kept as it was.
    """

    filename: str
    name: str
    version: str
    build: str
    build_number: int
    subdir: str
    record: dict[str, Any]
    about: dict[str, Any]
    run_exports: dict[str, list[str]]
    paths: PathsSummary
    needs_v3: bool = False
    licences: tuple[tuple[str, str], ...] = ()
    recipe: str | None = None
    warnings: tuple[str, ...] = ()
