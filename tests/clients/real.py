"""Real channels as static files, and what is to be said of them, worked out of these files alone: by plain Python, and by
py-rattler where versions are compared, specs matched and solutions found. Nothing here is our code.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

from rattler import (
    Channel,
    GenericVirtualPackage,
    MatchSpec,
    PackageName,
    RepoDataRecord,
    SparseRepoData,
    Version,
    solve_with_sparse_repodata,
)
from rattler.exceptions import SolverError
from rattler.package import BuildString

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Record = dict[str, Any]
System = Mapping[str, str]  # virtual packages: version, and build where it is not 0
Package = tuple[str, str, str, str]  # name, version, build, channel

ADDRESS = "https://example.org"  # nothing is fetched from there
SNAPSHOTS = ("pytorch", "pkgs-main", "cf-subchannel")
INTEL, ROBOTS = "intel", "robostack-humble"
CORPUS = {INTEL: ("linux-64", "noarch"), ROBOTS: ("linux-64", "linux-aarch64", "osx-arm64", "win-64")}
CHANNELS = (*SNAPSHOTS, *CORPUS)
SECTIONS = {".tar.bz2": "packages", ".conda": "packages.conda"}
BASES = {"pytorch": "pkgs-main", ROBOTS: "cf-subchannel"}
# What a machine has that nobody described to our server.
SYSTEMS: dict[str, System] = {
    "linux-64": {"__unix": "0", "__linux": "4.18", "__glibc": "2.28", "__archspec": "1 x86_64"},
    "linux-aarch64": {"__unix": "0", "__linux": "4.18", "__glibc": "2.28", "__archspec": "1 aarch64"},
    "osx-arm64": {"__unix": "0", "__osx": "13.0", "__archspec": "1 m1"},
    "win-64": {"__win": "10.0", "__archspec": "1 x86_64"},
}


@cache
def version(text: str) -> Version:
    return Version(text)


@cache
def match(spec: str) -> MatchSpec | None:
    """None for a spec that py-rattler cannot read."""
    try:
        return MatchSpec(spec)
    except Exception:  # its errors have no common class
        return None


@cache
def name_of(spec: str) -> str:
    """The name a spec asks for."""
    return re.split(r"[\s<>=!~\[]", spec.strip(), maxsplit=1)[0].lower()


def needs(records: Iterable[Record]) -> set[str]:
    """The names that some records depend on; what a machine has (`__glibc`) is in no channel."""
    names = {name_of(spec) for record in records for spec in record["depends"]}
    return {name for name in names if not name.startswith("__")}


@dataclass(frozen=True)
class Tally:
    """The dependencies of a channel: how many there are, and are met inside; what it lacks; how many of these the channel
    has that it builds on, and each other channel where that has not; and what nobody has, with the packages that need it.
    """

    total: int
    inside: int
    lacking: set[str]
    base: int
    others: dict[str, int]
    elsewhere: int
    unmet: dict[str, list[str]]


@dataclass
class Static:
    """`records` by channel, subdir and file name, as they stand in `folder`; without those that are another file's, of which
    the corpus has some and nobody can make use. `left_out` says how many these are.
    """

    folder: Path
    records: dict[tuple[str, str], dict[str, Record]] = field(default_factory=dict)
    left_out: dict[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def written(cls, shared: Path, folder: Path) -> Static:
        """The snapshots as they are, and two channels from the corpus. Intel's has what pytorch for linux-64 needs, MKL and a
        Python: of pkgs-main there are only noarch and another platform. Most of its records are from before SHA-256, without
        which we serve no file; they get one here. RoboStack's is for several platforms and builds on conda-forge, of which
        cf-subchannel is a part. Of pytorch and RoboStack there is no noarch.
        """
        self = cls(folder)
        for channel in SNAPSHOTS:
            for path in sorted((shared / "repodata" / channel).glob("*/repodata.json.zst")):
                self.write(channel, path.parent.name, zstd.decompress(path.read_bytes()))
        found: dict[tuple[str, str], dict[str, Record]] = {}
        with zstd.open(shared / "corpus.jsonl.zst", "rb") as file:
            for line in io.TextIOWrapper(file, encoding="utf-8"):
                if f'"{INTEL}"' in line or f'"{ROBOTS}"' in line:
                    record = json.loads(line)
                    channel, filename, subdir = record.pop("channel"), record.pop("fn"), record["subdir"]
                    if subdir in CORPUS.get(channel, ()):
                        record.setdefault("sha256", hashlib.sha256(filename.encode()).hexdigest())
                        found.setdefault((channel, subdir), {})[filename] = record
        for (channel, subdir), records in found.items():
            self.write(channel, subdir, document(subdir, records))
        return self

    def write(self, channel: str, subdir: str, body: bytes) -> None:
        place = self.folder / channel / subdir
        place.mkdir(parents=True, exist_ok=True)
        for filename, data in {"repodata.json": body, "repodata.json.zst": zstd.compress(body)}.items():
            (place / "new").write_bytes(data)
            (place / "new").replace(place / filename)  # py-rattler holds the old one mapped
        for name in ("by_name", "names", "sparse"):
            self.__dict__.pop(name, None)
        read = json.loads(body)
        found = {filename: one for section in SECTIONS.values() for filename, one in read.get(section, {}).items()}
        self.records[channel, subdir] = {filename: one for filename, one in found.items() if is_of(one, filename)}
        self.left_out[channel, subdir] = len(found) - len(self.records[channel, subdir])

    # --- what is in it ---------------------------------------------------------------------------------------------

    def of(self, channel: str, name: str, subdirs: Collection[str] | None = None) -> list[Record]:
        """The records of a name, of these subdirs or of all."""
        return [
            record
            for (other, subdir), names in self.by_name.items()
            if other == channel and (subdirs is None or subdir in subdirs)
            for record in names.get(name, ())
        ]

    @cached_property
    def by_name(self) -> dict[tuple[str, str], dict[str, list[Record]]]:
        found: dict[tuple[str, str], dict[str, list[Record]]] = {}
        for place, records in self.records.items():
            names = found.setdefault(place, {})
            for record in records.values():
                names.setdefault(record["name"], []).append(record)
        return found

    @cached_property
    def names(self) -> dict[str, set[str]]:
        return {
            channel: {name for (other, _), names in self.by_name.items() if other == channel for name in names}
            for channel in CHANNELS
        }

    def newest(self, channel: str, name: str, subdirs: Collection[str] | None = None) -> str:
        return max((record["version"] for record in self.of(channel, name, subdirs)), key=version)

    # --- relations -------------------------------------------------------------------------------------------------

    def tally(self, channel: str) -> Tally:
        needed_by: dict[str, set[str]] = {}
        for name in self.names[channel]:
            newest = version(self.newest(channel, name))
            for need in needs(one for one in self.of(channel, name) if version(one["version"]) == newest):
                needed_by.setdefault(need, set()).add(name)
        lacking = needed_by.keys() - self.names[channel]
        base = self.names.get(BASES.get(channel, ""), set())
        others = {other: (lacking - base) & self.names[other] for other in {*CHANNELS} - {channel, BASES.get(channel)}}
        elsewhere = set[str]().union(*others.values())
        return Tally(
            total=len(needed_by),
            inside=len(needed_by.keys() & self.names[channel]),
            lacking=lacking,
            base=len(lacking & base),
            others={other: len(names) for other, names in others.items() if names},
            elsewhere=len(elsewhere),
            unmet={name: sorted(needed_by[name]) for name in sorted(lacking - base - elsewhere)},
        )

    def supplied(self, channel: str, spec: str, subdirs: Collection[str]) -> tuple[str, str | None] | None:
        """The channel that a dependency of a package for these subdirs comes from, and its newest version there that fits:
        "" if none does, None where py-rattler cannot read the spec.

        Clients take a name from the first channel of their list that has it for the platform. Of what is in none of these,
        any other channel may be told, and in the end one that has it for other platforms only.
        """
        name = name_of(spec)
        where = None if "noarch" in subdirs else {*subdirs, "noarch"}  # what runs anywhere may need what does not
        order = [one for one in (BASES.get(channel), channel) if one is not None]
        order += sorted(set(CHANNELS) - set(order))
        having = [one for one in order if self.of(one, name, where)] or [one for one in order if self.of(one, name)]
        if not having:
            return None
        return having[0], self.fitting(having[0], spec, where)

    def fitting(self, channel: str, spec: str, subdirs: Collection[str] | None) -> str | None:
        wanted = match(spec)
        if wanted is None:
            return None
        name = name_of(spec)
        found = [
            record.version
            for (other, subdir), sparse in self.sparse.items()
            if other == channel and (subdirs is None or subdir in subdirs)
            for record in loaded(sparse, name)
            if wanted.matches(record)
        ]
        return str(max(found)) if found else ""

    def shuffled(self, channels: Collection[str], seed: int) -> Static:
        """Some channels with their records in another order: of builds alike in version and build number py-rattler takes
        the one that it sees first.
        """
        made = Static(self.folder.with_name(f"shuffled-{seed}-{'-'.join(channels)}"))
        for (channel, subdir), records in self.records.items():
            if channel in channels:
                some = list(records.items())
                random.Random(seed).shuffle(some)
                made.write(channel, subdir, document(subdir, dict(some)))
        return made

    # --- solutions -------------------------------------------------------------------------------------------------

    @cached_property
    def sparse(self) -> dict[tuple[str, str], SparseRepoData]:
        return {
            (channel, subdir): SparseRepoData(
                Channel(f"{ADDRESS}/{channel}"), subdir, self.folder / channel / subdir / "repodata.json"
            )
            for channel, subdir in self.records
        }

    def solve(
        self, channels: Sequence[str], platform: str, spec: str, system: System | None = None
    ) -> set[Package] | None:
        """What py-rattler installs from these channels, the first before the others; none if nothing can be. A spec may
        begin with its channel, `pytorch::`.
        """
        sources = [
            self.sparse[channel, subdir]
            for channel in channels
            for subdir in (platform, "noarch")
            if (channel, subdir) in self.sparse
        ]
        virtual = [
            GenericVirtualPackage(PackageName(name), Version(said.split()[0]), BuildString((*said.split(), "0")[1]))
            for name, said in (SYSTEMS[platform] if system is None else system).items()
        ]
        wanted = MatchSpec(f"{ADDRESS}/{spec}" if "::" in spec else spec)

        async def solved() -> list[RepoDataRecord]:
            return await solve_with_sparse_repodata([wanted], sources, virtual_packages=virtual)

        try:
            found = asyncio.run(solved())
        except SolverError:
            return None
        return {
            (one.name.normalized, str(one.version), str(one.build), str(one.channel).rstrip("/").rpartition("/")[2])
            for one in found
        }


def is_of(record: Record, filename: str) -> bool:
    stem = f"{record['name']}-{record['version']}-{record['build']}"
    return filename in {stem + ending for ending in SECTIONS}


def document(subdir: str, records: Mapping[str, Record]) -> bytes:
    """A repodata.json."""
    sections = {
        section: {filename: record for filename, record in records.items() if filename.endswith(ending)}
        for ending, section in SECTIONS.items()
    }
    return json.dumps({"info": {"subdir": subdir}, **sections}).encode()


def lists(home: str) -> Iterator[tuple[str, ...]]:
    """Every list of channels with a package's own in it, the smaller ones first: what it builds on goes before it, and
    channels that are not related after it, in any order.
    """
    base = BASES.get(home)
    related = [(home,)] if base is None else [(home,), (base, home)]
    others = [channel for channel in CHANNELS if channel not in {home, base}]
    found = [
        (*first, *order)
        for first in related
        for size in range(len(others) + 1)
        for some in combinations(others, size)
        for order in permutations(some)
    ]
    yield from sorted(found, key=len)


@cache
def loaded(sparse: SparseRepoData, name: str) -> list[RepoDataRecord]:
    return sparse.load_records(PackageName(name))
