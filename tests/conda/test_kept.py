"""What is kept of a package in rows and documents is bounded: a small file may not cost megabytes for good."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest

from fairway.conda import archive
from fairway.conda.artifact import Artifact
from fairway.conda.infofiles import SCRIPTS
from fairway.conda.names import Filename
from fairway.conda.record import MAX_RECORD, artifact_of, json_bytes
from fairway.conda.text import MAX_ABOUT
from fairway.errors import PackageRefused
from tests.conda.corpus import needs_corpus, records
from tests.support import builders as b

KEPT = 3 << 20  # bytes of all that a package of some kilobytes may leave in the database


def judged(made: tuple[str, bytes]) -> Artifact:
    filename = Filename.parse(made[0])
    contents = archive.read(io.BytesIO(made[1]), stem=filename.stem, extension=filename.extension)
    return artifact_of(contents, filename, subdir=None, now_ms=None)


def code(**options: Any) -> str:
    """The code of the refusal, "" for none."""
    try:
        judged(b.conda_package(**options))
    except PackageRefused as refusal:
        return refusal.code
    return ""


def test_a_record_has_a_largest_size():
    size = len(json_bytes(judged(b.conda_package(index={"unknown": ""})).record))
    assert code(index={"unknown": "x" * (MAX_RECORD - size)}) == ""
    assert code(index={"unknown": "x" * (MAX_RECORD - size + 1)}) == "metadata_too_large"
    assert code(index={"unknown": [{"a": "é" * 100}] * 400}) == "metadata_too_large"
    # what is not published of it does not count
    assert code(index={"metadata": "x" * MAX_RECORD, "unknown": None}) == ""


def test_so_has_one_that_grows_when_it_is_written_for_v3():
    depends = [f"{'n' * 20}{i} 1.0 h{'0' * 5}" for i in range(1500)]
    assert code(depends=depends) == ""
    assert code(depends=depends, index={"schema_version": 3}) == "metadata_too_large"


def test_and_so_have_run_exports():
    most = MAX_RECORD - len(b'{"weak":[""]}')
    assert code(run_exports=["x" * most]) == ""
    assert code(run_exports=["x" * (most + 1)]) == "metadata_too_large"
    assert code(run_exports={"weak": ["demo >=1"] * 10_000}) == "metadata_too_large"


@needs_corpus
def test_real_records_are_far_from_it():
    assert 5 * max(len(json_bytes(record)) for record in records()) <= MAX_RECORD


@pytest.mark.parametrize("name", ["bin/.{}-post-link.sh", "bin/.{}-pre-unlink.sh", "Scripts/.{}-pre-link.bat"])
def test_scripts_are_counted(name):
    names = [name.format(i) for i in range(SCRIPTS + 1)]
    listed = dict.fromkeys(names, b"")
    assert code(files={}, paths=b.paths_json(listed)) == "paths_invalid"
    assert code(files=listed, paths=b.paths_json({})) == "too_many_members"
    del listed[names[0]]
    assert judged(b.conda_package(files=listed)).paths.scripts == tuple(sorted(listed))


def test_the_largest_of_about_is_left_out():
    about = {
        "root_pkgs": ["x" * 100] * 5_000,
        "summary": "A demo",
        "description": "d" * 60_000,
        "extra": {str(i): "x" * 90 for i in range(900)},
        "home": "https://example.org",
    }
    kept = judged(b.conda_package(about=about)).about
    assert kept == {key: about[key] for key in ("summary", "description", "home")}
    assert len(orjson.dumps(kept)) <= MAX_ABOUT


def test_about_within_the_size_is_kept_whole():
    about = {"root_pkgs": ["x" * 100] * 1_000, "summary": "A demo", "extra": {"a": [1, None, True]}}
    assert judged(b.conda_package(about=about)).about == about


def test_names_of_licences_count():
    names = ["info/licenses" + ("/" + "x" * 250) * 15 + f"/{i:04}" for i in range(2_000)]
    members = [part for name in names for part in (b.long_name(name), b.Member("x", b"1"))]
    made = b.conda_package(info_members=members)
    assert len(made[1]) < 100_000
    licences = judged(made).licences
    assert 400 < len(licences) < 600
    assert sum(len(name) + len(text) for name, text in licences) < KEPT


def test_all_of_it_together():
    made = b.conda_package(
        index={"unknown": "x" * 60_000},
        run_exports=["x" * 60_000],
        about={str(i): "x" * 60_000 for i in range(16)},
        paths=b.paths_json({f"bin/.{i}{'x' * 200}-post-link.sh": b"" for i in range(SCRIPTS)}),
        info={f"info/licenses/{i}": b"x" * (256 << 10) for i in range(20)}
        | {"info/recipe/meta.yaml": b"x" * (1 << 20)},
    )
    assert len(made[1]) < 100_000
    artifact = judged(made)
    kept = (artifact.record, artifact.run_exports, artifact.about, artifact.licences, artifact.recipe)
    assert len(orjson.dumps((*kept, artifact.paths.scripts))) < KEPT
