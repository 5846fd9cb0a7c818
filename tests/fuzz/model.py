"""A package before it is packed: what mutations change, and how it becomes bytes."""

from __future__ import annotations

import bz2
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz.choices import Choices, chance, pick
from tests.support import builders as b
from tests.support.builders import Entry, Member, pax

NAMES = ("demo", "_x86-thing", "a", "lib.z-2", "r-base_9")
VERSIONS = ("1.0", "1!2.0+cu12", "0", "1.2.3a4", "7.post1")
BUILDS = ("0", "h0_0", "py311_1", "cuda12.4_mpi+x_3")
DEPENDS = ("python >=3.11", "numpy 1.26.*", "libz", "__glibc >=2.17", "b >=1,<2|>3", "c 1.0 h1_0", "d[version='>=1']")
PIECES = (
    "a",
    "b",
    "lib",
    "bin",
    "share",
    "x.so",
    "Ä",
    "日本",
    "e" * 60,
    "f" * 130,
    ".hidden",
    "A",
    "c d",
    "info2",
    "-x",
    "z" * 255,
)
SIZES = (0, 1, 3, 511, 512, 513, 1024, 5000)


@dataclass
class Model:
    """A package before it is packed."""

    name: str
    version: str
    build: str
    extension: str
    subdir: str
    index: Any
    files: dict[str, bytes]
    documents: dict[str, Any] = field(default_factory=dict)  # info/ files beside index.json; None removes
    payload: list[Member | bytes] = field(default_factory=list)
    info: list[Member | bytes] = field(default_factory=list)
    ends: dict[str, bytes] = field(default_factory=dict)
    compress: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    entries: Callable[[list[Entry]], list[Entry]] = lambda entries: entries
    zip_options: dict[str, Any] = field(default_factory=dict)
    touch_tar: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    touch_packed: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    touch_file: Callable[[bytes], bytes] = bytes
    story: list[str] = field(default_factory=list)

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.version}-{self.build}"

    @property
    def parts(self) -> tuple[str, ...]:
        return ("info", "pkg") if self.extension == ".conda" else ("pkg",)


# --- good ones -----------------------------------------------------------------------------------------------------


def base(choices: Choices) -> Model:
    name, version, build = pick(choices, NAMES), pick(choices, VERSIONS), pick(choices, BUILDS)
    subdir = pick(choices, ("noarch", "linux-64", "win-64", "osx-arm64"))
    depends = [pick(choices, DEPENDS) for _ in range(choices.number(0, 2))]
    files = {some_path(choices): some_bytes(choices) for _ in range(choices.number(0, 4))}
    tops = {path.split("/")[0] for path in files if "/" in path}
    files = {path: data for path, data in files.items() if not any(other.startswith(path + "/") for other in files)}
    index = b.index_json(name, version, build, subdir=subdir, depends=depends)
    model = Model(name, version, build, pick(choices, (".conda", ".conda", ".tar.bz2")), subdir, index, files)
    writer = pick(choices, (b.tar_members, pax_members, prefix_members))
    model.payload += writer(files)
    if tops and chance(choices, 20):
        model.payload = [Member(f"{top}/", type=b"5", mode=0o755) for top in sorted(tops)] + model.payload
    if chance(choices, 40):
        model.documents["info/about.json"] = {"summary": "A demo", "home": "https://example.org"}
    if chance(choices, 20):
        model.documents["info/run_exports.json"] = pick(choices, ({"weak": ["demo"]}, ["demo"], {"noarch": []}))
    if chance(choices, 20):
        model.documents["info/licenses/LICENSE"] = b"free"
    return model


def some_path(choices: Choices) -> str:
    return "/".join(pick(choices, PIECES) for _ in range(choices.number(1, 4)))


def some_bytes(choices: Choices) -> bytes:
    size = pick(choices, SIZES)
    return choices.data(size) if chance(choices, 30) else b"text" * (size // 4) + b"t" * (size % 4)


def pax_members(files: dict[str, bytes]) -> list[Member]:
    members: list[Member] = []
    for path, data in files.items():
        members += [pax({"path": path, "mtime": "1700000000.5"}), Member(path.encode()[:100], data)]
    return members


def prefix_members(files: dict[str, bytes]) -> list[Member]:
    """As ustar splits a long path, where it can."""
    members: list[Member] = []
    for path, data in files.items():
        raw = path.encode()
        cut = next(
            (i for i in range(len(raw)) if raw[i : i + 1] == b"/" and i <= 155 and 0 < len(raw) - i - 1 <= 100), 0
        )
        if len(raw) <= 100 or not cut:
            members += b.tar_members({path: data})
        else:
            members.append(Member(raw[cut + 1 :], data, prefix=raw[:cut]))
    return members


# --- packing -------------------------------------------------------------------------------------------------------


def packed(model: Model) -> bytes:
    documents = {"info/index.json": model.index, "info/paths.json": b.paths_json(model.files), **model.documents}
    info = {path: b.json_bytes(value) for path, value in documents.items() if value is not None}
    members = [*b.tar_members(info), *model.info]
    if model.extension == ".tar.bz2":
        return model.touch_file(part(model, "pkg", [*members, *model.payload], bz2.compress))
    entries = b.conda_entries(model.stem, part(model, "info", members, b.zst), part(model, "pkg", model.payload, b.zst))
    return model.touch_file(b.zip_file(model.entries(entries), **model.zip_options))


def part(model: Model, name: str, members: list[Member | bytes], compress: Callable[[bytes], bytes]) -> bytes:
    tar = b.tar(members, model.ends.get(name, b.END_OF_TAR))
    tar = model.touch_tar.get(name, bytes)(tar)
    return model.touch_packed.get(name, bytes)(model.compress.get(name, compress)(tar))
