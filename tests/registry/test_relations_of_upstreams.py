"""Relations, needs and suppliers where packages are an upstream's: no row of theirs is a file of ours."""

from __future__ import annotations

import orjson
import pytest
from sqlalchemy import select

from fairway.db.models import Need, Package, Want
from fairway.registry import channels, dependencies, listing, packages, relations, reserved
from fairway.registry.actor import CONSOLE
from fairway.registry.suppliers import Supplier
from tests.support.beside import attach, flat, names, publish, refresh, remove, site, upstream  # noqa: F401


def counted(running):
    with running.app.database.read() as session:
        wants = {(one.channel_id, one.name): (one.packages, one.here) for one in session.scalars(select(Want))}
        there = set(session.execute(select(Package.channel_id, Package.name).where(Package.version != "")).tuples())
        said: dict[tuple[int, str], int] = {}
        for place in session.execute(select(Package.channel_id, Need.name).join(Need, Need.package_id == Package.id)):
            said[tuple(place)] = said.get(tuple(place), 0) + 1
    assert wants == {place: (times, place in there) for place, times in said.items()}
    return {name: value for (_, name), value in wants.items()}


@pytest.fixture
def forge(site, upstream):  # noqa: F811
    """`forge` has an upstream, and `mine`, which is ours alone, builds on it."""
    (
        upstream.add("engine", "1.0"),
        upstream.add("engine", "3.0"),
        upstream.add("tool", depends=["engine >=1,<2", "ghost"]),
    )
    upstream.publish()
    view = attach(site, upstream, "forge")
    refresh(site, view)
    site.channel("mine", "public")
    with site.app.database.write() as session:
        channels.update_channel(session, CONSOLE, "mine", channels.Change(base="forge"), now=site.app.now())
    return view


def test_wants_are_counted_through_refreshes_and_names_of_ours(site, upstream, forge):  # noqa: F811
    assert counted(site) == {"engine": (1, True), "ghost": (1, False)}
    upstream.add("tool", "2.0", depends=["python"]), upstream.remove("engine-1.0-h0_0.conda")
    upstream.remove("engine-3.0-h0_0.conda")
    upstream.publish()
    refresh(site, forge)
    assert counted(site) == {"python": (1, False)}
    mine = publish(site, "tool", channel="forge")
    assert counted(site) == {}
    remove(site, mine, channel="forge")
    assert counted(site) == {}  # the name stays ours
    with site.app.database.write() as session:
        reserved.release(session, CONSOLE, "forge", "tool", now=site.app.now())
    assert counted(site) == {"python": (1, False)}


def test_a_dependency_on_an_upstreams_package_is_met_by_its_channel(site, forge):  # noqa: F811
    with site.app.database.read() as session:
        head = listing.enter(session, CONSOLE, "forge")
        package = packages.show(session, head, "tool")
        found = dependencies.dependencies(session, CONSOLE, head, package)
        assert [(one.spec, one.supplier) for one in found.depends] == [
            ("engine >=1,<2", Supplier("forge", "this", "3.0", "1.0")),
            ("ghost", None),
        ]
        assert [one.name for one in relations.unmet(session, CONSOLE, head).items] == ["ghost"]
        mine = listing.enter(session, CONSOLE, "mine")
        users = dependencies.dependents(session, CONSOLE, mine, "engine", now=site.app.now())
        assert [(one.channel, one.name) for one in users.items] == [("forge", "tool")]
        assert relations.lacking(session, mine.id, {"engine", "ghost"}) == {"ghost"}


def test_a_relation_of_a_channel_with_an_upstream_is_in_both_documents(site, forge):  # noqa: F811
    before = names(site, channel="forge")
    site.channel("low", "public")
    with site.app.database.write() as session:
        channels.update_channel(session, CONSOLE, "forge", channels.Change(overrides="low"), now=site.app.now())
    assert flat(site, channel="forge")["info"]["channel_relations"] == {"overrides": "../low"}
    assert set(flat(site, channel="forge")["packages.conda"]) == {
        "engine-1.0-h0_0.conda",
        "engine-3.0-h0_0.conda",
        "tool-1.0-h0_0.conda",
    }
    assert names(site, channel="forge") == before
    empty = orjson.loads(site.client.get("/forge/osx-64/repodata.json").content)
    assert empty["info"]["channel_relations"] == {"overrides": "../low"}


def test_what_went_at_the_upstream_needs_nothing(site, upstream, forge):  # noqa: F811
    upstream.remove("tool-1.0-h0_0.conda")
    upstream.publish()
    refresh(site, forge)
    assert counted(site) == {}


def test_a_version_needs_what_it_needs_on_any_platform(site, upstream, forge):  # noqa: F811
    on_linux, on_windows = (
        upstream.add("both", "2.0", subdir=subdir, depends=[need, "python"])
        for subdir, need in (("linux-64", "libgcc"), ("win-64", "vc"))
    )
    upstream.publish()
    refresh(site, forge)
    before = counted(site)
    assert before.keys() == {"engine", "ghost", "libgcc", "vc", "python"}
    upstream.records["linux-64"][on_linux]["depends"] = ["libgcc", "rust"]
    upstream.publish()
    refresh(site, forge)
    assert counted(site).keys() == before.keys() | {"rust"}
    upstream.records["win-64"][on_windows]["depends"] = ["vc"]
    upstream.publish()
    refresh(site, forge)
    assert counted(site).keys() == before.keys() - {"python"} | {"rust"}
    upstream.remove(on_linux, "linux-64")
    upstream.publish()
    refresh(site, forge)
    assert counted(site).keys() == {"engine", "ghost", "vc"}


def test_a_name_of_both_is_listed_with_ours_when_the_upstreams_goes(site, upstream):  # noqa: F811
    theirs = upstream.add("tool", "2.0", depends=["cuda"])
    upstream.add("tool", "1.0")
    upstream.publish()
    view = attach(site, upstream, "forge", merge=True)
    refresh(site, view)
    publish(site, "tool", "1.5", channel="forge", depends=["ghost"])
    assert counted(site) == {"cuda": (1, False)}
    upstream.remove(theirs)
    upstream.publish()
    refresh(site, view)
    with site.app.database.read() as session:
        assert session.scalars(select(Package.version).where(Package.name == "tool")).all() == ["1.5"]
    assert counted(site) == {"ghost": (1, False)}
    upstream.remove("tool-1.0-h0_0.conda")
    upstream.publish()
    refresh(site, view)
    with site.app.database.read() as session:
        assert session.scalars(select(Package.version).where(Package.name == "tool")).all() == ["1.5"]
    assert counted(site) == {"ghost": (1, False)}
