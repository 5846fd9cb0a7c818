"""What changes beside an upstream, and what it may do to what is ours: nothing."""

# ruff: noqa: F811 - fixtures that are imported

from __future__ import annotations

import msgspec
import pytest
from backports import zstd
from sqlalchemy import func, select

from fairway.db.models import Artifact, Copy, Package, UpstreamName, UpstreamSubdir
from fairway.registry import copies, upstreams
from fairway.registry.actor import CONSOLE
from fairway.registry.refresh import Refresh
from fairway.registry.upstreams import Settings
from tests.support import misbehaving
from tests.support.beside import (  # noqa: F401
    attach,
    count,
    flat,
    found,
    names,
    publish,
    refresh,
    remove,
    site,
    upstream,
    upstreams_of,
)
from tests.support.site import bearer


def detach(site):
    with site.app.database.write() as session:
        upstreams.detach(session, CONSOLE, "lab", now=site.app.now())


def rows(site, column):
    with site.app.database.read() as session:
        return sorted(session.scalars(select(column)))


def test_a_name_of_ours_hides_theirs_also_while_a_refresh_never_ends(site, upstream):
    """Else an upstream that breaks off each time could keep a higher version of a private name in the index."""
    upstream.add("tool", "1.0", subdir="linux-64"), upstream.add("other", subdir="linux-64")
    upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    upstream.add("tool", "99.0", subdir="linux-64")
    for number in range(300):
        upstream.add(f"p{number:03}", subdir="linux-64")
    upstream.add("other", "2.0", subdir="linux-64")
    upstream.publish()
    index = msgspec.msgpack.decode(zstd.decompress(upstream.files["linux-64/repodata_shards.msgpack.zst"]))
    upstream.fault(f"/up/linux-64/shards/{index['shards']['other'].hex()}*", misbehaving.status(404))
    assert "linux-64" in refresh(site, view).errors
    assert "tool" in names(site, "linux-64")
    publish(site, "tool")
    assert "tool" not in names(site, "linux-64")
    assert "tool-99.0-h0_0.conda" not in flat(site, "linux-64")["packages.conda"]
    upstream.heal()
    refresh(site, view)
    assert "tool" not in names(site, "linux-64")
    assert "other" in names(site, "linux-64")


def test_without_an_upstream_what_we_deleted_can_still_be_restored(site, upstream):
    upstream.add("tool", "9.0"), upstream.add("alone")
    upstream.publish()
    refresh(site, attach(site, upstream))
    mine = publish(site, "tool")
    remove(site, mine)
    detach(site)
    assert rows(site, Artifact.filename) == [mine]
    assert rows(site, Package.name) == ["tool"]
    assert (count(site), found(site, "tool"), names(site)) == (0, [], {})
    address = f"/api/v1/channels/lab/artifacts/noarch/{mine}/restore"
    assert site.client.post(address, headers=bearer(site.key())).status_code == 204
    assert list(names(site)) == ["tool"]
    assert found(site, "tool") == [("tool", "1.0")]


def test_without_an_upstream_that_was_merged_packages_are_listed_with_what_is_ours(site, upstream):
    upstream.add("tool", "9.0", subdir="linux-64")
    upstream.publish()
    refresh(site, attach(site, upstream, merge=True))
    publish(site, "tool")
    assert found(site, "tool") == [("tool", "9.0")]
    detach(site)
    assert found(site, "tool") == [("tool", "1.0")]
    assert rows(site, Package.places) == [1]  # noarch


@pytest.mark.parametrize("how", ["none", "another", "fewer"])
def test_a_refresh_of_what_the_channel_serves_no_more_writes_nothing(site, upstream, monkeypatch, how):
    for number in range(300):
        upstream.add(f"p{number:03}")
    upstream.publish()
    view = attach(site, upstream)
    keep = Refresh._keep

    def change(self, *arguments):
        monkeypatch.undo()
        keep(self, *arguments)
        settings = {
            "another": Settings(upstream.url + "2"),
            "fewer": Settings(upstream.url, mode="mirror", wanted={"names": ["p00*"]}),
        }
        with site.app.database.write() as session:
            if how == "none":
                upstreams.detach(session, CONSOLE, "lab", now=site.app.now())
            else:
                upstreams.attach(session, CONSOLE, "lab", settings[how], now=site.app.now() + 1)

    monkeypatch.setattr(Refresh, "_keep", change)
    refresh(site, view)
    assert names(site) == {}
    assert rows(site, UpstreamSubdir.base_url) == []
    if how == "fewer":
        refresh(site, view)
        assert len(names(site)) == 10
    else:
        assert rows(site, UpstreamName.name) == rows(site, Package.name) == []
    if how == "another":
        assert upstreams_of(site).error is None


def test_who_asks_for_a_refresh_while_there_is_one_does_not_wait_for_the_next(site, upstream):
    view = attach(site, upstream)
    with site.app.database.write() as session:
        due = upstreams.due_at(session, view.channel_id)
        assert upstreams.plan(session, view.channel_id, now=due, died=False, due=due) > due
        due = upstreams.due_at(session, view.channel_id)
        upstreams.refresh_soon(session, CONSOLE, "lab", now=due + 1)
        assert upstreams.plan(session, view.channel_id, now=due + 2, died=False, due=due) == due + 1


def test_a_refresh_that_ended_without_a_word_counts_as_broken_off(site, upstream):
    """As one that ran out of memory, or over a fault of ours: Python's exit status says no more than an upstream's error."""
    upstream.add("tool")
    upstream.publish()
    view, begun = attach(site, upstream), site.app.now()
    with site.app.database.write() as session:
        upstreams.plan(session, view.channel_id, now=begun, died=False, begun=begun)
    assert "broken off" in upstreams_of(site).error
    refresh(site, view)
    with site.app.database.write() as session:
        upstreams.plan(session, view.channel_id, now=begun, died=False, begun=begun)
    assert upstreams_of(site).error is None


def test_a_file_that_comes_when_its_upstream_has_gone_is_not_kept(site, upstream):
    file = upstream.add("tool")
    upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    with site.app.database.read() as session:
        offer = copies.offered(session.connection(), view.channel_id, "noarch", file)
    with site.app.database.write() as session:
        upstreams.detach(session, CONSOLE, "lab", now=site.app.now())
        upstreams.attach(session, CONSOLE, "lab", Settings(upstream.url), now=site.app.now() + 1)
    with site.app.staging.open(100_000) as staged:
        staged.write(upstream.files[f"noarch/{file}"])
        digest = staged.finish()
        copies.keep(site.app.database, site.app.blobs, offer, staged, digest, now=site.app.now())
    assert rows(site, Copy.filename) == []


def test_a_platform_whose_shards_are_missing_is_not_one_that_is_not_there(site, upstream):
    upstream.add("tool"), upstream.add("tool", subdir="linux-64")
    upstream.publish()
    upstream.fault("/up/linux-64/shards/*", misbehaving.status(404))
    assert "linux-64" in refresh(site, attach(site, upstream)).errors
    assert upstreams_of(site).good_at == 0


@pytest.mark.parametrize("documents", [["shards"], ["json"]])
@pytest.mark.parametrize("name", ["a\0b", "../../x", "<script>", "x" * 190, "Tool", "\xe9", ""])
def test_nothing_is_made_of_names_that_no_package_has(site, upstream, documents, name):
    upstream.documents = documents
    upstream.add("tool")
    upstream.add(name, filename=f"{name}-1.0-h0_0.conda")
    upstream.publish()
    done = refresh(site, attach(site, upstream))
    assert (done.errors, done.dropped) == ({}, 1)
    assert list(names(site)) == rows(site, Package.name) == rows(site, UpstreamName.name) == ["tool"]


def test_a_licence_is_one_line_of_what_can_be_kept(site, upstream):
    upstream.add("tool", license="a\0b" + "x" * 5_000)
    upstream.publish()
    assert refresh(site, attach(site, upstream)).errors == {}
    assert rows(site, func.length(Package.licence)) == [1_000]
