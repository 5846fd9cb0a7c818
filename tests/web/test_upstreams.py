"""A channel's upstream over HTTP: the API, the settings page, what every page of the channel says of it, and /metrics."""

# ruff: noqa: F811 - fixtures that are imported

from __future__ import annotations

import pytest

from fairway.db.models import Base
from fairway.db.models import Upstream as Row
from fairway.registry import upstreams
from fairway.registry.upstreams import Preset
from tests.support import misbehaving
from tests.support.browser import OWN
from tests.support.builders import conda_package
from tests.support.site import bearer
from tests.web.beside import API, SETTINGS, fields, look, put, row, site, upstream  # noqa: F401

# --- the API ---------------------------------------------------------------------------------------------------------


def test_what_is_set_is_shown_to_who_may_read_the_channel(site, upstream):
    assert site.get(API).json()["code"] == "not_found"
    made = put(site, url=upstream.url, platforms=["noarch", "linux-64"], every=600)
    assert made.status_code == 200
    shown = site.get(API).json()
    assert shown == made.json()
    assert (shown["url"], shown["mode"], shown["every"], shown["platforms"]) == (
        upstream.url, "proxy", 600, ["linux-64", "noarch"],
    )  # fmt: skip
    assert (shown["good_at"], shown["found"], shown["has_credential"]) == (None, [], False)
    assert look(site).errors == {}
    shown = site.get(API).json()
    assert shown["good_at"] is not None
    assert shown["records"] == 3
    assert [(one["name"], one["read_from"], one["records"]) for one in shown["found"]] == [
        ("linux-64", "shards", 1), ("noarch", "shards", 2),
    ]  # fmt: skip


def test_a_failed_look_is_told_in_words(site, upstream):
    put(site, url=upstream.url)
    look(site)
    upstream.fault("*", misbehaving.status(500))
    look(site)
    shown = site.get(API).json()
    assert shown["failures"] == 1
    assert "500" in shown["error"]
    assert shown["records"] == 3


def test_a_credential_can_be_given_and_is_never_given_back(site, upstream):
    secret = "s3cret-of-theirs"
    given = put(site, url=upstream.url, credential={"kind": "bearer", "secret": secret})
    kept = row(site).credential
    assert given.json()["has_credential"]
    assert secret not in given.text
    assert secret not in site.get(API, site.key("owner", "admin")).text
    assert secret.encode() not in kept
    assert put(site, url=upstream.url, merge=True).json()["has_credential"]
    assert row(site).credential == kept
    assert not put(site, url=upstream.url, credential=None).json()["has_credential"]
    assert row(site).credential is None
    inside = upstream.url.replace("http://", f"http://somebody:{secret}@")
    answer = put(site, url=inside)
    assert (answer.json()["url"], answer.json()["has_credential"]) == (upstream.url, True)
    assert secret not in answer.text


def test_a_credential_does_not_follow_to_another_server(site, upstream):
    put(site, url=upstream.url, credential={"kind": "bearer", "secret": "s3cret"})
    assert not put(site, url="https://1.1.1.1/x").json()["has_credential"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"url": "http://127.0.0.1:1/x"}, 422, "remote_refused"),
        ({"url": "http://[::1]/x"}, 422, "remote_refused"),
        ({"url": "ftp://example.org/x"}, 422, "remote_refused"),
        ({"url": "https://1.1.1.1/x?token=1"}, 422, "upstream_invalid"),
        ({"url": "https://1.1.1.1/x/linux-64"}, 422, "upstream_invalid"),
        ({"url": "https://1.1.1.1/x", "every": 1}, 422, "upstream_invalid"),
        ({"url": "https://1.1.1.1/x", "platforms": ["toaster-64"]}, 422, "upstream_invalid"),
        ({"url": "https://1.1.1.1/x", "credential": {"kind": "path", "secret": "a/b"}}, 422, "credential_invalid"),
        ({"url": "https://1.1.1.1/x", "unknown": 1}, 422, "request_invalid"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_kept(site, body, status, code):
    answer = put(site, **body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert row(site) is None


def test_it_is_looked_at_when_somebody_asks_and_goes_when_it_is_removed(site, upstream):
    key = site.key("owner", "admin")
    put(site, url=upstream.url)
    assert site.client.post(f"{API}/refresh", headers=bearer(key)).status_code == 202
    look(site)
    assert site.get("/api/v1/channels/lab/packages/demo").status_code == 200
    assert site.client.delete(API, headers=bearer(key)).status_code == 204
    assert site.get(API).status_code == 404
    assert site.client.post(f"{API}/refresh", headers=bearer(key)).status_code == 404


# --- the pages -------------------------------------------------------------------------------------------------------


@pytest.fixture
def preset(monkeypatch, upstream):
    """A well-known channel that is here."""
    known = (Preset("forge", "Everything", upstream.url),)
    monkeypatch.setattr(upstreams, "PRESETS", known)


def test_a_well_known_channel_is_added_with_its_button(site, preset, upstream):
    owner = site.browser("owner")
    buttons = owner.page(SETTINGS).named("button")
    assert ("preset", "forge") in {(one.get("name"), one.get("value")) for one in buttons}
    assert owner.post(SETTINGS, {"preset": "forge"}).status_code == 303
    assert row(site).url == upstream.url
    assert row(site).keep
    page = owner.page(SETTINGS)
    assert "read for the first time in a moment" in page.text
    assert [one["hx-trigger"] for one in page.named("div") if one.get("hx-select") == "#state"] == ["every 2s"]
    look(site)
    with site.app.database.write() as session:
        upstreams.plan(session, row(site).channel_id, now=site.app.now(), died=False)
    page = owner.page(SETTINGS)
    assert [one for one in page.named("div") if "hx-trigger" in one] == []
    assert "linux-64" in page.text


def test_the_form_keeps_what_is_filled_in_and_never_shows_a_secret(site, upstream):
    owner = site.browser("owner")
    sent = fields(upstream, platforms="noarch, linux-64", every="3600", credential="bearer", secret="s3cret")
    assert owner.post(SETTINGS, sent).status_code == 303
    kept = row(site)
    assert (kept.every, kept.subdirs, kept.keep, kept.merge) == (3600, ["linux-64", "noarch"], True, False)
    assert kept.credential is not None
    assert "s3cret" not in owner.get(SETTINGS).text
    assert owner.post(SETTINGS, fields(upstream)).status_code == 303
    assert row(site).credential == kept.credential
    assert owner.post(SETTINGS, fields(upstream, credential="none")).status_code == 303
    assert row(site).credential is None


def test_merging_wants_the_name_of_the_channel(site, upstream):
    owner = site.browser("owner")
    answer = owner.post(SETTINGS, fields(upstream, merge="1"))
    assert (answer.status_code, row(site)) == (422, None)
    assert "Type lab to confirm." in answer.text
    assert owner.post(SETTINGS, fields(upstream, merge="1", typed_merge="lab")).status_code == 303
    assert row(site).merge
    assert owner.post(SETTINGS, fields(upstream, merge="1")).status_code == 303  # it is already


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"url": "http://10.0.0.1/x"}, "private"),
        ({"url": ""}, "Give the upstream"),
        ({"platforms": "toaster-64"}, "no platform toaster-64"),
        ({"credential": "bearer"}, "Give the key"),
        ({"credential": "basic", "secret": "x", "user": "a:b"}, "cannot be sent"),
    ],
)
def test_what_is_wrong_is_said_beside_the_form(site, upstream, changed, sentence):
    answer = site.browser("owner").post(SETTINGS, fields(upstream, **changed))
    assert answer.status_code == 422
    assert sentence in answer.text
    assert row(site) is None


def test_it_is_removed_by_its_typed_name(site, upstream):
    owner = site.browser("owner")
    owner.post(SETTINGS, fields(upstream))
    assert owner.post(f"{SETTINGS}/refresh", form=SETTINGS).status_code == 303
    look(site)
    assert owner.post(f"{SETTINGS}/remove", {"typed_remove": "lob"}, form=SETTINGS).status_code == 422
    assert owner.post(f"{SETTINGS}/remove", {"typed_remove": "lab"}, form=SETTINGS).status_code == 303
    assert row(site) is None


def test_everybody_who_may_read_sees_what_is_beside_it_and_what_went_wrong(site, upstream):
    put(site, url=upstream.url)
    page = site.browser().page("/channels/lab")
    assert "lab is being filled" in page.text
    with site.app.database.write() as session:
        progress = {"phase": "records", "subdir": "noarch", "done": 1000, "total": 2000}
        session.query(Row).update({"progress": progress})
    page = site.browser().page("/channels/lab")
    assert "noarch, 1\N{NARROW NO-BREAK SPACE}000 of 2\N{NARROW NO-BREAK SPACE}000 names" in page.text
    assert [(one["value"], one["max"]) for one in page.named("progress")] == [("1000", "2000")]
    look(site)
    page = site.browser().page("/channels/lab")
    assert "with up" in page.text
    assert "demo" in page.text
    assert not page.named("progress")
    upstream.fault("*", misbehaving.status(500))
    look(site)
    assert (
        "The last look at up failed; what was there before is served on." in site.browser().page("/channels/lab").text
    )


def test_a_new_channel_can_begin_with_a_well_known_one(site, preset, upstream):
    owner = site.browser("owner")
    made = {"name": "fresh", "visibility": "public", "upstream": "forge"}
    assert owner.post("/channels/new", made).headers.get("location") == "/channels/fresh"
    assert site.get("/api/v1/channels/fresh/upstream").json()["url"] == upstream.url
    for field in ("upstream", "address"):
        refused = owner.post("/channels/new", made | {"name": "other", field: "http://10.0.0.1/x"})
        assert refused.status_code == 422
        assert "private" in refused.text
    assert site.get("/api/v1/channels/other", site.key()).status_code == 404


def test_a_new_channel_can_begin_with_any_other(site, upstream):
    owner = site.browser("owner")
    made = {"name": "fresh", "visibility": "public", "upstream": "", "address": upstream.url + "/"}
    assert owner.post("/channels/new", made).headers.get("location") == "/channels/fresh"
    assert site.get("/api/v1/channels/fresh/upstream").json()["url"] == upstream.url


PACKAGE = "/channels/lab/packages/demo"


def test_the_pages_of_a_package_show_what_the_upstream_has(site, upstream):
    put(site, url=upstream.url)
    look(site)
    reader = site.browser()
    assert "from up" in reader.page(PACKAGE).text
    assert {"1.0", "2.0"} <= {one.get("value") for one in reader.page(PACKAGE).named("option")}
    assert "2.0" in reader.page(f"{PACKAGE}/versions").text
    files = reader.page(f"{PACKAGE}/files").text
    assert "demo-1.0-h0_0.conda" in files
    assert files.count("on first use") == 2
    assert "demo-1.0-h0_0.conda" not in reader.page(f"{PACKAGE}/files?version=2.0").text
    assert "lib" in reader.page(f"{PACKAGE}/dependencies").text
    for tab in ("contents", "recipe"):
        assert "does not open what it passes on" in reader.page(f"{PACKAGE}/{tab}").text


def test_many_files_of_an_upstream_are_turned_page_by_page(site, upstream):
    for number in range(120):
        upstream.add("many", f"1.{number}")
    upstream.publish()
    put(site, url=upstream.url)
    look(site)
    reader, at = site.browser(), "/channels/lab/packages/many/files"
    seen = []
    for turn, (first, last) in enumerate(((1, 50), (51, 100), (101, 120)), 1):
        page = reader.page(f"{at}?theirs={turn}")
        assert f"{first} to {last} of 120" in page.text
        seen += [one["href"] for one in page.named("a") if "download" in one]
        assert {one["rel"] for one in page.named("a") if one.get("rel") in {"prev", "next"}} == (
            {"next"} if turn == 1 else {"prev", "next"} if turn == 2 else {"prev"}
        )
    assert len(set(seen)) == 120
    assert "101 to 120 of 120" in reader.page(f"{at}?theirs=99").text
    assert "of 120" not in reader.page(f"{at}?version=1.7").text


def test_the_history_says_what_is_known_of_an_upstreams_files(site, upstream):
    put(site, url=upstream.url)
    look(site)
    history = f"{PACKAGE}/history"
    text = site.browser().page(history).text
    assert "is not known here" in text
    assert "No file of it has been fetched yet" in text
    assert site.get("/lab/noarch/demo-1.0-h0_0.conda").status_code == 200
    upstream.remove("demo-2.0-h0_0.conda")
    upstream.publish()
    look(site)
    text = " ".join(site.browser().page(history).text.split())
    assert "fetched noarch/demo-1.0-h0_0.conda" in text
    assert "gone at up noarch/demo-2.0-h0_0.conda" in text


def test_a_package_of_ours_says_what_it_hides(site, upstream):
    put(site, url=upstream.url)
    look(site)
    answer = site.put("lab", conda_package("demo", "0.1"), site.key("owner"))
    assert (answer.status_code, answer.json()["hides"]) == (201, 2)
    assert site.put("lab", conda_package("fresh", "0.1"), site.key("owner")).json()["hides"] == 0
    owner = site.browser("owner")
    name, data = conda_package("demo", "0.2")
    token = owner.page("/channels/lab/upload").token()
    headers = OWN | {"x-csrf-token": token, "content-type": "application/octet-stream", "accept": "application/json"}
    answer = owner.client.post(f"/channels/lab/upload/file?filename={name}", content=data, headers=headers)
    assert "it hides 2 files of the same name that the channel's upstream has" in answer.json()["note"]
    reader = site.browser()
    assert "hides 2 files of the same name that up has" in reader.page(PACKAGE).text
    assert "demo-1.0-h0_0.conda" not in reader.page(f"{PACKAGE}/files").text
    put(site, url=upstream.url, merge=True)
    assert site.put("lab", conda_package("demo", "0.3"), site.key("owner")).json()["hides"] == 0
    files = reader.page(f"{PACKAGE}/files").text
    assert "demo-1.0-h0_0.conda" in files
    assert "demo-0.1-h0_0.conda" in files


# --- what operators see ----------------------------------------------------------------------------------------------


def test_the_age_of_an_index_is_a_metric_without_a_name(site, upstream):
    put(site, url=upstream.url)
    number = row(site).channel_id
    text = site.get("/metrics").text
    assert f'fairway_upstream_failures{{channel="{number}"}} 0.0' in text
    later = site.app.now() + 90_000
    site.app.now = lambda: later
    (age,) = [
        line.split()[1] for line in site.get("/metrics").text.splitlines() if line.startswith("fairway_upstream_age")
    ]
    assert float(age) >= 90
    assert "lab" not in text


# --- a secret in the address -----------------------------------------------------------------------------------------

IN_ADDRESS = "tkSECRET12"
SPELLED = {
    "key": "https://1.1.1.1/t/{}/private",
    "encoded": "https://1.1.1.1/%74/{}/private",
    "password": "https://me:{}@1.1.1.1/private",
    "encoded slash": "https://1.1.1.1/t%2F{}/private",
    "two slashes": "https://1.1.1.1/t//{}/private",
    "odd key": "https://1.1.1.1/t/{}==/private",
    "query": "https://1.1.1.1/private?token={}",
    "fragment": "https://1.1.1.1/private#{}",
    "two": "https://me:{0}@1.1.1.1/t/{0}/private",
    "no scheme": "me:{}@1.1.1.1/private",
}


def rows(site):
    """Everything there is in the database."""
    with site.app.database.read() as session:
        for table in Base.metadata.sorted_tables:
            yield from (repr(tuple(found)) for found in session.execute(table.select()))


@pytest.mark.parametrize("how", SPELLED)
@pytest.mark.parametrize("where", ["api", "form", "new", "taken"])
def test_a_secret_in_an_address_is_nowhere_but_sealed(site, caplog, capsys, how, where):
    """Not on the page that comes back either: a browser keeps it, and whoever looks over a shoulder sees it."""
    url = SPELLED[how].format(IN_ADDRESS)
    browser = site.browser("owner")
    good = how in {"key", "encoded", "password"}
    if where == "api":
        answer = put(site, url=url)
        assert answer.status_code == (200 if good else 422), answer.text
    elif where == "form":
        answer = browser.post(SETTINGS, {"url": url, "every": "1800", "mode": "proxy"})
        assert answer.status_code == (303 if good else 422), answer.text
    else:
        fields = {"name": "lab" if where == "taken" else "fresh", "visibility": "public", "address": url}
        answer = browser.post("/channels/new", fields)
        assert answer.status_code == (303 if good and where == "new" else 422), answer.text
    assert IN_ADDRESS not in answer.text
    key = site.key("owner", "admin")
    at = "fresh" if where == "new" else "lab"
    for path in (f"/channels/{at}", f"/channels/{at}/settings/upstream", f"/api/v1/channels/{at}/upstream"):
        seen = browser.get(path) if path.startswith("/channels") else site.get(path, key)
        assert IN_ADDRESS not in seen.text
    found = "\n".join(rows(site))
    assert IN_ADDRESS not in found
    assert ("https://1.1.1.1/private" in found) == (good and where != "taken")
    printed = capsys.readouterr()
    assert IN_ADDRESS not in caplog.text + printed.out + printed.err
    if good and where in {"api", "form"}:
        assert "https://1.1.1.1/private" in site.get(API, key).text
