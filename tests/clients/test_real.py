"""Real channels through our server: pytorch, which builds on pkgs-main, a part of conda-forge with RoboStack on it, and the
channel of Intel, each the upstream of a channel here. Whatever is said of them is held against the static files
(`tests.clients.real`).

What these files cannot show: the snapshot of pytorch is of linux-64, that of pkgs-main of linux-aarch64 and noarch. So
nothing of pytorch that needs a Python installs from these two. It does with Intel's channel, which no relation leads to;
and pkgs-main alone is solved for linux-aarch64. Of conda-forge there are sixty names, too few for any robot.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest

from fairway.registry.dependencies import SPECS_SHOWN
from tests.clients.clients import Client
from tests.clients.real import (
    BASES,
    CHANNELS,
    INTEL,
    SECTIONS,
    Package,
    Record,
    Static,
    System,
    document,
    lists,
    name_of,
    version,
)
from tests.clients.serving_real import Real, serving
from tests.support.waiting import eventually

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.xdist_group("real")  # one server for all
ALL = os.environ.get("FAIRWAY_TEST_REAL") == "all"  # every package's page, and sixty solves more for each: four minutes
WHERE = ("url", "fn", "channel")  # where a file is: ours to say
MINE = "indexed_timestamp"

# Which of them can be solved is for py-rattler to say.
QUESTIONS = {
    "pytorch linux-64": "pytorch torchvision torchaudio torchserve pytorch-cuda faiss-cpu faiss-gpu libfaiss ffmpeg "
    "libjpeg-turbo magma-cuda121 cuda92",
    "pytorch linux-aarch64": "pytorch",
    "pkgs-main linux-aarch64": "python numpy jupyterlab pytorch torchvision lit basemap keras-gpu conda",
    "pkgs-main linux-64": "requests tzdata flask",
    "pkgs-main osx-arm64": "requests",
    "pkgs-main win-64": "tzdata sympy",
    "cf-subchannel linux-64": "python pypy3.9 curl",
    "intel linux-64": "numpy mkl tensorflow",
    "robostack-humble osx-arm64": "ros-humble-rclcpp",
}


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    with serving(shared, tmp_path_factory.mktemp("real")) as real:
        yield real


# --- records --------------------------------------------------------------------------------------------------------


def expected(record: Record, subdir: str) -> Record:
    """What we serve of a record, but for the time at which it was first seen: all of it, unknown keys too."""
    kept = {key: value for key, value in record.items() if key not in WHERE}
    return {"constrains": [], **kept, "subdir": subdir}


def compare(real: Real, channel: str, subdir: str, served: dict[str, dict[str, Record]]) -> None:
    wanted = real.static.records[channel, subdir]
    assert sum(map(len, served.values())) == len(wanted)
    now = int(time.time() * 1000)
    for ending, section in SECTIONS.items():
        found = served[section]
        assert found.keys() == {filename for filename in wanted if filename.endswith(ending)}
        for filename, record in found.items():
            assert real.began <= record.pop(MINE) <= now
            assert record == expected(wanted[filename], subdir), filename


def unpacked(data: bytes) -> Any:
    return msgspec.msgpack.decode(zstd.decompress(data))


def test_every_record_is_in_the_flat_documents(real: Real) -> None:
    for channel, subdir in real.static.records:
        body = real.get(f"/{channel}/{subdir}/repodata.json").content
        assert zstd.decompress(real.get(f"/{channel}/{subdir}/repodata.json.zst").content) == body
        document = json.loads(body)
        base = {"channel_relations": {"base": f"../{BASES[channel]}"}} if channel in BASES else {}
        assert document["info"] == {"subdir": subdir, **base}
        compare(real, channel, subdir, {section: document[section] for section in SECTIONS.values()})


def test_every_record_is_in_the_shards(real: Real) -> None:
    for channel, subdir in real.static.records:
        index = unpacked(real.get(f"/{channel}/{subdir}/repodata_shards.msgpack.zst").content)
        assert index["shards"].keys() == real.static.by_name[channel, subdir].keys()
        served: dict[str, dict[str, Record]] = {section: {} for section in SECTIONS.values()}
        for name, digest in index["shards"].items():
            data = real.get(f"/{channel}/{subdir}/shards/{digest.hex()}.msgpack.zst").content
            assert hashlib.sha256(data).digest() == digest
            for section, records in unpacked(data).items():
                for filename, record in records.items():
                    assert record["name"] == name
                    for kind in {"sha256", "md5"} & record.keys():
                        record[kind] = record[kind].hex()
                    served[section][filename] = record
        compare(real, channel, subdir, served)


def test_what_is_counted_and_listed(real: Real) -> None:
    check_listed(real)


def check_listed(real: Real) -> None:
    for channel in CHANNELS:
        view = real.upstream_of(channel)
        subdirs = {subdir: records for (other, subdir), records in real.static.records.items() if other == channel}
        assert {one["name"]: one["records"] for one in view["found"]} == {
            subdir: len(records) for subdir, records in subdirs.items()
        }
        assert {one["name"]: one["left_out"] for one in view["found"]} == {
            subdir: real.static.left_out[channel, subdir] for subdir in subdirs
        }
        assert view["conflicts"] == 0
        assert view["error"] is None
        listed: dict[str, str] = {}
        cursor: str | None = ""
        while cursor is not None:
            page = real.get(f"/api/v1/channels/{channel}/packages", limit="500", cursor=cursor).json()
            listed |= {one["name"]: one["version"] for one in page["items"]}
            cursor = page["cursor"]
        assert listed.keys() == real.static.names[channel]
        newest = {name: version(real.static.newest(channel, name)) for name in listed}
        assert {name: version(text) for name, text in listed.items()} == newest


# --- relations ------------------------------------------------------------------------------------------------------


def number(text: str) -> int:
    return int(re.sub(r"\D", "", text) or 0)


def neighbours(section: str) -> dict[str, int]:
    found = re.findall(r'<li><a href="/channels/([^"]+)">.*?<span class="muted">[a-z]+ (\S+) dep', section)
    return {channel: number(met) for channel, met in found}


def unmet(real: Real, channel: str) -> dict[str, tuple[int, list[str]]]:
    """The names on all pages of a channel that nobody has, each with the number of its packages that need it and the names
    of some.
    """
    found: dict[str, tuple[int, list[str]]] = {}
    path: str | None = f"/channels/{channel}/related"
    while path is not None:
        text = real.get(path).text
        for row in re.findall(r'<tr><td class="grow"><span class="package-name">.*?</tr>', text, re.DOTALL):
            name = re.findall(r'package-name">([^<]+)<', row)[0]
            assert name not in found
            count = re.findall(r'<td class="number" data-label="Packages">([^<]+)<', row)[0]
            found[name] = number(count), re.findall(r'/dependencies">([^<]+)</a>', row)
        following = re.findall(r'rel="next" href="([^"]+)"', text)
        path = unescape(following[0]) if following else None
    return found


def test_computed_relations(real: Real) -> None:
    check_relations(real)


def check_relations(real: Real) -> None:
    tallies = {channel: real.static.tally(channel) for channel in CHANNELS}
    for channel, tally in tallies.items():
        text = real.get(f"/channels/{channel}/related").text
        counts = re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", text)
        assert {what: number(many) for what, many in counts} == {
            "Dependencies": tally.total,
            "met inside": tally.inside,
            "by related channels": tally.base,
            "only by others": tally.elsewhere,
            "met nowhere": len(tally.unmet),
        }
        above, below = text.split("<h2>Builds on it</h2>")
        base = {BASES[channel]: tally.base} if channel in BASES else {}
        assert neighbours(above) == base | tally.others
        met = {other: len(one.lacking & real.static.names[channel]) for other, one in tallies.items()}
        assert neighbours(below) == {
            other: many for other, many in met.items() if other != channel and (many or BASES.get(other) == channel)
        }
        shown = unmet(real, channel)
        assert {name: count for name, (count, _) in shown.items()} == {
            name: len(packages) for name, packages in tally.unmet.items()
        }
        for name, (count, some) in shown.items():
            assert len(some) == min(count, 5)
            assert set(some) <= set(tally.unmet[name])


# --- links ----------------------------------------------------------------------------------------------------------

Row = tuple[str, str, str | None, str | None]  # name, the rest of the spec, channel, version


def depends_of(real: Real, channel: str, name: str) -> tuple[str, Counter[Row]]:
    """The version that a package's page of dependencies is about, and its rows; a row's version is "" if none fits."""
    text = real.get(f"/channels/{channel}/packages/{name}/dependencies").text
    chosen = re.findall(r'<option value="([^"]+)" selected', text)[0]
    table = re.findall(r"<caption>Depends on</caption>(.*?)</table>", text, re.DOTALL)
    rows: Counter[Row] = Counter()
    for row in re.findall(r"<tr><td.*?</tr>", table[0] if table else "", re.DOTALL):
        wanted = re.findall(r"<code>(.*?)</code>", row)
        rest = unescape(wanted[0]) if wanted else ""
        need = re.findall(r'class="package-name"[^>]*>([^<]+)<', row)[0]
        link = re.findall(r'class="package-name" href="/channels/([^/"]+)/packages/([^"]+)"', row)
        where = row.rpartition('data-label="Where"')[2]
        if not link:
            assert "met nowhere" in where
            rows[need, rest, None, None] += 1
            continue
        supplier, target = link[0]
        assert target == need
        fitting = re.findall(
            r'<a class="chip chip-good" href="([^"?]+)\?version=([^"]+)" title="The newest version', where
        )
        if fitting:
            assert fitting[0][0] == f"/channels/{supplier}/packages/{need}"
        elif "no version fits" not in where:
            assert "whether it fits was not looked at" in where
        shown = unquote(fitting[0][1]) if fitting else "" if "no version fits" in where else None
        assert (f'in <a href="/channels/{supplier}">' in where) == (supplier != channel)
        rows[need, rest, supplier, shown] += 1
    return chosen, rows


def expected_rows(static: Static, channel: str, name: str, chosen: str) -> Counter[Row]:
    having = {
        subdir: records[name]
        for (other, subdir), records in static.by_name.items()
        if other == channel and name in records
    }
    having = {subdir: [one for one in records if one["version"] == chosen] for subdir, records in having.items()}
    subdirs = {subdir for subdir, records in having.items() if records}
    rows: Counter[Row] = Counter()
    for spec in {spec for records in having.values() for one in records for spec in one["depends"]}:
        need = name_of(spec)
        if not need.startswith("__"):
            found = static.supplied(channel, spec, subdirs)
            rows[need, spec[len(need) :].strip(), *(found or (None, None))] += 1
    return rows


def test_each_dependency_leads_to_the_channel_that_supplies_it(real: Real) -> None:
    everything = sorted((channel, name) for channel in CHANNELS for name in real.static.names[channel])
    some = everything if ALL else random.Random(5).sample(everything, 200)
    some = [*(("pytorch", name) for name in ("pytorch", "torchvision", "torchaudio", "pytorch-cuda")), *some]
    led: Counter[str | None] = Counter()
    for channel, name in some:
        chosen, rows = depends_of(real, channel, name)
        assert version(chosen) == version(real.static.newest(channel, name))
        wanted = expected_rows(real.static, channel, name, chosen)
        assert rows <= wanted, (channel, name)
        assert rows.total() == min(wanted.total(), SPECS_SHOWN), (channel, name)
        led.update(None if to is None else "here" if to == channel else to for _, _, to, _ in rows.elements())
    assert led.keys() >= {None, "here", "pkgs-main", "cf-subchannel", INTEL}, led


# --- needed channels ------------------------------------------------------------------------------------------------


def questions(static: Static) -> Iterator[tuple[str, str, str]]:
    """A channel, a platform and a name."""
    for place, names in QUESTIONS.items():
        channel, platform = place.split()
        some = set(names.split())
        if ALL:
            every = {name for subdir in (platform, "noarch") for name in static.by_name.get((channel, subdir), ())}
            some |= set(random.Random(6).sample(sorted(every), min(60, len(every))))
        yield from ((channel, platform, name) for name in sorted(some))


def test_needed_channels_are_those_of_py_rattler(real: Real) -> None:
    outcomes: Counter[tuple[str, str]] = Counter()
    for channel, platform, name in questions(real.static):
        answer = real.get(f"/api/v1/channels/{channel}/packages/{name}/solve", platform=platform).json()
        outcomes[channel, check(real, channel, platform, name, answer)] += 1
    assert {how for _, how in outcomes} == {"not there", "unsolvable", "1 channels", "2 channels"}


def tied(
    static: Static, channels: list[str], platform: str, spec: str, found: set[Package], system: System | None = None
) -> bool:
    """Whether py-rattler installs these where the same records are in another order (`Static.shuffled`)."""
    return any(static.shuffled(channels, seed).solve(channels, platform, spec, system) == found for seed in range(20))


def check(real: Real, channel: str, platform: str, name: str, answer: dict[str, Any]) -> str:
    static = real.static
    about = (channel, platform, name)
    spec = f"{channel}::{name}"
    assert answer["decided"], about
    if not static.of(channel, name, {platform, "noarch"}):
        assert not answer["solvable"]
        assert answer["reason"] == f"There is no {name} for {platform} in {channel}."
        return "not there"
    newest = static.newest(channel, name, {platform, "noarch"})
    assert version(answer["newest"]) == version(newest), about
    if not answer["solvable"]:
        assert answer["reason"].endswith("."), about
        assert answer["explanation"], about
        for one in lists(channel):
            assert static.solve(one, platform, spec) is None, (about, one)
        return "unsolvable"
    chosen = [one["name"] for one in answer["channels"]]
    assert tuple(chosen) in set(lists(channel)), about
    at_newest = answer["version"] == answer["newest"]
    if at_newest:
        spec = f"{spec} =={newest}"
    found = {(one["name"], one["version"], one["build"], one["channel"]) for one in answer["packages"]}
    assert found == static.solve(chosen, platform, spec) or tied(static, chosen, platform, spec, found), about
    assert answer["smallest"], about
    assert {one[3] for one in found} == set(chosen), about
    for one in lists(channel):
        if len(one) < len(chosen):
            assert static.solve(one, platform, spec) is None, (about, one)
        if not at_newest:
            assert static.solve(one, platform, f"{channel}::{name} =={newest}") is None, (about, one)
    assert bool(answer["reason"]) is not at_newest, about
    for command in answer["commands"]:
        places = [command["text"].find(f"{real.server.url}/{one}") for one in chosen]
        assert places == sorted(places), about
        assert -1 not in places, about
    return f"{len(chosen)} channels"


# --- what is said of it when it changes, and when it is away ---------------------------------------------------------


def test_relations_follow_what_comes_and_goes(real: Real) -> None:
    """Names that others need go, newest versions go, and come back."""
    static, place = real.static, ("pkgs-main", "noarch")
    before = static.records[place]
    gone = {"requests", "typing_extensions", "six", "tqdm", *random.Random(7).sample(sorted(static.by_name[place]), 40)}
    fewer = {filename: one for filename, one in before.items() if one["name"] not in gone}
    for name in random.Random(8).sample(sorted(static.by_name[place].keys() - gone), 40):
        newest = version(static.newest("pkgs-main", name, {"noarch"}))
        fewer = {file: one for file, one in fewer.items() if one["name"] != name or version(one["version"]) < newest}
    tallies = []
    for records in (fewer, before):
        static.write(*place, document("noarch", records))
        refreshed(real, "pkgs-main")
        check_listed(real)
        check_relations(real)
        tallies.append(static.tally("pytorch"))
    assert tallies[0].base < tallies[1].base  # the others have some of what went, so no more is met nowhere


def refreshed(real: Real, channel: str) -> None:
    before = real.upstream_of(channel)["checked_at"]
    # not so soon after the one before
    eventually(lambda: real.client.post(f"/api/v1/channels/{channel}/upstream/refresh").status_code == 202, seconds=60)
    eventually(lambda: real.upstream_of(channel)["checked_at"] != before, seconds=300)


def test_nothing_leads_past_the_server(real: Real) -> None:
    """The records of cf-subchannel say where conda-forge has their files, in three ways."""
    assert all(one.keys() >= set(WHERE) for one in real.static.records["cf-subchannel", "linux-64"].values())
    others = (real.upstream.allow.encode(), b"conda.anaconda.org")
    for channel, subdir in real.static.records:
        index = real.get(f"/{channel}/{subdir}/repodata_shards.msgpack.zst").content
        about = unpacked(index)
        assert (about["info"]["base_url"], about["info"]["shards_base_url"]) == ("", "./shards/")
        paths = [f"shards/{digest.hex()}.msgpack.zst" for digest in about["shards"].values()]
        if not ALL:
            paths = random.Random(9).sample(paths, min(40, len(paths)))
        for path in ("repodata.json", "repodata_shards.msgpack.zst", "run_exports.json", *paths):
            body = real.get(f"/{channel}/{subdir}/{path}").content
            body = zstd.decompress(body) if path.endswith(".zst") else body
            assert not any(other in body for other in others), path


def test_a_client_solves_with_the_upstreams_away(real: Real, client: Callable[..., Client]) -> None:
    """From our server alone, told of pytorch and Intel: of pkgs-main it reads in the index of pytorch."""
    urls = [f"{real.server.url}/{channel}" for channel in ("pytorch", INTEL)]
    channels = ["pkgs-main", "pytorch", INTEL]
    system = {"__linux": "6.1"}  # what the client says of its machine
    real.upstream.down()
    try:
        found = {
            (name, sharded): client().solve(urls, name, sharded=sharded, relations="strict")
            for name in ("torchvision", "torchaudio", "faiss-cpu", "torchserve")
            for sharded in (True, False)
        }
    finally:
        real.upstream.up()
    for (name, _), records in found.items():
        assert all(one["url"].startswith(f"{real.server.url}/") for one in records)
        packages = {
            (one["name"], one["version"], one["build"], one["channel"].rstrip("/").rpartition("/")[2])
            for one in records
        }
        wanted = real.static.solve(channels, "linux-64", name, system)
        assert wanted is not None
        assert packages == wanted or tied(real.static, channels, "linux-64", name, packages, system), name
