"""A tar archive, walked as a stream: every header is checked, file data is passed over or handed out, nothing is kept.

Python's tarfile keeps every member it has seen (0.45 KB each: 1.6 MB of upload can cost 450 MB), takes five times as
long and has had endless loops; a server needs neither its features nor its leniency.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn, Protocol

from fairway.conda import tarheader
from fairway.conda.artifact import Limits
from fairway.conda.tarheader import BLOCK, refuse
from fairway.conda.tarpaths import DIRECTORY, FILE, HARDLINK, SYMLINK, Tree, clean, shown

_ZERO = bytes(BLOCK)
_ZEROS = bytes(1 << 20)
_META_SIZE = 256 * 1024  # a pax header or long name: real ones have a few hundred bytes
_KINDS = {0: FILE, 0x30: FILE, 0x31: HARDLINK, 0x32: SYMLINK, 0x35: DIRECTORY}
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK, _SPARSE = b"xgLKS"


class Visitor(Protocol):
    """Who is told of each member."""

    def member(self, path: bytes, kind: int, size: int) -> int:
        """How many bytes of the member's data to hand to `data`; 0 for none."""

    def data(self, path: bytes, data: bytes) -> None: ...


class Totals:
    """What a walk has counted: file members and their bytes, and whether one has a setuid, setgid or sticky bit."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self.setuid = False


class _Feed:
    """Bytes of a chunk iterator in the pieces a reader of tar needs: a block, some data, a gap."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0

    def block(self) -> bytes:
        """The next 512 bytes; fewer only at the end of the stream."""
        at = self._at
        end = at + BLOCK
        if end <= len(self._chunk):
            self._at = end
            return self._chunk[at:end]
        return self._gather(BLOCK)

    def take(self, size: int) -> bytes:
        """File data with its padding to a whole block passed over."""
        at = self._at
        data = self._chunk[at : at + size]
        if len(data) == size:
            self._at = at + size
        else:
            data = self._gather(size)
            if len(data) < size:
                _cut()
        self.skip(-size % BLOCK)
        return data

    def skip(self, size: int) -> None:
        at = self._at + size
        if at <= len(self._chunk):
            self._at = at
            return
        at -= len(self._chunk)
        for chunk in self._chunks:  # whole chunks of a big file pass by without being looked at
            if at <= len(chunk):
                self._chunk, self._at = chunk, at
                return
            at -= len(chunk)
        _cut()

    def rest(self) -> Iterator[bytes]:
        yield self._chunk[self._at :]
        yield from self._chunks

    def _gather(self, size: int) -> bytes:
        parts = [self._chunk[self._at : self._at + size]]
        self._at += size
        missing = size - len(parts[0])
        while missing:
            self._chunk = next(self._chunks, b"")
            self._at = min(missing, len(self._chunk))
            if not self._chunk:
                break
            parts.append(self._chunk[:missing])
            missing -= len(parts[-1])
        return b"".join(parts)


def _no_end(header: bytes) -> NoReturn:
    if header:
        raise refuse("The package's archive ends in the middle of a header.")
    raise refuse("The package's archive has no end: it was cut off.", "archive_truncated")


def _cut() -> NoReturn:
    raise refuse("The package's archive ends in the middle of a file.", "archive_truncated")


class _Pending:
    """What extended headers have said of the member that follows."""

    __slots__ = ("link", "name", "pax")

    def __init__(self) -> None:
        self.name: bytes | None = None
        self.link: bytes | None = None
        self.pax: dict[bytes, bytes] | None = None


def walk(chunks: Iterator[bytes], tree: Tree, visitor: Visitor, *, members: int, limits: Limits) -> Totals:
    """Read a tar archive to its very end.

    `members` is the most headers of members it may have. Raises PackageRefused with a `tar_*` code,
    `archive_truncated` or `too_many_members`, and lets those of `chunks` and `visitor` pass.
    """
    feed = _Feed(chunks)
    totals = Totals()
    pending = _Pending()
    extended = False
    count, spoken = 0, -1  # members so far, and when the last global header came
    while True:
        header = feed.block()
        if header == _ZERO:
            break
        if len(header) < BLOCK:
            _no_end(header)
        mode, size = tarheader.check(header)
        kind = _KINDS.get(header[156])
        if kind is None:
            extended = _extend(header, size, feed, pending)
            if extended:
                continue
        count += 1
        if count > members:
            raise refuse(f"The package holds more than {members} files.", "too_many_members")
        if kind is None:
            spoken = count
            continue
        if extended:
            path, target, size = _merge(header, size, pending)
            pending, extended = _Pending(), False
        else:
            path, target = _name(header), None
        path = clean(path[:-1] if kind == DIRECTORY and path[-1:] == b"/" else path, limits, tree.letters)
        if size < 0 or (size and kind != FILE):
            raise refuse(f"{shown(path)} has a size it cannot have.", "tar_size_conflict")
        if kind in (SYMLINK, HARDLINK):
            target = _text(header[157:257]) if target is None else target
            tree.link(path, target, kind, limits)
        tree.add(path, kind)
        if kind != DIRECTORY:
            totals.files += 1
            totals.bytes += size
            if mode & 0o7000:
                totals.setuid = True
        wanted = visitor.member(path, kind, size)
        if wanted:
            visitor.data(path, _beginning(feed, wanted, size))
        elif size:
            feed.skip((size + 511) & -512)
    if extended or spoken == count:  # tarfile ends with an error also after a global header
        _dangling(pending, of_all=spoken == count)
    _finish(feed)
    tree.finish(limits)
    return totals


def _beginning(feed: _Feed, wanted: int, size: int) -> bytes:
    """The first bytes of a file whose rest is passed over. Rounded up, so that reading stays in whole blocks."""
    whole = (wanted + 511) & -512  # as take() leaves off
    if whole >= size:
        return feed.take(size)[:wanted]
    data = feed.take(whole)[:wanted]
    feed.skip(((size + 511) & -512) - whole)
    return data


def _name(header: bytes) -> bytes:
    name = _text(header[:100])
    if header[345] and header[262] != 0x20:  # not GNU; check() has seen to it that GNU has nothing there
        return _text(header[345:500]) + b"/" + name
    return name


def _text(field: bytes) -> bytes:
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


def _extend(header: bytes, size: int, feed: _Feed, pending: _Pending) -> bool:
    """Read a header that speaks of the next one; False for a global one, which speaks of nothing we accept."""
    kind = header[156]
    if kind == _SPARSE:
        raise refuse("The package holds a sparse file; store it whole.", "tar_sparse")
    code = "tar_longname" if kind in (_LONG_NAME, _LONG_LINK) else "tar_pax"
    if kind not in (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK):
        letter = chr(kind) if 32 < kind < 127 else f"\\x{kind:02x}"
        raise refuse(f"The package holds a member of the type {letter!r}: a device or the like.", "tar_type")
    if size < 0:
        raise refuse("An extended tar header has a negative size.", "tar_size_conflict")
    if size > _META_SIZE:
        raise refuse(f"An extended tar header has {size} bytes; at most {_META_SIZE} are allowed.", code)
    if pending.pax is not None or (kind in (_PAX, _PAX_GLOBAL) and (pending.name, pending.link) != (None, None)):
        raise refuse("A file has both a pax header and a GNU long name, or two pax headers.", "tar_pax")
    padded = feed.take((size + 511) & -512)
    data = padded[:size]
    if kind == _PAX_GLOBAL:
        if b"/" in _name(header).removeprefix(b"././"):
            # rattler makes the directories of that name, as of any member's; "././@PaxHeader" is Python's
            raise refuse("A global pax header has the name of a directory, which some readers make.", "tar_pax")
        tarheader.pax(data, everywhere=True)
        return False
    if kind == _PAX:
        pending.pax = tarheader.pax(data)
        return True
    text = data.removesuffix(b"\0")  # readers differ on what a second one means
    # tarfile reads on to a NUL where the name has none, into the padding
    if b"\0" in text or (text == data and padded[size : size + 1] not in (b"", b"\0")):
        raise refuse("A GNU long name has a NUL in it, or does not end where its size says.", "tar_longname")
    if (pending.name if kind == _LONG_NAME else pending.link) is not None or not text:
        raise refuse("A file has two GNU long names, or an empty one.", "tar_longname")
    if kind == _LONG_NAME:
        pending.name = text
    else:
        pending.link = text
    return True


def _merge(header: bytes, size: int, pending: _Pending) -> tuple[bytes, bytes | None, int]:
    """Path, link target and size of a member that extended headers spoke of."""
    name, link = pending.name, pending.link
    if header[156] == 0 and _name(header)[-1:] == b"/":
        # the oldest way to write a directory, which tarfile knows, whatever name the extended header gives
        raise refuse("A tar header says directory by its name and file by its type.", "tar_path")
    if pending.pax:
        name = pending.pax.get(b"path")
        link = pending.pax.get(b"linkpath")
        if b"size" in pending.pax:
            size = tarheader.pax_size(pending.pax[b"size"], size)
    return _name(header) if name is None else name, link, size


def _dangling(pending: _Pending, *, of_all: bool) -> NoReturn:
    code = "tar_pax" if of_all or pending.pax is not None else "tar_longname"
    raise refuse("The package's archive ends after a header that speaks of a next one.", code)


def _finish(feed: _Feed) -> None:
    """After a first block of zeros: a second one, then zeros to the end, as writers pad to records of 10 KiB."""
    second = feed.block()
    if len(second) < BLOCK:
        raise refuse("The package's archive has only half of its end marker.", "archive_truncated")
    if second != _ZERO:
        raise refuse("The package's archive goes on after its end marker.", "tar_trailing")
    for chunk in feed.rest():
        if not _ZEROS.startswith(chunk[: len(_ZEROS)]) or chunk[len(_ZEROS) :].strip(b"\0"):
            raise refuse("The package's archive has data after its end marker.", "tar_trailing")
