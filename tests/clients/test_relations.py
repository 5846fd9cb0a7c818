"""py-rattler is told one channel and finds the others by what it reads there (CEP 42), in shards and in flat documents."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.clients.clients import Client, ClientError, bearer
from tests.clients.live import Channel, Live
from tests.support.builders import conda_package

Start = Callable[..., Client]

SHARDED = pytest.mark.parametrize("sharded", [True, False], ids=["sharded", "flat"])
TOOL = conda_package("tool", depends=["engine >=1"])


def came(records: list[dict[str, str]]) -> dict[str, str]:
    """From which channel each package was taken."""
    return {record["name"]: record["channel"].rstrip("/").rpartition("/")[2] for record in records}


def one_behind_the_other(live: Live, *channels: Channel) -> None:
    """Each builds on the next."""
    for channel, base in pairwise(channels):
        live.change(channel, base=base.name)


@SHARDED
def test_a_dependency_comes_from_the_base(live: Live, client: Start, tmp_path: Path, sharded: bool) -> None:
    mine, forge = live.channel("private", TOOL), live.channel("public", conda_package("engine", "2.0"))
    user = client(bearer(live.key))
    with pytest.raises(ClientError, match="engine"):
        user.solve([mine.url], "tool", sharded=sharded, relations="strict")
    live.change(mine, base=forge.name)
    records = user.install([mine.url], "tool", prefix=tmp_path / "it", sharded=sharded, relations="strict")
    assert came(records) == {"tool": mine.name, "engine": forge.name}
    assert (tmp_path / "it/share/engine/hello.txt").is_file()
    with pytest.raises(ClientError, match="engine"):
        user.solve([mine.url], "tool", sharded=sharded, relations="disabled")
    live.change(mine, base="")
    with pytest.raises(ClientError, match="engine"):
        user.solve([mine.url], "tool", sharded=sharded, relations="strict")


@SHARDED
def test_what_is_in_both_comes_from_the_base_or_from_what_overrides(live: Live, client: Start, sharded: bool) -> None:
    engines = [conda_package("engine", version) for version in ("3.0", "1.0", "2.0")]
    low, mine, forge = (live.channel("public", engine) for engine in engines)
    mine.put(TOOL)
    live.change(mine, base=forge.name, overrides=low.name)
    assert came(client().solve([mine.url], "tool", sharded=sharded)) == {"tool": mine.name, "engine": forge.name}
    live.change(mine, base="")
    assert came(client().solve([mine.url], "tool", sharded=sharded)) == {"tool": mine.name, "engine": mine.name}


@SHARDED
def test_an_empty_channel_leads_on(live: Live, client: Start, sharded: bool) -> None:
    empty, forge = live.channel("public"), live.channel("public", conda_package("engine"))
    live.change(empty, base=forge.name)
    records = client().solve([empty.url], "engine", sharded=sharded, relations="strict")
    assert came(records) == {"engine": forge.name}


@SHARDED
def test_a_key_in_the_path_goes_along(live: Live, client: Start, sharded: bool) -> None:
    mine, forge = live.channel("private", TOOL), live.channel("internal", conda_package("engine"))
    live.change(mine, base=forge.name)
    url = mine.url_with(live.key)
    records = client().solve([url], "tool", sharded=sharded, relations="strict")
    assert came(records) == {"tool": mine.name, "engine": forge.name}


def test_the_longest_chain_that_is_let_in_is_followed_to_its_end(live: Live, client: Start) -> None:
    chain = [live.channel("public") for _ in range(11)]
    chain[-1].put(conda_package("engine"))
    one_behind_the_other(live, *chain)
    records = client().solve([chain[0].url], "engine", relations="strict")
    assert came(records) == {"engine": chain[-1].name}
