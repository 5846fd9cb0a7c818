"""Search: the order of hits, what is never shown, pages, and characters that mean nothing."""

import re

import pytest
from sqlalchemy import select, text

from fairway.db.models import Channel, Package, Upstream
from fairway.registry import search
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
    assert found(site, "f \\") == []
    assert found(site, "axb \\") == ["axb"]
    for short in ("\\", "%", "_", "_b", "%%"):  # one and two letters only begin a name
        assert found(site, short) == []
    assert found(site, "a_") == ["a_b"]
    assert found(site, "a") == ["a_b", "axb"]
    for odd in ('"', '""a"', "'", "a AND b", "name:a", "NEAR(a b)", "*", "a*", "^a", "\u202ea", "\x00", "\x7f"):
        found(site, odd)


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


def hits(site, q, **params):
    items = site.client.get(SEARCH, params={"q": q, **params}).json()["items"]
    return [(item["name"], item["match"], [(span["begin"], span["end"]) for span in item["spans"]]) for item in items]


def test_a_hit_says_how_and_where_it_matches(site, names):
    site.channel("lab", "public")
    names("lab", {"numpy": "", "numpy-base": "", "py-numpy": "", "xnumpyx": "", "nunpy": "", "other": "beside NumPy"})
    assert hits(site, "numpy") == [
        ("numpy", "exact", [(0, 5)]),
        ("numpy-base", "prefix", [(0, 5)]),
        ("py-numpy", "word", [(3, 8)]),
        ("xnumpyx", "part", [(1, 6)]),
        ("nunpy", "near", []),
        ("other", "summary", []),
    ]
    assert ("xnumpyx", "part", [(1, 6)]) in hits(site, "py num")


def test_several_words_are_one_name_or_all_somewhere(site, names):
    site.channel("lab", "public")
    names(
        "lab",
        {
            "scikit-learn": "",
            "scikit_learn-extra": "",
            "learn-scikit": "",
            "scikit": "to learn with",
            "learn": "nothing",
        },
    )
    assert hits(site, "Scikit  learn") == [
        ("scikit-learn", "exact", [(0, 12)]),
        ("scikit_learn-extra", "prefix", [(0, 12)]),
        ("learn-scikit", "word", [(0, 5), (6, 12)]),
        ("scikit", "summary", [(0, 6)]),
    ]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("numppy", "numpy"),
        ("scikitlearn", "scikit-learn"),
        ("matplotlob", "matplotlib"),
        ("pandsa", "pandas"),
        ("mumpy", "numpy"),
        ("nupmy", "numpy"),
    ],
)
def test_what_is_spelt_nearly_so_is_found(site, names, typed, name):
    site.channel("lab", "public")
    names("lab", {"numpy": "", "scikit-learn": "", "matplotlib": "", "pandas": "", "far-away": ""})
    assert hits(site, typed) == [(name, "near", [])]


def test_near_spellings_are_for_when_there_is_hardly_anything_else(site, names):
    site.channel("lab", "public")
    names("lab", {f"pandas-{number}": "" for number in range(5)} | {"panda": ""})
    assert "panda" not in found(site, "pandas")
    assert found(site, "pando") == ["panda"]


def test_filters_of_licence_and_time(site, names):
    site.channel("lab", "public")
    names("lab", {"demo-mit": ""}, index={"license": "MIT OR Apache-2.0"})
    names("lab", {"demo-bsd": ""}, index={"license": "BSD-3-Clause"})
    assert found(site, "demo", license="mit") == ["demo-mit"]
    assert found(site, "demo", license="%") == []
    assert len(found(site, "demo", since="2020-01-01T00:00:00Z")) == 2
    assert found(site, "demo", since="2999-01-01T00:00:00Z") == []
    answer = site.client.get(SEARCH, params={"q": "demo", "since": "yesterday"})
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")


def test_a_hit_tells_enough_for_a_row_of_a_page(site, names):
    site.channel("lab", "public")
    names("lab", {"demo": "A demo"}, index={"license": "MIT"}, subdir="linux-64")
    (hit,) = site.client.get(SEARCH, params={"q": "demo"}).json()["items"]
    assert hit.pop("updated_at").startswith("20")
    assert hit == {
        "channel": "lab", "visibility": "public", "name": "demo", "version": "1.0", "summary": "A demo", "license": "MIT",
        "platforms": ["linux-64"], "downloads": 0, "match": "exact", "spans": [{"begin": 0, "end": 4}], "upstream": None,
    }  # fmt: skip


def test_what_is_yanked_is_never_the_latest(site, names):
    site.channel("lab", "public")
    names("lab", {"demo": ""})
    names("lab", {"demo": ""}, version="2.0")
    path = "/api/v1/channels/lab/packages/demo/versions/{}/yank"
    key = bearer(site.key())
    for version, latest in (("2.0", "1.0"), ("1.0", "")):
        answer = site.client.put(path.format(version), json={"reason": "broken"}, headers=key)
        assert answer.status_code == 204, answer.text
        (hit,) = site.client.get(SEARCH, params={"q": "demo"}).json()["items"]
        assert hit["version"] == latest
    assert hit["platforms"] == []


def test_the_words_of_the_newest_version_are_searched(site, names):
    site.channel("lab", "public")
    names("lab", {"demo": "about sailing boats"})
    names("lab", {"demo": "about steam engines"}, version="2.0")
    assert (found(site, "sailing"), found(site, "engines")) == ([], ["demo"])
    path = "/api/v1/channels/lab/artifacts/noarch/demo-2.0-h0_0.conda"
    assert site.client.delete(path, headers=bearer(site.key())).status_code == 204
    assert (found(site, "sailing"), found(site, "engines")) == (["demo"], [])


def test_who_is_downloaded_most_is_read_off_an_index(site):
    """Not off 3,000 rows, which took most of the time of a search."""
    query = select(Package.id).where(search.AMONG_MOST)
    with site.app.database.read() as session:
        bind = session.get_bind()
        said = str(query.compile(bind, compile_kwargs={"literal_binds": True}))
        if bind.dialect.name == "sqlite":
            plan = session.execute(text(f"EXPLAIN QUERY PLAN {said}")).all()
        else:
            for other in ("seqscan", "bitmapscan", "sort"):  # which do as well for a handful of rows
                session.execute(text(f"SET LOCAL enable_{other} = off"))
            plan = session.execute(text(f"EXPLAIN {said}")).all()
    assert re.search("(COVERING INDEX|Index Only Scan Backward using) ix_packages_most", str(plan)), plan


@pytest.fixture
def forge(site):
    """A channel that has far more of an upstream, all of it downloaded more, than the team has of its own."""
    site.channel("forge", "public")
    with site.app.database.write() as session:
        home = session.scalars(select(Channel).where(Channel.name == "forge")).one()
        home.packages = 2 * search.CANDIDATES
        session.add(Upstream(channel_id=home.id, url="https://1.1.1.1/big-forge", mode="proxy", every=60, created_at=1))
        for number in range(2 * search.CANDIDATES):
            session.add(
                Package(
                    channel_id=home.id, name=f"py-demo-{number:04}", created_at=1, updated_at=1, live=0, remote=1,
                    places=1, downloads=10_000 - number, version="1.0", version_key=b"1", summary="common words of it",
                )
            )  # fmt: skip


def test_own_packages_come_before_an_upstreams_however_many_and_loved_those_are(site, names, forge):
    site.channel("lab", "public")
    names("lab", {"py-demo-zz": "", "its-py-demo-zz": "", "zz-words": "with common words too"})
    for q, own in (
        ("py-", "py-demo-zz"),
        ("py", "py-demo-zz"),
        ("py-demo", "py-demo-zz"),
        ("common words", "zz-words"),
    ):
        assert found(site, q, limit=1) == [own], q
    hits = site.client.get(SEARCH, params={"q": "demo"}).json()["items"]
    assert [hit["name"] for hit in hits[:2]] == ["its-py-demo-zz", "py-demo-zz"]  # a word of the name in all of them
    assert [hit["upstream"] for hit in hits[:3]] == [None, None, "big-forge"]
    # a better match is a better match, whose ever it is
    assert found(site, "py-demo-0007", limit=1) == ["py-demo-0007"]


def test_what_comes_from_an_upstream_is_marked_wherever_it_is_listed(site, names, forge):
    site.channel("lab", "public")
    names("lab", {"py-demo-zz": ""})
    rows = site.client.get("/api/v1/channels/forge/packages", params={"limit": 1}).json()["items"]
    assert [(row["upstream"], row["files"]) for row in rows] == [("big-forge", 0)]
    assert site.get("/api/v1/channels/lab/packages").json()["items"][0]["upstream"] is None
    for address in ("/search?q=py-demo", "/search/live?q=py-demo-00"):
        assert "from big-forge" in site.get(address).text, address
    assert "from big-forge" not in site.get("/channels/forge").text  # all of it is, and its head says so
    names("forge", {"own": ""})
    assert "from big-forge" in site.get("/channels/forge").text
    assert "from big-forge" not in site.get("/channels/lab").text
