"""Mirrors on the settings page of an upstream: what they hold, how much that is, how far they are; looking now; changed hashes."""

# ruff: noqa: F811 - fixtures that are imported

from __future__ import annotations

import pytest

from fairway.conda.choice import Choice
from fairway.registry import estimating, upstreams
from fairway.registry.estimating import Extent
from fairway.web.limits import Limit
from tests.support import misbehaving
from tests.support.site import bearer
from tests.web.beside import API, SETTINGS, Row, fields, look, put, row, site, upstream  # noqa: F401


@pytest.fixture(autouse=True)
def any_number_of_estimates(site):
    site.limits.estimates = Limit("estimates", 0, 60, 0)


# --- mirrors ---------------------------------------------------------------------------------------------------------


def test_what_a_mirror_holds_is_filled_in_and_shown_again(site, upstream):
    owner = site.browser("owner")
    sent = fields(
        upstream,
        mode="mirror",
        names="Demo, lib*",
        specs="lib >=1\r\n\r\ndemo 2.*",
        licences="MIT\nBSD-*",
        newest="2",
        closure="1",
    )
    assert owner.post(SETTINGS, sent).status_code == 303
    wanted = {
        "names": ["demo", "lib*"], "specs": ["lib >=1", "demo 2.*"], "licences": ["MIT", "BSD-*"], "newest": 2, "closure": True,
    }  # fmt: skip
    assert (row(site).mode, row(site).wanted) == ("mirror", wanted)
    assert site.get(API).json()["wanted"] == wanted
    page = owner.page(SETTINGS)
    assert (
        "demo, lib*; lib >=1, demo 2.*; under MIT, BSD-*; the newest 2 versions of each; and what these need"
        in page.text
    )
    assert "\nlib >=1\ndemo 2.*\n" in page.text
    assert owner.post(SETTINGS, sent | {"mode": "proxy"}).status_code == 303
    assert (row(site).mode, row(site).wanted) == ("proxy", None)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"specs": "demo >>1"}, "is no match spec"),
        ({"newest": "0"}, "Give a number from 1 on"),
        ({"newest": "many"}, "Give a number from 1 on"),
        ({"names": "x" * 301}, "1 to 300 characters"),
    ],
)
def test_a_mirror_that_cannot_be_is_refused_beside_the_form(site, upstream, changed, sentence):
    for address in (SETTINGS, f"{SETTINGS}/estimate"):
        answer = site.browser("owner").post(address, fields(upstream, mode="mirror", **changed), form=SETTINGS)
        assert answer.status_code == 422
        assert sentence in answer.text
    assert row(site) is None


def estimated(site, upstream, **changed):
    answer = site.browser("owner").post(
        f"{SETTINGS}/estimate", fields(upstream, mode="mirror", **changed), form=SETTINGS
    )
    assert answer.status_code == 200
    return answer.text


def test_an_estimate_says_what_a_mirror_would_hold_and_changes_nothing(site, upstream):
    assert "was not read here yet" in estimated(site, upstream)
    put(site, url=upstream.url)
    assert "was not read here yet" in estimated(site, upstream)
    look(site)
    before = row(site).next_at
    asked = upstream.count()
    assert "<strong>3 files, " in estimated(site, upstream)
    assert "<strong>1 file, " in estimated(site, upstream, names="demo", newest="1")
    assert "<strong>2 files, " in estimated(site, upstream, names="demo", newest="1", closure="1")
    assert "<strong>1 file, " in estimated(site, upstream, platforms="linux-64")
    assert "Nothing at the upstream fits." in estimated(site, upstream, names="nothing-*")
    assert "was not read here yet" in estimated(site, upstream, url="https://1.1.1.1/other")
    assert (row(site).mode, row(site).wanted, row(site).next_at) == ("proxy", None, before)
    assert upstream.count() == asked


def test_an_estimate_of_another_choice_than_the_one_that_was_read_cannot_be_made(site, upstream):
    put(site, url=upstream.url, mode="mirror", wanted={"names": ["demo"]})
    look(site)
    assert "<strong>2 files, " in estimated(site, upstream, names="demo")
    assert "Only what the saved choice wants is known here" in estimated(site, upstream, names="lib")


def test_an_estimate_says_when_it_did_not_get_to_the_end(site, upstream):
    put(site, url=upstream.url)
    look(site)
    with site.app.database.read() as session:
        found = estimating.estimate(
            session, row(site).channel_id, upstream.url, Choice(names=("*",), newest=1), None, seconds=-1
        )
    assert (found.extent, found.records) == (Extent.PART, 0)


def asked_for(site, key=None, /, **body):
    return site.client.post(f"{API}/estimate", json=body, headers=bearer(key or site.key("owner", "admin")))


def test_the_api_says_what_a_mirror_would_hold(site, upstream):
    assert asked_for(site).json()["code"] == "not_found"
    put(site, url=upstream.url)
    assert asked_for(site).json() == {"extent": "unread", "records": 0, "size": 0, "platforms": []}
    look(site)
    before, asked = row(site).next_at, upstream.count()
    sizes = {path: len(data) for path, data in upstream.files.items() if path.endswith(".conda")}
    found = asked_for(site).json()
    assert (found["extent"], found["records"], found["size"]) == ("whole", 3, sum(sizes.values()))
    assert found["platforms"] == [
        {"name": "linux-64", "packages": 1, "records": 1, "size": sizes["linux-64/lib-1.0-h0_0.conda"]},
        {"name": "noarch", "packages": 1, "records": 2, "size": found["size"] - found["platforms"][0]["size"]},
    ]
    for count, body in (
        (1, {"wanted": {"specs": ["demo >=2"]}}),
        (2, {"wanted": {"names": ["demo"], "newest": 1, "closure": True}}),
        (1, {"platforms": ["linux-64"]}),
        (0, {"wanted": {"licences": ["MIT"]}}),
    ):
        assert asked_for(site, **body).json()["records"] == count, body
    assert (row(site).mode, row(site).wanted, row(site).next_at) == ("proxy", None, before)
    assert upstream.count() == asked


def test_who_may_not_see_the_settings_estimates_nothing_and_what_cannot_be_is_refused(site, upstream):
    put(site, url=upstream.url)
    site.user("other")
    for body in ({"wanted": {"newest": 0}}, {"wanted": {"specs": ["demo >>1"]}}, {"platforms": ["mars-64"]}):
        assert (asked_for(site, **body).status_code, asked_for(site, **body).json()["code"]) == (
            422, "upstream_invalid",
        )  # fmt: skip
    assert asked_for(site, site.key("other", "admin")).json()["code"] == "scope_missing"
    assert asked_for(site, site.key("owner", "upload")).json()["code"] == "scope_missing"
    site.limits.estimates = Limit("estimates", 1, 60, 1)
    assert [asked_for(site).status_code for _ in range(2)] == [200, 429]


def test_no_estimate_is_made_of_what_was_read_for_another_choice(site, upstream):
    """The settings say what is to be read; until that is done, only the choice before is here."""
    put(site, url=upstream.url, mode="mirror", wanted={"names": ["lib"]})
    look(site)
    put(site, url=upstream.url)
    assert asked_for(site).json()["extent"] == "unread"
    look(site)
    assert asked_for(site).json()["records"] == 3


def test_an_estimate_is_of_a_part_until_all_platforms_were_read(site, upstream):
    upstream.fault("*/noarch/*", misbehaving.status(500))
    put(site, url=upstream.url)
    look(site)
    assert [asked_for(site).json()[key] for key in ("extent", "records")] == ["part", 1]
    assert "At least 1 file, " in estimated(site, upstream)
    upstream.heal()
    look(site)
    assert [asked_for(site).json()[key] for key in ("extent", "records")] == ["whole", 3]


def test_a_mirrors_files_are_counted_while_they_come(site, upstream):
    put(site, url=upstream.url, mode="mirror")
    with site.app.database.write() as session:
        upstreams.tell_files(session, row(site).channel_id, 3, 7, 5_000)
    page = site.browser("owner").page(SETTINGS)
    assert "3 of 7, 5.0\N{NARROW NO-BREAK SPACE}kB so far" in page.text
    assert "it goes on from there" in page.text
    assert [(one["value"], one["max"]) for one in page.named("progress")] == [("3", "7")]
    shown = site.get(API).json()["progress"]
    assert (shown["phase"], shown["done"], shown["total"], shown["size"]) == ("files", 3, 7, 5_000)


# --- looking now -----------------------------------------------------------------------------------------------------


def test_it_is_looked_at_one_at_a_time_and_not_again_at_once(site, upstream):
    key, owner = site.key("owner", "admin"), site.browser("owner")
    put(site, url=upstream.url)
    with site.app.database.write() as session:
        session.query(Row).update({"progress": {"phase": "reading", "subdir": "noarch", "done": 0, "total": 0}})
    assert site.client.post(f"{API}/refresh", headers=bearer(key)).status_code == 202
    assert owner.post(f"{SETTINGS}/refresh", form=SETTINGS).status_code == 303
    assert "It is being looked at already." in owner.get(SETTINGS).text
    look(site)
    answer = site.client.post(f"{API}/refresh", headers=bearer(key))
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert 0 < int(answer.headers["retry-after"]) <= 10
    page = owner.post(f"{SETTINGS}/refresh", form=SETTINGS)
    assert page.status_code == 429
    assert "It was looked at a moment ago; wait" in page.text
    later = site.app.now() + upstreams.PAUSE_MS
    site.app.now = lambda: later
    assert site.client.post(f"{API}/refresh", headers=bearer(key)).status_code == 202


def test_a_look_that_died_counts_as_the_last_one(site, upstream):
    """Else whoever asks has a process started again at once, for as long as it dies."""
    key = site.key("owner", "admin")
    put(site, url=upstream.url)
    with site.app.database.write() as session:
        upstreams.plan(session, row(site).channel_id, now=site.app.now(), died=True)
    answer = site.client.post(f"{API}/refresh", headers=bearer(key))
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert "broken off" in site.get(API).json()["error"]


def test_settings_cannot_be_saved_again_and_again_to_have_it_looked_at(site, upstream):
    site.limits.settings = Limit("changes of upstreams", 2, 300, 2)
    key, owner = site.key("owner", "admin"), site.browser("owner")
    assert put(site, key, url=upstream.url).status_code == 200
    assert owner.post(SETTINGS, fields(upstream)).status_code == 303
    before = row(site).next_at
    refused = put(site, key, url=upstream.url, mode="mirror")
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert "more than 2 changes of upstreams in five minutes; try again in" in refused.json()["detail"]
    assert int(refused.headers["retry-after"]) > 0
    page = owner.post(SETTINGS, fields(upstream, mode="mirror"))
    assert (page.status_code, "more than 2 changes of upstreams" in page.text) == (429, True)
    accepted = site.client.post(f"{API}/accept", json={"subdir": "noarch", "filename": "x"}, headers=bearer(key))
    assert accepted.status_code == 429
    assert (row(site).mode, row(site).next_at) == ("proxy", before)
    assert put(site, site.key("admin", "admin"), url=upstream.url).status_code == 200  # who runs the server


def test_files_whose_hash_changed_are_listed_with_both(site, upstream):
    name = upstream.add("odd", "1.0")
    upstream.publish()
    put(site, url=upstream.url)
    look(site)
    first = upstream.records["noarch"][name]["sha256"]
    upstream.add("odd", "1.0", data=b"another")
    upstream.publish()
    look(site)
    page = site.browser("owner").get(SETTINGS).text
    assert name in page
    assert first in page
    assert upstream.records["noarch"][name]["sha256"] in page
    assert name not in site.browser().get("/channels/lab").text.partition('id="packages"')[0]


def changed_file(site, upstream):
    """An upstream with a file whose hash it has changed, which nobody has fetched."""
    name = upstream.add("odd", "1.0")
    upstream.publish()
    put(site, url=upstream.url)
    look(site)
    upstream.add("odd", "1.0", data=b"another")
    upstream.publish()
    look(site)
    return name


def test_the_new_file_is_taken_on_the_page(site, upstream):
    name = changed_file(site, upstream)
    answer = site.browser("owner").post(f"{SETTINGS}/accept", {"subdir": "noarch", "filename": name}, form=SETTINGS)
    assert answer.status_code == 303
    look(site)
    assert site.client.get(f"/lab/noarch/{name}").content == b"another"
    assert "Files that have another hash now" not in site.browser("owner").get(SETTINGS).text


def test_the_new_file_is_taken_over_the_api(site, upstream):
    name = changed_file(site, upstream)
    key = bearer(site.key("owner", "admin"))
    (found,) = site.client.get(f"{API}/conflicts", headers=key).json()
    assert (found["filename"], found["claimed"]) == (name, upstream.records["noarch"][name]["sha256"])
    place = {"subdir": "noarch", "filename": name}
    assert site.client.post(f"{API}/accept", headers=key, json=place).json() == found
    assert site.client.get(f"{API}/conflicts", headers=key).json() == []
    assert site.client.post(f"{API}/accept", headers=key, json=place).status_code == 404
    site.user("stranger")
    for one in (None, site.key("stranger", "admin")):
        answer = site.client.post(f"{API}/accept", headers=bearer(one) if one else {}, json=place)
        assert answer.status_code in {401, 403}
