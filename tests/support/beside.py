"""A channel of ours with an upstream, in one process, and what clients get of it: `from tests.support.beside import site, upstream`
for the fixtures.
"""

from __future__ import annotations

import msgspec
import pytest
from backports import zstd

from fairway.app import Fairway
from fairway.cli.upstreams import run
from fairway.registry import channels, upstreams
from fairway.registry.actor import CONSOLE, Visibility
from fairway.registry.upstreams import Settings
from fairway.settings import load
from tests.support.builders import conda_package
from tests.support.site import Site, bearer
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


def upstreams_of(site, name="lab"):
    with site.app.database.read() as session:
        return upstreams.show(session, CONSOLE, name)


def publish(site, name, version="1.0", subdir="noarch", build="h0_0", channel="lab", depends=()):
    data = conda_package(name, version, build, subdir=subdir, depends=list(depends))[1]
    answer = site.client.put(
        f"/api/v1/channels/{channel}/artifacts/{subdir}/{name}-{version}-{build}.conda",
        content=data,
        headers=bearer(site.key()),
    )
    assert answer.status_code in {200, 201}, answer.text
    return f"{name}-{version}-{build}.conda"


def remove(site, filename, subdir="noarch", channel="lab"):
    answer = site.client.delete(f"/api/v1/channels/{channel}/artifacts/{subdir}/{filename}", headers=bearer(site.key()))
    assert answer.status_code == 204, answer.text


def found(site, q, channel="lab"):
    hits = site.client.get("/api/v1/search", params={"q": q, "channel": channel}).json()["items"]
    return [(hit["name"], hit["version"]) for hit in hits]


def count(site):
    return site.client.get("/api/v1/channels/lab").json()["packages"]
