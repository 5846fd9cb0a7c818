"""Packages to measure with: small, valid, deterministic, with names, versions and dependencies as real ones have them.

Package number i is always the same bytes. A few names have very many builds and most have few, like on conda-forge.
"""

from __future__ import annotations

import hashlib
import random
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from tests.support import builders

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SUBDIR = "linux-64"
NAMES = 4_000
MTIME = 1_700_000_000
FIRST = ("lib", "py", "r-", "python-", "google-cloud-", "jupyter-", "perl-", "azure-", "aws-sdk-", "", "", "", "", "")
SYLLABLES = ("ar", "ba", "cor", "da", "el", "fi", "gra", "ho", "in", "ju", "kit", "lo", "mat", "num", "or", "pan",
             "qt", "re", "sci", "tor", "um", "ver", "wi", "xar", "yam", "zo")  # fmt: skip
LICENCES = ("MIT", "BSD-3-Clause", "Apache-2.0", "LGPL-2.1-or-later", "GPL-3.0-only", "MPL-2.0")


@cache
def name_of(rank: int) -> str:
    rng = random.Random(f"name {rank}")
    return rng.choice(FIRST) + "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 4))) + f"{rank % 7 or ''}"


@dataclass(frozen=True, slots=True)
class Package:
    """One generated file; `index` is its index.json."""

    filename: str
    index: dict[str, Any]
    about: dict[str, Any]
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def md5(self) -> str:
        return hashlib.md5(self.data, usedforsecurity=False).hexdigest()


def index_of(number: int, rng: random.Random) -> dict[str, Any]:
    rank = int(NAMES * rng.random() ** 2.5)
    depends = ["python >=3.11,<3.12.0a0", "libgcc >=13", "__glibc >=2.17,<3.0.a0"][: rng.randint(1, 3)]
    depends += [
        f"{name_of(rng.randrange(NAMES))} >={rng.randint(0, 9)}.{rng.randint(0, 30)},<{rng.randint(10, 20)}.0a0"
        for _ in range(rng.randint(1, 7))
    ]
    build_number = number % 5
    licence = rng.choice(LICENCES)
    return {
        "arch": "x86_64",
        "build": f"py311h{zlib.crc32(b'%d' % number):08x}_{build_number}",
        "build_number": build_number,
        "depends": depends,
        "license": licence,
        "license_family": licence.split("-")[0],
        "name": name_of(rank),
        "platform": "linux",
        "subdir": SUBDIR,
        "timestamp": (MTIME + number) * 1000,
        "version": f"{rng.randint(0, 9)}.{rng.randint(0, 30)}.{number % 97}",
    }


def package(number: int) -> Package:
    """Package number `number`, of about 3.5 kB."""
    rng = random.Random(number)
    index = index_of(number, rng)
    stem = f"{index['name']}-{index['version']}-{index['build']}"
    payload = {f"lib/python3.11/site-packages/{index['name']}/data.bin": rng.randbytes(2_100)}
    about = {
        "home": f"https://example.org/{index['name']}",
        "license": index["license"],
        "summary": f"What {stem} does",
    }
    info = tar(info_of(index, about, payload).items())
    data = builders.conda_file(stem, zstd.compress(info, 3), zstd.compress(tar(payload.items()), 3))
    return Package(f"{stem}.conda", index, about, data)


def info_of(index: dict[str, Any], about: dict[str, Any], payload: dict[str, bytes]) -> dict[str, bytes]:
    paths = [
        {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
        for path, data in payload.items()
    ]
    return {
        "info/index.json": orjson.dumps(index),
        "info/about.json": orjson.dumps(about),
        "info/paths.json": orjson.dumps({"paths": paths, "paths_version": 1}),
        "info/files": "".join(f"{path}\n" for path in payload).encode(),
        "info/licenses/LICENSE": b"Permission is hereby granted, free of charge, to any person.\n" * 8,
    }


def tar(members: Iterable[tuple[str, bytes]]) -> bytes:
    parts = []
    for name, data in members:
        parts += [header(name, len(data)), data, bytes(-len(data) % 512)]
    return b"".join(parts) + bytes(1024)


def header(name: str, size: int) -> bytes:
    """One ustar header; the standard library is five times slower."""
    head = b"".join((
        name.encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0" * 2, b"%011o\0" % size, b"%011o\0" % MTIME, b" " * 8,
        b"0", bytes(100), b"ustar\x0000", bytes(64), b"0000000\0" * 2, bytes(167),
    ))  # fmt: skip
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def folder(where: Path, count: int, start: int = 0) -> list[Path]:
    """The packages from number `start` on as files of a channel directory; those that exist are left."""
    place = where / SUBDIR
    place.mkdir(parents=True, exist_ok=True)
    listed = where / f"{start}-{count}.txt"
    if listed.exists():
        return [place / name for name in listed.read_text().split()]
    paths = []
    for number in range(start, start + count):
        made = package(number)
        path = place / made.filename
        path.write_bytes(made.data)
        paths.append(path)
    listed.write_text("\n".join(path.name for path in paths))
    return paths


@dataclass(frozen=True, slots=True)
class Big:
    """A large package in three parts: only head and tail, which hold its name, differ from one to the next."""

    payload: Path
    size: int

    def parts(self, number: int) -> tuple[str, bytes, bytes]:
        """File name, the bytes before the payload and those after it."""
        index = index_of(number, random.Random(number)) | {"name": "big-data", "version": f"1.{number}"}
        stem = f"big-data-1.{number}-{index['build']}"
        info = zstd.compress(tar(info_of(index, {}, {"share/big.bin": b""}).items()), 3)
        crc = int(self.payload.with_suffix(".crc").read_text())
        # the builder copies what it packs: an empty payload stands in, with the sizes and the sum of the real one
        fields = {"size": self.size, "packed": self.size, "crc": crc}
        marker = b"PAYLOAD GOES HERE"
        entries = [
            builders.Entry("metadata.json", builders.METADATA),
            builders.Entry(f"info-{stem}.tar.zst", info),
            builders.Entry(f"pkg-{stem}.tar.zst", marker, local=fields, central=fields),
        ]
        whole = builders.zip_file(entries)
        head, tail = whole.split(marker)
        end = tail.rindex(b"PK\5\6") + 16
        shift = int.from_bytes(tail[end : end + 4], "little") + self.size - len(marker)
        return f"{stem}.conda", head, tail[:end] + shift.to_bytes(4, "little") + tail[end + 4 :]


def big(where: Path, size: int) -> Big:
    """A payload of about `size` bytes that does not compress, written piece by piece."""
    path = where / f"payload-{size}.zst"
    if path.with_suffix(".crc").exists():
        return Big(path, path.stat().st_size)
    rng = random.Random(size)
    crc = 0
    with path.open("wb") as file:
        compressor = zstd.ZstdCompressor(1)

        def put(data: bytes) -> None:
            nonlocal crc
            if data:
                crc = zlib.crc32(data, crc)
                file.write(data)

        put(compressor.compress(header("share/big.bin", size)))
        left = size
        while left:
            piece = rng.randbytes(min(left, 1 << 20))
            left -= len(piece)
            put(compressor.compress(piece))
        put(compressor.compress(bytes(-size % 512 + 1024)))
        put(compressor.flush())
    path.with_suffix(".crc").write_text(str(crc))
    return Big(path, path.stat().st_size)
