"""The records of a name, wherever they are from."""

import pytest
from sqlalchemy import select

from fairway.db.models import Channel
from fairway.registry import source, virtual
from fairway.registry.actor import NOBODY
from tests.registry.world import World
from tests.support.beside import attach, refresh, site, upstream  # noqa: F401
from tests.support.builders import conda_package
from tests.support.rows import load, made, named
from tests.support.site import bearer


@pytest.fixture
def world(fairway):
    world = World(fairway)
    world.channel("own", "public")
    records = named(
        made("lib", "1.0"),
        made("lib", "2.0"),
        made("app", depends=["lib"], extra_depends={"fast": ["wings"]}),
        made("zoo"),
    )
    load(fairway, "own", "linux-64", records | {"old-1.0-0.tar.bz2": made("old")})
    world.records = records
    return world


def test_records_are_those_of_the_shards_under_their_file_names(world):
    with world.app.database.read() as session:
        place = session.scalar(select(Channel.id).where(Channel.name == "own")), "linux-64"
        found = source.records(session, *place, "lib")
        assert found == {name: record for name, record in world.records.items() if record["name"] == "lib"}
        assert list(source.records(session, *place, "old")) == ["old-1.0-0.tar.bz2"]
        assert list(source.records(session, *place, "app")) == ["app-1.0-0.conda"]  # of v3, whose keys are stems
        assert source.records(session, *place, "none") == {}
        assert source.records(session, place[0], "osx-64", "lib") == {}


def test_an_upstreams_records_are_read_and_solved_as_ours(site, upstream):  # noqa: F811
    upstream.add("engine", "1.0"), upstream.add("engine", "3.0"), upstream.add("tool", depends=["engine <2"])
    upstream.publish()
    view = attach(site, upstream, "forge")
    refresh(site, view)
    site.channel("mine", "public")
    filename, data = conda_package("app", depends=["tool"])
    place = f"/api/v1/channels/mine/artifacts/noarch/{filename}"
    assert site.client.put(place, content=data, headers=bearer(site.key())).status_code == 201
    linux = virtual.system("linux-64")
    with site.app.database.read() as session:
        forge = session.scalar(select(Channel.id).where(Channel.name == "forge"))
        assert len(source.records(session, forge, "noarch", "engine")) == 2
    found = site.app.solving.which(NOBODY, "mine", "app", linux)
    assert [one.name for one in found.channels] == ["mine", "forge"]
    assert {(one.name, one.version, one.channel) for one in found.packages} == {
        ("app", "1.0", "mine"), ("tool", "1.0", "forge"), ("engine", "1.0", "forge"),
    }  # fmt: skip
    upstream.add("tool", "2.0", depends=["engine >=2"])
    upstream.publish()
    refresh(site, view)
    newer = site.app.solving.which(NOBODY, "mine", "app", linux)
    assert {one.name: one.version for one in newer.packages} == {"app": "1.0", "tool": "2.0", "engine": "3.0"}
