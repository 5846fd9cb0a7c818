"""What one client uploads, another with a warm cache sees at once; what is deleted is gone at once, but not its bytes."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.clients import Client, ClientError, bearer
from tests.clients.live import Live, Package
from tests.support.builders import conda_package, tar_bz2_package

Start = Callable[..., Client]

SHARDED = pytest.mark.parametrize("sharded", [True, False], ids=["sharded", "flat"])


def written(folder: Path, package: Package) -> Path:
    path = folder / package[0]
    path.write_bytes(package[1])
    return path


@SHARDED
def test_the_first_question_after_an_upload_finds_it_within_a_second(
    live: Live, client: Start, tmp_path: Path, sharded: bool
) -> None:
    channel = live.channel("private", conda_package("tool", "0"))
    builder, user = client(), client(bearer(live.key))
    assert user.names(channel.url, "tool", sharded=sharded) == ["tool-0-h0_0.conda"]
    seconds = []
    for version in "1234":
        path = written(tmp_path, conda_package("tool", version))
        builder.upload(live.url, channel.name, path, api_key=live.key)
        begin = time.monotonic()
        assert path.name in user.names(channel.url, "tool", sharded=sharded)
        seconds.append(time.monotonic() - begin)
    # each question was asked once and answered right; the best of four, since other work may hold this machine up
    assert min(seconds) < 1


@SHARDED
def test_a_new_name_and_a_new_subdir_are_seen_at_once(live: Live, client: Start, sharded: bool) -> None:
    channel = live.channel("private")
    user = client(bearer(live.key))
    assert user.names(channel.url, "tool", "engine", sharded=sharded) == []
    channel.put(tar_bz2_package("tool"))
    assert user.names(channel.url, "tool", "engine", sharded=sharded) == ["tool-1.0-h0_0.tar.bz2"]
    channel.put(conda_package("engine", subdir="linux-64"))
    assert user.names(channel.url, "tool", "engine", sharded=sharded) == [
        "engine-1.0-h0_0.conda",
        "tool-1.0-h0_0.tar.bz2",
    ]


def test_what_has_not_changed_is_not_sent_again(live: Live, client: Start) -> None:
    channel = live.channel("private", conda_package("tool"))
    user = client(bearer(live.key))
    for options in ({}, {}, {"sharded": False}, {"sharded": False}):
        user.names(channel.url, "tool", **options)
    got = [(path.removeprefix("noarch/"), status) for method, path, status in channel.asked() if method == "GET"]
    assert [status for path, status in got if path.startswith("shards/")] == [200]
    assert [status for path, status in got if path == "repodata.json.zst"] == [200, 304]
    # py-rattler 0.28 keeps no shard index that says `private`, which ours has to (docs: SECURITY A9): sent twice
    assert [status for path, status in got if path == "repodata_shards.msgpack.zst"] == [200, 200]


@SHARDED
def test_of_twenty_uploads_at_once_none_is_missing(live: Live, client: Start, tmp_path: Path, sharded: bool) -> None:
    channel = live.channel("private")
    builder, user = client(), client(bearer(live.key))
    user.names(channel.url, "tool", sharded=sharded)
    paths = [written(tmp_path, conda_package("tool", str(number))) for number in range(20)]
    builder.upload(live.url, channel.name, *paths, api_key=live.key)
    assert user.names(channel.url, "tool", sharded=sharded) == sorted(path.name for path in paths)


@SHARDED
def test_what_is_deleted_is_gone_but_can_be_downloaded(live: Live, client: Start, sharded: bool) -> None:
    package = conda_package("tool", "1")
    channel = live.channel("private", package, conda_package("tool", "2"))
    user = client(bearer(live.key))
    assert len(user.names(channel.url, "tool", sharded=sharded)) == 2
    channel.delete("noarch", "tool-1-h0_0.conda")
    assert user.names(channel.url, "tool", sharded=sharded) == ["tool-2-h0_0.conda"]
    channel.delete("noarch", "tool-2-h0_0.conda")
    assert user.names(channel.url, "tool", sharded=sharded) == []
    assert channel.get("noarch/tool-1-h0_0.conda").content == package[1]


def test_a_lock_file_still_installs_what_was_deleted(live: Live, client: Start, tmp_path: Path) -> None:
    channel = live.channel("private", conda_package("tool"))
    user = client(bearer(live.key))
    user.install([channel.url], "tool", prefix=tmp_path / "first")
    channel.delete("noarch", "tool-1.0-h0_0.conda")
    # another machine: its package cache is empty, and it asks for what was locked, not for what is there
    for leftover in (user.home / "cache" / "pkgs").iterdir():
        leftover.rename(tmp_path / leftover.name)
    user.install([], prefix=tmp_path / "second")
    assert (tmp_path / "second/share/tool/hello.txt").read_bytes() == b"hello\n"
    assert [path for _, path, _ in channel.asked()].count("noarch/tool-1.0-h0_0.conda") == 2


@SHARDED
def test_a_replaced_file_has_its_new_hash_at_once(live: Live, client: Start, tmp_path: Path, sharded: bool) -> None:
    channel = live.channel("private", conda_package("tool", files={"share/tool/hello.txt": b"old\n"}))
    live.change(channel, allow_overwrite=True)
    user = client(bearer(live.key))
    user.install([channel.url], "tool", prefix=tmp_path / "old", sharded=sharded)
    new = conda_package("tool", files={"share/tool/hello.txt": b"new\n"})
    client().upload(live.url, channel.name, written(tmp_path, new), api_key=live.key, force=True)
    (record,) = user.install([channel.url], "tool", prefix=tmp_path / "new", sharded=sharded)
    assert record["sha256"] == hashlib.sha256(new[1]).hexdigest()
    assert (tmp_path / "new/share/tool/hello.txt").read_bytes() == b"new\n"


@SHARDED
def test_a_public_channel_may_be_asked_rarely_but_a_new_client_sees_all(
    live: Live, client: Start, sharded: bool
) -> None:
    """Its index may be kept for `index_max_age` (60 seconds): the price of letting caches between help."""
    channel = live.channel("public", conda_package("tool", "1"))
    user = client()
    assert user.names(channel.url, "tool", sharded=sharded) == ["tool-1-h0_0.conda"]
    channel.put(conda_package("tool", "2"))
    assert user.names(channel.url, "tool", sharded=sharded) == ["tool-1-h0_0.conda"]
    assert len(client().names(channel.url, "tool", sharded=sharded)) == 2


@SHARDED
def test_a_yanked_version_is_chosen_no_more_and_installs_from_a_lock_file(
    live: Live, client: Start, tmp_path: Path, sharded: bool
) -> None:
    channel = live.channel("private", conda_package("tool", "1.0"), conda_package("tool", "2.0"))
    user = client(bearer(live.key))

    def versions(spec: str) -> list[str]:
        return [record["version"] for record in user.solve([channel.url], spec, sharded=sharded)]

    (locked,) = user.install([channel.url], "tool", prefix=tmp_path / "one", sharded=sharded)
    assert locked["version"] == "2.0"
    channel.yank("noarch", "tool-2.0-h0_0.conda", "it eats data")
    assert versions("tool") == ["1.0"]
    with pytest.raises(ClientError):
        versions("tool ==2.0")
    # what was solved before is installed as it was, on a machine that has not got it
    shutil.rmtree(user.home / "cache" / "pkgs")
    user.install([], prefix=tmp_path / "two")
    assert list((tmp_path / "two" / "conda-meta").glob("tool-2.0-*.json"))
    assert user.do("inspect", url=locked["url"])["name"] == "tool"
    channel.yank("noarch", "tool-2.0-h0_0.conda", None)
    assert versions("tool") == ["2.0"]
    # the very record, so that a lock file which has its hash is right
    assert user.solve([channel.url], "tool", sharded=sharded) == [locked]
