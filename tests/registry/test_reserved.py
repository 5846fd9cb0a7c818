"""Names of ours that stay ours when the last of their files is deleted: whoever may publish upstream is not handed them."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from fairway.cli import maintain
from fairway.db.models import Audit, Channel, Package
from fairway.errors import NotAllowed, NotFound
from fairway.registry import channels, fsck, reserved, tokens, upstreams, withdraw
from fairway.registry.actor import CONSOLE, Role
from fairway.registry.upstreams import Settings
from tests.registry import test_refresh as reading
from tests.support.beside import attach, flat, found, names, publish, refresh, remove
from tests.support.builders import conda_package
from tests.support.site import bearer

site, upstream = reading.site, reading.upstream

DAY = 86_400_000
PLACES = ("noarch", "linux-64")


def offer(upstream, *versions, name="acme"):
    for version in versions:
        for subdir in PLACES:
            upstream.add(name, version, subdir=subdir, depends=["python"])
    upstream.publish()


def shown(site, name="acme"):
    """Where clients and people see anything of a name: subdirs of both projections, search, listing, page."""
    site.settle()
    places = [subdir for subdir in PLACES if name in names(site, subdir)]
    places += [
        f"{subdir}/flat" for subdir in PLACES if any(file.startswith(f"{name}-") for file in listed(site, subdir))
    ]
    places += ["search"] if found(site, name) else []
    listing = site.client.get("/api/v1/channels/lab/packages").json()["items"]
    places += ["listing"] if name in [one["name"] for one in listing] else []
    return places + (["page"] if site.client.get(f"/channels/lab/packages/{name}").status_code == 200 else [])


def listed(site, subdir):
    return [file for section in ("packages", "packages.conda") for file in flat(site, subdir)[section]]


EVERYWHERE = [*PLACES, *(f"{subdir}/flat" for subdir in PLACES), "search", "listing", "page"]
OURS = ["noarch", "noarch/flat", "search", "listing", "page"]


def kept(site, channel="lab"):
    with site.app.database.read() as session:
        return [(one.name, one.records) for one in reserved.names(session, CONSOLE, channel)]


def release(site, name="acme", actor=CONSOLE):
    with site.app.database.write() as session:
        reserved.release(session, actor, "lab", name, now=site.app.now())


def set_upstream(site, upstream, **settings):
    with site.app.database.write() as session:
        return upstreams.attach(session, CONSOLE, "lab", Settings(upstream.url, **settings), now=site.app.now())


def agrees(site):
    site.settle()
    errors = [one for one in fsck.check(site.app.database, site.app.blobs, deep=True) if one.harm == "error"]
    assert errors == []


def count(site):
    with site.app.database.read() as session:
        return session.scalars(select(Channel.packages).where(Channel.name == "lab")).one()


def test_a_name_whose_last_file_is_deleted_is_not_handed_to_the_upstream(site, upstream):
    offer(upstream, "9.0")
    view = attach(site, upstream)
    refresh(site, view)
    mine = publish(site, "acme")
    assert shown(site) == OURS
    remove(site, mine)
    assert shown(site) == []
    assert site.client.get("/lab/noarch/acme-9.0-h0_0.conda").status_code == 404
    offer(upstream, "10.0")
    refresh(site, view)
    assert shown(site) == []
    assert (count(site), kept(site)) == (0, [("acme", 4)])
    agrees(site)


def test_a_name_that_comes_up_at_the_upstream_later_is_not_shown_either(site, upstream):
    upstream.add("other"), upstream.publish()
    view = attach(site, upstream)
    refresh(site, view)
    remove(site, publish(site, "acme"))
    offer(upstream, "10.0")
    refresh(site, view)
    assert shown(site) == []
    assert shown(site, "other") == OURS
    assert count(site) == 1
    agrees(site)


def test_a_name_that_is_released_is_the_upstreams(site, upstream):
    offer(upstream, "9.0")
    view = attach(site, upstream)
    refresh(site, view)
    remove(site, publish(site, "acme"))
    release(site)
    assert shown(site) == EVERYWHERE
    assert found(site, "acme") == [("acme", "9.0")]
    assert (count(site), kept(site)) == (1, [])
    agrees(site)
    offer(upstream, "10.0")
    refresh(site, view)
    assert found(site, "acme") == [("acme", "10.0")]
    with pytest.raises(NotFound):
        release(site)
    with site.app.database.read() as session:
        line = session.scalars(select(Audit).where(Audit.action == "name.release")).one()
    assert (line.subject, line.details) == ("acme", {"records": 2})
    remove(site, publish(site, "acme", "2.0"))  # and ours again, once it was
    assert (shown(site), kept(site)) == ([], [("acme", 4)])
    agrees(site)


@pytest.mark.parametrize("how", ["restored", "published"])
def test_a_name_of_which_a_file_comes_back_is_as_it_was(site, upstream, how):
    offer(upstream, "9.0")
    refresh(site, attach(site, upstream))
    mine = publish(site, "acme")
    remove(site, mine)
    if how == "restored":
        address = f"/api/v1/channels/lab/artifacts/noarch/{mine}/restore"
        assert site.client.post(address, headers=bearer(site.key())).status_code == 204
    else:
        publish(site, "acme", "2.0")
    assert shown(site) == OURS
    assert (count(site), kept(site)) == (1, [])
    assert "hides 2 files" in site.client.get("/channels/lab/packages/acme").text
    agrees(site)


def test_the_answer_to_an_upload_says_what_a_kept_name_hides(site, upstream):
    offer(upstream, "9.0")
    refresh(site, attach(site, upstream))
    remove(site, publish(site, "acme"))
    filename, data = conda_package("acme", "3.0", "h0_0")
    answer = site.client.put(
        f"/api/v1/channels/lab/artifacts/noarch/{filename}", content=data, headers=bearer(site.key())
    )
    assert answer.json()["hides"] == 2


def test_a_yanked_file_keeps_its_name_as_ever(site, upstream):
    offer(upstream, "9.0")
    refresh(site, attach(site, upstream))
    mine = publish(site, "acme")
    with site.app.database.write() as session:
        withdraw.yank(session, CONSOLE, "lab", "noarch", mine, "broken", now=site.app.now())
    assert shown(site) == ["search", "listing", "page"]
    assert kept(site) == []


def test_where_names_are_merged_nothing_is_kept_until_they_are_not(site, upstream):
    offer(upstream, "9.0")
    view = attach(site, upstream, merge=True)
    refresh(site, view)
    remove(site, publish(site, "acme"))
    assert (shown(site), kept(site)) == (EVERYWHERE, [])
    agrees(site)
    refresh(site, set_upstream(site, upstream, merge=False))
    assert (shown(site), count(site), kept(site)) == ([], 0, [("acme", 2)])
    agrees(site)
    refresh(site, set_upstream(site, upstream, merge=True))
    assert (shown(site), count(site), kept(site)) == (EVERYWHERE, 1, [])
    agrees(site)


def test_names_that_were_deleted_before_there_was_an_upstream_are_kept_too(site, upstream):
    offer(upstream, "9.0")
    site.channel("lab", "public")
    remove(site, publish(site, "acme"))
    assert kept(site) == []  # nobody could take it
    refresh(site, set_upstream(site, upstream))
    assert (shown(site), kept(site)) == ([], [("acme", 2)])
    agrees(site)


def test_a_release_is_for_one_upstream(site, upstream):
    offer(upstream, "9.0")
    refresh(site, attach(site, upstream))
    remove(site, publish(site, "acme"))
    release(site)
    with site.app.database.write() as session:
        upstreams.detach(session, CONSOLE, "lab", now=site.app.now())
    assert (shown(site), kept(site), count(site)) == ([], [], 0)
    refresh(site, set_upstream(site, upstream))
    assert (shown(site), kept(site)) == ([], [("acme", 2)])
    agrees(site)


def test_who_may_release_a_name_and_who_learns_of_it(site, upstream):
    offer(upstream, "9.0")
    refresh(site, attach(site, upstream))
    remove(site, publish(site, "acme"))
    actors = {}
    for user in ("viewer-admin", "uploader-admin", "maintainer-upload", "maintainer-admin"):
        role, _, scope = user.partition("-")
        site.user(user)
        with site.app.database.write() as session:
            channels.set_member(session, CONSOLE, "lab", user, Role.of(role), now=1)
        key = site.key(user, scope)
        with site.app.database.read() as session:
            actors[user] = tokens.recognise(session, key, now=site.app.now()).actor
    for user in ("viewer-admin", "uploader-admin", "maintainer-upload"):
        with pytest.raises(NotAllowed):
            release(site, actor=actors[user])
    for user in ("viewer-admin", "uploader-admin"):
        with pytest.raises(NotAllowed), site.app.database.read() as session:
            reserved.names(session, actors[user], "lab")
    with site.app.database.read() as session:
        assert [one.name for one in reserved.names(session, actors["maintainer-admin"], "lab")] == ["acme"]
    release(site, actor=actors["maintainer-admin"])
    assert kept(site) == []


@pytest.mark.parametrize("name", ["nothing", "other", "mine"])
def test_only_a_name_that_is_kept_can_be_released(site, upstream, name):
    upstream.add("other"), upstream.publish()
    refresh(site, attach(site, upstream))
    publish(site, "mine")
    with pytest.raises(NotFound):
        release(site, name)


def test_fsck_counts_what_is_kept_anew(site, upstream):
    offer(upstream, "9.0")
    refresh(site, attach(site, upstream))
    remove(site, publish(site, "acme"))
    with site.app.database.write() as session:
        package = session.scalars(select(Package).where(Package.name == "acme")).one()
        package.remote = 2
    wrong = [one for one in fsck.check(site.app.database, site.app.blobs, deep=True) if one.harm == "error"]
    assert {one.where for one in wrong} == {"lab/acme"}
    maintain.mend(site.app, wrong, deep=True)
    assert shown(site) == []
    agrees(site)


# --- what people do about it ----------------------------------------------------------------------------------------


def test_pages_say_to_those_who_manage_why_nothing_is_there_and_let_them_release_it(site, upstream):
    offer(upstream, "9.0")
    refresh(site, attach(site, upstream))
    remove(site, publish(site, "acme"))
    site.user("reader"), site.user("keeper")
    with site.app.database.write() as session:
        channels.set_member(session, CONSOLE, "lab", "reader", Role.UPLOADER, now=1)
        channels.set_member(session, CONSOLE, "lab", "keeper", Role.MAINTAINER, now=1)
    at = "/channels/lab/packages/acme"
    reader, keeper = site.browser("reader"), site.browser("keeper")
    assert site.client.get(at).status_code == reader.get(at).status_code == 404
    assert reader.get(f"{at}/release").status_code == 403
    shown_page = keeper.get(at)
    assert shown_page.status_code == 200
    assert "nothing that up has of it is served" in shown_page.text
    assert f"{at}/release" in shown_page.text
    assert f"{at}/release" in keeper.get("/channels/lab/trash").text
    assert "dependency confusion" in keeper.get(f"{at}/release").text
    assert keeper.get("/channels/lab/packages/nothing").status_code == 404
    done = keeper.post(f"{at}/release")
    assert (done.status_code, done.headers["location"]) == (303, at)
    assert shown(site) == EVERYWHERE
    assert keeper.get(f"{at}/release").status_code == 404
    assert "released to the upstream" in keeper.get(f"{at}/history").text


def test_the_api_lists_and_releases(site, upstream):
    offer(upstream, "9.0")
    refresh(site, attach(site, upstream))
    remove(site, publish(site, "acme"))
    at, key = "/api/v1/channels/lab/upstream", bearer(site.key(scope="admin"))
    (one,) = site.client.get(f"{at}/reserved", headers=key).json()
    assert (one["name"], one["records"]) == ("acme", 2)
    assert site.client.post(f"{at}/release", json={"name": "acme"}).status_code == 401
    assert site.client.post(f"{at}/release", json={"name": "acme"}, headers=key).status_code == 200
    assert site.client.get(f"{at}/reserved", headers=key).json() == []
    assert site.client.post(f"{at}/release", json={"name": "acme"}, headers=key).status_code == 404
    assert shown(site) == EVERYWHERE
