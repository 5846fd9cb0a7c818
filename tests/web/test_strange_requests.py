"""Addresses and cursors that none of our pages has: an answer that says so, never an error of ours, never another host."""

import base64
import re

import orjson
import pytest

from tests.support.browser import OWN
from tests.support.builders import conda_package
from tests.support.site import bearer
from tests.test_routes import DECISIONS


@pytest.fixture
def lab(site):
    site.channel("lab", "public")
    assert site.put("lab", conda_package(), site.key(scope="admin")).status_code == 201
    return site


PAGES = (
    "/?", "/channels/lab?", "/channels/lab?sort=updated&", "/channels/lab/packages/demo/files?",
    "/channels/lab/packages/demo/versions?", "/channels/lab/packages/demo/dependents?",
    "/channels/lab/packages/demo/history?", "/admin/users?", "/admin/audit?",
)  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        [0, "s", "x"], [0, "i", 5], [0, "b", "00"], [0, "ss", "a", "b"], [0, "ii", 5, 5], [0, "iii", 1, 1, 1],
        [0, "bii", "00", 1 << 62, 1], [[], ["i"], 1], {"a": 1, "b": 2}, 7,
    ],
    ids=repr,
)  # fmt: skip
def test_a_cursor_of_another_listing_is_refused(lab, values):
    browser = lab.browser("admin")
    cursor = base64.urlsafe_b64encode(orjson.dumps(values)).rstrip(b"=").decode()
    assert [at for at in PAGES if browser.get(f"{at}cursor={cursor}").status_code not in {200, 400}] == []


def test_a_number_that_no_database_has_is_refused(site):
    answer = site.browser("admin").post(f"/admin/jobs/{10**30}/retry", form="/admin/jobs")
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("asked", "location"),
    [
        ("/channels/lab/", "/channels/lab"),
        ("/login/", "/login"),
        ("/channels/hidden/packages/x/", "/channels/hidden/packages/x"),
        ("//channels/lab/", "/"),
    ],
)
def test_a_slash_too_many_leads_to_the_page_whatever_host_was_named(lab, asked, location):
    address = f"{lab.client.base_url}".rstrip("/") + asked
    answer = lab.client.get(address, headers={"host": "evil.example"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, location)


def test_a_slash_too_many_is_not_there_for_programs(lab):
    for path in (
        "/api/v1/channels/",
        "/api/v1/channels/lab/",
        "/api/v1/search/",
        "/api/v1/openapi.json/",
        "/health/live/",
        "/api/",
    ):
        answer = lab.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        assert answer.headers["content-type"] == "application/problem+json"
    key = bearer(lab.key(scope="admin"))
    assert lab.client.post("/api/v1/channels/", json={"name": "new"}, headers=key).status_code == 404
    assert lab.client.delete("/api/v1/channels/lab/", headers=key).status_code == 404


def test_no_answer_repeats_the_host_that_was_named(lab):
    """Anybody may choose it: with it in an address, a cache would send others there (SECURITY.md B16)."""
    key = bearer(lab.key(scope="admin"))
    told = []
    for method, template in DECISIONS:
        path = re.sub(r"{channel[^}]*}", "lab", template.replace("*", "x"))
        path = re.sub(r"{[^}]*}", "demo", path)
        for asked in (path, path + "/", "/" + path):
            for sent in ({}, key, {"accept": "text/html", **OWN}):
                headers = {"host": "evil.example", "x-forwarded-host": "evil.example", **sent}
                url = f"{lab.client.base_url}".rstrip("/") + asked
                answer = lab.client.request(method, url, headers=headers, follow_redirects=False)
                said = f"{answer.headers} {answer.text}"
                told += [(method, asked)] if "evil" in said or answer.status_code in {301, 302, 307, 308} else []
    assert told == []


def test_the_check_of_a_name_tells_nothing_of_hidden_channels(lab):
    """It is asked with every key that is typed: names could be tried by the thousand."""
    lab.user("ada")
    lab.channel("covert")
    browser = lab.browser("ada")
    asked = ("lab", "covert", "vacant")
    told = [browser.get(f"/channels/new/name?name={name}").text.replace(name, "NAME") for name in asked]
    assert told[0] != told[1] == told[2]
    answer = browser.post("/channels/new", {"name": "covert", "visibility": "private"})
    assert answer.status_code == 422
