"""Packages made in memory, byte for byte the same on each run, and the pieces that hostile ones are made of.

    filename, data = conda_package("demo", "1.0", files={"bin/demo": b"..."})
    filename, data = tar_bz2_package("demo", depends=["python"])

For hostile files every layer can be made alone: `tar_header`, `Member`, `tar`, `pax`, `zip_file`, `zstd_frame`.
"""

from __future__ import annotations

import bz2
import hashlib
import json
import struct
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

METADATA = b'{"conda_pkg_format_version": 2}'
END_OF_TAR = bytes(1024)
MTIME = 1_700_000_000

# --- tar -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """A tar member with every header field free. `size` and `checksum` are the true ones unless given."""

    name: str | bytes = "file"
    data: bytes = b""
    type: bytes = b"0"
    link: str | bytes = ""
    mode: int | bytes = 0o644
    uid: int | bytes = 0
    gid: int | bytes = 0
    mtime: int | bytes = MTIME
    size: int | bytes | None = None
    magic: bytes = b"ustar\x0000"
    prefix: bytes = b""
    checksum: bytes | None = None

    def header(self) -> bytes:
        size = len(self.data) if self.size is None else self.size
        head = b"".join((
            _raw(self.name).ljust(100, b"\0")[:100],
            _octal(self.mode, 8),
            _octal(self.uid, 8),
            _octal(self.gid, 8),
            _octal(size, 12),
            _octal(self.mtime, 12),
            b" " * 8,
            self.type,
            _raw(self.link).ljust(100, b"\0")[:100],
            self.magic,
            bytes(64),
            _octal(0, 8) * 2,
            self.prefix.ljust(155, b"\0"),
            bytes(12),
        ))  # fmt: skip
        checksum = b"%06o\0 " % sum(head) if self.checksum is None else self.checksum
        return head[:148] + checksum + head[156:]

    def __bytes__(self) -> bytes:
        return self.header() + self.data + bytes(-len(self.data) % 512)


def _raw(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _octal(value: int | bytes, width: int) -> bytes:
    """Octal with a NUL, or GNU base-256 where that does not fit; bytes are taken as they are."""
    if isinstance(value, bytes):
        return value.ljust(width, b"\0")
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    mark = b"\xff" if value < 0 else b"\x80"
    return mark + (value % (1 << 8 * (width - 1))).to_bytes(width - 1, "big")


def pax_record(key: str | bytes, value: str | bytes) -> bytes:
    body = b" " + _raw(key) + b"=" + _raw(value) + b"\n"
    length = len(body) + 1
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def pax(records: Mapping[str, str | bytes], *, everywhere: bool = False) -> Member:
    data = b"".join(pax_record(key, value) for key, value in records.items())
    return Member("pax_header", data, type=b"g" if everywhere else b"x")


def long_name(name: str | bytes, kind: bytes = b"L") -> Member:
    return Member("././@LongLink", _raw(name) + b"\0", type=kind, magic=b"ustar  \0")


def tar(members: Iterable[Member | bytes], end: bytes = END_OF_TAR) -> bytes:
    return b"".join(map(bytes, members)) + end


def tar_members(files: Mapping[str, bytes]) -> list[Member]:
    """Files as tar members, a path too long for a header by a GNU long name."""
    members: list[Member] = []
    for name, data in files.items():
        if len(name.encode()) > 100:
            members.append(long_name(name))
        members.append(Member(name, data))
    return members


# --- zstd ----------------------------------------------------------------------------------------------------------


def zstd_block(data: bytes, *, last: bool = True, kind: int = 0, size: int | None = None) -> bytes:
    """A block: kind 0 raw, 1 RLE, 2 compressed, 3 reserved."""
    size = len(data) if size is None else size
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + data


def zstd_frame(
    blocks: Sequence[bytes],
    *,
    window: int | None = 0x58,
    content_size: int | None = None,
    descriptor: int | None = None,
    after_window: bytes = b"",
) -> bytes:
    """A frame of hand-made blocks. `window` is the descriptor byte (exponent << 3 | mantissa), None for none."""
    flags = 0xC0 if content_size is not None else 0
    flags |= 0x20 if window is None else 0
    head = b"\x28\xb5\x2f\xfd" + bytes((flags if descriptor is None else descriptor,))
    head += b"" if window is None else bytes((window,))
    size = b"" if content_size is None else struct.pack("<Q", content_size)
    return head + after_window + size + b"".join(blocks)


def zst(data: bytes, level: int = 3) -> bytes:
    return zstd.compress(data, level)


# --- zip -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A zip member. `local_*` and `central_*` overrule a field on one side; names as in the ZIP specification."""

    name: str | bytes
    data: bytes = b""
    method: int = 0
    flags: int = 0
    crc: int | None = None
    local: Mapping[str, Any] | None = None
    central: Mapping[str, Any] | None = None
    extra: bytes = b""
    central_extra: bytes = b""
    comment: bytes = b""
    attributes: int = 0o100600 << 16
    zip64: bool = False
    after: bytes = b""

    def fields(self) -> dict[str, Any]:
        crc = zlib.crc32(self.data) if self.crc is None else self.crc
        size = len(self.data)
        return {"name": _raw(self.name), "flags": self.flags, "method": self.method, "crc": crc,
                "packed": size, "size": size}  # fmt: skip

    def local_header(self) -> bytes:
        f = {**self.fields(), **(self.local or {})}
        extra = self.extra
        if self.zip64:
            extra += struct.pack("<HHQQ", 1, 16, f["size"], f["packed"])
            f["size"] = f["packed"] = 0xFFFFFFFF
        return (
            struct.pack("<4s5H3I2H", b"PK\3\4", 45 if self.zip64 else 20, f["flags"], f["method"], 0, 33, f["crc"],
                        f["packed"], f["size"], len(f["name"]), len(extra)) + f["name"] + extra
        )  # fmt: skip

    def central_header(self, offset: int) -> bytes:
        f = {**self.fields(), "offset": offset, "disk": 0, **(self.central or {})}
        extra = self.central_extra
        return (
            struct.pack("<4s6H3I5H2I", b"PK\1\2", 0x314, 20, f["flags"], f["method"], 0, 33, f["crc"], f["packed"],
                        f["size"], len(f["name"]), len(extra), len(self.comment), f["disk"], 0, self.attributes,
                        f["offset"]) + f["name"] + extra + self.comment
        )  # fmt: skip


def zip_end(count: int, length: int, offset: int, *, comment: bytes = b"", disk: int = 0) -> bytes:
    return struct.pack("<4s4H2IH", b"PK\5\6", disk, disk, count, count, length, offset, len(comment)) + comment


def zip_file(
    entries: Sequence[Entry],
    *,
    prefix: bytes = b"",
    central: Sequence[Entry] | None = None,
    before_end: bytes = b"",
    end: Mapping[str, Any] | None = None,
    trailer: bytes = b"",
) -> bytes:
    """A zip file. `central` lists other entries in the directory than in the file; `end` overrules end record fields."""
    body = bytearray(prefix)
    offsets: dict[bytes, int] = {}
    for entry in entries:
        offsets.setdefault(_raw(entry.name), len(body))
        body += entry.local_header() + entry.data + entry.after
    start = len(body)
    listed = entries if central is None else central
    for entry in listed:
        body += entry.central_header(offsets.get(_raw(entry.name), 0))
    fields = {"count": len(listed), "length": len(body) - start, "offset": start, **(end or {})}
    return bytes(body) + before_end + zip_end(**fields) + trailer


# --- packages ------------------------------------------------------------------------------------------------------


def index_json(
    name: str, version: str, build: str, *, subdir: str = "noarch", depends: Sequence[str] = (), **extra: Any
) -> dict[str, Any]:
    number = build.rpartition("_")[2]
    index: dict[str, Any] = {
        "build": build,
        "build_number": int(number) if number.isdecimal() else 0,
        "depends": list(depends),
        "name": name,
        "subdir": subdir,
        "timestamp": MTIME * 1000,
        "version": version,
    }
    if subdir == "noarch":
        index["noarch"] = "generic"
    else:
        system, _, machine = subdir.partition("-")
        index |= {"platform": system, "arch": {"64": "x86_64", "32": "x86"}.get(machine, machine)}
    return {**index, **extra}


def paths_json(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The true `info/paths.json` of a payload."""
    entries = [
        {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(data).hexdigest(),
         "size_in_bytes": len(data)} for path, data in sorted(files.items())
    ]  # fmt: skip
    return {"paths": entries, "paths_version": 1}


def json_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()


def info_files(
    index: Any,
    *,
    about: Any = None,
    run_exports: Any = None,
    files: Mapping[str, bytes] | None = None,
    paths: Any = True,
    link: Any = None,
    extra: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """The `info/` files. Values are JSON values or raw bytes; None leaves a file out; `paths=True` is the true one."""
    documents = {"index": index, "about": about, "run_exports": run_exports, "link": link}
    if paths is not False and paths is not None:
        documents["paths"] = paths_json(files or {}) if paths is True else paths
    info = {f"info/{stem}.json": json_bytes(value) for stem, value in documents.items() if value is not None}
    return {**info, **(extra or {})}


def conda_file(
    stem: str, info: bytes, payload: bytes, *, metadata: bytes = METADATA, entries: Sequence[Entry] | None = None
) -> bytes:
    """A `.conda` of two compressed archives; or of `entries`."""
    return zip_file(entries or conda_entries(stem, info, payload, metadata=metadata))


def conda_entries(stem: str, info: bytes, payload: bytes, *, metadata: bytes = METADATA) -> list[Entry]:
    return [
        Entry("metadata.json", metadata),
        Entry(f"pkg-{stem}.tar.zst", payload),
        Entry(f"info-{stem}.tar.zst", info),
    ]


def conda_package(
    name: str = "demo",
    version: str = "1.0",
    build: str = "h0_0",
    *,
    subdir: str = "noarch",
    depends: Sequence[str] = (),
    index: Mapping[str, Any] | None = None,
    about: Any = None,
    run_exports: Any = None,
    files: Mapping[str, bytes] | None = None,
    paths: Any = True,
    link: Any = None,
    info: Mapping[str, bytes] | None = None,
    members: Sequence[Member | bytes] = (),
    info_members: Sequence[Member | bytes] = (),
    level: int = 3,
) -> tuple[str, bytes]:
    """File name and bytes of a good `.conda`.

    `index` adds to or replaces keys of index.json; `info` adds files (paths with "info/"); `members` and
    `info_members` are further members of the two archives.
    """
    files = _default_files(name) if files is None else files
    document = {**index_json(name, version, build, subdir=subdir, depends=depends), **(index or {})}
    inside = info_files(document, about=about, run_exports=run_exports, files=files, paths=paths, link=link, extra=info)
    stem = f"{name}-{version}-{build}"
    info_tar = zst(tar([*tar_members(inside), *info_members]), level)
    payload = zst(tar([*tar_members(files), *members]), level)
    return f"{stem}.conda", conda_file(stem, info_tar, payload)


def tar_bz2_package(
    name: str = "demo",
    version: str = "1.0",
    build: str = "h0_0",
    *,
    subdir: str = "noarch",
    depends: Sequence[str] = (),
    index: Mapping[str, Any] | None = None,
    about: Any = None,
    run_exports: Any = None,
    files: Mapping[str, bytes] | None = None,
    paths: Any = True,
    link: Any = None,
    info: Mapping[str, bytes] | None = None,
    members: Sequence[Member | bytes] = (),
) -> tuple[str, bytes]:
    """File name and bytes of a good `.tar.bz2`; arguments as of `conda_package`."""
    files = _default_files(name) if files is None else files
    document = {**index_json(name, version, build, subdir=subdir, depends=depends), **(index or {})}
    inside = info_files(document, about=about, run_exports=run_exports, files=files, paths=paths, link=link, extra=info)
    data = tar([*tar_members(inside), *tar_members(files), *members])
    return f"{name}-{version}-{build}.tar.bz2", bz2.compress(data)


def _default_files(name: str) -> dict[str, bytes]:
    return {f"share/{name}/hello.txt": b"hello\n"}


def changed(entries: Sequence[Entry], at: int, **fields: Any) -> list[Entry]:
    """The entries with some fields of one replaced."""
    return [replace(entry, **fields) if i == at else entry for i, entry in enumerate(entries)]
