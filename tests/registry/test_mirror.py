"""Mirrors: what is chosen of an upstream, and its files fetched ahead."""

from __future__ import annotations

import pytest

from fairway.app import Fairway
from fairway.cli import upstreams as cli
from fairway.cli.upstreams import run
from fairway.conda.choice import Choice
from fairway.errors import Invalid
from fairway.registry import channels, upstreams
from fairway.registry.actor import CONSOLE, Visibility
from fairway.registry.upstreams import Settings
from fairway.settings import load
from tests.support import misbehaving as bad
from tests.support.site import Site
from tests.support.upstream import Upstream


@pytest.fixture(params=["shards", "zst"])
def upstream(request):
    with Upstream(documents=(request.param,)) as upstream:
        yield upstream


@pytest.fixture
def site(database_url, tmp_path, upstream):
    options = {"data": tmp_path / "data", "database_url": database_url, "upstream_allow": upstream.allow}
    with Fairway(load(options, environ={})) as app, Site(app) as site:
        yield site


def mirror(site, upstream, **wanted):
    now = site.app.now()
    settings = Settings(upstream.url, mode="mirror", wanted=wanted or None)
    with site.app.database.write() as session:
        channels.create_channel(
            session, CONSOLE, "lab", owner="admin", visibility=Visibility.PUBLIC, description="", now=now
        )
        return upstreams.attach(session, CONSOLE, "lab", settings, now=now)


def change(site, upstream, **wanted):
    settings = Settings(upstream.url, mode="mirror", wanted=wanted or None)
    with site.app.database.write() as session:
        upstreams.attach(session, CONSOLE, "lab", settings, now=site.app.now())


def files(site, subdir="noarch"):
    return set(site.client.get(f"/lab/{subdir}/repodata.json").json()["packages.conda"])


def state(site):
    with site.app.database.read() as session:
        return upstreams.show(session, CONSOLE, "lab")


def test_all_files_are_fetched_ahead_and_served_without_the_upstream(site, upstream):
    names = [upstream.add(f"p{number}") for number in range(12)]
    upstream.publish()
    view = mirror(site, upstream)
    run(site.app, view.channel_id)
    assert state(site).kept_files == 12
    upstream.down()
    for name in names:
        assert site.client.get(f"/lab/noarch/{name}").content == upstream.files[f"noarch/{name}"]


def test_what_is_wanted_is_chosen_by_name_spec_licence_and_newest(site, upstream):
    one, two, three = (upstream.add("libfoo", version) for version in ("1.0", "2.0", "3.0"))
    bar = upstream.add("bar", "1.5", license="MIT")
    upstream.add("bar", "2.5", license="GPL-3.0-only")
    upstream.add("other")
    upstream.publish()
    view = mirror(site, upstream, names=["lib*"])
    run(site.app, view.channel_id)
    assert files(site) == {one, two, three}
    change(site, upstream, names=["lib*"], newest=2)
    run(site.app, view.channel_id)
    assert files(site) == {two, three}
    change(site, upstream, specs=["libfoo <2", "bar"], licences=["mit"])
    run(site.app, view.channel_id)
    assert files(site) == {bar}
    assert state(site).kept_files == 4
    change(site, upstream)
    run(site.app, view.channel_id)
    assert len(files(site)) == 6


def test_a_closure_holds_what_is_needed_in_all_platforms_and_nothing_else(site, upstream):
    tool = upstream.add("tool", subdir="linux-64", depends=["engine >=2,<4", "python"])
    engines = [upstream.add("engine", version, depends=["motor"]) for version in ("1.0", "2.0", "3.0", "4.0")]
    motor = upstream.add("motor", subdir="linux-64", depends=["tool"])  # a circle
    python = upstream.add("python", subdir="linux-64", depends=["__glibc >=2.17"])
    upstream.add("other", depends=["tool"])
    upstream.publish()
    view = mirror(site, upstream, names=["tool"], closure=True)
    run(site.app, view.channel_id)
    assert files(site, "linux-64") == {tool, motor, python}
    assert files(site) == set(engines[1:3])


def test_fetching_goes_on_where_it_was_broken_off_and_says_what_failed(site, upstream):
    names = [upstream.add(f"p{number}") for number in range(6)]
    upstream.publish()
    view = mirror(site, upstream)
    upstream.fault(f"/up/noarch/{names[3]}", bad.flipped())
    run(site.app, view.channel_id)
    shown = state(site)
    assert shown.kept_files == 5
    assert shown.error.startswith("1 files could not be fetched: ")
    assert (shown.progress, shown.failures) == (None, 1)
    upstream.heal()
    upstream.asked.clear()
    run(site.app, view.channel_id)
    assert state(site).kept_files == 6
    assert state(site).error is None
    assert upstream.count("*.conda") == 1


@pytest.mark.parametrize(
    "wanted",
    [
        {"names": "lib*"},
        {"names": [""]},
        {"newest": 0},
        {"newest": True},
        {"specs": ["a b c d"]},
        {"colour": ["red"]},
        {"names": ["a"] * 1_001},
    ],
)
def test_a_choice_that_cannot_be_is_refused(wanted):
    with pytest.raises(Invalid, match="cannot be made"):
        Choice.parse(wanted)


def test_a_mirror_stops_for_others_and_goes_on_behind_them(site, upstream, monkeypatch):
    for number in range(40):
        upstream.add(f"p{number:02}")
    upstream.publish()
    view = mirror(site, upstream)
    monkeypatch.setattr(cli, "FETCH_SECONDS", 0.0)
    with site.app.database.read() as session:
        due = upstreams.due_at(session, view.channel_id)
    run(site.app, view.channel_id, alone=False)
    kept = state(site).kept_files
    assert 0 < kept < 40
    assert state(site).error is None
    with site.app.database.write() as session:
        again = upstreams.plan(session, view.channel_id, now=site.app.now(), died=False, due=due)
    assert again is not None
    assert again <= site.app.now()
    run(site.app, view.channel_id)
    assert state(site).kept_files == 40


def test_reading_an_index_ends_when_others_have_waited_long_enough(site, upstream, monkeypatch):
    upstream.add("tool")
    upstream.publish()
    view = mirror(site, upstream)
    monkeypatch.setattr(cli, "TURN_SECONDS", 0.0)
    assert "took too long" in run(site.app, view.channel_id, alone=False).errors["noarch"]
    assert run(site.app, view.channel_id).errors == {}
