"""Yank, delete and restore over HTTP: what each answers, and what clients then see."""

from __future__ import annotations

import pytest

from tests.support.builders import conda_package
from tests.support.site import bearer

FILE = "demo-1.0-h0_0.conda"
PATH = f"/api/v1/channels/lab/artifacts/noarch/{FILE}"


@pytest.fixture
def lab(site):
    site.channel("lab")
    assert site.put("lab", conda_package(), site.key()).status_code == 201
    return site


def ask(site, method, path, status, **body):
    answer = site.client.request(method, path, headers=bearer(site.key("admin", "admin")), **body)
    assert answer.status_code == status, answer.text
    return answer


def test_a_yanked_file_says_so_and_is_fetched_by_name(lab):
    key = lab.key()
    before = lab.get(f"/lab/noarch/{FILE}", key).content
    ask(lab, "PUT", f"{PATH}/yank", 204, json={"reason": "it eats data"})
    shown = ask(lab, "GET", PATH, 200).json()
    assert (shown["yanked"], shown["yank_reason"], shown["deleted"]) == (True, "it eats data", False)
    listed = ask(lab, "GET", "/api/v1/channels/lab/packages/demo", 200).json()
    assert (listed["package"]["version"], listed["package"]["files"], listed["files"][0]["yanked"]) == ("", 1, True)
    lab.settle()
    document = lab.get("/lab/noarch/repodata.json", key).json()
    assert (document["packages.conda"], document["removed"]) == ({}, [FILE])
    assert lab.get("/lab/channeldata.json", key).json()["packages"] == {}
    assert lab.get(f"/lab/noarch/{FILE}", key).content == before
    ask(lab, "DELETE", f"{PATH}/yank", 204)
    lab.settle()
    document = lab.get("/lab/noarch/repodata.json", key).json()
    assert (list(document["packages.conda"]), document["removed"]) == ([FILE], [])
    assert ask(lab, "DELETE", f"{PATH}/yank", 404).json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "request_invalid"),
        ({"reason": None}, "request_invalid"),
        ({"reason": "x" * 501}, "request_invalid"),
        ({"reason": "x", "more": 1}, "request_invalid"),
        ({"reason": " "}, "reason_invalid"),
        ({"reason": "\u202eevil"}, "reason_invalid"),
    ],
)
def test_a_reason_is_asked_for(lab, body, code):
    assert ask(lab, "PUT", f"{PATH}/yank", 422, json=body).json()["code"] == code
    assert not ask(lab, "GET", PATH, 200).json()["yanked"]


def test_a_deleted_file_and_a_deleted_channel_are_restored(lab):
    assert ask(lab, "POST", f"{PATH}/restore", 404).json()["code"] == "not_found"
    ask(lab, "DELETE", PATH, 204)
    assert ask(lab, "GET", PATH, 200).json()["deleted"]
    ask(lab, "POST", f"{PATH}/restore", 204)
    assert not ask(lab, "GET", PATH, 200).json()["deleted"]
    assert ask(lab, "POST", "/api/v1/channels/lab/restore", 404).json()["code"] == "not_found"
    ask(lab, "DELETE", "/api/v1/channels/lab", 204)
    ask(lab, "GET", "/api/v1/channels/lab", 404)
    back = ask(lab, "POST", "/api/v1/channels/lab/restore", 200).json()
    assert (back["name"], back["packages"], back["artifacts"]) == ("lab", 1, 1)
    ask(lab, "GET", "/api/v1/channels/lab", 200)


def test_a_channel_has_a_readme(lab):
    ask(lab, "PATCH", "/api/v1/channels/lab", 200, json={"readme": "# Lab"})
    for readme, code in (("ü" * 32_769, "readme_invalid"), ("x" * 65_537, "request_invalid")):
        assert ask(lab, "PATCH", "/api/v1/channels/lab", 422, json={"readme": readme}).json()["code"] == code
