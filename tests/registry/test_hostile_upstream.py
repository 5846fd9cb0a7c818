"""An upstream that is away, slow, broken or hostile damages nothing that we have, and says so in a sentence."""

from __future__ import annotations

import datetime as dt
import hashlib

import msgspec
import pytest
from backports import zstd

from fairway.app import Fairway
from fairway.cli.upstreams import run
from fairway.registry import channels, upstreams
from fairway.registry.actor import CONSOLE, Visibility
from fairway.registry.upstreams import Settings
from fairway.settings import load
from tests.support import misbehaving as bad
from tests.support.site import Site
from tests.support.upstream import Upstream

PLACES = {
    "shards": "noarch/repodata_shards.msgpack.zst",
    "zst": "noarch/repodata.json.zst",
    "json": "noarch/repodata.json",
}
# what may go wrong with any document
ANYTHING = {
    "busy": bad.status(503, retry_after=1_000),
    "broken": bad.status(500),
    "forbidden": bad.status(403),
    "odd status": bad.status(418),
    "no content": bad.status(204, body=b""),
    "a page": bad.html(),
    "a page called data": bad.html("application/octet-stream"),
    "empty": bad.instead(b""),
    "not what it is": bad.instead(b"\x00\x01\x02" * 100),
    "half, as if it were all": bad.half(),
    "truncated": bad.truncated(),
    "reset": bad.reset(),
    "hangs at once": bad.hangs(),
    "hangs half way": bad.hangs(20),
    "redirects in circles": bad.loops(),
    "redirects into the cloud": bad.redirects("http://169.254.169.254/latest/meta-data/"),
    "redirects to a file": bad.redirects("file:///etc/passwd"),
    "compressed unasked": bad.encoded(),
    "without end": bad.huge(),
    "no HTTP": bad.raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
}
SHAPES = {
    "shards": {
        "a list": b"\x90",
        "no shards": b"\x81\xa4info\x80",
        "hashes that are none": b"\x82\xa4info\x80\xa6shards\x81\xa1a\xc4\x02hi",
        "of another platform": b"\x82\xa4info\x81\xa6subdir\xa5win-6\xa6shards\x80",
    },
    "json": {
        "a list": b"[]",
        "records that are a list": b'{"info":{"subdir":"noarch"},"packages.conda":[]}',
        "of another platform": b'{"info":{"subdir":"win-64"},"packages.conda":{}}',
        "deep": b'{"info":' * 5_000,
    },
}


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def site(tmp_path, upstream):
    options = {"data": tmp_path / "data", "upstream_allow": upstream.allow, "upstream_patience": 0.3}
    with Fairway(load(options, environ={})) as app, Site(app) as site:
        yield site


def attach(site, upstream, subdirs=("noarch",)):
    now = site.app.now()
    with site.app.database.write() as session:
        channels.create_channel(
            session, CONSOLE, "lab", owner="admin", visibility=Visibility.PUBLIC, description="", now=now
        )
        return upstreams.attach(session, CONSOLE, "lab", Settings(upstream.url, subdirs=subdirs), now=now)


def everything(site):
    paths = ("repodata_shards.msgpack.zst", "repodata.json", "repodata.json.zst", "run_exports.json")
    answers = [site.client.get(f"/lab/noarch/{path}") for path in paths]
    assert [answer.status_code for answer in answers] == [200] * len(paths)
    return [hashlib.sha256(answer.content).hexdigest() for answer in answers]


def state(site):
    with site.app.database.read() as session:
        return upstreams.show(session, CONSOLE, "lab")


def harmed(site, upstream, view, pattern, fault):
    """Nothing changes while the fault lasts, there is a sentence, and afterwards all is well."""
    before = everything(site)
    for number in range(3):
        upstream.add(f"new{number}")
    upstream.publish()
    upstream.fault(f"/up/{pattern}*", fault)
    done = run(site.app, view.channel_id)
    assert done.errors.keys() == {"noarch"}
    assert everything(site) == before
    shown = state(site)
    assert shown.failures == 1
    assert shown.error.startswith("noarch: ")
    assert shown.error.endswith(".")
    assert "Traceback" not in shown.error
    assert len(shown.error) < 400
    upstream.released.set()
    upstream.heal()
    assert run(site.app, view.channel_id).errors == {}
    assert state(site).error is None
    assert len(site.client.get("/lab/noarch/repodata.json").json()["packages.conda"]) == 4


@pytest.mark.parametrize("document", PLACES)
@pytest.mark.parametrize("fault", ANYTHING)
def test_a_document_that_goes_wrong_changes_nothing(site, upstream, document, fault):
    upstream.documents = (document,)
    upstream.add("old")
    upstream.publish()
    view = attach(site, upstream)
    assert run(site.app, view.channel_id).errors == {}
    harmed(site, upstream, view, PLACES[document], ANYTHING[fault])


@pytest.mark.parametrize(("document", "shape"), [(kind, shape) for kind in SHAPES for shape in SHAPES[kind]])
def test_a_document_of_another_shape_changes_nothing(site, upstream, document, shape):
    upstream.documents = (document,)
    upstream.add("old")
    upstream.publish()
    view = attach(site, upstream)
    run(site.app, view.channel_id)
    body = SHAPES[document][shape]
    packed = zstd.compress(body) if document == "shards" else body
    harmed(site, upstream, view, PLACES[document], bad.instead(packed))


@pytest.mark.parametrize("fault", ["missing", "flipped", "bomb", "of another shape", "hangs"])
def test_a_shard_that_goes_wrong_changes_nothing(site, upstream, fault):
    upstream.documents = ("shards",)
    upstream.add("old")
    upstream.publish()
    view = attach(site, upstream)
    run(site.app, view.channel_id)
    faults = {
        "missing": bad.status(404),
        "flipped": bad.flipped(),
        "bomb": bad.bomb(),
        "of another shape": bad.instead(zstd.compress(b"\x90")),
        "hangs": bad.hangs(),
    }
    harmed(site, upstream, view, "noarch/shards/", faults[fault])


def test_a_record_that_cannot_be_trusted_is_left_out_and_the_rest_is_served(site, upstream):
    upstream.documents = ("json",)
    good = upstream.add("good")
    upstream.add("traversal", filename="../../etc/passwd-1.0-h0_0.conda")
    upstream.add("other", filename="good-2.0-h0_0.conda")  # says that it is another package
    upstream.add("unhashed", sha256="not a hash")
    upstream.add("short", sha256="abcd")
    upstream.add("sizeless", size=-1)
    upstream.add("listless", constrains="python")
    upstream.publish()
    view = attach(site, upstream)
    done = run(site.app, view.channel_id)
    assert done.errors == {}
    assert list(site.client.get("/lab/noarch/repodata.json").json()["packages.conda"]) == [good]
    assert state(site).places[0].dropped == 6


def test_what_is_left_out_of_a_platform_is_counted_there_alone(site, upstream):
    for subdir in ("noarch", "linux-64", "win-64"):
        upstream.add("good", subdir=subdir)
    upstream.add("unhashed", subdir="linux-64", sha256="not a hash")
    upstream.documents = ("json",)
    upstream.publish()
    run(site.app, attach(site, upstream, subdirs=None).channel_id)
    assert {one.name: one.dropped for one in state(site).places} == {"linux-64": 1, "noarch": 0, "win-64": 0}


def test_a_record_is_of_the_platform_whose_it_is_whatever_it_says(site, upstream):
    """As some of pkgs/main, in linux-aarch64 and said to be noarch: clients install them."""
    upstream.documents = ("json",)
    filename = upstream.add("lit", subdir="noarch", noarch="python")
    upstream.records["noarch"][filename]["subdir"] = "linux-64"
    upstream.publish()
    run(site.app, attach(site, upstream).channel_id)
    record = site.client.get("/lab/noarch/repodata.json").json()["packages.conda"][filename]
    assert (record["subdir"], record["noarch"]) == ("noarch", "python")
    assert state(site).places[0].dropped == 0


def test_a_missing_platform_keeps_what_was_there(site, upstream):
    upstream.add("old")
    upstream.publish()
    view = attach(site, upstream)
    run(site.app, view.channel_id)
    before = everything(site)
    upstream.fault("/up/noarch/*", bad.status(404))
    done = run(site.app, view.channel_id)
    assert "served on" in done.errors["noarch"]
    assert everything(site) == before


def publish_shard(upstream, name, document, **info):
    """The one shard of noarch, whatever it holds."""
    shard = zstd.compress(msgspec.msgpack.encode(document))
    digest = hashlib.sha256(shard).digest()
    said = {"subdir": "noarch", "base_url": "", "shards_base_url": "./shards/", **info}
    upstream.files[f"noarch/shards/{digest.hex()}.msgpack.zst"] = shard
    upstream.files["noarch/repodata_shards.msgpack.zst"] = zstd.compress(
        msgspec.msgpack.encode({"info": said, "shards": {name: digest}})
    )


def record_of(version="1.0", content=b"good", **more):
    return {
        "name": "tool", "version": version, "build": "0", "build_number": 0, "depends": [],
        "sha256": hashlib.sha256(content).digest(), "size": len(content), **more,
    }  # fmt: skip


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        nested(300),
        {"a": b"x"},
        {1: 2},
        dt.datetime.now(dt.UTC),
        msgspec.msgpack.Ext(5, b"x"),
        "x" * 300_000,
    ],
    ids=["deep", "bytes", "numbers for keys", "a time", "something else", "endless"],
)
def test_a_record_that_cannot_be_written_stops_no_document(site, upstream, value):
    """One of them would have stopped repodata.json, with what is ours in it, for ever."""
    records = {"tool-1.0-0.conda": record_of(), "tool-2.0-0.conda": record_of("2.0", what=value)}
    publish_shard(upstream, "tool", {"packages": {}, "packages.conda": records})
    assert run(site.app, attach(site, upstream).channel_id).errors == {}
    everything(site)
    assert list(site.client.get("/lab/noarch/repodata.json").json()["packages.conda"]) == ["tool-1.0-0.conda"]
    assert state(site).places[0].dropped == 1


def test_a_record_of_a_flat_document_may_be_too_deep_as_well(site, upstream):
    upstream.documents = ("json",)
    good = upstream.add("good")
    upstream.add("deep", what=nested(300))
    upstream.publish()
    assert run(site.app, attach(site, upstream).channel_id).errors == {}
    assert list(site.client.get("/lab/noarch/repodata.json").json()["packages.conda"]) == [good]


def test_a_file_has_one_content_in_whatever_sections_it_is(site, upstream):
    twice = {"conda": {"tool-1.0-0": record_of(content=b"evil!"), "tool-2.0-0": record_of("2.0")}}
    records = {"tool-1.0-0.conda": record_of(), "tool-2.0-0.conda": record_of("2.0")}
    publish_shard(upstream, "tool", {"packages": {}, "packages.conda": records, "v3": twice})
    run(site.app, attach(site, upstream).channel_id)
    found = site.client.get("/lab/noarch/repodata.json").json()
    assert set(found["packages.conda"]) == set(records)
    assert set(found["v3"]["conda"]) == {"tool-2.0-0"}


@pytest.mark.parametrize("where", ["base_url", "shards_base_url"])
def test_an_address_that_is_none_is_said_in_a_sentence(site, upstream, where):
    publish_shard(upstream, "tool", {"packages": {}, "packages.conda": {"tool-1.0-0.conda": record_of()}})
    publish_shard(upstream, "tool", {"packages": {}, "packages.conda": {}}, **{where: "http://[x"})
    done = run(site.app, attach(site, upstream).channel_id)
    assert "an address that is none" in done.errors["noarch"]


def test_a_record_whose_file_is_at_an_address_that_is_none_is_left_out(site, upstream):
    records = {"tool-1.0-0.conda": record_of(), "tool-2.0-0.conda": record_of("2.0", url="http://[x")}
    publish_shard(upstream, "tool", {"packages": {}, "packages.conda": records})
    assert run(site.app, attach(site, upstream).channel_id).errors == {}
    assert list(site.client.get("/lab/noarch/repodata.json").json()["packages.conda"]) == ["tool-1.0-0.conda"]


def test_a_shard_that_unpacks_to_more_than_can_be_looked_at_changes_nothing(site, upstream):
    upstream.add("old")
    upstream.publish()
    view = attach(site, upstream)
    run(site.app, view.channel_id)
    before = everything(site)
    publish_shard(upstream, "tool", {"packages": {}, "packages.conda": {}, "x": b"0" * (80 << 20)})
    assert "damaged" in run(site.app, view.channel_id).errors["noarch"]
    assert everything(site) == before
