"""A backup brings back what was had of an upstream, whether that is there or not."""

from __future__ import annotations

import shutil
from contextlib import ExitStack

import pytest
from sqlalchemy import func, select

from fairway.app import Fairway
from fairway.blobs import keys
from fairway.db import migrate
from fairway.db.models import Copy, Job, Upstream, UpstreamName, Want
from fairway.errors import SecretLost
from fairway.registry import backup, channels, fsck, upstreams
from fairway.registry.actor import CONSOLE
from fairway.registry.channels import Change
from fairway.remote.credentials import Credential
from fairway.settings import load
from tests.registry import test_refresh as reading
from tests.support.beside import attach, names, publish, refresh, upstreams_of
from tests.support.site import Site

upstream = reading.upstream

DOCUMENTS = [
    f"{subdir}/{name}"
    for subdir in ("noarch", "linux-64")
    for name in ("repodata.json", "run_exports.json", "repodata_shards.msgpack.zst")
]
KEPT = ("tool-1.0-h0_0.conda", "gone-1.0-h0_0.conda", "mine-1.0-h0_0.conda", "hidden-1.0-h0_0.conda")


@pytest.fixture(params=["there", "back"])
def pair(request, database_url, tmp_path, upstream):
    """Two Fairways: one on each database, and one on SQLite; in this order, or the other way round."""
    with ExitStack() as stack:
        apps = [
            stack.enter_context(Fairway(load({"upstream_allow": upstream.allow, **options}, environ={})))
            for options in (
                {"data": tmp_path / "one", "database_url": database_url},
                {"data": tmp_path / "other"},
            )
        ]
        yield apps if request.param == "there" else apps[::-1]


def fill(site, upstream):
    """Names shown and hidden, files that were fetched, one of which has gone, one that claims another hash."""
    for name, depends in (("tool", ["other"]), ("other", ["nothing"]), ("gone", []), ("hidden", []), ("changes", [])):
        upstream.add(name, depends=depends)
    upstream.add("tool", subdir="linux-64")
    upstream.run_exports["noarch"] = {"packages.conda": {"tool-1.0-h0_0.conda": {"run_exports": {"weak": ["tool"]}}}}
    upstream.wants = ("authorization", "Bearer secret")
    upstream.publish()
    credential = site.app.seal(Credential.make("bearer", "secret", upstream.url).pack(), upstream.url)
    view = attach(site, upstream, credential=credential)
    assert refresh(site, view).errors == {}
    for filename in ("tool-1.0-h0_0.conda", "gone-1.0-h0_0.conda"):
        assert site.client.get(f"/lab/noarch/{filename}").status_code == 200
    publish(site, "mine"), publish(site, "hidden")
    upstream.remove("gone-1.0-h0_0.conda")
    upstream.add("changes", data=b"others")
    upstream.publish()
    refresh(site, view)
    site.channel("base", "public")
    with site.app.database.write() as session:
        channels.update_channel(session, CONSOLE, "lab", Change(base="base"), now=site.app.now())
    site.settle()


def rows(app):
    """What is known of the upstream, but for what a server does by itself."""
    with app.database.read() as session:
        found = session.scalars(select(Upstream)).one()
        about = (found.url, found.mode, found.merge, found.keep, found.every, found.good_at, found.credential)
        kept = (UpstreamName.name, UpstreamName.sha256, UpstreamName.records, UpstreamName.exports, UpstreamName.source)
        copies = (Copy.filename, Copy.sha256, Copy.fetched_at, Copy.gone_at, Copy.claimed)
        wants = (Want.name, Want.packages, Want.here)
        return about, *(sorted(map(repr, session.execute(select(*some)))) for some in (kept, copies, wants))


def bring(old, new, path):
    done = backup.backup(old.database, old.blobs, path, schema=migrate.HEAD, now=old.now())
    assert done.lost == ()
    assert backup.restore(new.database, new.blobs, new.staging, path, schema=migrate.HEAD) == done
    new.publisher.catch_up()
    assert [one for one in fsck.check(new.database, new.blobs, deep=True) if one.harm == "error"] == []


def test_everything_is_served_afterwards_without_the_upstream(pair, upstream, tmp_path):
    old, new = pair
    with Site(old) as site:
        fill(site, upstream)
        before = {name: site.client.get(f"/lab/{name}").content for name in DOCUMENTS}
        files = {name: site.client.get(f"/lab/noarch/{name}").content for name in KEPT}
        found = rows(old)
    bring(old, new, tmp_path / "all.fairway")
    assert rows(new) == found
    upstream.down()
    with Site.around(new) as site:
        assert {name: site.client.get(f"/lab/{name}").content for name in DOCUMENTS} == before
        assert {name: site.client.get(f"/lab/noarch/{name}").content for name in KEPT} == files
        assert site.client.get("/lab/noarch/repodata.json").json()["info"]["channel_relations"] == {"base": "../base"}
        # the key of the credential was not in the backup
        answer = site.client.get("/lab/noarch/other-1.0-h0_0.conda")
        assert (answer.status_code, answer.json()["code"]) == (500, "secret_lost")
        with pytest.raises(SecretLost):
            refresh(site, upstreams_of(site))
        view = upstreams_of(site)
        assert view.error.startswith("A stored secret was sealed with a key that is not in")
        assert view.failures == 1
        upstream.up()
        shutil.copy(old.keyring.path, new.keyring.path)
        upstream.add("fresh")
        upstream.publish()
        done = refresh(site, upstreams_of(site))
        assert (done.errors, done.names) == ({}, 1)  # and nothing else is read again
        assert upstreams_of(site).error is None
        assert "fresh" in names(site)
        assert site.client.get("/lab/noarch/other-1.0-h0_0.conda").status_code == 200
        publish(site, "another")


def test_what_a_store_has_lost_is_fetched_again_and_refreshes_go_on(pair, upstream, tmp_path):
    old, new = pair
    with Site(old) as site:
        fill(site, upstream)
    sha256 = upstream.records["noarch"]["tool-1.0-h0_0.conda"]["sha256"]
    old.blobs.delete(keys.package(sha256))
    path = tmp_path / "all.fairway"
    done = backup.backup(old.database, old.blobs, path, schema=migrate.HEAD, now=old.now())
    assert done.lost == ("lab/noarch/tool-1.0-h0_0.conda",)
    backup.restore(new.database, new.blobs, new.staging, path, schema=migrate.HEAD)
    new.publisher.catch_up()
    assert [one for one in fsck.check(new.database, new.blobs, deep=True) if one.harm == "error"] == []
    shutil.copy(old.keyring.path, new.keyring.path)
    with Site.around(new) as site:
        assert site.client.get("/lab/noarch/tool-1.0-h0_0.conda").status_code == 200
        assert site.client.get("/lab/noarch/gone-1.0-h0_0.conda").status_code == 200
    with new.database.read() as session:
        assert session.scalar(select(func.count()).where(Job.kind == upstreams.REFRESH)) == 1
