"""Mutations of what a package says of itself: the JSON files of its `info/` part."""

from __future__ import annotations

import json
from typing import Any

from tests.fuzz.choices import Choices, chance, pick
from tests.fuzz.model import BUILDS, NAMES, VERSIONS, Model
from tests.support import builders as b

JSON_VALUES = (
    None, True, False, 0, -1, 1, 1.0, 2**31, 2**53, 2**53 + 1, -(2**53), 10**18, "", "x", "0", "noarch", "\n", "\0", "\u202e",
    "\x1b[0m", [], {}, [None], ["x"], [1], {"a": 1}, [[[]]], "x" * 3000,
)  # fmt: skip
INDEX_KEYS = (
    "name", "version", "build", "build_number", "depends", "constrains", "subdir", "noarch", "timestamp", "license",
    "arch", "platform", "track_features", "features", "purls", "flags", "extra_depends", "sha256", "md5", "size", "url",
    "fn", "signatures", "schema_version", "repodata_revision", "python_site_packages_path", "run_exports", "unknown",
    "__proto__", "legacy_bz2_md5", "preferred_env", "license_family",
)  # fmt: skip


def index_value(model: Model, choices: Choices) -> None:
    if isinstance(model.index, dict):
        model.index = {**model.index, pick(choices, INDEX_KEYS): pick(choices, JSON_VALUES)}


def index_missing_key(model: Model, choices: Choices) -> None:
    if isinstance(model.index, dict):
        key = pick(choices, sorted(model.index))
        model.index = {name: value for name, value in model.index.items() if name != key}


def dependency(model: Model, choices: Choices) -> None:
    spec = pick(choices, (
        "python", "python=3.11", "python ==3.11", "python>=3", "python >= 3", "a  >=1", "a =1.0", "a 1.*", "a *", "a * *_cpython", "A >=1",
        "a >=1 ", " a", "a >=1,", "a |>=1", "a !=1", "a ~=1.2", "a[build=h*]", "a[version='>=1',build=x]", "c::a", "a=1=h", "a 1 2 3", "",
        "a;b", "a # x", "a\nb", "https://x/y-1-0.conda", "@a", "a >=1.2.*", "a[md5=x]", "a[when='b']", "a >=1|<2,!=1.5", "a ==1.0.*", "a 1.0=h0",
        "a (>=1)", "a >1e5", "a >=1!2", "*", "a[extras=[b]]", "a  1.0  h0",
    ))  # fmt: skip
    key = pick(choices, ("depends", "constrains"))
    if isinstance(model.index, dict):
        model.index = {**model.index, key: [spec]}


def json_text(model: Model, choices: Choices) -> None:
    """The text of a document changed as text."""
    path = pick(choices, ("info/index.json", "info/paths.json", "info/about.json"))
    value = model.index if path == "info/index.json" else model.documents.get(path, b.paths_json(model.files))
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    inner = text.strip()[1:-1]
    again = pick(choices, (
        b" " + text + b"\r\n\t", b"\xef\xbb\xbf" + text, b'{"name": "x", ' + inner + b"}", text.replace(b":", b" :\n"), text + b"x",
        b'{"x": NaN, ' + inner + b"}", b'{"x": 1e400, ' + inner + b"}", b'{"x": -0, ' + inner + b"}", b'{"x": 1E5, ' + inner + b"}",
        b'{"x": "\\ud800", ' + inner + b"}", b'{"x": "\\ud83d\\ude00", ' + inner + b"}", b'{"x": "\\u0000", ' + inner + b"}",
        b'{"\\u0078": 1, "x": 2, ' + inner + b"}", b'{"x": ' + b"[" * 31 + b"]" * 31 + b", " + inner + b"}", text.replace(b"a", b"\\u0061"),
        b'{"x": ' + b"[" * 33 + b"]" * 33 + b", " + inner + b"}", text.decode("latin-1").encode("utf-16"), text[:-1] + b",}", text[:-1], b"",
        b'{"x": 9007199254740993, ' + inner + b"}", b'{"x": "\xff", ' + inner + b"}", b"// x\n" + text, text.replace(b'"', b"'"),
        b'{"x": "\xed\xa0\x80", ' + inner + b"}", b'{"x": "\t", ' + inner + b"}", b'{"x": 01, ' + inner + b"}", b'{"x": "\x7f", ' + inner + b"}",
    ))  # fmt: skip
    if path == "info/index.json":
        model.index = again
    else:
        model.documents[path] = again


def paths_entry(model: Model, choices: Choices) -> None:
    listing = b.paths_json(model.files)
    entry: dict[str, Any] = {"_path": "more", "path_type": "hardlink", "sha256": "0" * 64, "size_in_bytes": 1}
    if listing["paths"] and chance(choices, 60):
        entry = listing["paths"].pop()
    key = pick(
        choices,
        (
            "_path",
            "path_type",
            "sha256",
            "size_in_bytes",
            "no_link",
            "file_mode",
            "prefix_placeholder",
            "sha256_in_prefix",
        ),
    )
    values = (
        *JSON_VALUES,
        "more",
        "../x",
        "/x",
        "a\\b",
        "softlink",
        "directory",
        "hardlink",
        "binary",
        "text",
        "F" * 64,
        "./more",
        "more/",
    )
    if chance(choices, 80):
        entry = {**entry, key: pick(choices, values)}
    else:
        entry.pop(key, None)
    listing["paths"].append(entry)
    if chance(choices, 10):
        listing[pick(choices, ("paths_version", "paths", "extra"))] = pick(choices, JSON_VALUES)
    model.documents["info/paths.json"] = listing


def document_value(model: Model, choices: Choices) -> None:
    path = pick(
        choices,
        ("info/about.json", "info/run_exports.json", "info/link.json", "info/paths.json", "info/repodata_record.json"),
    )
    run_exports = (
        {"weak": ["a", "b >=1"]},
        {"strong": ["x"]},
        {"weak": "x"},
        {"other": []},
        ["a", 1],
        {"weak_constrains": ["a <2"]},
    )
    points = ["a = b:c"], ["a=b.c:d.e"], ["a = b:c;x"], ["a"], [1], "a = b:c"
    links = [{"noarch": {"type": "python", "entry_points": point}, "package_metadata_version": 1} for point in points]
    model.documents[path] = pick(choices, (*JSON_VALUES, *run_exports, *links, {"summary": "\x1b[31m", "home": ["x"]}))


def renamed(model: Model, choices: Choices) -> None:
    model.name, model.version, model.build = pick(choices, NAMES), pick(choices, VERSIONS), pick(choices, BUILDS)


METADATA = (
    index_value, index_value, index_missing_key, dependency, dependency, json_text, json_text, paths_entry, paths_entry,
    document_value, renamed,
)  # fmt: skip
