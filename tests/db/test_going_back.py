"""Going back to a version that knew no upstreams: what was theirs is lost, what is ours stays and is served."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from fairway.cli import maintain
from fairway.db import migrate
from fairway.db.models import Copy, Package, ShardBytes, Want
from fairway.registry import channels, fsck, sweep, upstreams, withdraw
from fairway.registry.actor import CONSOLE
from fairway.registry.channels import Change
from fairway.registry.upstreams import Settings
from tests.registry import test_refresh as reading
from tests.support.beside import attach, flat, names, publish, refresh

site, upstream = reading.site, reading.upstream


@pytest.mark.parametrize("merge", [False, True])
def test_a_channel_keeps_what_is_its_own(site, upstream, merge):
    for name in ("theirs", "both", "deleted"):
        upstream.add(name, "9.0", depends=["theirs", "nothing"])
    upstream.add("theirs", subdir="linux-64")
    upstream.publish()
    view = attach(site, upstream, merge=merge)
    refresh(site, view)
    mine = [publish(site, "both"), publish(site, "mine"), publish(site, "deleted")]
    assert site.client.get("/lab/noarch/theirs-9.0-h0_0.conda").status_code == 200
    assert site.client.get(f"/lab/noarch/{mine[0]}").status_code == 200
    site.channel("base", "public")
    with site.app.database.write() as session:
        withdraw.delete(session, CONSOLE, "lab", "noarch", mine[2], now=site.app.now())
        channels.update_channel(session, CONSOLE, "lab", Change(base="base"), now=site.app.now())
    site.settle()
    migrate.downgrade(site.app.database, "0004")
    with site.app.database.writer.connect() as connection:
        counted = text("SELECT name, live FROM packages ORDER BY name")
        assert connection.execute(counted).all() == [("both", 1), ("deleted", 0), ("mine", 1)]
        assert connection.scalar(text("SELECT packages FROM channels WHERE name = 'lab'")) == 2
        assert connection.scalar(text("SELECT count(*) FROM jobs")) == 0
        days = text("SELECT p.name, d.count FROM package_days d JOIN packages p ON p.id = d.package_id")
        assert connection.execute(days).all() == [("both", 1)]
        assert connection.execute(text("SELECT sum(count) FROM channel_days")).scalar() == 1
        assert connection.execute(text("SELECT name, downloads FROM packages WHERE downloads <> 0")).all() == [
            ("both", 1)
        ]
    migrate.upgrade(site.app.database)
    site.settle()
    assert list(names(site)) == ["both", "mine"]
    assert set(flat(site)["packages.conda"]) == set(mine[:2])
    assert flat(site, "linux-64")["packages.conda"] == {}
    for filename in mine[:2]:
        assert site.client.get(f"/lab/noarch/{filename}").status_code == 200
    wrong = [one for one in fsck.check(site.app.database, site.app.blobs, deep=True) if one.harm == "error"]
    assert {one.where for one in wrong} == ({"lab/both"} if merge else set())
    maintain.mend(site.app, wrong, deep=True)
    assert [one for one in fsck.check(site.app.database, site.app.blobs, deep=True) if one.harm == "error"] == []
    with site.app.database.write() as session:
        withdraw.undelete(session, CONSOLE, "lab", "noarch", mine[2], now=site.app.now(), keep_ms=1 << 40)
    assert list(names(site)) == ["both", "deleted", "mine"]
    later = site.app.now() + (1 << 40)
    sweep.sweep(site.app.database, site.app.blobs, now=later, keep_ms=0)
    with site.app.database.read() as session:
        assert session.scalars(select(Copy)).all() == session.scalars(select(Want)).all() == []
        assert len(session.scalars(select(ShardBytes)).all()) == 3
        assert {one.remote for one in session.scalars(select(Package))} == {0}
    # and it may have its upstream again
    with site.app.database.write() as session:
        view = upstreams.attach(session, CONSOLE, "lab", Settings(upstream.url), now=site.app.now())
    assert refresh(site, view).errors == {}
    assert "theirs" in names(site)
    site.settle()
    assert [one for one in fsck.check(site.app.database, site.app.blobs, deep=True) if one.harm == "error"] == []


def test_a_version_that_kept_no_names_shows_what_the_upstream_has_of_them(site, upstream):
    """And what it shows, the next version shows on: an upgrade takes no package away."""
    upstream.add("acme", "9.0"), upstream.add("theirs")
    upstream.publish()
    refresh(site, attach(site, upstream))
    for name in ("acme", "gone"):
        mine = publish(site, name)
        with site.app.database.write() as session:
            withdraw.delete(session, CONSOLE, "lab", "noarch", mine, now=site.app.now())
    assert list(names(site)) == ["theirs"]
    migrate.downgrade(site.app.database, "0007")
    with site.app.database.writer.connect() as connection:
        counted = text("SELECT name, remote FROM packages ORDER BY name")
        assert connection.execute(counted).all() == [("acme", 1), ("gone", 0), ("theirs", 1)]
        assert connection.scalar(text("SELECT packages FROM channels WHERE name = 'lab'")) == 2
        assert connection.scalars(text("SELECT name FROM shards WHERE due")).all() == ["acme"]
    migrate.upgrade(site.app.database)
    site.settle()
    assert list(names(site)) == ["acme", "theirs"]
    with site.app.database.read() as session:
        kept = session.scalars(select(Package.name).where(Package.reserved)).all()
        assert kept == ["gone"]
    wrong = [one for one in fsck.check(site.app.database, site.app.blobs, deep=True) if one.harm == "error"]
    assert {one.where for one in wrong} == {"lab/acme"}  # what it is listed with
    maintain.mend(site.app, wrong, deep=True)
    assert [one for one in fsck.check(site.app.database, site.app.blobs, deep=True) if one.harm == "error"] == []
