"""Compressed streams, bounded: bytes of a file in, chunks of decompressed bytes out, never more than was allowed.

A frame or stream must be the only one and must end where its member ends: readers differ on what follows (Python reads
all bzip2 streams and ignores junk after them, rattler reads the first only), so nothing may follow.
"""

from __future__ import annotations

import bz2
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from fairway.errors import PackageRefused

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE = 256 * 1024  # compressed bytes read at once
CHUNK = 256 * 1024  # decompressed bytes handed on at once: fits a second-level cache, which 1 MiB often does not
SMALL = 1 << 20  # a file up to this size is read once and sliced

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BZ2_BLOCK = b"\x31\x41\x59\x26\x53\x59"
BZ2_END = b"\x17\x72\x45\x38\x50\x90"
_TINY_BLOCKS = 4096  # zstd blocks that may be tiny; beyond it a block must be worth _BLOCK_WORTH compressed bytes
_BLOCK_WORTH = 256


class Source:
    """The bytes of an archive by position. `size` in bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        self._whole: bytes | None = None
        if self.size <= SMALL:
            self._whole = self._read(0, self.size)

    def at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; `archive_truncated` if the file ends before."""
        whole = self._whole
        data = self._read(offset, length) if whole is None else whole[offset : offset + length]
        if len(data) != length:
            raise PackageRefused("The file ends in the middle of the archive.", code="archive_truncated")
        return data

    def pieces(self, offset: int, length: int) -> Iterator[bytes]:
        end = offset + length
        while offset < end:
            piece = self.at(offset, min(PIECE, end - offset))
            offset += len(piece)
            yield piece

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(length)
        while len(data) < length and (more := self._file.read(length - len(data))):  # a raw file may read short
            data += more
        return data


class Budget(msgspec.Struct, kw_only=True):
    """How many bytes may come out of a stream: `size` in all, and `ratio_size` for what went in."""

    what: str
    size: int
    ratio_size: int
    ratio_code: str = "ratio_exceeded"

    def check(self, produced: int) -> None:
        if produced > self.size:
            raise PackageRefused(
                f"The {self.what} is larger than {self.size} bytes when decompressed.", code="decompressed_too_large"
            )
        if produced > self.ratio_size:
            raise PackageRefused(
                f"The {self.what} grows to more than {self.ratio_size} bytes, too much for its compressed size.",
                code=self.ratio_code,
            )


def zstd_chunks(pieces: Iterator[bytes], *, window: int, budget: Budget) -> Iterator[bytes]:
    """The content of exactly one zstd frame (RFC 8878), in chunks.

    Raises PackageRefused with `zstd_window`, `zstd_framing`, `zstd_invalid`, `decompressed_too_large`,
    `ratio_exceeded`. `window` in bytes is the most memory a frame may ask every reader to have: 19 bytes of file can
    ask for 2 TiB.
    """
    first = next(pieces, b"")
    header, content_size = _frame_header(first, window=window, what=budget.what)
    if content_size is not None:
        budget.check(content_size)
    blocks = _Blocks(header, budget.what)
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: max(10, window.bit_length() - 1)}
    decompressor = zstd.ZstdDecompressor(options=options)
    produced = 0
    piece: bytes = first
    while piece:
        data = piece
        while True:
            try:
                chunk = decompressor.decompress(data, CHUNK)
            except zstd.ZstdError as error:
                raise PackageRefused(f"The {budget.what} is damaged: {error}.", code="zstd_invalid") from error
            if chunk:
                produced += len(chunk)
                budget.check(produced)
                yield chunk
            if decompressor.eof or decompressor.needs_input:
                break
            data = b""
        blocks.follow(piece)  # after its output: a bomb is to be called a bomb
        piece = next(pieces, b"")
        if decompressor.eof:
            if piece or decompressor.unused_data:
                raise PackageRefused(f"Something follows the zstd frame of the {budget.what}.", code="zstd_framing")
            return
    raise PackageRefused(f"The {budget.what} ends in the middle of its zstd frame.", code="zstd_invalid")


def _frame_header(data: bytes, *, window: int, what: str) -> tuple[int, int | None]:
    """Length of the frame header, and the content size it declares."""
    if len(data) >= 4 and data[1:4] == b"\x2a\x4d\x18" and data[0] & 0xF0 == 0x50:
        raise PackageRefused(f"The {what} begins with a skippable zstd frame.", code="zstd_framing")
    if data[:4] != ZSTD_MAGIC or len(data) < 6:
        raise PackageRefused(f"The {what} is not compressed with zstd.", code="zstd_invalid")
    descriptor = data[4]
    single = bool(descriptor & 0x20)
    if descriptor & 0x08 or descriptor & 0x03:
        raise PackageRefused(f"The {what} has a reserved bit or needs a zstd dictionary.", code="zstd_invalid")
    at = 5
    wanted = 0
    if not single:
        wanted = 1 << (10 + (data[5] >> 3))
        wanted += (wanted >> 3) * (data[5] & 7)
        at = 6
    flag = descriptor >> 6
    width = (1 if single else 0, 2, 4, 8)[flag]
    if len(data) < at + width:
        raise PackageRefused(f"The {what} ends in its zstd header.", code="zstd_invalid")
    content = int.from_bytes(data[at : at + width], "little") + (256 if flag == 1 else 0) if width else None
    if single and content is not None:
        wanted = content
    if wanted > window:
        raise PackageRefused(
            f"The {what} asks for a zstd window of {wanted} bytes; at most {window} are allowed.", code="zstd_window"
        )
    return at + width, content


class _Blocks:
    """Follows the block headers of a frame, to refuse chains of blocks that say nothing.

    A block of length 0 is 3 or 4 bytes that a decoder must look at and that give no output: no encoder writes one but
    as the last. Reads 3 bytes per block (up to 128 KiB of content), so it costs nothing on real packages.
    """

    def __init__(self, header: int, what: str) -> None:
        self._skip = header
        self._carry = b""
        self._what = what
        self._count = self._bytes = 0
        self._last = False

    def follow(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if self._carry:
            piece = self._carry + piece
            self._carry = b""
        at, end = self._skip, len(piece)
        while not self._last and at + 3 <= end:
            head = int.from_bytes(piece[at : at + 3], "little")
            kind, size = head >> 1 & 3, head >> 3
            self._last = bool(head & 1)
            self._count += 1
            if not size and (kind == 1 or not self._last):
                raise PackageRefused(f"The {self._what} has empty zstd blocks.", code="zstd_invalid")
            at += 4 if kind == 1 else 3 + size
        if self._count > _TINY_BLOCKS + self._bytes // _BLOCK_WORTH:
            raise PackageRefused(f"The {self._what} is cut into far too many tiny zstd blocks.", code="zstd_invalid")
        if at < end and not self._last:
            self._carry, at = piece[at:], end
        self._skip = at - end


def bz2_chunks(pieces: Iterator[bytes], *, budget: Budget) -> Iterator[bytes]:
    """The content of exactly one bzip2 stream, in chunks.

    Raises PackageRefused with `format_mismatch`, `bz2_framing`, `bz2_invalid`, `archive_truncated`,
    `decompressed_too_large`.
    """
    piece = next(pieces, b"")
    _check_bz2_start(piece)
    decompressor = bz2.BZ2Decompressor()
    produced = 0
    while piece:
        data = piece
        while True:
            try:
                chunk = decompressor.decompress(data, CHUNK)
            except (OSError, ValueError) as error:
                raise PackageRefused("The bzip2 stream is damaged.", code="bz2_invalid") from error
            if chunk:
                produced += len(chunk)
                budget.check(produced)
                yield chunk
            if decompressor.eof or decompressor.needs_input:
                break
            data = b""
        piece = next(pieces, b"")
        if decompressor.eof:
            if piece or decompressor.unused_data:
                raise PackageRefused("Something follows the bzip2 stream of the package.", code="bz2_framing")
            return
    raise PackageRefused("The file ends in the middle of its bzip2 stream.", code="archive_truncated")


def _check_bz2_start(data: bytes) -> None:
    if not data or (b"BZh".startswith(data[:3]) and len(data) < 4):
        raise PackageRefused("The file is empty or ends at once.", code="archive_truncated")
    if not data.startswith(b"BZh"):
        raise PackageRefused("The file is named .tar.bz2 but is not compressed with bzip2.", code="format_mismatch")
    start = data[4:10]
    if not b"1" <= data[3:4] <= b"9" or not (BZ2_BLOCK.startswith(start) or BZ2_END.startswith(start)):
        raise PackageRefused("The bzip2 stream has no valid header.", code="bz2_invalid")
    # Randomised blocks were given up in bzip2 0.9.5; some readers of today no longer know them.
    if start == BZ2_BLOCK and len(data) > 14 and data[14] & 0x80:
        raise PackageRefused("The bzip2 stream is of the obsolete randomised kind.", code="bz2_invalid")
