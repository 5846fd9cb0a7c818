"""The first page, search, and the pages of channels and packages: what they show, to whom, and how often they ask."""

import re

import pytest
from sqlalchemy import event

from tests.support.builders import conda_package, tar_bz2_package
from tests.web.test_pages import HOSTILE, page

PACKAGE = "/channels/lab/packages/arm"
TABS = ("", "/versions", "/files", "/dependencies", "/dependents", "/contents", "/recipe", "/statistics", "/history")
MOST_QUERIES = 6
# where what a package needs comes from takes the relations, whoever has the names, and what they have of them
MORE_QUERIES = {PACKAGE: 8, f"{PACKAGE}/dependencies": 9, "/search?q=arm": 7}


@pytest.fixture
def lab(site):
    """A channel with a few packages; `site.admin` is its owner's key."""
    site.channel("lab", "public")
    site.admin = site.key(scope="admin")
    about = {
        "summary": "Moves a robot's arm",
        "description": "# Arm\n\nIt *moves*. See [the site](https://arm.example.org).",
        "home": "https://arm.example.org",
        "doc_url": "javascript:alert(1)",
    }
    for version in ("1.0", "1.10", "1.9"):
        put(site, conda_package("arm", version, depends=["joint >=2", "__glibc >=2.28"], about=about,
            index={"license": "MIT"}, files={"bin/arm": b"x" * 2000, "lib/a/b.so": b"y"}))  # fmt: skip
    put(site, conda_package("joint", "2.0", about={"summary": "A joint"}))
    put(site, tar_bz2_package("arm", "1.10", subdir="linux-64", depends=["joint >=2"], about=about), subdir="linux-64")
    return site


def put(site, package, **options):
    answer = site.put("lab", package, site.admin, **options)
    assert answer.status_code == 201, answer.text


def links(found):
    return [attributes.get("href") for attributes in found.named("a")]


# --- the first page and search ---------------------------------------------------------------------------------------


def test_the_first_page_shows_what_is_new(lab):
    found = page(lab, "/")
    assert {"/channels/lab", PACKAGE, "/channels/lab/packages/joint"} <= set(links(found))
    assert "Moves a robot's arm" in found.text


def test_an_empty_server_says_how_to_begin(tmp_path, fairway):
    from tests.support.site import Site

    with Site.around(fairway) as site:
        assert "/setup" in links(page(site, "/"))


def test_search_marks_what_matched_and_leads_to_the_package(lab):
    found = page(lab, "/search?q=joi")
    assert "/channels/lab/packages/joint" in links(found)
    assert "<mark>joi</mark>nt" in lab.get("/search?q=joi").text
    assert "arm" not in re.findall(r"<strong>(\w+)", lab.get("/search/live?q=joi").text)
    assert "/channels/lab/packages/joint" in links(page(lab, "/search/live?q=joi"))
    assert "Nothing fits" in page(lab, "/search?q=nosuchthing").text


def test_search_never_shows_what_one_may_not_read(lab):
    lab.channel("hidden")
    answer = lab.put("hidden", conda_package("joinery"), lab.admin)
    assert answer.status_code == 201
    for path in ("/search?q=joi", "/search/live?q=joi", "/search?q=joi&channel=hidden", "/"):
        assert "joinery" not in page(lab, path).text
    assert "joinery" in page(lab, "/search?q=joi", lab.admin).text


# --- a channel -------------------------------------------------------------------------------------------------------


def test_a_channel_lists_its_packages_filtered_and_sorted(lab):
    rows = [href for href in links(page(lab, "/channels/lab")) if "/packages/" in href]
    assert rows == [PACKAGE, "/channels/lab/packages/joint"]
    rows = [href for href in links(page(lab, "/channels/lab?sort=updated")) if "/packages/" in href]
    assert rows == [PACKAGE, "/channels/lab/packages/joint"]  # arm for linux-64 came last
    assert "No package fits" in page(lab, "/channels/lab?q=zzz").text
    assert PACKAGE in links(page(lab, "/channels/lab?platform=linux-64"))
    assert lab.get("/channels/lab?sort=colour").status_code == 422
    assert lab.get("/channels/lab?cursor=nonsense").status_code == 400


def test_a_channel_turns_its_pages_both_ways(lab):
    for n in range(60):
        put(lab, conda_package(f"p{n:02}"))
    first = page(lab, "/channels/lab?q=p")
    following = next(a["href"] for a in first.named("a") if a.get("rel") == "next")
    assert not [a for a in first.named("a") if a.get("rel") == "prev"]
    second = page(lab, following)
    shown = [[href for href in links(found) if "/packages/p" in href] for found in (first, second)]
    assert shown[0] + shown[1] == [f"/channels/lab/packages/p{n:02}" for n in range(60)]
    back = page(lab, next(a["href"] for a in second.named("a") if a.get("rel") == "prev"))
    assert [href for href in links(back) if "/packages/p" in href] == shown[0]


def test_a_private_channel_says_how_each_client_gets_its_key(lab):
    lab.channel("inner")
    text = page(lab, "/channels/inner", lab.admin).text
    for words in (
        "pixi auth login http://127.0.0.1:8000 --token KEY",
        "/t/KEY/inner",
        "micromamba auth login",
        "Make a key",
    ):
        assert words in text, words
    assert "auth login" not in page(lab, "/channels/lab").text


def test_hidden_and_missing_channels_are_the_same_page(lab):
    lab.channel("zz-hidden")
    for path in ("", "/readme", "/statistics", "/packages/arm", *(f"/packages/arm{tab}" for tab in TABS)):
        hidden, missing = (
            lab.get(f"/channels/{name}{path}", accept="text/html") for name in ("zz-hidden", "zz-absent")
        )
        assert hidden.status_code == missing.status_code == 401
        assert hidden.text.replace("zz-hidden", "zz-absent") == missing.text


def test_making_a_channel_needs_a_signed_in_person(lab):
    answer = lab.get("/channels/new")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fchannels%2Fnew")


# --- a package -------------------------------------------------------------------------------------------------------


def test_a_package_shows_its_newest_version_and_says_it_in_conda_order(lab):
    found = page(lab, PACKAGE)
    assert "1.10" in found.text
    assert "https://arm.example.org" in links(found)
    assert "conda install -c http://127.0.0.1:8000/lab arm" in found.text
    assert not [href for href in links(found) if href and href.startswith("javascript:")]
    assert "micromamba install -c http://127.0.0.1:8000/lab arm=1.9" in page(lab, f"{PACKAGE}?version=1.9").text
    assert lab.get(f"{PACKAGE}?version=7").status_code == 404


def test_versions_are_shown_by_platform(lab):
    html = lab.get(f"{PACKAGE}/versions").text
    assert [html.index(f">{version}<") for version in ("1.10", "1.9", "1.0")] == sorted(
        html.index(f">{version}<") for version in ("1.10", "1.9", "1.0")
    )
    assert "version=1.10&amp;platform=linux-64" in html


def test_files_have_their_hashes_and_lead_to_the_bytes(lab):
    found = page(lab, f"{PACKAGE}/files?version=1.10")
    files = [href for href in links(found) if href and href.startswith("/lab/")]
    assert sorted(files) == ["/lab/linux-64/arm-1.10-h0_0.tar.bz2", "/lab/noarch/arm-1.10-h0_0.conda"]
    shown = lab.get("/api/v1/channels/lab/artifacts/noarch/arm-1.10-h0_0.conda").json()
    assert shown["sha256"] in found.text
    assert shown["md5"] in found.text


def test_dependencies_lead_to_what_is_here(lab):
    found = page(lab, f"{PACKAGE}/dependencies")
    assert "/channels/lab/packages/joint" in links(found)
    for words in (">=2", "__glibc", ">=2.28", "the machine"):
        assert words in found.text
    assert PACKAGE in links(page(lab, "/channels/lab/packages/joint/dependents"))


def test_of_very_many_dependencies_the_page_says_how_many_more_there_are(lab):
    many = conda_package("needy", depends=[f"need{number:04}" for number in range(1_200)])
    assert lab.put("lab", many, lab.key(scope="admin")).status_code == 201
    found = page(lab, "/channels/lab/packages/needy/dependencies")
    assert "need0499" in found.text
    assert "need0500" not in found.text
    assert "and 700 more" in found.text


def test_the_first_page_of_a_package_says_what_its_newest_version_needs(lab):
    put(
        lab,
        conda_package(
            "arm", "2.0", depends=["joint", "grease >=1", "__glibc >=2.28", *[f"part-{n}" for n in range(30)]]
        ),
    )
    found = page(lab, PACKAGE)
    assert "/channels/lab/packages/joint" in links(found)
    assert "/channels/lab/packages/grease" not in links(found)
    needs = found.text.partition("Needs")[2]
    assert "grease" in needs
    assert "part-9" not in needs  # the list is cut
    assert "and more" in needs
    assert "__glibc" not in needs
    assert "Needs" not in page(lab, f"{PACKAGE}?version=1.0").text  # said on its own page, with versions


def test_contents_are_a_tree(lab):
    found = page(lab, f"{PACKAGE}/contents?file=noarch/arm-1.10-h0_0.conda")
    assert "bin/" in found.text
    inside = next(href for href in links(found) if href and "folder=bin" in href)
    assert "arm" in page(lab, inside).text
    assert lab.get(f"{PACKAGE}/contents?file=noarch/none-1-0.conda").status_code == 404


def test_downloads_are_shown_by_day_version_and_platform(lab):
    for _ in range(3):
        lab.get("/lab/noarch/arm-1.10-h0_0.conda")
    lab.settle()
    for path in (f"{PACKAGE}/statistics", "/channels/lab/statistics"):
        assert "3 downloads" in page(lab, path).text.replace("\u202f", " ")
    assert "1.10" in page(lab, f"{PACKAGE}/statistics").text


def test_the_history_says_who_did_what(lab):
    text = page(lab, f"{PACKAGE}/history").text
    assert text.count("published") == 4
    assert "by admin" in text


@pytest.mark.parametrize("tab", TABS)
def test_what_strangers_wrote_is_text_on_every_page_of_a_package(lab, tab):
    about = {
        "summary": HOSTILE,
        "description": HOSTILE,
        "license": HOSTILE,
        "home": "javascript:alert(1)",
        "tags": [HOSTILE],
    }
    put(lab, conda_package("evil", about=about, index={"license": HOSTILE}))
    found = page(lab, f"/channels/lab/packages/evil{tab}")
    assert [a for a in found.named("script") if not a["src"].startswith("/static/dist/")] == []
    assert not [attributes for attributes in found.named("img") if attributes.get("src") == "x"]
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert not [a for _, attributes in found.tags for a in attributes.values() if a and a.startswith("javascript:")]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/search?q=arm",
        "/channels/lab",
        "/channels/lab/readme",
        "/channels/lab/statistics",
        *(PACKAGE + tab for tab in TABS),
    ],
)
def test_a_page_asks_the_database_a_few_times(lab, path):
    lab.get(path)
    count = 0

    def seen(connection, cursor, statement, *_):
        nonlocal count
        count += statement != "BEGIN"

    def asked():
        nonlocal count
        count = 0
        event.listen(lab.app.database.reader, "before_cursor_execute", seen)
        page(lab, path)
        event.remove(lab.app.database.reader, "before_cursor_execute", seen)
        return count

    assert min(asked() for _ in range(3)) <= MORE_QUERIES.get(path, MOST_QUERIES)
