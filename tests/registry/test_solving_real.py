"""Real channels: pytorch, and what it is built on. Every answer is held against py-rattler's own solve over the very
documents, without shards, rows or children.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from itertools import permutations

import pytest
from rattler import (
    Channel,
    GenericVirtualPackage,
    MatchSpec,
    PackageName,
    SparseRepoData,
    Version,
    solve_with_sparse_repodata,
)
from rattler.exceptions import SolverError
from rattler.package import BuildString

from fairway.registry import virtual
from fairway.registry.actor import NOBODY
from tests.registry.world import World
from tests.support.rows import load

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LINUX = virtual.system("linux-64")
ASKED = ("pytorch", "torchvision", "torchaudio", "torchtext", "faiss-cpu", "faiss-gpu", "ffmpeg", "torchserve",
         "pytorch-cuda", "magma-cuda121", "ignite", "captum")  # fmt: skip


@pytest.fixture(scope="module")
def documents(shared):
    """Records by channel, subdir and file name. pytorch is for linux-64; of what its users take the rest from, there are
    pkgs-main for noarch, and for linux-64 the channel of Intel and a part of conda-forge.
    """
    found = {}
    for channel, subdir in (("pytorch", "linux-64"), ("pkgs-main", "noarch"), ("cf-subchannel", "linux-64"),
                            ("cf-subchannel", "noarch")):  # fmt: skip
        document = json.loads(
            zstd.decompress((shared / "repodata" / channel / subdir / "repodata.json.zst").read_bytes())
        )
        found[channel, subdir] = document["packages"] | document["packages.conda"]
    with zstd.open(shared / "corpus.jsonl.zst", "rb") as file:
        for line in io.TextIOWrapper(file, encoding="utf-8"):
            if '"channel":"intel"' in line.replace(" ", "") and ('"linux-64"' in line or '"noarch"' in line):
                record = json.loads(line)
                place = record.pop("channel"), record["subdir"]
                found.setdefault(place, {})[record.pop("fn")] = record
    return found


@pytest.fixture(scope="module")
def static(documents, tmp_path_factory):
    """The same as files, as py-rattler reads them."""
    made = {}
    for (channel, subdir), records in documents.items():
        path = tmp_path_factory.mktemp("static") / "repodata.json"
        sections = {"packages": ".tar.bz2", "packages.conda": ".conda"}
        document = {
            key: {name: record for name, record in records.items() if name.endswith(end)}
            for key, end in sections.items()
        }
        path.write_text(json.dumps({"info": {"subdir": subdir}, **document}))
        made[channel, subdir] = SparseRepoData(Channel(f"https://example.org/{channel}"), subdir, path)
    return made


@pytest.fixture
def world(fairway, documents):
    world = World(fairway)
    for channel, subdir in documents:
        if fairway.lookup.view().gate(channel, rows=True) is None:
            world.channel(channel, "public")
        load(fairway, channel, subdir, documents[channel, subdir])
    return world


def by_hand(static, channels, spec):
    """What py-rattler installs from these channels; none if nothing can be."""
    sources = [
        static[channel, subdir]
        for channel in channels
        for subdir in ("linux-64", "noarch")
        if (channel, subdir) in static
    ]
    system = [
        GenericVirtualPackage(PackageName(one.name), Version(one.version), BuildString(one.build))
        for one in LINUX.virtual
    ]

    async def solve():
        return await solve_with_sparse_repodata([MatchSpec(spec)], sources, virtual_packages=system)

    try:
        found = asyncio.run(solve())
    except SolverError:
        return None
    return {
        (one.name.normalized, str(one.version), str(one.build), one.channel.rstrip("/").rpartition("/")[2])
        for one in found
    }


def test_answers_are_those_of_py_rattler_over_the_static_files(world, documents, static):
    channels = sorted({channel for channel, _ in documents})
    others = [one for one in channels if one != "pytorch"]
    solved = 0
    for name in ASKED:
        if not any(record["name"] == name for record in documents["pytorch", "linux-64"].values()):
            continue
        found = world.app.solving.which(NOBODY, "pytorch", name, LINUX)
        spec = f"https://example.org/pytorch::{name}"
        if not found.solvable:
            orders = [order for size in range(4) for order in permutations(others, size)]
            assert all(by_hand(static, ["pytorch", *order], spec) is None for order in orders), name
            continue
        solved += 1
        chosen = [one.name for one in found.channels]
        # what it takes else may depend on whether a version was asked for
        same = by_hand(static, chosen, f"{spec} =={found.version}" if found.version == found.newest else spec)
        assert {(one.name, one.version, one.build, one.channel) for one in found.packages} == same, name
        assert found.smallest, name
        for size in range(len(chosen) - 1):
            for order in permutations(others, size):
                assert by_hand(static, ["pytorch", *order], f"{spec} =={found.version}") is None, (name, order)
        if found.version != found.newest:
            for size in range(4):
                for order in permutations(others, size):
                    assert by_hand(static, ["pytorch", *order], f"{spec} =={found.newest}") is None, (name, order)
            assert found.reason, name
    assert solved >= 4


def test_torchvision_needs_what_pytorch_does(world):
    found = {
        name: [one.name for one in world.app.solving.which(NOBODY, "pytorch", name, LINUX).channels]
        for name in ("pytorch", "torchvision", "torchaudio")
    }
    assert found == {name: ["pytorch", "intel"] for name in found}


def test_every_package_of_a_channel_gets_an_answer(world, documents):
    """All 49 of pytorch, one after the other: readable reasons, and no channel that is not used."""
    for name in sorted({record["name"] for record in documents["pytorch", "linux-64"].values()}):
        found = world.app.solving.which(NOBODY, "pytorch", name, LINUX)
        assert found.decided, name
        if found.solvable:
            assert {one.channel for one in found.packages} == {one.name for one in found.channels}, name
        else:
            assert found.reason.endswith("."), name
            assert found.explanation, name
