"""py-rattler solves from and installs out of our channels, signed in in every way it knows, over every index it knows."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.clients.clients import HOST, Client, ClientError, basic, bearer, in_path
from tests.clients.live import Channel, Live, Package
from tests.support.builders import conda_package, tar_bz2_package

Start = Callable[..., Client]

INDEXES: dict[str, dict[str, Any]] = {
    "sharded": {},
    "flat zst": {"sharded": False},
    "flat json": {"sharded": False, "zstd": False},
}
# how a user is signed in, and what stands in the list of channels
WAYS: dict[str, Callable[[Channel, str], tuple[dict[str, Any] | None, str]]] = {
    "bearer": lambda channel, key: (bearer(key), channel.url),
    "basic": lambda channel, key: (basic("reader", key), channel.url),
    "stored path key": lambda channel, key: (in_path(key), channel.url),
    "path key in the address": lambda channel, key: (None, channel.url_with(key)),
    "password in the address": lambda channel, key: (None, channel.url.replace("://", f"://reader:{key}@")),
}


def tool(**options: Any) -> list[Package]:
    """A noarch package and the platform package it needs, in the old format."""
    return [
        conda_package("tool", depends=["engine >=2"], files={"share/tool/readme.txt": b"how to\n"}, **options),
        tar_bz2_package("engine", "2.5", subdir="linux-64", files={"bin/engine": b"#!/bin/sh\n"}),
    ]


def installed(prefix: Path) -> dict[str, dict[str, Any]]:
    records = [json.loads(path.read_text()) for path in (prefix / "conda-meta").glob("*.json")]
    return {record["name"]: record for record in records}


@pytest.fixture(scope="module")
def reader(live: Live) -> str:
    """The read-only key of a user who has no role anywhere yet."""
    live.user("reader")
    return live.new_key("reader", "read")


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("way", WAYS)
def test_a_viewer_installs_from_a_private_channel(
    live: Live, client: Start, reader: str, tmp_path: Path, way: str, index: str
) -> None:
    channel = live.channel("private", *tool())
    live.member(channel, "reader", "viewer")
    auth, url = WAYS[way](channel, reader)
    client(auth).install([url], "tool", prefix=tmp_path / "env", **INDEXES[index])
    assert (tmp_path / "env/share/tool/readme.txt").read_bytes() == b"how to\n"
    assert (tmp_path / "env/bin/engine").read_bytes() == b"#!/bin/sh\n"
    assert sorted(installed(tmp_path / "env")) == ["engine", "tool"]
    paths = channel.paths()
    assert any("/shards/" in path for path in paths) == (index == "sharded")
    assert ("noarch/repodata.json.zst" in paths) == (index == "flat zst")
    assert ("noarch/repodata.json" in paths) == (index == "flat json")
    assert reader not in live.server.log.read_text()


@pytest.mark.parametrize("index", INDEXES)
def test_anybody_installs_from_a_public_channel(live: Live, client: Start, tmp_path: Path, index: str) -> None:
    channel = live.channel("public", *tool())
    client().install([channel.url], "tool", prefix=tmp_path / "env", **INDEXES[index])
    assert sorted(installed(tmp_path / "env")) == ["engine", "tool"]


def test_a_bad_key_does_not_close_a_public_channel(live: Live, client: Start) -> None:
    """rattler sends a stored key to every port of a host, so also to those it was never made for."""
    channel = live.channel("public", *tool())
    assert [record["name"] for record in client(bearer("of another server")).solve([channel.url], "engine")] == [
        "engine"
    ]


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("auth", [None, bearer("nonsense"), basic("me", "nonsense"), in_path("nonsense")])
def test_without_a_good_key_the_error_says_so(
    live: Live, client: Start, auth: dict[str, Any] | None, index: str
) -> None:
    channel = live.channel("private", *tool())
    with pytest.raises(ClientError, match=r"401 Unauthorized.*/repodata"):
        client(auth).solve([channel.url], "tool", **INDEXES[index])


def test_a_channel_that_is_not_mine_looks_like_one_that_is_not_there(live: Live, client: Start) -> None:
    live.user("stranger")
    channel = live.channel("private", *tool())
    stranger = client(bearer(live.new_key("stranger")))
    messages = []
    for url in (channel.url, f"{live.url}/no-such-channel"):
        with pytest.raises(ClientError) as caught:
            stranger.solve([url], "tool")
        messages.append(str(caught.value).replace(url, "URL"))
    assert messages[0] == messages[1]
    assert "could not find subdir 'noarch' in channel" in messages[0]


@pytest.mark.parametrize("index", INDEXES)
def test_after_a_refusal_a_key_is_enough_with_the_same_cache(live: Live, client: Start, index: str) -> None:
    channel = live.channel("private", *tool())
    visitor = client(home="same")
    with pytest.raises(ClientError, match="401"):
        visitor.solve([channel.url], "tool", **INDEXES[index])
    visitor.close()
    member = client(bearer(live.key), home="same")
    assert len(member.solve([channel.url], "tool", **INDEXES[index])) == 2
    assert any("/shards/" in path for path in channel.paths()) == (index == "sharded")


@pytest.mark.parametrize("index", INDEXES)
def test_in_an_empty_channel_nothing_is_found(live: Live, client: Start, index: str) -> None:
    channel = live.channel("private")
    user = client(bearer(live.key))
    with pytest.raises(ClientError, match=r"SolverError: .*No candidates were found for tool"):
        user.solve([channel.url], "tool", **INDEXES[index])


def test_who_saw_a_channel_empty_gets_shards_once_it_is_filled(live: Live, client: Start) -> None:
    """rattler would remember a missing shard index for ever; see PROTOCOL, trap 1."""
    channel = live.channel("private")
    user = client(bearer(live.key))
    assert user.names(channel.url, "tool") == []
    for package in tool():
        channel.put(package)
    assert len(user.solve([channel.url], "tool")) == 2
    assert not [path for path in channel.paths() if path.endswith((".json", ".json.zst"))]


def test_who_asked_before_there_was_a_channel_can_use_it_later(live: Live, client: Start) -> None:
    user = client(bearer(live.key))
    with pytest.raises(ClientError, match="could not find subdir"):
        user.solve([f"{live.url}/early"], "tool")
    channel = live.channel("private", *tool(), name="early")
    assert len(user.solve([channel.url], "tool")) == 2


ODD = [
    conda_package("cuda_tool", "1!2.0+cu12", "h0_0", depends=["_libgcc_mutex", "under_score"]),
    conda_package("_libgcc_mutex", "0.1", "conda_forge", subdir="linux-64"),
    tar_bz2_package("under_score", "1_2.0", "py_1"),
]


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("way", ["bearer", "path key in the address"])
def test_names_with_odd_characters(live: Live, client: Start, tmp_path: Path, way: str, index: str) -> None:
    channel = live.channel("private", *ODD)
    auth, url = WAYS[way](channel, live.key)
    client(auth).install([url], "cuda_tool", prefix=tmp_path / "env", **INDEXES[index])
    assert sorted(installed(tmp_path / "env")) == ["_libgcc_mutex", "cuda_tool", "under_score"]
    assert installed(tmp_path / "env")["cuda_tool"]["version"] == "1!2.0+cu12"


def test_odd_characters_may_come_encoded(live: Live) -> None:
    channel = live.channel("private", ODD[0])
    spellings = ["1!2.0+cu12", "1%212.0%2Bcu12", "1%212%2E0%2bcu12"]
    found = [channel.get(f"noarch/cuda_tool-{text}-h0_0.conda").content for text in spellings]
    assert found == [ODD[0][1]] * 3
    assert channel.get("noarch/cuda_tool-1!2.0%20cu12-h0_0.conda").status_code == 404


def test_of_both_formats_the_newer_is_taken(live: Live, client: Start) -> None:
    channel = live.channel("private", tar_bz2_package("both"), conda_package("both"))
    user = client(bearer(live.key))
    for options in INDEXES.values():
        assert [record["fn"] for record in user.solve([channel.url], "both", **options)] == ["both-1.0-h0_0.conda"]


@pytest.mark.parametrize("index", INDEXES)
def test_v3_records_are_solved_with_their_conditions(live: Live, client: Start, tmp_path: Path, index: str) -> None:
    depends = ['engine[version=">=2", when="__linux"]', 'missing[when="__win"]']
    channel = live.channel("private", conda_package("tool", depends=depends), *tool()[1:])
    client(bearer(live.key)).install([channel.url], "tool", prefix=tmp_path / "env", **INDEXES[index])
    assert sorted(installed(tmp_path / "env")) == ["engine", "tool"]


def test_run_exports_are_found_in_each_way_a_build_tool_looks(live: Live, client: Start) -> None:
    exports = {"weak": ["engine >=2,<3"], "noarch": ["engine"]}
    files = {"lib/engine.so": bytes(200_000)}
    channel = live.channel("private", conda_package("engine", subdir="linux-64", run_exports=exports, files=files))
    user = client(bearer(live.key))
    for options in INDEXES.values():
        assert user.solve([channel.url], "engine", **options)[0]["run_exports"] == exports
    listed = channel.get("linux-64/run_exports.json").json()
    assert listed["packages.conda"] == {"engine-1.0-h0_0.conda": {"run_exports": exports}}
    seen = user.do("inspect", url=f"{channel.url}/linux-64/engine-1.0-h0_0.conda")
    assert seen == {"name": "engine", "weak": exports["weak"]}


def test_a_noarch_python_package_is_linked_into_python(live: Live, client: Start, tmp_path: Path) -> None:
    link = {"noarch": {"type": "python", "entry_points": ["greet = greet:main"]}, "package_metadata_version": 1}
    python = conda_package("python", "3.12.1", subdir="linux-64", files={"bin/python": b"#!/bin/sh\n"})
    greet = conda_package(
        "greet",
        depends=["python"],
        index={"noarch": "python"},
        files={"site-packages/greet.py": b"def main(): ...\n"},
        link=link,
    )
    channel = live.channel("private", python, greet)
    client(bearer(live.key)).install([channel.url], "greet", prefix=tmp_path / "env")
    assert (tmp_path / "env/lib/python3.12/site-packages/greet.py").read_bytes() == b"def main(): ...\n"
    assert "from greet import main" in (tmp_path / "env/bin/greet").read_text()


# --- two channels at once ------------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def static(client: Start, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Serve packages from a folder that rattler indexed: `static(*packages)` gives the channel's address."""
    folder = tmp_path / "static"
    server = ThreadingHTTPServer((HOST, 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()

    def serve(subdir: str, *packages: Package) -> str:
        (folder / "noarch").mkdir(parents=True)
        (folder / subdir).mkdir(exist_ok=True)
        for filename, data in packages:
            (folder / subdir / filename).write_bytes(data)
        client().do("index", folder=folder)
        return f"http://{HOST}:{server.server_port}/"

    yield serve
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("index", INDEXES)
def test_dependencies_come_from_a_second_channel(
    live: Live, client: Start, tmp_path: Path, static: Callable[..., str], index: str
) -> None:
    ours, theirs = tool()
    channel, other = live.channel("private", ours), static("linux-64", theirs)
    records = client(bearer(live.key)).install([channel.url, other], "tool", prefix=tmp_path / "env", **INDEXES[index])
    homes = {record["name"]: record["channel"].rstrip("/") for record in records}
    assert homes == {"tool": channel.url, "engine": other.rstrip("/")}
    assert sorted(installed(tmp_path / "env")) == ["engine", "tool"]


def test_a_name_in_both_channels_comes_from_the_first(live: Live, client: Start, static: Callable[..., str]) -> None:
    channel, other = (
        live.channel("private", conda_package("tool", "1.0")),
        static("noarch", conda_package("tool", "9.0")),
    )
    for order, version in ([channel.url, other], "1.0"), ([other, channel.url], "9.0"):
        # each time a new client: Python's file server answers a second question with a 304 that rattler cannot use
        user = client(bearer(live.key))
        assert [record["version"] for record in user.solve(order, "tool")] == [version]


def test_two_servers_on_one_host_share_a_client(
    live: Live, client: Start, serve: Callable[..., Any], tmp_path: Path
) -> None:
    ours, theirs = tool()
    second = Live(serve())
    channel, other = live.channel("private", ours), second.channel("public", theirs)
    try:
        user = client(bearer(live.key))  # which the second server does not know
        user.install([channel.url, other.url], "tool", prefix=tmp_path / "env")
        assert sorted(installed(tmp_path / "env")) == ["engine", "tool"]
    finally:
        second.close()


# --- real packages -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(live: Live, shared: Path) -> Channel:
    channel = live.channel("private", conda_package("vc", "14.1", subdir="win-64"))
    channel.put_files(sorted((shared / "packages").glob("*/*")))
    return channel


@pytest.mark.parametrize("index", INDEXES)
def test_real_packages_install(live: Live, client: Start, real: Channel, tmp_path: Path, index: str) -> None:
    wanted = ["another_dependent 2.*", "small-executable", "sample_noarch_python", "clobber-a"]
    prefix = tmp_path / "env"
    client(bearer(live.key)).install([real.url], *wanted, prefix=prefix, **INDEXES[index])
    names = {"another_dependent", "dependent", "dependency", "small-executable", "sample_noarch_python", "python"}
    assert set(installed(prefix)) == names | {"clobber-a"}
    for record in installed(prefix).values():
        assert all((prefix / path).is_file() for path in record["files"])


def test_a_real_binary_package_installs(live: Live, client: Start, real: Channel, tmp_path: Path) -> None:
    """That of Windows: those of linux-64 and osx-64 at hand have symlinks without a target, which no client unpacks."""
    user, prefix = client(bearer(live.key)), tmp_path / "env"
    user.install([real.url], "zlib", prefix=prefix, platforms=["win-64", "noarch"])
    assert set(installed(prefix)) == {"zlib", "vc"}
    assert (prefix / "Library/bin/zlib.dll").stat().st_size > 50_000


def test_real_packages_for_every_platform_are_found(live: Live, client: Start, real: Channel) -> None:
    user = client(bearer(live.key))
    for platform, build in (("osx-64", "h1de35cc_3"), ("win-64", "h62dcd97_3"), ("linux-64", "h7b6447c_3")):
        for options in INDEXES.values():
            found = user.names(real.url, "zlib", platforms=[platform, "noarch"], **options)
            assert found[0] == f"zlib-1.2.11-{build}.conda"


def test_what_cannot_be_solved_is_said_so(live: Live, client: Start, real: Channel) -> None:
    with pytest.raises(ClientError, match=r"SolverError: [\s\S]*versioned <1"):
        client(bearer(live.key)).solve([real.url], "unsatisfiable")
