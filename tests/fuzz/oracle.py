"""Three readers of one accepted package: ours, conda's and rattler's. They must see the same.

`ours` walks with the parts that the reading child is made of; conda-package-streaming is what conda unpacks with;
py-rattler unpacks as pixi does, into a folder, and reads `info/` by itself. A difference in what we accept would be a
file that installs differently here and there.
"""

from __future__ import annotations

import io
import json
import os
import posixpath
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rattler.package_streaming
from conda_package_streaming import package_streaming
from rattler import IndexJson
from rattler.package import PathsJson

from fairway.conda import archive, zipread
from fairway.conda.artifact import Artifact, Contents, Limits
from fairway.conda.names import Filename
from fairway.conda.record import artifact_of
from fairway.conda.streams import Budget, Source, bz2_chunks, zstd_chunks
from fairway.conda.tarpaths import DIRECTORY, FILE, HARDLINK, SYMLINK, Tree
from fairway.conda.tarwalk import walk

LIMITS = Limits()
NOW = 1_800_000_000_000
SCRATCH = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
INDEX, PATHS = "info/index.json", "info/paths.json"

# path -> what is there: ("file", content), ("link", target) or ("dir", b""); a hard link is a file
View = dict[str, tuple[str, bytes]]


class Disagreement(AssertionError):
    """Two readers see different packages in one file that we accept."""


@dataclass(frozen=True)
class Accepted:
    contents: Contents
    artifact: Artifact


def accept(filename: str, data: bytes) -> Accepted:
    """What the reading child does with a job. Raises what it would answer with."""
    name = Filename.parse(filename)
    contents = archive.read(io.BytesIO(data), stem=name.stem, extension=name.extension, limits=LIMITS)
    return Accepted(contents, artifact_of(contents, name, subdir=None, now_ms=NOW))


def compare(filename: str, data: bytes, accepted: Accepted) -> None:
    """Raises Disagreement."""
    views = {"ours": ours(filename, data), "conda": condas(filename, data)}
    folder = Path(tempfile.mkdtemp(prefix="fairway-oracle-", dir=SCRATCH))
    try:
        (folder / filename).write_bytes(data)
        said = rattlers_metadata(folder / filename)
        if "symlink_empty" not in accepted.artifact.warnings:  # noted for that very reason: rattler cannot unpack it
            views["rattler"] = rattlers(folder / filename, folder / "unpacked")
    finally:
        shutil.rmtree(folder)
    mine = views["ours"]
    for reader, view in views.items():
        if view != mine:
            raise Disagreement(f"{filename}: {reader} sees another package than we do: {difference(mine, view)}")
    if json.loads(mine[INDEX][1]) != accepted.contents.index:
        raise Disagreement(f"{filename}: the index.json we use is not the one that is there")
    same_metadata(filename, accepted, json.loads(mine[PATHS][1]), *said)


def difference(mine: View, other: View) -> str:
    keys = [key for key in sorted({*mine, *other}) if mine.get(key) != other.get(key)]
    shown = [f"{key!r}: {str(mine.get(key))[:80]} or {str(other.get(key))[:80]}" for key in keys[:3]]
    return "; ".join(shown)


def add(view: View, path: str, what: tuple[str, bytes]) -> None:
    """With the directories above it, which each reader makes whether the archive names them or not."""
    above = posixpath.dirname(path)
    while above:
        view.setdefault(above, ("dir", b""))
        above = posixpath.dirname(above)
    view[path] = what


# --- ours ----------------------------------------------------------------------------------------------------------


class Recorder(Tree):
    """A tree that remembers, and a visitor that keeps every byte."""

    def __init__(self, view: View) -> None:
        super().__init__(LIMITS.payload_members)
        self._view, self._target = view, b""

    def link(self, path: bytes, target: bytes, kind: int, limits: Limits) -> None:
        super().link(path, target, kind, limits)
        self._target = target

    def member(self, path: bytes, kind: int, size: int) -> int:
        name = path.decode()
        if kind == HARDLINK:
            add(self._view, name, self._view[posixpath.normpath(self._target.decode())])
        elif kind == SYMLINK:
            add(self._view, name, ("link", self._target))
        else:
            add(self._view, name, ("dir" if kind == DIRECTORY else "file", b""))
        return size if kind == FILE else 0

    def data(self, path: bytes, data: bytes) -> None:
        self._view[path.decode()] = ("file", data)


def ours(filename: str, data: bytes) -> View:
    view: View = {}
    source = Source(io.BytesIO(data))
    budget = Budget(what="package", size=LIMITS.payload_size, ratio_size=LIMITS.payload_size)
    if filename.endswith(".tar.bz2"):
        streams = [bz2_chunks(source.pieces(0, source.size), budget=budget)]
    else:
        stem = filename.removesuffix(".conda")
        names = [f"{part}-{stem}.tar.zst".encode() for part in ("info", "pkg")]
        members = zipread.members(source, frozenset((b"metadata.json", *names)))
        streams = [
            zstd_chunks(
                source.pieces(members[name].offset, members[name].size), window=LIMITS.zstd_window, budget=budget
            )
            for name in names
        ]
    for chunks in streams:
        recorder = Recorder(view)
        walk(chunks, recorder, recorder, members=LIMITS.payload_members, limits=LIMITS)
    return view


# --- theirs --------------------------------------------------------------------------------------------------------


def condas(filename: str, data: bytes) -> View:
    view: View = {}
    for component in ("info", "pkg") if filename.endswith(".conda") else ("info",):
        try:
            for tar, member in package_streaming.stream_conda_component(filename, io.BytesIO(data), component):
                path = posixpath.normpath(member.name)
                if member.islnk():
                    what = view[posixpath.normpath(member.linkname)]
                elif member.issym():
                    what = ("link", member.linkname.encode(errors="surrogateescape"))
                elif member.isdir():
                    what = ("dir", b"")
                elif member.isreg() and (stream := tar.extractfile(member)) is not None:
                    what = ("file", stream.read())
                else:
                    what = (f"type {member.type!r}", b"")
                add(view, path, what)
        except Exception as error:
            raise Disagreement(f"{filename}: conda cannot read it: {error!r}") from error
    return view


def rattlers(path: Path, folder: Path) -> View:
    try:
        rattler.package_streaming.extract(path, folder)
    except Exception as error:
        raise Disagreement(f"{path.name}: rattler cannot unpack it: {error}") from error
    view: View = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            full = Path(root, name)
            below = str(full.relative_to(folder))
            mode = full.lstat().st_mode
            if stat.S_ISLNK(mode):
                view[below] = ("link", os.readlink(os.fsencode(full)))  # noqa: PTH115 - pathlib would tidy it up
            elif stat.S_ISDIR(mode):
                view[below] = ("dir", b"")
            else:
                view[below] = ("file", full.read_bytes())
    return view


def rattlers_metadata(path: Path) -> tuple[Any, Any]:
    try:
        return IndexJson.from_package_archive(path), PathsJson.from_package_archive(path)
    except Exception as error:
        raise Disagreement(f"{path.name}: rattler cannot read its info: {error}") from error


def same_metadata(filename: str, accepted: Accepted, listing: Any, index: Any, paths: Any) -> None:
    artifact = accepted.artifact
    record = accepted.contents.index
    theirs = {
        "name": index.name.normalized, "version": str(index.version), "build": str(index.build),
        "build_number": index.build_number, "subdir": index.subdir or artifact.subdir, "depends": list(index.depends),
        "constrains": list(index.constrains),
    }  # fmt: skip
    mine = {
        "name": artifact.name, "version": artifact.version, "build": artifact.build,
        "build_number": artifact.build_number, "subdir": artifact.subdir, "depends": record.get("depends") or [],
        "constrains": record.get("constrains") or [],
    }  # fmt: skip
    if theirs != mine:
        differing = {key: (mine[key], theirs[key]) for key in mine if mine[key] != theirs[key]}
        raise Disagreement(f"{filename}: rattler reads another index.json: {differing}")
    # py-rattler says None of a size of 0
    listed = [(posixpath.normpath(entry["_path"]), entry.get("size_in_bytes") or None) for entry in listing["paths"]]
    found = [(posixpath.normpath(entry.relative_path), entry.size_in_bytes or None) for entry in paths.paths]
    if sorted(map(str, listed)) != sorted(map(str, found)):
        raise Disagreement(f"{filename}: rattler reads another paths.json: {listed[:3]} or {found[:3]}")
