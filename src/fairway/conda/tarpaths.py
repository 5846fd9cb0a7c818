"""Paths of a tar archive: which are fit to be unpacked anywhere, and how each stands to those before it."""

from __future__ import annotations

import re
import unicodedata

from fairway.conda.artifact import Limits
from fairway.conda.tarheader import refuse

FILE, DIRECTORY, SYMLINK, HARDLINK = 0, 5, 2, 1
_ZIGZAGS = 1_000  # looking at one of 4 KiB takes milliseconds
_OWNED = (b"info", b"conda-meta")  # directories that say what a package is and what an environment holds
_WINDOWS_SEPARATORS = re.compile(rb"[/\\:]")
_PLAIN = re.compile(rb"[\w+-][\w+.-]*(?:/[\w+-][\w+.-]*)*")  # nearly all paths, so that these cost one match


def shown(path: bytes) -> str:
    """A path for a message: short, printable."""
    return repr(path[:120].decode(errors="replace"))


class Letters:
    r"""The first path with each letter that is one elsewhere, but not on Windows: there `\` stands between directories,
    and what follows `:` is a stream of the file before it. Whether they may be there depends on the subdir, which may
    become known only after the last path.
    """

    def __init__(self) -> None:
        self.backslash = b""
        self.colon = b""


def clean(path: bytes, limits: Limits, letters: Letters | None = None, *, code: str = "tar_path") -> bytes:
    r"""The one spelling of a relative path: without "./" and doubled slashes, never leaving the archive's root.

    Raises PackageRefused with `code`. A backslash is a separator on Windows, so that it may neither begin a path nor
    help ".." into it, nor may it or a colon stand in what would be in `info/` or `conda-meta/` there. Elsewhere they
    are noted in `letters`: systemd's "dev-sda\x2d1.device" and Perl's "Foo::Bar.3" are real names.
    """
    if len(path) <= limits.component_length and _PLAIN.fullmatch(path) and path.count(b"/") < limits.depth:
        return path
    path = _clean_slowly(path, limits, code)
    if b"\\" in path or b":" in path:
        _look_as_windows(path, code, letters or Letters())
    return path


def _look_as_windows(path: bytes, code: str, letters: Letters) -> None:
    parts = (part.rstrip(b". ").lower() for part in _WINDOWS_SEPARATORS.split(path))
    if next(filter(None, parts), b"") in _OWNED:
        # `info/.\paths.json` and `info/paths.json::$DATA` are info/paths.json, `conda-meta::$INDEX_ALLOCATION/x` is in
        # conda-meta: installers there would read another package than the one that was looked at here
        raise refuse(f"On Windows {shown(path)} would be another file of info/ or conda-meta/.", code)
    if b"\\" in path or b":$" in path:  # `a::$INDEX_ALLOCATION/b` is `a/b`; no name of a module has a dollar sign
        letters.backslash = letters.backslash or path
    if b":" in path:
        letters.colon = letters.colon or path


def _clean_slowly(path: bytes, limits: Limits, code: str) -> bytes:
    if len(path) > limits.path_length:
        raise refuse(f"The package has a path of more than {limits.path_length} bytes.", code)
    try:
        path.decode()
    except UnicodeDecodeError as error:
        raise refuse(f"The path {shown(path)} is not UTF-8.", code) from error
    if b"\0" in path or path[:1] in (b"", b"/", b"\\") or _has_drive(path):
        raise refuse(f"The path {shown(path)} is empty, absolute or has a NUL.", code)
    if b".." in path.replace(b"\\", b"/").split(b"/"):
        raise refuse(f"The path {shown(path)} leads upwards.", code)
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if not parts or path[-1:] == b"/":
        raise refuse(f"The path {shown(path)} names no file.", code)
    if len(parts) > limits.depth or max(map(len, parts)) > limits.component_length:
        raise refuse(f"The path {shown(path)} is nested too deep or has too long a part.", code)
    return b"/".join(parts)


def _alike(part: bytes) -> bytes:
    """The same for all names that Windows or macOS take for one: they fold case, drop periods and spaces at the end,
    or do not tell composed letters from decomposed ones.
    """
    if part.isascii():
        return part.lower().rstrip(b". ")
    text = unicodedata.normalize("NFC", part.decode(errors="replace").casefold())
    return text.encode().rstrip(b". ")


def _has_drive(path: bytes) -> bool:
    return path[1:2] == b":" and path[:1].isalpha()


class Tree:
    """Which paths an archive has had so far, and what they were: enough to refuse what readers unpack differently.

    Holds a hash of each path instead of the path: 500,000 paths of 4 KiB would be 2 GB, their hashes are 50 MB.
    Two paths of one hash (1 in 10^8 archives of that size) can only cause a refusal, or let a dangling hard link pass.
    """

    def __init__(self, members: int) -> None:
        self.names: set[int] = set()  # every member of the archive
        self.directories: set[int] = set()  # members and parents of members
        self.folded_twice = False
        self.escaping = False
        self.letters = Letters()
        self.aimless = False  # a symbolic link has no target
        self._links: set[int] = set()
        self._links_alike: set[int] = set()
        self._folded: set[int] = set()
        self._zigzags: list[tuple[bytes, bytes]] = []
        self._parent = b""
        self._most = members

    def add(self, path: bytes, kind: int) -> None:
        """Note a member. Raises `tar_duplicate`, `tar_through_link` or `too_many_members`."""
        parent = path.rpartition(b"/")[0]
        if parent != self._parent:
            self._enter(parent)
        key = hash(path)
        if key in self.names:
            raise refuse(f"The package holds {shown(path)} twice.", "tar_duplicate")
        if kind == DIRECTORY:
            self.directories.add(key)
        elif key in self.directories:
            raise refuse(f"The package holds {shown(path)} as a directory and as a file.", "tar_duplicate")
        elif kind == SYMLINK:
            self._links.add(key)
            self._links_alike.add(hash(b"".join(b"/" + _alike(part) for part in path.split(b"/"))))
        self.names.add(key)
        self._fold(path, key)

    def _fold(self, path: bytes, key: int) -> None:
        """Notice names that Windows and macOS take for one. Only names with capitals are kept, and those are few."""
        folded = path.lower() if path.isascii() else path.decode().casefold().encode()
        if folded != path:
            key = hash(folded)
            if key in self.names or key in self._folded:
                self.folded_twice = True
            self._folded.add(key)
        elif key in self._folded:
            self.folded_twice = True

    def _enter(self, parent: bytes) -> None:
        """Make sure that a directory and all above it are directories, and note them."""
        self._parent = parent
        while parent and (key := hash(parent)) not in self.directories:
            if key in self._links:
                raise refuse(f"The package unpacks files through the link {shown(parent)}.", "tar_through_link")
            if key in self.names:
                raise refuse(f"The package holds {shown(parent)} as a file and as a directory.", "tar_duplicate")
            self.directories.add(key)
            parent = parent.rpartition(b"/")[0]
        if len(self.directories) > self._most:  # 128 new directories per member would be another way to fill memory
            raise refuse(f"The package has more than {self._most} directories.", "too_many_members")

    def link(self, path: bytes, target: bytes, kind: int, limits: Limits) -> None:
        """Look at the target of a link, before it is added. Raises `tar_link`."""
        if kind == HARDLINK:
            self._check_hardlink(path, target, limits)
        else:
            self._check_symlink(path, target, limits)

    def _check_hardlink(self, path: bytes, target: bytes, limits: Limits) -> None:
        """A hard link may only name an earlier file: its target is a path from the archive's root."""
        key = hash(clean(target, limits, code="tar_link"))
        if key not in self.names or key in self.directories or key in self._links:
            raise refuse(f"The hard link {shown(path)} does not lead to an earlier file.", "tar_link")

    def _check_symlink(self, path: bytes, target: bytes, limits: Limits) -> None:
        """Note whether the target leaves the root. It is relative to the directory of the link, which is a real one.

        A link without a target cannot be unpacked, but such packages are out there: `.conda` files of the main channel
        that were converted on Windows.
        """
        if b"\0" in target or len(target) > limits.path_length:
            raise refuse(f"The symbolic link {shown(path)} has no usable target.", "tar_link")
        if not target:
            self.aimless = True
            return
        parts = target.replace(b"\\", b"/").split(b"/")
        if parts[0] == b"" or _has_drive(target):
            self.escaping = True
            return
        depth = path.count(b"/")
        named = winding = False
        for part in parts:
            if part == b"..":
                depth -= 1
                if depth < 0:
                    self.escaping = True
                    return
                winding = winding or named
            elif part not in (b"", b"."):
                depth += 1
                named = True
        if winding:  # "a/..": where that is depends on whether a is a link, which may come later
            self._zigzags.append((path, target))
            if len(self._zigzags) > _ZIGZAGS:
                raise refuse("The package has too many winding symbolic links.", "tar_link")

    def finish(self, limits: Limits) -> None:
        """After the last member: a target "link/.." goes up from where the link leads, so that is an escape."""
        self.escaping = self.escaping or any(self._turns_behind_a_link(*zigzag, limits) for zigzag in self._zigzags)

    def _turns_behind_a_link(self, path: bytes, target: bytes, limits: Limits) -> bool:
        """Whether a ".." of the target comes anywhere after a link of this archive, by any spelling of its name.

        From there on the path as it is written says nothing of where one is: with `k -> ..` in `deep` and `w -> deep`,
        `w/k/..` is above the root although no ".." stands behind a link that `w/k` names.
        """
        above = [b""]  # where one is, and behind it in the list all directories on the way
        for part in path.split(b"/")[:-1]:
            above.append(above[-1] + b"/" + _alike(part))
        behind = False
        for part in target.replace(b"\\", b"/").split(b"/"):
            if part == b"..":
                if behind:
                    return True
                del above[-1]
            elif part not in (b"", b"."):
                # no member is nested deeper than `depth`; longer names would cost the square of the target's length
                above.append(above[-1] + b"/" + _alike(part) if len(above) <= limits.depth else b"")
                behind = behind or hash(above[-1]) in self._links_alike
        return False
