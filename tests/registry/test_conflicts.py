"""A file whose bytes the upstream has changed: the first stay, until an owner believes the others."""

from __future__ import annotations

import hashlib

import pytest
from sqlalchemy import select

from fairway.db.models import Audit, Copy
from fairway.errors import NotAllowed, NotFound
from fairway.registry import conflicts, fsck, sweep
from fairway.registry.actor import CONSOLE
from tests.registry import test_refresh as reading
from tests.support.beside import attach, count, flat, names, refresh, upstreams_of

site, upstream = reading.site, reading.upstream

FILE = "tool-1.0-h0_0.conda"


def accept(site, filename=FILE, subdir="noarch", actor=CONSOLE):
    with site.app.database.write() as session:
        return conflicts.accept(session, actor, "lab", subdir, filename, now=site.app.now())


def listed(site):
    with site.app.database.read() as session:
        return [(one.subdir, one.filename, one.fetched) for one in conflicts.found(session, CONSOLE, "lab")]


def wrong(site):
    site.settle()
    return [one for one in fsck.check(site.app.database, site.app.blobs, deep=True) if one.harm == "error"]


@pytest.mark.parametrize("fetched", [True, False])
@pytest.mark.parametrize("alone", [True, False])
def test_what_is_accepted_replaces_the_first(site, upstream, fetched, alone):
    upstream.add("tool", data=b"first")
    if not alone:
        upstream.add("tool", "2.0")
    upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    seen = flat(site)["packages.conda"][FILE]["indexed_timestamp"]
    if fetched:
        assert site.client.get(f"/lab/noarch/{FILE}").content == b"first"
    with pytest.raises(NotFound):
        accept(site)
    upstream.add("tool", data=b"second")
    upstream.publish()
    assert refresh(site, view).conflicts == 1
    assert listed(site) == [("noarch", FILE, fetched)]
    done = accept(site)
    assert (done.sha256, done.claimed) == tuple(hashlib.sha256(data).hexdigest() for data in (b"first", b"second"))
    assert (listed(site), upstreams_of(site).conflicts, wrong(site)) == ([], 0, [])
    assert FILE not in flat(site)["packages.conda"]
    assert ("tool" in names(site), count(site)) == ((False, 0) if alone else (True, 1))
    assert refresh(site, view).conflicts == 0
    record = flat(site)["packages.conda"][FILE]
    assert record["sha256"] == done.claimed
    assert record["indexed_timestamp"] >= seen
    assert site.client.get(f"/lab/noarch/{FILE}").content == b"second"
    assert (wrong(site), count(site)) == ([], 1)
    with site.app.database.read() as session:
        (line,) = session.scalars(select(Audit).where(Audit.action == "upstream.accept"))
        assert (line.subject, line.details) == (f"noarch/{FILE}", {"sha256": [done.sha256, done.claimed]})
        assert session.scalars(select(Copy.sha256)).all() == [done.claimed]
    sweep.sweep(site.app.database, site.app.blobs, now=site.app.now() + 1, keep_ms=0)
    assert wrong(site) == []
    upstream.add("tool", data=b"first")
    upstream.publish()
    assert refresh(site, view).conflicts == 1


def test_it_is_for_who_manages_the_channel(site, upstream):
    upstream.add("tool", data=b"first")
    upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    upstream.add("tool", data=b"second")
    upstream.publish()
    refresh(site, view)
    site.user("stranger")
    key = site.key("stranger", "admin")
    actor = site.app.lookup.view().actor(key, rows=True)
    with pytest.raises(NotAllowed):
        accept(site, actor=actor)
    for place in (("noarch", "other-1.0-h0_0.conda"), ("linux-64", FILE), ("nowhere", FILE)):
        with pytest.raises(NotFound):
            accept(site, place[1], place[0])
