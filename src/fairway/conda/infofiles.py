"""The files of a package's `info/` part that Fairway reads (CEP 34), each bounded and checked for its own shape."""

from __future__ import annotations

import re
from typing import Any

from fairway.conda import jsontext, listing
from fairway.conda.artifact import Limits, PathsSummary
from fairway.conda.tarpaths import FILE, Letters, clean, shown
from fairway.errors import PackageRefused

INDEX = b"info/index.json"
ABOUT = b"info/about.json"
PATHS = b"info/paths.json"
RUN_EXPORTS = b"info/run_exports.json"
LINK = b"info/link.json"
RECORD = b"info/repodata_record.json"
# What it is called when it is no plain file: a link or directory would be another file to another reader.
_JSON = {
    INDEX: "index_invalid",
    ABOUT: "json_invalid",
    PATHS: "paths_invalid",
    RUN_EXPORTS: "run_exports_invalid",
    LINK: "json_invalid",
}
_LICENCES = (b"info/licenses/", b"info/LICENSE")
_RECIPES = (b"info/recipe/meta.yaml", b"info/recipe/rendered_recipe.yaml", b"info/recipe/recipe.yaml")
_LICENCES_TOGETHER = 8  # licences and their names may take this many times the size of one text
# What conda runs of a package has 8 names at most; all that look like one are kept, so that none can hide among others.
SCRIPTS = 1_000

_RUN_EXPORTS = frozenset({"weak", "strong", "weak_constrains", "strong_constrains", "noarch"})
_SCRIPT = re.compile(r"bin/\.[^/]*-(?:pre|post)-(?:link|unlink)\.sh|Scripts/\.[^/]*-(?:pre|post)-[^/]*\.bat")
_PATH_TYPES = ("hardlink", "softlink", "directory")
_ENTRY = {"_path": "x", "path_type": "hardlink"}
_FIELDS = {
    "_path": "it must be text",
    "path_type": "it must be 'hardlink', 'softlink' or 'directory'",
    "size_in_bytes": "it must be a number of bytes that a package may have",
    "sha256": "it must be 64 hexadecimal digits",
    "no_link": "it must be true or false",
}
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
# conda writes module and function into a script as they are: nothing but dotted names may pass (rattler #2445).
_ENTRY_POINT = re.compile(
    r"[ \t]*[A-Za-z0-9_][A-Za-z0-9_.+-]*[ \t]*=[ \t]*[^\W\d]\w*(?:\.[^\W\d]\w*)*[ \t]*:[ \t]*[^\W\d]\w*(?:\.[^\W\d]\w*)*[ \t]*"
)


def is_script(path: str) -> bool:
    """Whether conda would run this file at install or removal of the package."""
    if not path.startswith(("bin/.", "Scripts/.")) or not path.endswith((".sh", ".bat")):
        return False  # without the ending, the expression would try each "-pre-" of a hostile name
    return _SCRIPT.fullmatch(path) is not None


class InfoFiles:
    """A visitor of `info/` members that keeps those named above."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._json: dict[bytes, bytes] = {}
        self._texts: dict[bytes, bytes] = {}
        self._room = limits.text_size * _LICENCES_TOGETHER

    def member(self, path: bytes, kind: int, size: int) -> int:
        code = _JSON.get(path)
        if code is not None:
            if kind != FILE:
                raise PackageRefused(f"{shown(path)} is not a plain file.", code=code)
            limit = self._limits.paths_size if path == PATHS else self._limits.json_size
            if size > limit:
                raise PackageRefused(
                    f"{shown(path)} has {size} bytes; at most {limit} are allowed.", code="metadata_too_large"
                )
            self._json[path] = b""
            return size
        if path == RECORD:
            raise PackageRefused(f"A package may not bring {shown(path)}: installers write it.", code="reserved_path")
        if kind != FILE:
            return 0
        if path in _RECIPES:
            return min(size, self._limits.text_size)
        if path.startswith(_LICENCES):
            kept = min(size, self._limits.text_size, self._room - len(path))
            if kept <= 0:
                return 0
            self._room -= kept + len(path)  # 20,000 names of 4 KiB would be 80 MB
            return kept
        return 0

    def data(self, path: bytes, data: bytes) -> None:
        (self._json if path in _JSON else self._texts)[path] = data

    def index(self) -> dict[str, Any]:
        """`info/index.json`. Raises `index_missing`, `index_invalid` or a `json_*` code."""
        if INDEX not in self._json:
            raise PackageRefused("The package has no info/index.json.", code="index_missing")
        data = self._json[INDEX]
        value = jsontext.loads(data) if data else None
        if type(value) is not dict:
            raise PackageRefused("info/index.json is not a JSON object.", code="index_invalid")
        return value

    def about(self) -> dict[str, Any]:
        """`info/about.json`, {} if there is none."""
        return self._object(ABOUT) or {}

    def link(self) -> dict[str, Any] | None:
        """`info/link.json` with its entry points checked. Raises `entry_point_invalid` or a `json_*` code."""
        value = self._object(LINK)
        noarch = value.get("noarch") if value else None
        points = noarch.get("entry_points", ()) if isinstance(noarch, dict) else ()
        if not isinstance(points, (list, tuple)):
            raise PackageRefused("The entry points in info/link.json are not a list.", code="entry_point_invalid")
        for point in points:
            if not isinstance(point, str) or len(point) > 1_000 or not _ENTRY_POINT.fullmatch(point):
                raise PackageRefused(
                    f"The entry point {str(point)[:80]!r} is not of the form 'command = module:function'.",
                    code="entry_point_invalid",
                )
        return value

    def run_exports(self) -> dict[str, list[str]]:
        """`info/run_exports.json`: a map, or a list that means {"weak": list}. {} if there is none.

        Raises `run_exports_invalid` or a `json_*` code.
        """
        if RUN_EXPORTS not in self._json:
            return {}
        value = jsontext.loads(self._json[RUN_EXPORTS])
        if type(value) is list:
            value = {"weak": value}
        good = type(value) is dict and all(
            key in _RUN_EXPORTS and type(specs) is list and all(type(spec) is str for spec in specs)
            for key, specs in value.items()
        )
        if not good:
            raise PackageRefused(
                "info/run_exports.json is not a map of weak, strong, weak_constrains, strong_constrains or noarch "
                "to lists of strings.",
                code="run_exports_invalid",
            )
        exports: dict[str, list[str]] = value
        return exports

    def licences(self) -> tuple[tuple[str, str], ...]:
        """Name below `info/licenses/` and text of each licence that is text."""
        return tuple(
            (path.decode().removeprefix("info/").removeprefix("licenses/"), data.decode(errors="replace"))
            for path, data in sorted(self._texts.items())
            if path not in _RECIPES and b"\0" not in data
        )

    def recipe(self) -> str | None:
        for path in _RECIPES:
            data = self._texts.get(path)
            if data is not None and b"\0" not in data:
                return data.decode(errors="replace")
        return None

    def paths(self, *, required: bool) -> Listing | None:
        """`info/paths.json`. Raises `paths_missing`, `paths_invalid` or a `json_*` code."""
        data = self._json.pop(PATHS, None)  # up to 64 MiB: not kept beside its value
        if data is None:
            if required:
                raise PackageRefused(
                    "The package has no info/paths.json; build it with a newer tool.", code="paths_missing"
                )
            return None
        return _listing(jsontext.loads(data), self._limits)

    def _object(self, path: bytes) -> dict[str, Any] | None:
        if path not in self._json:
            return None
        value = jsontext.loads(self._json[path])
        if type(value) is not dict:
            raise PackageRefused(f"{path.decode()} is not a JSON object.", code="json_invalid")
        return value


class Listing:
    """`info/paths.json` in sum. `sizes` has the hash of each path (as in `tarpaths.Tree`) to hold against the payload,
    with the size in bytes that is listed, or -1.
    """

    def __init__(self, summary: PathsSummary, sizes: dict[int, int], letters: Letters, *, folded_twice: bool) -> None:
        self.summary = summary
        self.sizes = sizes
        self.letters = letters
        self.folded_twice = folded_twice


def _listing(value: Any, limits: Limits) -> Listing:
    entries = value.get("paths") if type(value) is dict else None
    version = value.get("paths_version") if type(value) is dict else None
    if type(entries) is not list or type(version) is not int or version != 1:
        raise PackageRefused("info/paths.json is not a list of paths of version 1.", code="paths_invalid")
    if len(entries) > limits.payload_members:
        raise PackageRefused("info/paths.json lists too many paths.", code="paths_invalid")
    sizes: dict[int, int] = {}
    folded: set[str] = set()
    letters = Letters()
    scripts = []
    size = 0
    most = limits.payload_size
    for entry in entries:
        if type(entry) is not dict or not _is_entry(entry, most):
            raise PackageRefused(f"info/paths.json: {_fault(entry, most)}.", code="paths_invalid")
        path, stated = entry["_path"], entry.get("size_in_bytes")
        raw = path.encode()
        if b"\\" in raw:
            raise PackageRefused(f"info/paths.json has a path with a backslash: {shown(raw)}.", code="paths_invalid")
        key = hash(clean(raw, limits, letters, code="paths_invalid"))
        if key in sizes:
            raise PackageRefused(f"info/paths.json lists {shown(raw)} twice.", code="paths_invalid")
        sizes[key] = -1 if stated is None else stated
        folded.add(path.casefold())
        size += stated or 0
        if is_script(path):
            scripts.append(path)
            if len(scripts) > SCRIPTS:
                raise PackageRefused(
                    f"info/paths.json lists more than {SCRIPTS} scripts to be run at installation.",
                    code="paths_invalid",
                )
    kept = listing.packed((entry["_path"], said(entry.get("size_in_bytes")), entry["path_type"]) for entry in entries)
    summary = PathsSummary(files=len(entries), size=size, scripts=tuple(sorted(scripts)), listing=kept)
    return Listing(summary, sizes, letters, folded_twice=len(folded) != len(sizes))


def said(size: int | None) -> int:
    return -1 if size is None else size


def _is_entry(entry: dict[str, Any], most: int) -> bool:
    """Whether clients can read it: one entry of another type, and rattler installs nothing of the package."""
    size, digest = entry.get("size_in_bytes"), entry.get("sha256")
    return (
        type(entry.get("_path")) is str
        and entry.get("path_type") in _PATH_TYPES
        and (size is None or (type(size) is int and 0 <= size <= most))
        and (digest is None or (type(digest) is str and _SHA256.fullmatch(digest) is not None))
        and type(entry.get("no_link", False)) is bool
    )


def _fault(entry: Any, most: int) -> str:
    """Which field makes this no entry: the first one that spoils a good entry that it is put into."""
    if type(entry) is not dict:
        return f"an entry is {repr(entry)[:60]}, which is not an object"
    path = entry.get("_path")
    which = f"the entry {repr(path)[:80]}" if type(path) is str else "an entry"
    for key, rule in _FIELDS.items():
        if key not in entry:
            if key in _ENTRY:
                return f"{which} has no {key}; {rule}"
        elif not _is_entry({**_ENTRY, key: entry[key]}, most):
            return f"{which} has the {key} {repr(entry[key])[:60]}; {rule}"
    raise AssertionError(entry)
