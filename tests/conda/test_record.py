"""What a package says becomes the record that py-rattler's indexer would write, or a refusal with its code."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rattler
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway.conda import archive, record
from fairway.conda.artifact import Artifact, Contents, PathsSummary
from fairway.conda.names import Filename
from fairway.conda.record import Section, artifact_of, json_bytes, needs_v3, section_of, shard_value
from fairway.errors import PackageRefused
from tests.conda.corpus import PACKAGES, needs_corpus, needs_packages, records
from tests.support import builders

NOW = 1_800_000_000_000
DAY = 24 * 60 * 60 * 1000
INDEX = {
    "name": "demo",
    "version": "1.0",
    "build": "h0_0",
    "build_number": 0,
    "depends": [],
    "subdir": "noarch",
    "noarch": "generic",
}
GONE = ...  # marks a key to leave out; an object() would give each worker other test ids


def judged(
    *,
    filename: str = "demo-1.0-h0_0.conda",
    sent_to: str | None = None,
    now_ms: int | None = NOW,
    about=None,
    **changes,
) -> Artifact:
    index = {key: value for key, value in {**INDEX, **changes}.items() if value is not GONE}
    contents = Contents(index=index, about=about or {}, run_exports={}, paths=PathsSummary(), warnings=("setuid",))
    return artifact_of(contents, Filename.parse(filename), subdir=sent_to, now_ms=now_ms)


def warned(**changes) -> set[str]:
    return set(judged(**changes).warnings) - {"setuid"}


def code(**changes) -> str:
    with pytest.raises(PackageRefused) as caught:
        judged(**changes)
    assert len(caught.value.detail) <= 400
    assert caught.value.detail.isprintable()
    return caught.value.code


def test_a_record_is_what_the_package_says():
    unknown = {"app_entry": "demo", "summary": "A demo\nin lines", "icon": {"a": [1, 2.5, True]}, "schema_version": 2}
    artifact = judged(license="MIT", timestamp=NOW, constrains=["x >=1"], track_features=["a", "b"], **unknown)
    assert artifact.record == {
        **INDEX, "license": "MIT", "timestamp": NOW, "constrains": ["x >=1"], "track_features": ["a", "b"], **unknown,
    }  # fmt: skip
    assert (artifact.filename, artifact.name, artifact.version, artifact.build, artifact.build_number, artifact.subdir) == (
        "demo-1.0-h0_0.conda", "demo", "1.0", "h0_0", 0, "noarch",
    )  # fmt: skip
    assert not artifact.needs_v3
    assert artifact.warnings == ("setuid",)


def test_what_the_server_knows_better_is_not_taken():
    # H76, E3
    foreign: dict[str, Any] = dict.fromkeys(sorted(record.SERVER_KEYS), "x")
    assert len(foreign) >= 25
    del foreign["repodata_revision"]
    assert judged(**foreign).record == INDEX


@pytest.mark.parametrize(
    "nothing",
    [{"license": None, "arch": None, "platform": None, "timestamp": None, "purls": None, "features": None},
     {"constrains": [], "flags": [], "extra_depends": {}, "track_features": []}],
)  # fmt: skip
def test_nothing_said_is_not_said(nothing):
    assert judged(**nothing).record == INDEX


@pytest.mark.parametrize(
    "changes",
    [
        *({key: value} for key in ("name", "version", "build") for value in (1, [], None, GONE, {}, True)),
        *({"build_number": value} for value in (-1, 2**40, "0", True, 1.0, None, GONE)),
        *({"depends": value} for value in ("python", {"a": 1}, [1], [["a"]], 5)),
        *({"constrains": value} for value in ("python", [None])),
        *({key: value} for key in record._TEXTS for value in (1, ["a"], {}, False)),
        *({key: None} for key in record._NEVER_NULL),
        {"track_features": 1}, {"track_features": [1]}, {"track_features": {}},
        {"purls": "pkg:pypi/a"}, {"purls": ["xx"]}, {"purls": ["pkg:pypi/a b"]}, {"purls": [1]}, {"purls": ["pkg:pypi/%zz"]},
        {"flags": ["CUDA"]}, {"flags": "cuda"}, {"flags": [""]}, {"flags": ["a:b:c"]},
        {"extra_depends": []}, {"extra_depends": {"T T": []}}, {"extra_depends": {"": []}}, {"extra_depends": {"t": "a"}},
        {"extra_depends": {"t": [1]}},
        {"schema_version": 4}, {"schema_version": -1}, {"schema_version": "3"}, {"schema_version": True},
        {"repodata_revision": "v3"}, {"repodata_revision": 4},
        {"noarch": "foo"}, {"noarch": 1}, {"noarch": ["python"]},
        {"noarch": GONE}, {"noarch": None}, {"noarch": False},
        {f"key{i}": 1 for i in range(300)},
    ],
    ids=lambda changes: ascii(changes)[:40],
)  # fmt: skip
def test_what_clients_could_not_read_is_refused(changes):
    assert code(**changes) == "index_schema"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"filename": "bar-1.0-h0_0.conda"}, "filename_mismatch"),  # H15
        ({"build": "h0_1"}, "filename_mismatch"),
        ({"name": "Demo"}, "name_invalid"),  # H07
        ({"name": "con"}, "name_reserved"),
        ({"name": "demo", "version": "1.0-h0", "build": "0"}, "version_invalid"),  # H11
        ({"build": "a-b"}, "build_invalid"),
        ({"subdir": "linux-64", "noarch": GONE}, None),
        ({"subdir": "Linux_64"}, "subdir_invalid"),
        ({"subdir": 5}, "subdir_invalid"),
        ({"subdir": GONE}, "subdir_invalid"),
    ],
)
def test_names_agree(changes, expected):
    assert (code(**changes) if expected else None) == expected
    if not expected:
        judged(**changes)


def test_the_subdir_of_the_address_and_of_the_package_agree():
    assert judged(sent_to="noarch").subdir == "noarch"
    assert code(sent_to="linux-64") == "subdir_mismatch"  # H14
    index = {**INDEX}
    del index["subdir"]
    contents = Contents(index=index, about={}, run_exports={}, paths=PathsSummary())
    filled = artifact_of(contents, Filename.parse("demo-1.0-h0_0.conda"), subdir="noarch", now_ms=NOW)
    assert filled.record == INDEX


@pytest.mark.parametrize(
    ("subdir", "noarch", "warnings"),
    [
        ("noarch", "generic", set()),
        ("noarch", "python", set()),
        ("noarch", True, {"noarch_legacy"}),
        ("linux-64", GONE, set()),
        ("linux-64", False, set()),
        ("linux-64", "python", set()),  # abi3, CEP 20
        ("linux-64", "generic", {"noarch_generic_on_platform"}),
        ("linux-64", True, {"noarch_generic_on_platform"}),
    ],
)
def test_noarch(subdir, noarch, warnings):
    expected = {**INDEX, "subdir": subdir, "noarch": noarch}
    assert warned(subdir=subdir, noarch=noarch, sent_to=subdir) == warnings
    if noarch in (GONE, False):
        del expected["noarch"]
    assert judged(subdir=subdir, noarch=noarch).record == expected


def test_timestamps():
    # H75
    assert warned(timestamp=NOW) == warned(timestamp=0) == warned(timestamp=NOW // 1000) == set()
    assert warned(timestamp=NOW + 1) == warned(timestamp=NOW + DAY) == {"timestamp_future"}
    assert judged(timestamp=NOW // 1000).record["timestamp"] == NOW // 1000
    for wrong in (NOW + DAY + 1, NOW // 1000 + 90_000, -1, 10**18, "1", 1.5, True, [1], 253_402_300_799_000):
        assert code(timestamp=wrong) == "timestamp_invalid", wrong
    assert judged(timestamp=NOW + 10 * DAY, now_ms=None).record["timestamp"] == NOW + 10 * DAY
    assert code(timestamp=10**18, now_ms=None) == "timestamp_invalid"


def test_dependencies():
    # H74
    assert code(depends=["a"] * 100_000) == "depends_invalid"
    assert code(depends=["a"] * 1_000, constrains=["b"] * 1_001) == "depends_invalid"
    assert judged(depends=["a"] * 1_000, constrains=["b"] * 1_000)
    for wrong in ("x" * 1_000_000, "a\nb", "a;b", "https://x/a.conda", "a[md5=0]", ""):
        assert code(depends=[wrong]) == "depends_invalid", wrong[:20]
        assert code(extra_depends={"t": [wrong]}) == "depends_invalid"
    assert warned(depends=GONE) == {"depends_missing"}
    assert judged(depends=GONE).record == INDEX


@pytest.mark.parametrize("bad", ["\x1b[31m", "\0", "\u202e", "\u2028", "\u200b", "\x7f", "\x9b"])
def test_text_that_acts_is_refused_in_records(bad):
    # H78
    for changes in ({"license": f"MIT{bad}"}, {"app": {"x": [f"{bad}"]}}, {f"k{bad}": 1}, {"subdir": f"noarch{bad}"}):
        assert code(**changes) == "text_control"
    assert judged(license="BSD 3-Clause\nand \u00fcmlauts \u65e5\u672c")


def test_text_that_acts_is_taken_out_of_about():
    # H77 to H79: kept as text, without what acts on a terminal or a line
    about = judged(
        about={
            "summary": "A \x1b[31mred\u202e line\n\n in\tone " + "e" + "\u0301" * 10_000 + "\u2028end" + "x" * 5_000,
            "description": "Two\r\nlines\x07\n",
            "home": "javascript:alert(1)",
            "extra": {"people\x00": ["\u202ea", 1, None]},
        }
    ).about
    assert about["summary"].startswith("A [31mred line in one e" + "\u0301" * 4)
    assert len(about["summary"]) <= 1_000
    assert "\u0301" * 5 not in about["summary"]
    assert about["description"] == "Two\nlines"
    assert about["home"] == "javascript:alert(1)"
    assert about["extra"] == {"people": ["a", 1, None]}


@pytest.mark.parametrize(
    ("changes", "v3"),
    [
        ({}, False),
        ({"schema_version": 2}, False),
        ({"schema_version": 3}, True),
        ({"repodata_revision": 3}, True),
        ({"repodata_revision": 0}, False),
        ({"flags": ["cuda"]}, True),
        ({"flags": []}, False),
        ({"extra_depends": {"t": []}}, True),
        ({"extra_depends": {}}, False),
        ({"depends": ['a[when="b"]']}, True),
        ({"depends": ["a[extras=[b]]"]}, True),
        ({"constrains": ["a[flags=[b]]"]}, True),
        ({"depends": ['a[version=">=1"]']}, False),
    ],
)
def test_what_needs_v3(changes, v3):
    assert needs_v3({**INDEX, **changes}) is v3
    artifact = judged(**changes)
    assert artifact.needs_v3 is v3
    assert "repodata_revision" not in artifact.record


def test_v3_records_have_specs_in_brackets():
    artifact = judged(
        flags=["cuda", "blas:mkl"],
        depends=["python >=3.8", "numpy 1.2.*", "bare", 'tomli[when="python <3.11"]'],
        constrains=["foo <2"],
        extra_depends={"test": ["pytest >=7"], "none": []},
    )
    assert artifact.record == {
        **INDEX,
        "flags": ["cuda", "blas:mkl"],
        "depends": ['python[version=">=3.8"]', 'numpy[version="1.2.*"]', "bare", 'tomli[when="python<3.11"]'],
        "constrains": ['foo[version="<2"]'],
        "extra_depends": {"test": ['pytest[version=">=7"]'], "none": []},
    }
    assert code(flags=["a"], depends=["c::a"]) == "depends_invalid"


def test_sections():
    conda, old = Filename.parse("a-1-0.conda"), Filename.parse("a-1-0.tar.bz2")
    found = {(f.extension, v3): section_of(f.extension, v3) for f in (conda, old) for v3 in (False, True)}
    assert list(found.values()) == [Section.PACKAGES_CONDA, Section.V3_CONDA, Section.PACKAGES, Section.V3_TAR_BZ2]
    assert sorted(found.values()) == [0, 1, 2, 3]
    assert all(section.extension == extension for (extension, _), section in found.items())
    assert [Section.PACKAGES.key(old), Section.PACKAGES_CONDA.key(conda)] == ["a-1-0.tar.bz2", "a-1-0.conda"]
    assert Section.V3_CONDA.key(conda) == Section.V3_TAR_BZ2.key(old) == "a-1-0"


def test_json_is_the_same_for_equal_records():
    assert json_bytes({"b": 1, "a": {"d": [], "c": "\u00fc"}}) == '{"a":{"c":"\u00fc","d":[]},"b":1}'.encode()


def test_shards_hold_hashes_as_bytes():
    whole = {
        "md5": "0f" * 16,
        "sha256": "ab" * 32,
        "legacy_bz2_md5": "01" * 16,
        "attestations_sha256": "cd" * 32,
        "size": 5,
    }
    value = shard_value(whole)
    assert value == {
        "md5": b"\x0f" * 16, "sha256": b"\xab" * 32, "legacy_bz2_md5": b"\x01" * 16, "attestations_sha256": b"\xcd" * 32,
        "size": 5,
    }  # fmt: skip
    assert whole["md5"] == "0f" * 16
    assert shard_value({"md5": None, "sha256": b"x"}) == {"md5": None, "sha256": b"x"}


# --- oracles -------------------------------------------------------------------------------------------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
_specs = st.sampled_from(["a", "a >=1", "a 1.0 b*", 'a[when="b"]', "a=1", "A", "a[extras=[x]]", "a 2.*", "!!"])
_fields = {
    **dict.fromkeys(
        ["arch", "platform", "license", "license_family", "features", "python_site_packages_path", "md5", "sha256",
         "url", "legacy_bz2_md5", "legacy_bz2_size", "size", "run_exports", "indexed_timestamp", "x", "preferred_env"],
        _json | st.just("text"),
    ),
    "track_features": _json | st.sampled_from(["a b", "a,b", ["a"]]),
    "noarch": _json | st.sampled_from(["python", "generic", True]),
    "timestamp": _json | st.integers(0, 2**48),
    "purls": _json | st.sampled_from([["pkg:pypi/a@1.0"], ["pkg:conda/x/y@1?build=b&subdir=s"], ["pkg:a/%41"]]),
    "flags": _json | st.sampled_from([["cuda"], ["a:b"], ["A"]]),
    "depends": _json | st.lists(_specs, max_size=3),
    "constrains": _json | st.lists(_specs, max_size=3),
    "extra_depends": _json | st.dictionaries(st.sampled_from(["t", "T", "a+b"]), st.lists(_specs, max_size=2)),
    "build_number": st.integers(-1, 2**40),
    "schema_version": st.integers(0, 4),
}  # fmt: skip


@settings(max_examples=800, deadline=None)
@given(st.fixed_dictionaries({}, optional=_fields))
def test_whatever_is_accepted_rattler_can_read(tmp_path_factory, changes):
    try:
        artifact = judged(now_ms=None, **changes)
    except PackageRefused:
        return
    entry = {**artifact.record, "md5": "0" * 32, "sha256": "0" * 64, "size": 1}
    filename = Filename.parse(artifact.filename)
    section = section_of(filename.extension, artifact.needs_v3)
    document = {"info": {"subdir": "noarch"}, "packages": {}, "packages.conda": {}}
    if artifact.needs_v3:
        document["v3"] = {"conda": {section.key(filename): entry}}
    else:
        document["packages.conda"] = {section.key(filename): entry}
    path = tmp_path_factory.mktemp("repodata") / "repodata.json"
    path.write_bytes(json_bytes(document))
    read = rattler.RepoData.from_path(path).into_repo_data(rattler.Channel("test"))
    assert [found.file_name for found in read] == ["demo-1.0-h0_0.conda"]
    for text in (*read[0].depends, *read[0].constrains):
        rattler.MatchSpec(text)


INDEXER = """
import asyncio, os, sys
from rattler.index import index_fs
asyncio.run(index_fs(sys.argv[1], write_zst=False, write_shards=False))
os._exit(0)  # rattler's threads now and then crash at the end of the interpreter
"""


def indexed(folder: Path) -> dict[str, dict[str, Any]]:
    """The records py-rattler's indexer writes for a folder of packages, by subdir and file name; v3 ones too."""
    subprocess.run([sys.executable, "-c", INDEXER, str(folder)], check=True, timeout=120)
    found = {}
    for path in folder.glob("*/repodata.json"):
        document = json.loads(path.read_bytes())
        found |= {f"{path.parent.name}/{name}": entry for name, entry in document["packages"].items()}
        found |= {f"{path.parent.name}/{name}": entry for name, entry in document["packages.conda"].items()}
        for extension, entries in document.get("v3", {}).items():
            found |= {f"{path.parent.name}/{stem}.{extension}": entry for stem, entry in entries.items()}
    return found


def as_the_indexer_spells(entry: dict[str, Any]) -> dict[str, Any]:
    """Ours and theirs differ by intent: it rewrites specs and feature lists, and drops keys it does not know."""
    entry = dict(entry)
    for key in ("md5", "sha256", "size", "indexed_timestamp", "run_exports", "schema_version", "app_entry"):
        entry.pop(key, None)
    for key in ("depends", "constrains"):
        if key in entry:
            entry[key] = [str(rattler.MatchSpec(text)) for text in entry[key]]
    if isinstance(features := entry.get("track_features"), list):
        entry["track_features"] = " ".join(features)
    return entry


def ours(path: Path) -> Artifact:
    filename = Filename.parse(path.name)
    with path.open("rb") as file:
        contents = archive.read(file, stem=filename.stem, extension=filename.extension)
    return artifact_of(contents, filename, subdir=path.parent.name, now_ms=None)


MADE = [
    {},
    {"depends": ["python >=3.8", "numpy 1.2.*", "a 1 b*", "c=1"], "index": {"constrains": ["x 2", "y >1,<3"]}},
    {"index": {"license": None, "arch": None, "platform": None, "purls": None, "constrains": []}},
    {"index": {"noarch": True}},
    {"index": {"noarch": "python", "license": "MIT", "license_family": "MIT"}},
    {"index": {"track_features": ["a", "b"], "features": "x"}},
    {"index": {"track_features": "a b", "features": ""}},
    {"index": {"timestamp": 1_500_000_000}},
    {"index": {"python_site_packages_path": "lib/python3.13t/site-packages", "purls": ["pkg:pypi/bar", "pkg:pypi/foo@1.0"]}},
    {"index": {"app_entry": "demo", "schema_version": 2, "md5": "0" * 32, "url": "x", "size": 5, "fn": "y"}},
    {"subdir": "linux-64", "index": {"noarch": "python"}},
    {"subdir": "osx-arm64", "index": {"noarch": False}},
    {"index": {"repodata_revision": 3, "flags": ["cuda", "blas:mkl"], "extra_depends": {"t": ["pytest >=7"]}},
     "depends": ["python >=3.8", "b", 'tomli[when="python <3.11"]', "n 1.2.*", "x[extras=[y],build=b*]"]},
]  # fmt: skip


def test_records_are_those_of_rattlers_indexer(tmp_path):
    for number, made in enumerate(MADE):
        for make in (builders.conda_package, builders.tar_bz2_package):
            filename, data = make(f"demo{number}", "1.0", f"h{number}_0", **made)
            folder = tmp_path / made.get("subdir", "noarch")
            folder.mkdir(exist_ok=True)
            (folder / filename).write_bytes(data)
    packages = [path for path in tmp_path.glob("*/*") if path.suffix in (".conda", ".bz2")]
    assert len(packages) == 2 * len(MADE)
    theirs = indexed(tmp_path)
    for path in packages:
        artifact = ours(path)
        expected = theirs[f"{path.parent.name}/{path.name}"]
        assert as_the_indexer_spells(artifact.record) == as_the_indexer_spells(expected), path.name
        if artifact.needs_v3:
            assert artifact.record["depends"] == expected["depends"]
            assert artifact.record["extra_depends"] == expected["extra_depends"]


@needs_packages
def test_records_of_real_packages_are_those_of_rattlers_indexer(tmp_path):
    for path in PACKAGES:
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / path.parent.name)  # it follows no links
    theirs = indexed(tmp_path)
    for path in PACKAGES:
        expected = theirs[f"{path.parent.name}/{path.name}"]
        assert as_the_indexer_spells(ours(path).record) == as_the_indexer_spells(expected), path.name


@needs_corpus
def test_real_records_would_be_accepted():
    known = {"sysroot_linux-64_2.28_feature_2", "2.12.*mkl*", "pkg:pypi/flask"}  # what rattler cannot read either
    refused = []
    for entry in records()[::5]:
        index = {"build_number": 0, **{key: value for key, value in entry.items() if key not in ("fn", "channel")}}
        filename = Filename.parse(f"{entry['name']}-{entry['version']}-{entry['build']}.conda")
        if index["subdir"] == "noarch":
            index.setdefault("noarch", "generic")  # lost on the way into these records
        try:
            artifact_of(
                Contents(index=index, about={}, run_exports={}, paths=PathsSummary()),
                filename,
                subdir=None,
                now_ms=None,
            )
        except PackageRefused as error:
            if not any(text in error.detail for text in known):
                refused.append((filename.text, index["subdir"], error.detail))
    assert [found for found in refused if not found[1].startswith("tests/")] == []
