"""Upstreams, against a server that speaks HTTP: what clients get of them, and when."""

# ruff: noqa: F811 - fixtures that are imported

from __future__ import annotations

import hashlib

import msgspec
import pytest
from backports import zstd
from sqlalchemy import select

from fairway.db.models import Package
from fairway.registry import fsck, reserved, upstreams
from fairway.registry.actor import CONSOLE
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
    shard,
    site,
    upstream,
    upstreams_of,
)
from tests.support.waiting import eventually


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


def test_names_of_ours_win_whatever_the_version_and_the_platform(site, upstream):
    upstream.add("tool", "9.0"), upstream.add("tool", "9.0", subdir="linux-64"), upstream.add("other")
    upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    assert found(site, "tool") == [("tool", "9.0")]
    mine = publish(site, "tool", "1.0")
    assert list(shard(site, "tool")["packages.conda"]) == [mine]
    assert "tool" not in names(site, "linux-64")
    assert found(site, "tool") == [("tool", "1.0")]
    assert set(flat(site)["packages.conda"]) == {mine, "other-1.0-h0_0.conda"}
    assert flat(site, "linux-64")["packages.conda"] == {}
    upstream.add("tool", "10.0"), upstream.add("tool", "10.0", subdir="linux-64")
    upstream.publish()
    refresh(site, view)
    assert list(shard(site, "tool")["packages.conda"]) == [mine]
    assert "tool" not in names(site, "linux-64")
    remove(site, mine)
    assert "tool" not in names(site)
    with site.app.database.write() as session:
        reserved.release(session, CONSOLE, "lab", "tool", now=site.app.now())
    assert set(shard(site, "tool")["packages.conda"]) == {"tool-9.0-h0_0.conda", "tool-10.0-h0_0.conda"}
    assert len(shard(site, "tool", "linux-64")["packages.conda"]) == 2
    assert found(site, "tool") == [("tool", "10.0")]


def test_where_names_are_merged_the_highest_version_wins_and_our_files_stay(site, upstream):
    theirs = upstream.add("tool", "9.0")
    upstream.add("tool", "1.0")  # as ours is called
    upstream.publish()
    view = attach(site, upstream, merge=True)
    refresh(site, view)
    mine = publish(site, "tool", "1.0")
    records = shard(site, "tool")["packages.conda"]
    assert set(records) == {theirs, mine}
    assert records[mine]["sha256"].hex() != upstream.records["noarch"][mine]["sha256"]
    assert found(site, "tool") == [("tool", "9.0")]
    with site.app.database.write() as session:
        upstreams.attach(session, CONSOLE, "lab", Settings(upstream.url, merge=False), now=site.app.now())
    assert list(shard(site, "tool")["packages.conda"]) == [mine]


def test_what_goes_there_is_listed_as_removed_and_counted_no_more(site, upstream):
    stays, goes = upstream.add("tool", "1.0"), upstream.add("tool", "2.0")
    last = upstream.add("alone")
    upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    assert count(site) == 2
    upstream.remove(goes), upstream.remove(last)
    upstream.publish()
    done = refresh(site, view)
    assert (done.names, done.gone) == (1, 1)
    assert list(flat(site)["packages.conda"]) == [stays]
    assert flat(site)["removed"] == sorted([goes, last])
    assert list(names(site)) == ["tool"]
    assert (found(site, "tool"), found(site, "alone")) == ([("tool", "1.0")], [])
    assert count(site) == 1


def test_the_time_of_a_file_is_when_it_was_first_seen_and_stays(site, upstream):
    file = upstream.add("tool")
    known = upstream.add("known", indexed_timestamp=1_600_000_000_000)
    upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    first = flat(site)["packages.conda"][file]["indexed_timestamp"]
    assert flat(site)["packages.conda"][known]["indexed_timestamp"] == 1_600_000_000_000
    upstream.remove(file)
    upstream.publish()
    refresh(site, view)
    upstream.add("tool", depends=["changed"])
    upstream.publish()
    refresh(site, view)
    record = flat(site)["packages.conda"][file]
    assert (record["indexed_timestamp"], record["depends"]) == (first, ["changed"])
    assert flat(site)["removed"] == []


def test_a_hash_that_changes_is_not_believed(site, upstream):
    file = upstream.add("tool", data=b"good")
    upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    good = flat(site)["packages.conda"][file]["sha256"]
    upstream.add("tool", data=b"evil")
    upstream.publish()
    assert refresh(site, view).conflicts == 1
    assert flat(site)["packages.conda"][file]["sha256"] == good
    assert upstreams_of(site).conflicts == 1
    upstream.add("tool", data=b"good")
    upstream.publish()
    refresh(site, view)
    assert upstreams_of(site).conflicts == 0


def test_a_refresh_that_breaks_off_shows_nothing_and_goes_on_from_there(site, upstream):
    upstream.add("old")
    upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    before = names(site)
    for number in range(450):
        upstream.add(f"p{number:03}")
    upstream.publish()
    broken = max(path for path in upstream.files if path.startswith("noarch/shards/"))
    upstream.fault(f"/up/{broken}", misbehaving.status(404))
    done = refresh(site, view)
    assert "noarch" in done.errors
    assert names(site) == before
    assert upstreams_of(site).error.startswith("noarch: ")
    upstream.heal()
    upstream.asked.clear()
    done = refresh(site, view)
    assert len(names(site)) == 451
    assert upstream.count("*/shards/*") < 450
    assert upstreams_of(site).error is None


def test_without_an_upstream_everything_of_it_is_gone(site, upstream):
    upstream.add("tool"), upstream.add("mine", "9.0")
    upstream.publish()
    refresh(site, attach(site, upstream))
    file = publish(site, "mine")
    with site.app.database.write() as session:
        upstreams.detach(session, CONSOLE, "lab", now=site.app.now())
    assert list(names(site)) == ["mine"]
    assert list(flat(site)["packages.conda"]) == [file]
    assert (count(site), found(site, "tool")) == (1, [])


@pytest.mark.parametrize("documents", [["json"], ["zst"], ["zst", "json"]])
def test_an_upstream_without_shards_gets_some_here(site, upstream, documents):
    upstream.documents = documents
    one = upstream.add("one")
    upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    assert list(shard(site, "one")["packages.conda"]) == [one]
    two = upstream.add("two")
    upstream.publish()
    done = refresh(site, view)
    assert (done.names, sorted(names(site))) == (1, ["one", "two"])
    assert set(flat(site)["packages.conda"]) == {one, two}
    assert upstreams_of(site).places[0].kind == documents[0]


def test_run_exports_come_along(site, upstream):
    file = upstream.add("lib")
    upstream.run_exports["noarch"] = {"packages": {}, "packages.conda": {file: {"run_exports": {"weak": ["lib >=1"]}}}}
    upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    exports = site.client.get("/lab/noarch/run_exports.json").json()
    assert exports["packages.conda"][file] == {"run_exports": {"weak": ["lib >=1"]}}


def test_nothing_in_the_index_leads_past_us(site, upstream):
    upstream.info["base_url"] = "https://files.example.org/"
    file = upstream.add("tool", url="https://elsewhere.example.org/tool.conda")
    upstream.publish()
    refresh(site, attach(site, upstream))
    body = site.client.get("/lab/noarch/repodata.json").text
    assert "example.org" not in body
    assert file in body
    index = site.client.get("/lab/noarch/repodata_shards.msgpack.zst").content
    assert b"example.org" not in zstd.decompress(index)
    assert b"example.org" not in msgspec.msgpack.encode(shard(site, "tool"))


def test_a_file_is_fetched_once_and_kept_when_the_upstream_is_away(site, upstream):
    file = upstream.add("tool")
    upstream.publish()
    refresh(site, attach(site, upstream))
    address, body = f"/lab/noarch/{file}", upstream.files[f"noarch/{file}"]
    assert site.client.head(address).headers["content-length"] == str(len(body))
    assert upstream.count(f"*/{file}") == 0
    first = site.client.get(address)
    assert (first.status_code, first.content) == (200, body)
    assert first.headers["etag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    eventually(lambda: not site.app.transfers.under_way())
    upstream.down()
    assert site.client.get(address).content == body
    assert site.client.get(address, headers={"Range": "bytes=5-9"}).content == body[5:10]
    assert upstream.count(f"*/{file}") == 1
    view = upstreams_of(site)
    assert (view.kept_files, view.kept_bytes) == (1, len(body))


def test_other_bytes_are_neither_sent_nor_kept(site, upstream):
    file = upstream.add("tool")
    upstream.publish()
    refresh(site, attach(site, upstream))
    upstream.files[f"noarch/{file}"] = b"evil" * 100
    answer = site.client.get(f"/lab/noarch/{file}")
    assert (answer.status_code, answer.json()["code"]) == (502, "remote_mismatch")
    assert upstreams_of(site).kept_files == 0
    upstream.files.pop(f"noarch/{file}")
    assert site.client.get(f"/lab/noarch/{file}").status_code == 404
    assert site.client.get("/lab/noarch/other-1.0-h0_0.conda").status_code == 404


def test_what_the_upstream_deletes_can_be_had_if_it_was_fetched_and_that_is_wanted(site, upstream):
    file, other = upstream.add("tool"), upstream.add("other")
    upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    body = site.client.get(f"/lab/noarch/{file}").content
    upstream.remove(file), upstream.remove(other)
    upstream.publish()
    refresh(site, view)
    assert site.client.get(f"/lab/noarch/{file}").content == body
    assert site.client.get(f"/lab/noarch/{other}").status_code == 404
    with site.app.database.write() as session:
        upstreams.attach(session, CONSOLE, "lab", Settings(upstream.url, keep=False), now=site.app.now())
    assert site.client.get(f"/lab/noarch/{file}").status_code == 404


def test_downloads_of_an_upstreams_files_are_counted(site, upstream):
    file = upstream.add("tool")
    upstream.publish()
    refresh(site, attach(site, upstream))
    for _ in range(3):
        site.client.get(f"/lab/noarch/{file}")
    site.app.counts.flush(site.app.database)
    with site.app.database.read() as session:
        assert session.scalar(select(Package.downloads).where(Package.name == "tool")) == 3


def test_one_without_noarch_is_served_with_what_it_has(site, upstream):
    """As folders are that somebody made for one platform."""
    upstream.add("one", subdir="linux-64")
    upstream.publish()
    upstream.fault("*/noarch/*", misbehaving.status(404))
    view = attach(site, upstream)
    assert refresh(site, view).errors == {}
    assert upstreams_of(site).error is None
    assert list(names(site, "linux-64")) == ["one"]
    assert flat(site)["packages.conda"] == {}


def test_one_with_no_platform_at_all_says_so(site, upstream):
    upstream.fault("*", misbehaving.status(404))
    view = attach(site, upstream)
    refresh(site, view)
    assert upstreams_of(site).error == "The upstream has none of the platforms that conda clients know."


@pytest.mark.parametrize(
    ("built", "shown"),
    [(1_600_000_000_000, 1_600_000_000_000), (1_600_000_000, 1_600_000_000_000), (9e15, None), (-1, None), ("x", None)],
)
def test_a_package_is_as_old_as_its_youngest_file(site, upstream, built, shown):
    """Not as the first look at the upstream, which would be the same for all of them."""
    begun = site.app.now()
    upstream.add("one", "1.0", timestamp=built if isinstance(built, str) else int(built))
    upstream.add("one", "0.9", timestamp=1_500_000_000_000)
    upstream.publish()
    refresh(site, attach(site, upstream))
    with site.app.database.read() as session:
        at = session.scalar(select(Package.updated_at).where(Package.name == "one"))
    assert at == shown if shown else at >= begun


def test_a_platform_that_is_wanted_no_more_leaves_the_index_and_comes_back(site, upstream):
    for name, subdir in (("both", "noarch"), ("both", "linux-64"), ("there", "linux-64")):
        upstream.add(name, subdir=subdir)
    upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    for wanted, there in ((("noarch",), []), (None, ["both", "there"])):
        with site.app.database.write() as session:
            upstreams.attach(session, CONSOLE, "lab", Settings(upstream.url, subdirs=wanted), now=site.app.now())
        assert refresh(site, view).errors == {}
        assert list(names(site)) == ["both"]
        assert list(names(site, "linux-64")) == there
        assert len(flat(site, "linux-64")["packages.conda"]) == len(there)
        assert [place.name for place in upstreams_of(site).places] == (["noarch"] if wanted else ["linux-64", "noarch"])
        assert [name for name, _ in found(site, "there")] == there[1:]
        assert [one for one in fsck.check(site.app.database, site.app.blobs, deep=True) if one.harm == "error"] == []
