"""The ZIP layer of a `.conda` file (CEP 35), read so that every reader would see the same three members.

conda reads the central directory; rattler streams local headers in file order and unpacks every `*.tar.zst` it meets;
libarchive does either. Where the two views of the file can differ, one upload installs differently under two clients
(the class of CVE-2025-54368). So the two views must be equal, byte for byte in what matters, and cover the whole file:
no gap, no overlap, no prefix, no trailer, no comment.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from fairway.conda.streams import Source
from fairway.errors import PackageRefused

LOCAL = b"PK\x03\x04"
CENTRAL = b"PK\x01\x02"
END = b"PK\x05\x06"
END64 = b"PK\x06\x06"
LOCATOR64 = b"PK\x06\x07"

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")

_MAX16 = 0xFFFF
_MAX32 = 0xFFFFFFFF
_ENCRYPTED = 0x2041  # traditional, strong, masked headers
_DESCRIPTOR = 0x0008
_PATCHED = 0x0020
_ZIP64, _NTFS, _TIMES = 0x0001, 0x000A, 0x5455
# Times and Unix ids, which name and size nothing.
_HARMLESS_EXTRA = frozenset({_ZIP64, _NTFS, _TIMES, 0x5855, 0x7855, 0x7875})
_LOOK_AT = 16  # entries read to name what is wrong; more are refused unread


class ZipMember(NamedTuple):
    """Where a stored member's data is: offset and size in bytes, and the CRC-32 it must have."""

    name: bytes
    offset: int
    size: int
    crc: int


class _Entry(NamedTuple):
    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def members(source: Source, expected: frozenset[bytes]) -> dict[bytes, ZipMember]:
    """The members of a `.conda` file by name, which are exactly `expected`.

    Raises PackageRefused with `format_mismatch`, `archive_truncated`, `filename_mismatch` (a whole package of another
    name), `conda_members` or a `zip_*` code. Checksums are not checked here: `checked` does, while the data is read.
    """
    start, end, count = _directory(source)
    if count > _LOOK_AT:
        raise PackageRefused(f"The .conda file holds {count} members instead of 3.", code="conda_members")
    entries = _entries(source.at(start, end - start), count)
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise PackageRefused("A member occurs twice in the .conda file.", code="zip_duplicate")
    for entry in entries:
        _check_method(entry)
    if set(names) != expected:
        _check_renamed(frozenset(names))
        wanted = ", ".join(sorted(name.decode(errors="replace") for name in expected))
        raise PackageRefused(f"A .conda file must hold exactly {wanted}.", code="conda_members")
    return _locate(source, entries, start)


def _check_renamed(names: frozenset[bytes]) -> None:
    """A whole package under another name: say so, rather than what its members should be called."""
    stems = {name[len(b"info-") : -len(b".tar.zst")] for name in names if name.startswith(b"info-")}
    for stem in stems:
        if names == {b"metadata.json", b"info-%b.tar.zst" % stem, b"pkg-%b.tar.zst" % stem}:
            shown = stem.decode(errors="replace")[:200]
            raise PackageRefused(f"The file was renamed: it holds the package {shown!r}.", code="filename_mismatch")


def checked(pieces: Iterator[bytes], member: ZipMember) -> Iterator[bytes]:
    """The pieces of a member as they come; after the last, `zip_crc` if the checksum was another."""
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
        yield piece
    if crc != member.crc:
        name = member.name.decode(errors="replace")
        raise PackageRefused(f"The checksum of {name} in the .conda file is wrong.", code="zip_crc")


def _directory(source: Source) -> tuple[int, int, int]:
    """Start and end of the central directory, and how many entries it has."""
    size = source.size
    head = source.at(0, min(4, size))
    tail = source.at(max(0, size - _END.size), min(_END.size, size))
    if tail[:4] != END or len(tail) < _END.size:
        if head[:3] == b"BZh":
            raise PackageRefused("The file is named .conda but is a .tar.bz2.", code="format_mismatch")
        if _has_end(source, size):
            raise PackageRefused("Something follows the end of the .conda file's directory.", code="zip_trailing")
        raise PackageRefused("The .conda file has no end record: it is cut off or no ZIP.", code="archive_truncated")
    _, disk, first_disk, here, count, length, offset, comment = _END.unpack(tail)
    if comment:
        raise PackageRefused("The .conda file has a comment.", code="zip_trailing")
    if disk or first_disk or here != count:
        raise PackageRefused("The .conda file claims to span several disks.", code="zip_cd_mismatch")
    end = size - _END.size
    here64 = end - _LOCATOR64.size
    if here64 >= 0 and source.at(here64, 4) == LOCATOR64:
        end, count, length, offset = _directory64(source, here64, count, length, offset)
    elif count == _MAX16 or _MAX32 in (length, offset):
        raise PackageRefused("The .conda file lacks the ZIP64 record it refers to.", code="zip_zip64")
    if count <= _LOOK_AT and head != LOCAL and count:
        raise PackageRefused("The .conda file does not begin with its first member.", code="zip_prefix")
    if count <= _LOOK_AT and offset + length != end:
        if _has_end(source, size - _END.size):
            raise PackageRefused("The .conda file has two end records.", code="zip_trailing")
        raise PackageRefused("The .conda file's directory is not where its end record says.", code="zip_cd_mismatch")
    return offset, end, count


def _has_end(source: Source, before: int) -> bool:
    """Whether a whole end record lies in what a comment could cover before a position; only asked to name an error."""
    start = max(0, before - _END.size - _MAX16)
    at = source.at(start, before - start).find(END)
    return 0 <= at <= before - start - _END.size


def _directory64(source: Source, at: int, count: int, length: int, offset: int) -> tuple[int, int, int, int]:
    """End of the directory, count, length and offset from the ZIP64 record, which must stand right before its locator.

    Python follows the locator whenever there is one, others only if a field asks for it: both must find the same.
    """
    _, disk, where, disks = _LOCATOR64.unpack(source.at(at, _LOCATOR64.size))
    start = at - _END64.size
    if disk or disks > 1 or start < 0 or where != start:
        raise PackageRefused("The .conda file's ZIP64 locator points elsewhere.", code="zip_zip64")
    record = _END64.unpack(source.at(start, _END64.size))
    sign, size, _, _, disk, first_disk, here, count64, length64, offset64 = record
    same = (
        (count in (count64, _MAX16))
        and (length in (length64, _MAX32))
        and (offset in (offset64, _MAX32))
        and here == count64
    )
    if sign != END64 or size != _END64.size - 12 or disk or first_disk or not same:
        raise PackageRefused("The .conda file's ZIP64 record and end record differ.", code="zip_zip64")
    if count64 <= _LOOK_AT and offset64 + length64 != start:
        raise PackageRefused("The .conda file's ZIP64 record does not fit the file.", code="zip_zip64")
    return start, count64, length64, offset64


def _entries(data: bytes, count: int) -> list[_Entry]:
    entries = []
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(data):
            raise PackageRefused("The .conda file's directory is shorter than it says.", code="zip_cd_mismatch")
        fields = _CENTRAL.unpack_from(data, at)
        sign, _, version, flags, method, _, _, crc, packed, size, n, e, c, disk, _, attributes, offset = fields
        begin = at + _CENTRAL.size
        at = begin + n + e + c
        if sign != CENTRAL or at > len(data) or (disk and disk != _MAX16):
            raise PackageRefused("The .conda file's directory is damaged.", code="zip_cd_mismatch")
        name = data[begin : begin + n]
        zip64 = _extra(data[begin + n : begin + n + e])
        if c:
            raise PackageRefused("A member of the .conda file has a comment.", code="zip_extra")
        if version & 0xFF > 63:
            raise PackageRefused("A member of the .conda file needs an unknown ZIP version.", code="zip_method")
        if (attributes >> 16) & 0o170000 not in (0, 0o100000) or attributes & 0x10:
            raise PackageRefused("A member of the .conda file is not a regular file.", code="conda_members")
        size, packed, offset = _widen(zip64, (size, packed, offset))
        entries.append(_Entry(name, flags, method, crc, packed, size, offset))
    if at != len(data):
        raise PackageRefused("The .conda file's directory is longer than it says.", code="zip_cd_mismatch")
    return entries


def _extra(data: bytes) -> bytes | None:
    """The ZIP64 field of an extra block. Any field that could rename or resize a member is refused, and so is junk."""
    zip64 = None
    seen = set()
    at = 0
    while at < len(data):
        kind = int.from_bytes(data[at : at + 2], "little")
        length = int.from_bytes(data[at + 2 : at + 4], "little")
        if at + 4 + length > len(data) or kind not in _HARMLESS_EXTRA or kind in seen:
            raise PackageRefused("A member of the .conda file has an extra field we do not accept.", code="zip_extra")
        if not _is_timely(kind, data[at + 4 : at + 4 + length]):
            raise PackageRefused("A member of the .conda file has times that cannot be read.", code="zip_extra")
        seen.add(kind)
        if kind == _ZIP64:
            zip64 = data[at + 4 : at + 4 + length]
        at += 4 + length
    return zip64


def _is_timely(kind: int, field: bytes) -> bool:
    """Whether times are written as they have to be: rattler stops at others, though nobody needs them."""
    if kind == _TIMES:
        count = field[0].bit_count() if field else 0
        return bool(field) and field[0] < 8 and len(field) in (5, 1 + 4 * count)  # the directory has but the first
    return kind != _NTFS or (len(field) == 32 and field[4:8] == b"\1\0\x18\0")


def _widen(zip64: bytes | None, fields: tuple[int, ...]) -> tuple[int, ...]:
    """Replace each field that is all ones by the next 64 bits of the ZIP64 field, which must then be used up."""
    missing = fields.count(_MAX32)
    if zip64 is None and not missing:
        return fields
    if zip64 is None or len(zip64) != 8 * missing:
        raise PackageRefused("A ZIP64 field of the .conda file does not fit its header.", code="zip_zip64")
    wide = iter(struct.unpack(f"<{missing}Q", zip64))
    return tuple(next(wide) if field == _MAX32 else field for field in fields)


def _check_method(entry: _Entry) -> None:
    name = entry.name[:80].decode(errors="replace")
    if entry.method or entry.flags & (_ENCRYPTED | _PATCHED):
        raise PackageRefused(f"The member {name!r} of the .conda file is not stored plainly.", code="zip_method")
    if entry.flags & _DESCRIPTOR:
        raise PackageRefused(
            f"The member {name!r} of the .conda file has a data descriptor, which streaming readers cannot follow.",
            code="zip_data_descriptor",
        )
    if entry.packed != entry.size:
        raise PackageRefused(f"The member {name!r} of the .conda file has two sizes.", code="zip_cd_mismatch")


def _locate(source: Source, entries: list[_Entry], directory: int) -> dict[bytes, ZipMember]:
    """Walk the local headers in file order and hold each against its directory entry."""
    found: dict[bytes, ZipMember] = {}
    at = 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if entry.offset < at:
            raise PackageRefused("Two members of the .conda file overlap.", code="zip_overlap")
        if entry.offset > at:
            _refuse_gap(source, at, {entry.name for entry in entries})
        data = _check_local(source, entry, directory)
        found[entry.name] = ZipMember(entry.name, data, entry.size, entry.crc)
        at = data + entry.size
    if at > directory:
        raise PackageRefused("A member of the .conda file reaches into its directory.", code="zip_overlap")
    if at < directory:
        _refuse_gap(source, at, {entry.name for entry in entries})
    if [entry.name for entry in entries] != list(found):
        raise PackageRefused("The .conda file's directory has another order than its members.", code="zip_cd_mismatch")
    return found


def _check_local(source: Source, entry: _Entry, directory: int) -> int:
    """Where the data of an entry begins; `zip_cd_mismatch` if its local header tells another story."""
    if entry.offset + _LOCAL.size > directory:
        raise PackageRefused("A member of the .conda file lies outside of it.", code="zip_cd_mismatch")
    header = source.at(entry.offset, _LOCAL.size)
    sign, _, flags, method, _, _, crc, packed, size, n, e = _LOCAL.unpack(header)
    data: int = entry.offset + _LOCAL.size + n + e
    if sign != LOCAL or n != len(entry.name) or data > directory:
        raise PackageRefused("A member of the .conda file has no header of its own.", code="zip_cd_mismatch")
    rest = source.at(entry.offset + _LOCAL.size, n + e)
    size, packed = _widen_local(_extra(rest[n:]), size, packed)
    if (rest[:n], flags, method, crc, packed, size) != entry[:6]:
        name = entry.name.decode(errors="replace")
        raise PackageRefused(f"The two headers of {name} in the .conda file differ.", code="zip_cd_mismatch")
    return data


def _widen_local(zip64: bytes | None, size: int, packed: int) -> tuple[int, int]:
    """Sizes of a local header. Writers that do not know the size beforehand (rattler, conda-package-handling 2) reserve
    the ZIP64 field for small members too, and some leave the true sizes in the header beside it.
    """
    if zip64 is not None and len(zip64) == 16 and _MAX32 not in (size, packed):
        if struct.unpack("<2Q", zip64) != (size, packed):
            raise PackageRefused("A ZIP64 field of the .conda file says another size.", code="zip_zip64")
        return size, packed
    size, packed = _widen(zip64, (size, packed))
    return size, packed


def _refuse_gap(source: Source, at: int, names: set[bytes]) -> None:
    """Bytes between two members: a streaming reader would read them as a member, or stop."""
    header = source.at(at, min(_LOCAL.size, source.size - at))
    if header[:4] == LOCAL and len(header) == _LOCAL.size:
        length = _LOCAL.unpack(header)[9]
        if source.at(at + _LOCAL.size, min(length, source.size - at - _LOCAL.size)) in names:
            raise PackageRefused("A member occurs twice in the .conda file.", code="zip_duplicate")
    raise PackageRefused("The .conda file has bytes that its directory does not name.", code="zip_cd_mismatch")
