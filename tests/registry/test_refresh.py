"""Upstreams, against a server that speaks HTTP: what clients get of them, and when."""

from __future__ import annotations

import json

import msgspec
import pytest
from backports import zstd

from fairway.app import Fairway
from fairway.cli.upstreams import run
from fairway.registry import channels, upstreams
from fairway.registry.actor import CONSOLE, Visibility
from fairway.registry.upstreams import Settings
from fairway.settings import load
from tests.support.site import Site
from tests.support.upstream import Upstream


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def site(database_url, tmp_path, upstream):
    options = {"data": tmp_path / "data", "database_url": database_url, "upstream_allow": upstream.allow}
    with Fairway(load(options, environ={})) as app, Site(app) as site:
        yield site


def attach(site, upstream, name="lab", **settings):
    with site.app.database.write() as session:
        channels.create_channel(
            session, CONSOLE, name, owner="admin", visibility=Visibility.PUBLIC, description="", now=site.app.now()
        )
        return upstreams.attach(session, CONSOLE, name, Settings(upstream.url, **settings), now=site.app.now())


def refresh(site, view):
    return run(site.app, view.channel_id)


def names(site, subdir="noarch", channel="lab"):
    body = site.client.get(f"/{channel}/{subdir}/repodata_shards.msgpack.zst").content
    return msgspec.msgpack.decode(zstd.decompress(body))["shards"]


def flat(site, subdir="noarch", channel="lab"):
    return site.client.get(f"/{channel}/{subdir}/repodata.json").json()


def shard(site, name, subdir="noarch", channel="lab"):
    sha256 = names(site, subdir, channel)[name]
    body = site.client.get(f"/{channel}/{subdir}/shards/{sha256.hex()}.msgpack.zst").content
    return msgspec.msgpack.decode(zstd.decompress(body))


def test_everything_of_an_upstream_is_in_both_projections(site, upstream):
    one, two = upstream.add("one", depends=["python"]), upstream.add("two", subdir="linux-64")
    upstream.publish()
    done = refresh(site, attach(site, upstream))
    assert (done.errors, done.names) == ({}, 2)
    assert list(names(site)) == ["one"]
    record = shard(site, "one")["packages.conda"][one]
    assert record["depends"] == ["python"]
    assert record["sha256"].hex() == upstream.records["noarch"][one]["sha256"]
    assert list(flat(site)["packages.conda"]) == [one]
    assert list(flat(site, "linux-64")["packages.conda"]) == [two]
    seen = flat(site)["packages.conda"][one]
    assert seen["indexed_timestamp"] == record["indexed_timestamp"]
    assert refresh(site, upstreams_of(site)).names == 0


def upstreams_of(site, name="lab"):
    with site.app.database.read() as session:
        return upstreams.show(session, CONSOLE, name)
