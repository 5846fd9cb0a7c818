"""Open `.conda` (CEP 35) and `.tar.bz2` packages, within limits, and read what their `info/` part says (CEP 34).

The whole file is looked at, the payload too: what is accepted here is unpacked by every client, so no client may unpack
anything else than another. Nothing is written, and memory does not grow with the payload's size.

    source of bytes -> zipread (3 members) -> streams (one zstd frame each) -> tarwalk -> infofiles
    source of bytes ------------------------> streams (one bzip2 stream) ---> tarwalk -> infofiles
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple

from msgspec import structs

from fairway.conda import jsontext, zipread
from fairway.conda.artifact import Contents, Limits, PathsSummary
from fairway.conda.infofiles import INDEX, SCRIPTS, InfoFiles, Listing, is_script
from fairway.conda.streams import Budget, Source, bz2_chunks, zstd_chunks
from fairway.conda.tarpaths import FILE, Letters, Tree, shown
from fairway.conda.tarwalk import Totals, walk
from fairway.conda.zipread import ZipMember, checked
from fairway.errors import PackageRefused

DEFAULT_LIMITS = Limits()
_METADATA = b"metadata.json"
_USUAL_METADATA = b'{"conda_pkg_format_version": 2}'


def read(
    file: BinaryIO,
    *,
    stem: str,
    extension: str,
    subdir: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    require_paths: bool = True,
    escaping_symlinks: Literal["refuse", "flag"] = "refuse",
) -> Contents:
    """Read one package file.

    `file` is seekable; `stem` is its name without the `extension`, which is ".conda" or ".tar.bz2"; `subdir` is where
    it was sent, which holds if the package itself says no subdir. For old packages
    of a mirror, `require_paths=False` accepts those without `info/paths.json` and `escaping_symlinks="flag"` those
    with links that lead out of the environment.

    `Contents.warnings` has, sorted, those of "case_collision" (two paths are one on Windows and macOS; not said of
    linux packages), "paths_mismatch" (paths.json and payload have other files, or files of other sizes), "setuid", "symlink_empty" (a link
    that cannot be unpacked), "symlink_escape".

    Raises PackageRefused, and nothing else whatever the bytes are (but OSError if `file` cannot be read).
    """
    try:
        terms = _Terms(subdir, require_paths=require_paths, flag=escaping_symlinks == "flag")
        return _read(file, stem, extension, limits, terms)
    except MemoryError as error:
        raise PackageRefused(
            "The package needs more memory to be read than is allowed.", code="decompressed_too_large"
        ) from error
    except RecursionError as error:
        raise PackageRefused("The package's metadata is nested too deep.", code="json_depth") from error


class _Terms(NamedTuple):
    """What `read` was told of the package."""

    subdir: str | None
    require_paths: bool
    flag: bool


def _read(file: BinaryIO, stem: str, extension: str, limits: Limits, terms: _Terms) -> Contents:
    source = Source(file)
    if source.size > limits.file_size:
        raise PackageRefused(
            f"The file has {source.size} bytes; at most {limits.file_size} are allowed.", code="file_too_large"
        )
    if not source.size:
        raise PackageRefused("The file is empty.", code="archive_truncated")
    info = InfoFiles(limits)
    if extension == ".conda":
        return _read_conda(source, stem, info, limits, terms)
    if extension == ".tar.bz2":
        return _read_tar_bz2(source, info, limits, terms)
    raise PackageRefused("A package is a .conda or a .tar.bz2 file.", code="extension_unsupported")


def _read_conda(source: Source, stem: str, info: InfoFiles, limits: Limits, terms: _Terms) -> Contents:
    info_name, pkg_name = f"info-{stem}.tar.zst".encode(), f"pkg-{stem}.tar.zst".encode()
    members = zipread.members(source, frozenset((_METADATA, info_name, pkg_name)))
    _check_format_version(source, members[_METADATA], limits)
    info_tree = Tree(limits.info_members)
    budget = Budget(what="info part", size=limits.info_size, ratio_size=limits.info_size)
    chunks = _chunks(source, members[info_name], budget, limits)
    totals = walk(chunks, info_tree, _InfoPart(info), members=limits.info_members, limits=limits)
    judge = _Judge(info, terms)
    judge.tar(info_tree, totals)
    tree = Tree(limits.payload_members)
    payload = _Payload(info_code="info_in_pkg")
    member = members[pkg_name]
    budget = Budget(what="payload", size=limits.payload_size, ratio_size=_ratio_size(member.size, limits))
    chunks = _chunks(source, member, budget, limits)
    totals = walk(chunks, tree, payload, members=limits.payload_members, limits=limits)
    judge.tar(tree, totals)
    judge.payload(tree, payload, totals)
    return judge.contents()


def _read_tar_bz2(source: Source, info: InfoFiles, limits: Limits, terms: _Terms) -> Contents:
    tree = Tree(limits.payload_members)
    payload = _Payload(info=info)
    budget = Budget(
        what="package",
        size=limits.payload_size,
        ratio_size=_ratio_size(source.size, limits),
        ratio_code="decompressed_too_large",
    )
    chunks = bz2_chunks(source.pieces(0, source.size), budget=budget)
    totals = walk(chunks, tree, payload, members=limits.payload_members, limits=limits)
    if payload.other_info and hash(INDEX) in tree.names:
        raise PackageRefused(
            f"{shown(payload.other_info)} would replace a file of info/ on Windows and macOS.", code="tar_duplicate"
        )
    judge = _Judge(info, terms)
    judge.tar(tree, totals)
    judge.payload(tree, payload, totals)
    return judge.contents()


def _ratio_size(packed: int, limits: Limits) -> int:
    return max(limits.ratio_from, limits.ratio * packed)


def _chunks(source: Source, member: ZipMember, budget: Budget, limits: Limits) -> Iterator[bytes]:
    pieces = checked(source.pieces(member.offset, member.size), member)
    return zstd_chunks(pieces, window=limits.zstd_window, budget=budget)


def _check_format_version(source: Source, member: ZipMember, limits: Limits) -> None:
    if member.size > limits.json_size:
        raise PackageRefused("metadata.json of the .conda file is too large.", code="metadata_too_large")
    data = b"".join(checked(source.pieces(member.offset, member.size), member))
    if data == _USUAL_METADATA:
        return
    try:
        value = jsontext.loads(data)
    except PackageRefused as error:
        raise PackageRefused(
            f"metadata.json of the .conda file cannot be read: {error.detail}", code="conda_format_version"
        ) from error
    version = value.get("conda_pkg_format_version") if type(value) is dict else None
    if type(version) is not int or version != 2:
        raise PackageRefused("metadata.json does not say conda_pkg_format_version 2.", code="conda_format_version")


class _InfoPart:
    """Visitor of a `.conda` file's info archive."""

    def __init__(self, info: InfoFiles) -> None:
        self._info = info
        self.data = info.data

    def member(self, path: bytes, kind: int, size: int) -> int:
        if not path.startswith(b"info/") and path != b"info":
            raise PackageRefused(
                f"The info part of the package holds {shown(path)}, which is not in info/.", code="pkg_in_info"
            )
        return self._info.member(path, kind, size)


class _Payload:
    """Visitor of what is linked into an environment: a `.conda` file's pkg archive, or all of a `.tar.bz2`."""

    def __init__(self, *, info: InfoFiles | None = None, info_code: str | None = None) -> None:
        self._info = info
        self._info_code = info_code
        self.scripts: list[str] = []
        self.sizes: dict[int, int] = {}
        self.info_names: set[int] = set()
        self.info_files = self.info_bytes = 0
        self.other_info = b""

    def member(self, path: bytes, kind: int, size: int) -> int:
        if kind == FILE:
            self.sizes[hash(path)] = size
        first = path[:1]
        if first in b"iIcC":  # almost no payload begins so
            return self._special(path, kind, size)
        if first in b"bS" and is_script(path.decode()):
            self.scripts.append(path.decode())
            if len(self.scripts) > SCRIPTS:
                raise PackageRefused(
                    f"The package holds more than {SCRIPTS} scripts to be run at installation.", code="too_many_members"
                )
        return 0

    def _special(self, path: bytes, kind: int, size: int) -> int:
        top = path.partition(b"/")[0]
        folded = top.rstrip(b". ").lower()  # as Windows and macOS look names up
        if folded == b"conda-meta":
            raise PackageRefused(
                f"A package may not bring {shown(path)}: conda-meta belongs to the installer.", code="reserved_path"
            )
        if folded != b"info":
            return 0
        if self._info is None:
            raise PackageRefused(
                f"The payload of the package holds {shown(path)}, which belongs into its info part.",
                code=self._info_code,
            )
        if top != b"info":
            self.other_info = path
            return 0
        self.info_names.add(hash(path))
        if kind != 5:
            self.info_files += 1
            self.info_bytes += size
        return self._info.member(path, kind, size)

    def data(self, path: bytes, data: bytes) -> None:
        if self._info is not None:
            self._info.data(path, data)


class _Judge:
    """Puts together what the walks have found. The info files are parsed as soon as their archive has been walked, so
    that a bad one is refused before gigabytes of payload are decompressed.
    """

    def __init__(self, info: InfoFiles, terms: _Terms) -> None:
        self._info = info
        self._flag = terms.flag
        self._warnings: set[str] = set()
        self._index = info.index()
        self._about = info.about()
        self._run_exports = info.run_exports()
        self._link = info.link()
        self._listing: Listing | None = info.paths(required=terms.require_paths)
        self._summary = self._listing.summary if self._listing else PathsSummary()
        said = self._index.get("subdir")
        said = terms.subdir if said is None else said  # as `record` has it: a null is nothing said
        self._subdir = said if isinstance(said, str) else ""
        if self._listing is not None:
            self._check_letters(self._listing.letters, "paths_invalid")
            self._note_case(twice=self._listing.folded_twice)

    def _note_case(self, *, twice: bool) -> None:
        if twice and not self._subdir.startswith("linux"):
            self._warnings.add("case_collision")

    def _check_letters(self, letters: Letters, code: str) -> None:
        """Packages for Linux and macOS are not unpacked on Windows, and noarch ones of Perl have man pages like
        `Foo::Bar.3`, which can at worst not be unpacked there.
        """
        if letters.backslash and not self._subdir.startswith(("linux-", "osx-")):
            raise PackageRefused(
                f"The path {shown(letters.backslash)} is another one on Windows; only packages for Linux and macOS may "
                "have such names.",
                code=code,
            )
        if letters.colon and self._subdir.startswith("win-"):
            raise PackageRefused(f"The path {shown(letters.colon)} cannot be one on Windows.", code=code)

    def tar(self, tree: Tree, totals: Totals) -> None:
        self._check_letters(tree.letters, "tar_path")
        self._note_case(twice=tree.folded_twice)
        if totals.setuid:
            self._warnings.add("setuid")
        if tree.aimless:
            self._warnings.add("symlink_empty")
        if tree.escaping:
            if not self._flag:
                raise PackageRefused(
                    "The package has a symbolic link that leads out of the environment.", code="symlink_escape"
                )
            self._warnings.add("symlink_escape")

    def payload(self, tree: Tree, payload: _Payload, totals: Totals) -> None:
        scripts = tuple(sorted({*self._summary.scripts, *payload.scripts}))
        if self._listing is None:
            files, size = totals.files - payload.info_files, totals.bytes - payload.info_bytes
            self._summary = PathsSummary(files=files, size=size, scripts=scripts)
            return
        self._summary = structs.replace(self._summary, scripts=scripts)
        listed = self._listing.sizes
        if (
            not listed.keys() <= tree.names
            or not tree.names - tree.directories - payload.info_names <= listed.keys()
            or any(listed.get(path, -1) not in (-1, size) for path, size in payload.sizes.items())
        ):
            self._warnings.add("paths_mismatch")

    def contents(self) -> Contents:
        return Contents(
            index=self._index,
            about=self._about,
            run_exports=self._run_exports,
            paths=self._summary,
            licences=self._info.licences(),
            recipe=self._info.recipe(),
            link=self._link,
            warnings=tuple(sorted(self._warnings)),
        )
