"""Our index says what rattler's own indexer says of the same files, flat and sharded; each difference has its reason.

What differs always, and is taken away before the comparison:

- `indexed_timestamp`: both write it, each the time at which it saw the file. Ours never changes (CEP 47).
- `removed` in a shard, `info.created_at`: optional, and left out so that equal content has equal bytes.
- `info.repodata_revisions` (CEP 48): optional counts for the eyes of people; we do not write them.
- the spelling of dependencies: rattler writes `a=1.2` anew as `a 1.2.*`. We leave them as the package has them, except
  under v3, where CEP 48 demands the spelling; there the texts must be equal.
- `run_exports` of a `.tar.bz2`: rattler does not read them. Empty ones: `{}`, `{"weak": []}` and none say the same.

Two more are tested below: `track_features` as a list, and fields that rattler does not know.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rattler import MatchSpec

from tests.clients.clients import Client
from tests.clients.live import Channel, Live, Package
from tests.support.builders import conda_package, tar_bz2_package

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Start = Callable[..., Client]
Records = dict[tuple[str, str], dict[str, Any]]  # by section ("packages", "v3/conda", ...) and key in it

HASHES = ("md5", "sha256")
SHARD_INDEX = "repodata_shards.msgpack.zst"


@dataclass(frozen=True)
class Index:
    """The records of one subdir, in both projections; hashes as text in both."""

    flat: Records
    sharded: Records


def sections(document: Mapping[str, Any]) -> Records:
    v3 = {f"v3/{extension}": records for extension, records in document.get("v3", {}).items()}
    named = {"packages": document["packages"], "packages.conda": document["packages.conda"], **v3}
    return {(section, key): record for section, records in named.items() for key, record in records.items()}


def unpacked(data: bytes) -> Any:
    return msgspec.msgpack.decode(zstd.decompress(data))


def read(get: Callable[[str], bytes]) -> Index:
    """Read what a client could; `get` fetches below the subdir."""
    flat = json.loads(get("repodata.json"))
    assert json.loads(zstd.decompress(get("repodata.json.zst"))) == flat
    sharded: Records = {}
    for name, digest in unpacked(get(SHARD_INDEX))["shards"].items():
        data = get(f"shards/{digest.hex()}.msgpack.zst")
        assert hashlib.sha256(data).digest() == digest
        found = sections(unpacked(data))
        assert {record["name"] for record in found.values()} == {name}
        sharded |= found
    for record in sharded.values():
        for key in HASHES:
            assert isinstance(record[key], bytes)
            record[key] = record[key].hex()
    return Index(sections(flat), sharded)


def ours(channel: Channel, subdir: str) -> Index:
    def get(path: str) -> bytes:
        answer = channel.get(f"{subdir}/{path}")
        assert answer.status_code == 200, path
        return answer.content

    return read(get)


Compare = Callable[..., tuple[Index, Index]]


@pytest.fixture
def index(live: Live, client: Start, tmp_path: Path) -> Compare:
    """Publish and index the same files: `index(subdir, *packages)` gives ours and rattler's."""

    def both(subdir: str, *packages: Package) -> tuple[Index, Index]:
        folder = tmp_path / "folder"
        for name in {"noarch", subdir}:
            (folder / name).mkdir(parents=True)
        for filename, data in packages:
            (folder / subdir / filename).write_bytes(data)
        client().do("index", folder=folder, options={"repodata_revisions": ["v3"]})
        channel = live.channel("private", *packages)
        return ours(channel, subdir), read(lambda path: (folder / subdir / path).read_bytes())

    return both


def without(records: Records, *keys: str) -> Records:
    return {at: {key: record[key] for key in record if key not in keys} for at, record in records.items()}


def meaning(records: Records, *, unknown: tuple[str, ...] = ()) -> Records:
    """Records with what differs always taken away."""
    found = without(records, "indexed_timestamp", *unknown)
    for (section, _), record in found.items():
        exports = record.pop("run_exports", {})
        if any(exports.values()) and not section.endswith(("packages", "tar.bz2")):
            record["run_exports"] = {kind: specs for kind, specs in exports.items() if specs}
        if not section.startswith("v3/"):
            for key in record.keys() & {"depends", "constrains"}:
                record[key] = [str(MatchSpec(text)) for text in record[key]]
    return found


def assert_equal(mine: Index, theirs: Index, *, unknown: tuple[str, ...] = ()) -> None:
    """Equal but for the differences named above; `unknown` are keys that rattler drops."""
    assert mine.sharded
    assert all(record.keys() >= set(unknown) for record in mine.sharded.values())
    assert meaning(mine.sharded, unknown=unknown) == meaning(theirs.sharded)
    assert meaning(mine.flat, unknown=unknown) == meaning(theirs.flat)
    # both of our projections are one, its time included
    assert mine.flat == mine.sharded


EVERYTHING = {
    "arch": "x86_64",
    "platform": "linux",
    "license": "MIT AND (Apache-2.0 WITH LLVM-exception)",
    "license_family": "MIT",
    "features": "mkl",
    "track_features": "mkl debug",
    "constrains": ["other <3", "more !=2.0"],
    "python_site_packages_path": "lib/python3.13t/site-packages",
    "purls": ["pkg:pypi/tool@1.0"],
}
EXPORTS = {
    "weak": ["tool >=1,<2"],
    "strong": ["tool"],
    "noarch": ["tool >=1"],
    "weak_constrains": ["other <3"],
    "strong_constrains": ["more"],
}
PLAIN: dict[str, tuple[str, list[Package]]] = {
    "noarch generic": ("noarch", [conda_package("tool", depends=["a >=1", "b 2.*", "c", "__unix"])]),
    "noarch python": ("noarch", [conda_package("tool", depends=["python >=3.9"], index={"noarch": "python"})]),
    "noarch true": ("noarch", [conda_package("tool", index={"noarch": True})]),
    "platform": ("linux-64", [conda_package("tool", subdir="linux-64", depends=["libgcc >=13", "__glibc >=2.28"])]),
    "windows": ("win-64", [tar_bz2_package("tool", subdir="win-64", depends=["vc >=14.2,<15"])]),
    "abi3": ("linux-64", [conda_package("tool", subdir="linux-64", index={"noarch": "python"})]),
    "tar.bz2": ("noarch", [tar_bz2_package("tool", depends=["a"])]),
    "both formats": ("noarch", [conda_package("tool"), tar_bz2_package("tool")]),
    "every field": ("linux-64", [conda_package("tool", subdir="linux-64", index=EVERYTHING)]),
    "nulls": ("noarch", [conda_package("tool", index={"arch": None, "platform": None, "license": None})]),
    "empty lists": ("noarch", [conda_package("tool", index={"constrains": [], "track_features": ""})]),
    "no timestamp": ("noarch", [conda_package("tool", index={"timestamp": None})]),
    "seconds": ("noarch", [conda_package("tool", index={"timestamp": 1_500_000_000})]),
    "run_exports": ("noarch", [conda_package("tool", run_exports=EXPORTS)]),
    "run_exports of a tar.bz2": ("noarch", [tar_bz2_package("tool", run_exports=EXPORTS)]),
    "no run_exports": ("noarch", [conda_package("tool", run_exports={})]),
    "empty run_exports": ("noarch", [conda_package("tool", run_exports={"weak": []})]),
    "odd names": (
        "linux-64",
        [
            conda_package("_libgcc_mutex", "0.1", "conda_forge", subdir="linux-64"),
            conda_package("tool.x-y", "1!2.0+cu12", "h0_0", subdir="linux-64"),
        ],
    ),
    "other alphabets": ("noarch", [conda_package("tool", index={"license": "Ω-Lizenz „frei“"})]),
    "many": (
        "noarch",
        [
            conda_package(name, version, f"py_{build}")
            for name in "abc"
            for version in ("1.0", "1.10", "2.0rc1")
            for build in (0, 1)
        ],
    ),
    "specs of all sorts": (
        "noarch",
        [
            conda_package(
                "tool",
                depends=[
                    "a 1.2.*",
                    "b >=1,<2.0a0",
                    "c >1|<0.5",
                    "d 1.0 py_0",
                    "e =1.2",
                    "f ==1.2",
                    "g ~=1.4",
                    "h * *_cp311",
                ],
            )
        ],
    ),
}


@pytest.mark.parametrize("shape", PLAIN)
def test_records_equal_those_of_rattler(index: Compare, shape: str) -> None:
    subdir, packages = PLAIN[shape]
    mine, theirs = index(subdir, *packages)
    assert len(mine.flat) == len(packages)
    assert_equal(mine, theirs)


V3: dict[str, list[Package]] = {
    "revision": [conda_package("tool", depends=["a >=1.2", "b"], index={"repodata_revision": 3, "flags": ["cuda"]})],
    "condition": [conda_package("tool", depends=['a[version=">=1", when="python >=3.10"]', "b 2.*"])],
    "wanted extras": [conda_package("tool", depends=['a[version=">=1,<2", extras=[x, y]]'])],
    "own extras": [conda_package("tool", index={"repodata_revision": 3, "extra_depends": {"x": ["a <3"], "y": ["b"]}})],
    "both formats": [
        conda_package("tool", index={"repodata_revision": 3, "flags": ["blas:mkl"]}),
        tar_bz2_package("tool", index={"repodata_revision": 3, "flags": ["blas:mkl"]}),
    ],
    "beside others": [conda_package("tool", "1.0"), conda_package("tool", "2.0", depends=['a[when="__unix"]'])],
}


@pytest.mark.parametrize("shape", V3)
def test_v3_records_equal_those_of_rattler(index: Compare, shape: str) -> None:
    mine, theirs = index("noarch", *V3[shape])
    assert any(section.startswith("v3/") for section, _ in mine.flat)
    assert_equal(mine, theirs)


@pytest.mark.parametrize("fields", [{"flags": ["cuda"]}, {"schema_version": 3}])
def test_what_older_clients_would_misread_stands_under_v3_only(index: Compare, fields: dict[str, Any]) -> None:
    """CEP 44, 45 and 48 ask for that. rattler's indexer looks at `repodata_revision` and the dependencies alone, and
    leaves these among the packages for everybody.
    """
    mine, theirs = index("noarch", conda_package("tool", depends=["a >=1"], index=fields))
    assert list(theirs.flat) == [("packages.conda", "tool-1.0-h0_0.conda")]
    (at, record), *rest = mine.flat.items()
    assert (at, rest) == (("v3/conda", "tool-1.0-h0_0"), [])
    assert record["depends"] == ['a[version=">=1"]']
    assert mine.sharded.keys() == mine.flat.keys()


def test_a_list_of_track_features_keeps_its_shape(index: Compare) -> None:
    mine, theirs = index("noarch", conda_package("tool", index={"track_features": ["mkl", "debug"]}))
    for records in (mine.flat, mine.sharded):
        assert records["packages.conda", "tool-1.0-h0_0.conda"]["track_features"] == ["mkl", "debug"]
    for records in (theirs.flat, theirs.sharded):
        assert records["packages.conda", "tool-1.0-h0_0.conda"]["track_features"] == "mkl debug"


def test_what_the_old_format_exports_is_known_too(index: Compare) -> None:
    mine, theirs = index("noarch", tar_bz2_package("tool", run_exports=EXPORTS))
    at = ("packages", "tool-1.0-h0_0.tar.bz2")
    assert mine.sharded[at]["run_exports"] == EXPORTS
    assert "run_exports" not in theirs.sharded[at]


def test_fields_that_rattler_does_not_know_are_passed_on(index: Compare) -> None:
    fields = {"app_entry": "tool", "summary": "a tool", "x-lab": {"room": 7}}
    mine, theirs = index("noarch", conda_package("tool", index=fields))
    assert_equal(mine, theirs, unknown=tuple(fields))
    (record,) = mine.flat.values()
    assert {key: record[key] for key in fields} == fields


def test_fields_that_only_a_server_may_write_are_not_taken_from_a_package(index: Compare) -> None:
    lies = {"sha256": "0" * 64, "md5": "0" * 32, "size": 1, "url": "http://127.0.0.1/x", "fn": "x", "channel": "x"}
    package = conda_package("tool", index={**lies, "indexed_timestamp": 1})
    mine, theirs = index("noarch", package)
    assert_equal(mine, theirs)
    (record,) = mine.flat.values()
    assert (record["sha256"], record["size"]) == (hashlib.sha256(package[1]).hexdigest(), len(package[1]))
    assert record["indexed_timestamp"] > 1_700_000_000_000


@pytest.mark.parametrize("subdir", ["noarch", "linux-64", "osx-64", "win-64"])
def test_real_packages_equal(index: Compare, shared: Path, subdir: str) -> None:
    packages = [(path.name, path.read_bytes()) for path in sorted((shared / "packages" / subdir).iterdir())]
    mine, theirs = index(subdir, *packages)
    assert len(mine.flat) == len(packages)
    assert_equal(mine, theirs)


def test_the_shard_index_is_plain_msgpack_of_the_right_types(live: Live) -> None:
    channel = live.channel("private", conda_package("tool"), tar_bz2_package("old"))
    document = unpacked(channel.get(f"noarch/{SHARD_INDEX}").content)
    assert document["version"] == 1
    assert document["info"] == {"subdir": "noarch", "base_url": "", "shards_base_url": "./shards/"}
    assert list(document["shards"]) == ["old", "tool"]
    for name, digest in document["shards"].items():
        assert isinstance(digest, bytes)
        assert len(digest) == 32
        shard = unpacked(channel.get(f"noarch/shards/{digest.hex()}.msgpack.zst").content)
        assert shard.keys() == {"packages", "packages.conda"}
        assert [len(shard[key]) for key in shard] == ([1, 0] if name == "old" else [0, 1])


def test_the_index_of_an_empty_subdir_is_read_like_any_other(live: Live) -> None:
    channel = live.channel("private", conda_package("tool"))
    for subdir in ("linux-64", "win-arm64"):
        assert ours(channel, subdir) == Index({}, {})
    channel.delete("noarch", "tool-1.0-h0_0.conda")
    assert ours(channel, "noarch") == Index({}, {})
    assert channel.get("noarch/repodata.json").json()["removed"] == ["tool-1.0-h0_0.conda"]


def test_reindexing_changes_no_byte(live: Live) -> None:
    packages = [package for subdir, made in PLAIN.values() if subdir == "noarch" for package in made]
    channel = live.channel("private", *dict(packages + V3["condition"]).items())
    channel.put(conda_package("lib", subdir="linux-64", run_exports=EXPORTS))

    def everything() -> dict[str, bytes]:
        names = (SHARD_INDEX, "repodata.json", "repodata.json.zst", "run_exports.json", "run_exports.json.zst")
        paths = [f"{subdir}/{name}" for subdir in ("noarch", "linux-64") for name in names]
        return {path: channel.get(path).content for path in paths}

    before, indexes = everything(), [ours(channel, subdir) for subdir in ("noarch", "linux-64")]
    assert "Reindexed 2 subdirs" in live.server.cli("reindex", channel.name).stdout
    assert everything() == before
    assert [ours(channel, subdir) for subdir in ("noarch", "linux-64")] == indexes
    # and a version after it is built from what was published, not from what was seen last
    channel.put(conda_package("lib", "2.0", subdir="linux-64"))
    assert len(ours(channel, "linux-64").sharded) == 2
