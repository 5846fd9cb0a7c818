"""Single headers of a tar archive: numbers, checksums, pax records.

Two dialects are read, those that every reader of conda packages knows: POSIX ustar with pax records, and GNU. A field
that Python's tarfile, libarchive and Rust's tar crate would not read alike is refused: tarfile for one stops silently at
a number it cannot read, and drops all later members.
"""

from __future__ import annotations

import re
from functools import lru_cache
from zlib import adler32

from fairway.errors import PackageRefused

BLOCK = 512
POSIX = b"ustar\x0000"
GNU = b"ustar  \x00"

_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_BLANK = re.compile(rb"[ \0]*")
_PAX_RECORD = re.compile(rb"([1-9][0-9]{0,8}) ([^=\n]{1,255})=")
# What only a few readers know, and those take for a member's name, kind or size.
_PAX_REFUSED = frozenset({b"hdrcharset", b"SCHILY.filetype", b"GNU.volume.label", b"GNU.dumpdir"})
_PAX_SPARSE = (b"GNU.sparse.", b"SCHILY.realsize", b"SUN.holesdata")
_PAX_GLOBAL_REFUSED = frozenset({b"path", b"linkpath", b"GNU.volume.filename"})


def refuse(sentence: str, code: str = "tar_invalid") -> PackageRefused:
    return PackageRefused(sentence, code=code)


@lru_cache(maxsize=2048)  # most fields of an archive say one of few values: looking up is a third of parsing
def number(field: bytes, *, optional: bool = False) -> int:
    """The value of a numeric field: octal, or GNU base-256 (which may be negative). `tar_invalid` if neither."""
    match = _OCTAL.fullmatch(field)
    if match:
        return int(match[1], 8)
    if field[0] in (0x80, 0xFF):
        value = int.from_bytes(field[1:], "big")
        if field[0] == 0xFF:
            value -= 1 << 8 * (len(field) - 1)
        if not -(1 << 63) <= value < 1 << 63:
            raise refuse("A tar header has a number of more than 64 bits.")
        return value
    if optional and _BLANK.fullmatch(field):
        return 0
    raise refuse("A tar header has a number that cannot be read.")


@lru_cache(maxsize=1024)
def _check_plain(ids: bytes, mtime: bytes, devices: bytes) -> int:
    """The mode, after making sure that every reader can read the numbers we do not need."""
    mode = number(ids[:8], optional=True)
    for field in (ids[8:16], ids[16:24], mtime, devices[:8], devices[8:]):
        number(field, optional=True)
    return mode


def check(header: bytes) -> tuple[int, int]:
    """Mode and size of a header block that every reader accepts; `tar_invalid` otherwise.

    The checksum is the sum of all bytes with its own field taken as spaces. adler32 gives the sum of 256 bytes in its
    lower half, exactly (256 * 255 < 65521) and ten times faster than sum().
    """
    total = (adler32(header[:256]) & 0xFFFF) + (adler32(header[256:]) & 0xFFFF) - 2
    field = header[148:156]
    match = _OCTAL.fullmatch(field)
    if not match or int(match[1], 8) != total - sum(field) + 256:
        raise refuse("A tar header has a wrong checksum.")
    magic = header[257:265]
    # tarfile joins the ustar prefix to the name in GNU headers too, where it is a time and others ignore it;
    # "tar\0" at the end marks the star dialect, whose prefix is shorter.
    if (magic != POSIX and (magic != GNU or header[345])) or header[508:] == b"tar\0":
        raise refuse("A tar header is neither POSIX nor GNU.")
    return _check_plain(header[100:124], header[136:148], header[329:345]), number(header[124:136])


def pax(data: bytes, *, everywhere: bool = False) -> dict[bytes, bytes]:
    """The records of a pax header; `everywhere` if it is a global one, which may not name or size anything.

    Raises PackageRefused with `tar_pax`, `tar_sparse` or `tar_size_conflict`.
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        match = _PAX_RECORD.match(data, at)
        end = at + int(match[1]) if match else 0
        if not match or end > len(data) or end <= match.end() or data[end - 1 : end] != b"\n":
            raise refuse("A pax header has a record that cannot be read.", "tar_pax")
        key = match[2]
        if key.startswith(_PAX_SPARSE):
            raise refuse("The package holds a sparse file; store it whole.", "tar_sparse")
        if key in records or key in _PAX_REFUSED:
            raise refuse(f"A pax header has {key[:80].decode(errors='replace')!r} twice or at all.", "tar_pax")
        value = data[match.end() : end - 1]
        if b"\n" in value:
            # Rust's tar crate, and so rattler, takes each line for a record: a comment could hold another path
            raise refuse("A pax header has a value of several lines, which not every reader takes alike.", "tar_pax")
        records[key] = value
        at = end
    if everywhere and b"size" in records:
        raise refuse("A global pax header gives a size to all files.", "tar_size_conflict")
    if everywhere and not _PAX_GLOBAL_REFUSED.isdisjoint(records):
        raise refuse("A global pax header gives one path to all files.", "tar_pax")
    return records


def pax_size(text: bytes, stated: int) -> int:
    """The size of a member whose pax header has one, where the header block states another way to say it.

    Readers that overlooked the pax size read file data as headers (TARmageddon, CVE-2025-62518). So the two must agree
    unless the size cannot be written in 11 octal digits, and the block then has 0 or the most it can say.
    """
    if not re.fullmatch(rb"[0-9]{1,19}", text):
        raise refuse("A pax header has a size that is no number.", "tar_size_conflict")
    size = int(text)
    top = 8**11
    if size != stated and not (size >= top and stated in (0, top - 1)):
        raise refuse("A file has one size in its pax header and another in its tar header.", "tar_size_conflict")
    return size
