"""Search: the order of hits, what is never shown, pages, and characters that mean nothing."""

import pytest

from fairway.registry.statistics import Counts
from tests.support.builders import conda_package
from tests.support.site import bearer

SEARCH = "/api/v1/search"


@pytest.fixture
def names(site):
    """Put packages into a channel: `names(channel, {name: summary})`."""

    def put(channel, packages, **options):
        for name, summary in packages.items():
            package = conda_package(name, about={"summary": summary}, **options)
            assert site.put(channel, package, site.key()).status_code == 201

    return put


def found(site, q, key=None, **params):
    answer = site.client.get(SEARCH, params={"q": q, **params}, headers=bearer(key) if key else {})
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["items"]]


def test_exact_names_come_first_then_beginnings_words_parts_and_summaries(site, names):
    site.channel("lab", "public")
    names("lab", {"xnumpyx": "", "about-it": "Arrays like NumPy has", "py-numpy": "", "numpy-base": "", "numpy": ""})
    wanted = ["numpy", "numpy-base", "py-numpy", "xnumpyx", "about-it"]
    assert found(site, "numpy") == wanted
    assert found(site, " NumPy ") == wanted
    assert found(site, "arrays") == ["about-it"]
    assert found(site, "nothing-of-it") == found(site, "") == found(site, "  ") == []


def test_among_equals_the_more_downloaded_comes_first(site, names):
    site.channel("lab", "public")
    names("lab", {"lib-a": "", "lib-b": "", "lib-c": ""})
    for _ in range(3):
        site.get("/lab/noarch/lib-b-1.0-h0_0.conda")
    site.get("/lab/noarch/lib-c-1.0-h0_0.conda")
    site.app.counts.flush(site.app.database)
    assert isinstance(site.app.counts, Counts)
    assert found(site, "lib") == ["lib-b", "lib-c", "lib-a"]


def test_nobody_finds_what_they_may_not_read(site, names):
    for user in ("alice", "bob"):
        site.user(user)
    site.channel("hers", owner="alice")
    site.channel("inside", "internal")
    site.channel("open", "public")
    for channel in ("hers", "inside", "open"):
        names(channel, {f"demo-{channel}": "findable"})
    alice, bob = site.key("alice", "read"), site.key("bob", "read")
    wanted = {None: {"open"}, bob: {"open", "inside"}, alice: {"open", "inside", "hers"}, site.key(): {"open", "inside", "hers"}}  # fmt: skip
    wanted[site.key("alice", "read", channels=["open"])] = {"open"}
    for key, channels in wanted.items():
        for q in ("demo", "findable"):
            assert set(found(site, q, key)) == {f"demo-{channel}" for channel in channels}
        for channel in ("hers", "inside", "open", "missing"):
            hits = [f"demo-{channel}"] if channel in channels else []
            assert found(site, "demo", key, channel=channel) == hits


def test_a_platform_finds_its_own_and_noarch(site, names):
    site.channel("lab", "public")
    names("lab", {"demo-linux": ""}, subdir="linux-64")
    names("lab", {"demo-any": ""})
    assert found(site, "demo", platform="linux-64") == ["demo-any", "demo-linux"]
    assert found(site, "demo", platform="osx-64") == ["demo-any"]


def test_pages_follow_each_other_without_gaps(site, names):
    site.channel("lab", "public")
    names("lab", {f"demo-{n}": "" for n in range(7)})
    seen, cursor = [], ""
    while cursor is not None:
        page = site.client.get(SEARCH, params={"q": "demo", "limit": 3, "cursor": cursor}).json()
        seen += [item["name"] for item in page["items"]]
        cursor = page["cursor"]
    assert seen == [f"demo-{n}" for n in range(7)]
    for bad in ("x", "-1", "1.5"):
        answer = site.client.get(SEARCH, params={"q": "demo", "cursor": bad})
        assert (answer.status_code, answer.json()["code"]) == (400, "cursor_invalid")
    assert found(site, "demo", cursor="99999") == []


def test_percent_underscore_and_backslash_are_themselves(site, names):
    site.channel("lab", "public")
    names("lab", {"a_b": "100% of it", "axb": "50 of \\ it"})
    assert found(site, "a_b") == ["a_b"]
    assert found(site, "00%") == ["a_b"]
    assert found(site, "0% 00%") == ["a_b"]
    assert found(site, "\\") == found(site, "%") == []  # one and two letters are looked for in names alone
    assert found(site, "_") == ["a_b"]


def test_a_deleted_package_is_found_no_more(site, names):
    site.channel("lab", "public")
    names("lab", {"demo": ""})
    path = "/api/v1/channels/lab/artifacts/noarch/demo-1.0-h0_0.conda"
    assert site.client.delete(path, headers=bearer(site.key())).status_code == 204
    assert found(site, "demo") == []


def test_a_question_is_needed_and_has_a_length(site):
    for params in ({}, {"q": "x" * 101}, {"q": "x", "limit": 0}, {"q": "x", "limit": 101}):
        answer = site.client.get(SEARCH, params=params)
        assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
