"""Packages that are nearly good: a model of one is mutated in the terms of its formats, then packed into bytes.

Most mutants carry one mutation, so that it is that one which decides. Many mutations are harmless (another spelling of
the same number, another order, another writer's habits), so that a good share is accepted and reaches the readers
which must then agree.
"""

from __future__ import annotations

import bz2
import struct
from dataclasses import dataclass, replace
from typing import Any

from tests.fuzz.choices import Choices, chance, pick
from tests.fuzz.metadata import METADATA
from tests.fuzz.model import Model, base, packed, some_path
from tests.support import builders as b
from tests.support.builders import Entry, Member, long_name, pax

NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@dataclass(frozen=True)
class Mutant:
    filename: str
    data: bytes
    story: tuple[str, ...]


def mutant(choices: Choices) -> Mutant:
    model = base(choices)
    for _ in range(pick(choices, (0, 1, 1, 1, 1, 1, 2, 2, 3))):
        change = pick(choices, MUTATIONS)
        model.story.append(change.__name__)
        change(model, choices)
    return Mutant(model.stem + model.extension, packed(model), tuple(model.story))


# --- mutations -----------------------------------------------------------------------------------------------------


def some_part(model: Model, choices: Choices) -> str:
    return pick(choices, model.parts)


def place(members: list[Any], choices: Choices, new: list[Member | bytes]) -> None:
    at = choices.number(0, len(members))
    members[at:at] = new


def odd_path(model: Model, choices: Choices) -> None:
    path = some_path(choices)
    spelling = pick(choices, (
        "./{0}", "{0}//b", "a/./{0}", "{0}/", "/{0}", "../{0}", "a/../{0}", "{0}\\x", "..\\{0}", "C:{0}", "{0}\0x", " {0}",
        "{0}.", "info/{0}", "INFO/{0}", "conda-meta/{0}", "info", "./info/{0}", "{0}\n", "a:{0}", "{0}\x7f", "//{0}", "./",
        "info\\{0}", "info/.\\{0}", "conda-meta::$INDEX_ALLOCATION/{0}", "lib/A::{0}",
    )).format(path)  # fmt: skip
    raw = spelling.encode() if chance(choices, 90) else spelling.encode() + b"\xff"
    new = [pax({"path": raw}), Member("x", b"1")] if chance(choices, 30) else [Member(raw, b"1")]
    place(model.payload, choices, [long_name(raw), Member("x", b"1")] if chance(choices, 20) else list(new))


def link(model: Model, choices: Choices) -> None:
    targets = [*model.files, "nowhere", "..", "../x", "a/../b", "/etc/x", ".", "", "./a", "a//b", "a/", "C:\\x", "é"]
    target = pick(choices, targets)
    kind = pick(choices, (b"2", b"2", b"1"))
    member = Member(pick(choices, ("link", "bin/link", "a/b/link", "lib")), type=kind, link=target.encode()[:100])
    new: list[Member | bytes] = [member]
    if chance(choices, 20):
        new = [pax({"linkpath": target}), replace(member, link="other")]
    elif chance(choices, 20):
        new = [long_name(target or "x", b"K"), member]
    if chance(choices, 70):
        model.payload += new
    else:
        place(model.payload, choices, new)


def member_kind(model: Model, choices: Choices) -> None:
    kind = pick(
        choices,
        (b"0", b"\0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"V", b"M", b"D", b"N", b"X", b"g", b"x", b"L"),
    )
    member = Member(pick(choices, ("k", "k/", "d/k")), b"data" if chance(choices, 30) else b"", type=kind, link="k2")
    place(model.payload, choices, [member])


def member_field(model: Model, choices: Choices) -> None:
    """One field of a header in another form: of the same value, or of another."""
    name = pick(choices, ("mode", "uid", "gid", "mtime", "size"))
    width = 12 if name in {"mtime", "size"} else 8
    value = pick(choices, (*NUMBERS, 5, 5, 5, -1))
    form = pick(choices, (
        b"%o" % abs(value), b"%o " % abs(value), b" %o\0" % abs(value), b"%0*o" % (width - 1, abs(value)), b"%0*o" % (width, abs(value)),
        b"", b" " * width, b"\x80" + abs(value).to_bytes(width - 1, "big"), b"\xff" * width, b"9", b"-1", b"%o\0junk" % abs(value),
        b"0x5", b"\x80" + b"\xff" * (width - 1), b"%o \0" % abs(value),
    ))[:width]  # fmt: skip
    data = b"x" * 5 if name == "size" else b"12345"
    place(model.payload, choices, [Member("odd/field", data, **{name: form})])


def member_magic(model: Model, choices: Choices) -> None:
    magic = pick(
        choices, (b"ustar\x0000", b"ustar  \0", b"ustar\0  ", bytes(8), b"ustar00\0", b"ustar\0\0\0", b"USTAR\x0000")
    )
    prefix = pick(choices, (b"", b"p", b"p/q", b"/", b"\0x", b"p" * 155))
    place(model.payload, choices, [Member("magic", b"m", magic=magic, prefix=prefix)])


def checksum(model: Model, choices: Choices) -> None:
    good = Member("sum", b"s")
    value = int(good.header()[148:154], 8)
    form = pick(choices, (
        b"%06o\0 ", b"%06o \0", b"%6o\0 ", b" %o\0", b"%07o\0", b"%o\0", b"%08o", b"-%05o\0 ",
    )) % (value + pick(choices, (0, 0, 0, 1, -1, 64)))  # fmt: skip
    place(model.payload, choices, [replace(good, checksum=form.ljust(8, b"\0")[:8])])


def pax_header(model: Model, choices: Choices) -> None:
    key = pick(choices, (
        "path", "linkpath", "size", "uid", "gid", "uname", "mtime", "charset", "hdrcharset", "comment", "SCHILY.xattr.user.x",
        "LIBARCHIVE.creationtime", "GNU.sparse.size", "GNU.sparse.major", "SCHILY.filetype", "", "a=b", "SUN.devmajor", "realtime",
    ))  # fmt: skip
    value = pick(
        choices,
        (
            "1",
            "0",
            "5",
            "pax/named",
            "pax/named/",
            "/x",
            "../x",
            "",
            "1.5",
            "-1",
            "a=b",
            "\0",
            "BINARY",
            "9" * 30,
            " 5",
            "+5",
            "\uff15",
        ),
    )
    record = b.pax_record(key, value)
    record = pick(
        choices,
        (
            record,
            record,
            record,
            record * 2,
            record[:-1],
            b"0" + record,
            record + b"\0" * 3,
            b" " + record,
            b"5 a=\n" + record,
            record + b"\n",
        ),
    )
    header = Member("pax", record, type=pick(choices, (b"x", b"x", b"x", b"g", b"X")))
    new: list[Member | bytes] = [header, Member("after", b"12345")]
    if chance(choices, 10):
        new.insert(pick(choices, (0, 1)), long_name("other/name"))
    place(model.payload, choices, new)


def gnu_name(model: Model, choices: Choices) -> None:
    name = pick(
        choices,
        (b"long/name", b"n" * 150, b"a/" * 80 + b"b", b"", b"x\0y", b"x\0\0\0", b"/abs", b"d/", b"\xff", b"q" * 5000),
    )
    header = long_name(name, pick(choices, (b"L", b"L", b"K")))
    if chance(choices, 30):
        header = replace(header, magic=b"ustar\x0000")
    if chance(choices, 20):
        header = replace(header, data=header.data[:-1])
    new: list[Member | bytes] = [header] * pick(choices, (1, 1, 1, 2))
    if chance(choices, 90):
        new.append(Member("short", b"", type=pick(choices, (b"0", b"5", b"2")), link="t"))
    place(model.payload, choices, new)


def repeated(model: Model, choices: Choices) -> None:
    members = model.info if chance(choices, 30) and model.extension == ".conda" else model.payload
    path = pick(choices, [*model.files, "twice"])
    first = path.split("/")[0]
    again = pick(choices, (path, f"./{path}", path.upper(), f"{path}/below", first, f"{path}/"))
    prefix = "info/" if members is model.info else ""
    members += [Member(f"{prefix}twice", b"1"), *b.tar_members({prefix + again: b"2"})]


def directory(model: Model, choices: Choices) -> None:
    name = pick(choices, ("d", "d/", "d//", "./d/", "d/e/f/", "a", "lib/", "info/", "./", "."))
    place(model.payload, choices, [Member(name, type=b"5", mode=pick(choices, (0o755, 0, 0o1777)))])


def tar_end(model: Model, choices: Choices) -> None:
    zero = bytes(512)
    model.ends[some_part(model, choices)] = pick(choices, (
        b"", zero, zero * 2, zero * 3, zero * 20, zero * 2 + b"x", zero * 2 + bytes(7), zero + bytes(Member("hidden", b"1")) + zero * 2,
        zero * 2 + bytes(Member("hidden", b"1")) + zero * 2, zero * 4096, bytes(100), zero + bytes(100),
    ))  # fmt: skip


def zstd_stream(model: Model, choices: Choices) -> None:
    how = pick(choices, (
        lambda t: b.zst(t, 1), lambda t: b.zst(t, 19), lambda t: b.zstd_frame(raw_blocks(t, 512)), lambda t: b.zst(t) + b.zst(b""),
        lambda t: b.zst(t[:512]) + b.zst(t[512:]), lambda t: b.zst(t) + SKIPPABLE, lambda t: SKIPPABLE + b.zst(t),
        lambda t: b.zstd_frame(raw_blocks(t, 1000), content_size=len(t)), lambda t: b.zst(t) + b"\0",
        lambda t: b.zstd_frame(raw_blocks(t, 1000), content_size=len(t) + 1), lambda t: b.zstd_frame(raw_blocks(t, 4096), window=0x88),
        lambda t: b.zstd_frame(raw_blocks(t, 4096), window=0x90), lambda t: b.zstd_frame(raw_blocks(t, 4096), window=0),
        lambda t: b.zstd_frame([b.zstd_block(b"", last=False), *raw_blocks(t, 4096)]), lambda t: b.zst(t)[:-1],
        lambda t: b.zstd_frame([*raw_blocks(t, 4096, last=False), b.zstd_block(b"")]), lambda t: b.zst(b.zst(t)), bz2.compress,
        lambda t: b.zstd_frame(raw_blocks(t, 4096), window=None, content_size=len(t)),
    ))  # fmt: skip
    model.compress[some_part(model, choices)] = how


SKIPPABLE = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"abcd"


def raw_blocks(tar: bytes, size: int, *, last: bool = True) -> list[bytes]:
    starts = range(0, max(1, len(tar)), size)
    return [b.zstd_block(tar[i : i + size], last=last and i + size >= len(tar)) for i in starts]


def bz2_stream(model: Model, choices: Choices) -> None:
    model.compress["pkg" if model.extension == ".tar.bz2" else some_part(model, choices)] = pick(choices, (
        lambda t: bz2.compress(t, 1), lambda t: bz2.compress(t[:1024]) + bz2.compress(t[1024:]), lambda t: bz2.compress(t) + b"x",
        lambda t: bz2.compress(t) + bz2.compress(b""), lambda t: bz2.compress(t)[:-1], lambda t: bz2.compress(b"") + bz2.compress(t),
        b.zst, lambda t: bz2.compress(t) + bytes(10),
    ))  # fmt: skip


def zip_layout(model: Model, choices: Choices) -> None:
    """Order, number and names of members, and what stands around them."""
    kind = choices.number(0, 11)

    def change(entries: list[Entry]) -> list[Entry]:
        first, second, third = entries
        return {
            0: [third, first, second], 1: [second, third, first], 2: [third, second, first],
            3: [*entries, Entry("evil.tar.zst", b.zst(b.tar([])))], 4: [*entries, third], 5: entries[:2],
            6: [replace(first, name="metadata.JSON"), second, third],
            7: [first, replace(second, name=f"pkg-{model.stem}x.tar.zst"), third],
            8: [replace(entry, zip64=True) for entry in entries], 9: entries, 10: entries, 11: entries,
        }[kind]  # fmt: skip

    model.entries = change
    options: dict[int, dict[str, Any]] = {
        9: {"prefix": b"#!/bin/sh\n"}, 10: {"trailer": b"x"},
        11: {"end": {pick(choices, ("count", "length", "offset", "disk")): pick(choices, NUMBERS) % 65536}},
    }  # fmt: skip
    model.zip_options = options.get(kind, {})


def zip_field(model: Model, choices: Choices) -> None:
    """One field of one member's local header, directory entry, or both."""
    at = choices.number(0, 2)
    side = pick(choices, ("local", "central"))
    name = pick(choices, ("flags", "method", "crc", "packed", "size", "name", "offset", "disk"))
    if name in {"offset", "disk"}:
        side = "central"
    value: Any = (
        b"evil"
        if name == "name"
        else pick(choices, NUMBERS) % (65536 if name in {"flags", "method", "disk"} else 1 << 32)
    )
    both = name in {"flags", "method", "crc"} and chance(choices, 50)

    def change(entries: list[Entry]) -> list[Entry]:
        fields = {name: value} if both else {side: {name: value}}
        return b.changed(entries, at, **fields)

    model.entries = change


def zip_extra(model: Model, choices: Choices) -> None:
    at = choices.number(0, 2)
    kind = pick(choices, (0x5455, 0x7875, 0x000A, 1, 0x7075, 0x6375, 0xCAFE, 0x9901))
    body = choices.data(pick(choices, (0, 1, 4, 5, 8, 9, 16, 24)))
    extra = struct.pack("<HH", kind, len(body) + pick(choices, (0, 0, 0, 1))) + body
    where = pick(choices, ("extra", "central_extra", "comment"))
    model.entries = lambda entries: b.changed(entries, at, **{where: extra})


def zip_attributes(model: Model, choices: Choices) -> None:
    at = choices.number(0, 2)
    value = pick(
        choices, (0, 0o100644 << 16, 0o100755 << 16, 0o120777 << 16, 0o040755 << 16, 0x10, 0x20, 0o100600 << 16 | 1)
    )
    model.entries = lambda entries: b.changed(entries, at, attributes=value)


def conda_metadata(model: Model, choices: Choices) -> None:
    text = pick(choices, (
        b'{"conda_pkg_format_version":2}', b'{"conda_pkg_format_version": 2}\n', b' { "conda_pkg_format_version" : 2, "x": [] }',
        b'{"conda_pkg_format_version": 3}', b'{"conda_pkg_format_version": 2.0}', b'{"conda_pkg_format_version": 1, "conda_pkg_format_version": 2}',
        b"{}", b"", b"2", b'\xef\xbb\xbf{"conda_pkg_format_version": 2}',
    ))  # fmt: skip
    model.entries = lambda entries: b.changed(entries, 0, data=text)


def edited(data: bytes, choices: Choices) -> bytes:
    """Bytes changed, dropped, repeated or cut off, one to three times."""
    out = bytearray(data)
    for _ in range(choices.number(1, 3)):
        if not out:
            break
        at = choices.number(0, len(out) - 1)
        how = choices.number(0, 5)
        if how <= 1:
            out[at] ^= 1 << choices.number(0, 7)
        elif how == 2:
            out[at] = pick(choices, (0, 1, 0x20, 0x2F, 0x30, 0x7F, 0x80, 0xFF))
        elif how == 3:
            del out[at : at + pick(choices, (1, 2, 8, 512))]
        elif how == 4:
            out[at:at] = out[max(0, at - pick(choices, (1, 8, 512))) : at]
        else:
            del out[at:]
    return bytes(out)


def splice(data: bytes, choices: Choices) -> bytes:
    """The beginning of one and the end of another good file."""
    other = packed(base(choices))
    return data[: choices.number(0, len(data))] + other[choices.number(0, len(other)) :]


def bytes_of_tar(model: Model, choices: Choices) -> None:
    model.touch_tar[some_part(model, choices)] = lambda data: edited(data, choices)


def bytes_of_header(model: Model, choices: Choices) -> None:
    """A byte of a tar header, its checksum made right again: only the value decides."""

    def change(data: bytes) -> bytes:
        at = choices.number(0, max(0, len(data) // 512 - 1)) * 512
        block = bytearray(data[at : at + 512])
        if len(block) < 512 or not any(block):
            return data
        block[choices.number(0, 511)] = pick(choices, (0, 0x20, 0x2F, 0x30, 0x35, 0x37, 0x38, 0x80, 0xFF))
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        return data[:at] + bytes(block) + data[at + 512 :]

    model.touch_tar[some_part(model, choices)] = change


def bytes_of_stream(model: Model, choices: Choices) -> None:
    model.touch_packed[some_part(model, choices)] = lambda data: edited(data, choices)


def bytes_of_file(model: Model, choices: Choices) -> None:
    model.touch_file = lambda data: edited(data, choices)


def bytes_spliced(model: Model, choices: Choices) -> None:
    model.touch_file = lambda data: splice(data, choices)


MUTATIONS = (
    *METADATA, odd_path, odd_path, link, link, member_kind, member_field, member_field, member_magic, checksum, pax_header,
    pax_header, gnu_name, repeated, directory, tar_end, zstd_stream, zstd_stream, bz2_stream, zip_layout, zip_field, zip_field,
    zip_extra, zip_attributes, conda_metadata, bytes_of_tar, bytes_of_header, bytes_of_header, bytes_of_stream, bytes_of_file,
    bytes_spliced,
)  # fmt: skip
