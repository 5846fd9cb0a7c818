"""Yanking and deleting files in a browser, and taking either back."""

import pytest
from sqlalchemy import event, select, update

from fairway.db.models import Artifact, Audit, BrowserSession
from fairway.registry import channels, sessions
from fairway.registry.actor import CONSOLE
from tests.support.browser import OWN, Tags
from tests.support.builders import conda_package, tar_bz2_package
from tests.support.people import ROLES, populated
from tests.web.reading import unpacked
from tests.web.test_channel_pages import MOST_QUERIES
from tests.web.test_pages import HOSTILE

LAB = "/channels/lab"
PACKAGE = f"{LAB}/packages/arm"
NAME = "arm-1.0-h0_0.conda"
FILE = f"{PACKAGE}/files/noarch/{NAME}"
VERSION = f"{PACKAGE}/versions/1.0"
ACTS = ("yank", "unyank", "delete", "undelete")
MAY = ("maintainer", "owner", "admin")


@pytest.fixture
def lab(site):
    """A private channel with two files of arm 1.0, one of 2.0, and somebody in each role."""
    populated(site)
    site.owner_key = site.key("owner")
    for package in (conda_package("arm"), tar_bz2_package("arm", subdir="linux-64"), conda_package("arm", "2.0")):
        assert site.put("lab", package, site.owner_key).status_code == 201
    return site


def state(site, filename=NAME):
    with site.app.database.read() as session:
        found = session.scalars(select(Artifact).where(Artifact.filename == filename)).one()
    state = "deleted" if found.deleted_at else "yanked" if found.yanked_at else "listed"
    return (state, found.yank_reason)


def listed(site):
    """What solvers are given, in both subdirs."""
    site.settle()
    found = set()
    for subdir in ("noarch", "linux-64"):
        document = site.get(f"/lab/{subdir}/repodata.json", site.owner_key).json()
        found |= {*document["packages"], *document["packages.conda"]}
        index = unpacked(site.get(f"/lab/{subdir}/repodata_shards.msgpack.zst", site.owner_key).content)
        assert bool(index["shards"]) == bool({*document["packages"], *document["packages.conda"]})
    return found


def acted(site):
    with site.app.database.read() as session:
        lines = session.scalars(select(Audit).where(Audit.action.like("artifact.%")).order_by(Audit.id))
        return [(line.action, line.actor, line.subject) for line in lines if line.action != "artifact.publish"]


def brought_to(site, act):
    """A file to which this can be done."""
    owner = site.browser("owner")
    if act == "unyank":
        assert owner.post(f"{FILE}/yank", {"reason": "broken"}).status_code == 303
    if act == "undelete":
        assert owner.post(f"{FILE}/delete").status_code == 303


# --- who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ACTS)
def test_only_maintainers_act_and_nobody_learns_of_the_file(lab, act):
    brought_to(lab, act)
    before, lines = state(lab), acted(lab)
    path = f"{FILE}/{act}"
    missing = path.replace("/lab/", "/missing/")
    for user in (*ROLES, "stranger", "admin"):
        browser = lab.browser(user)
        wanted = 200 if user in MAY else 404 if user == "stranger" else 403
        assert browser.get(path).status_code == wanted, user
        assert browser.get(missing).status_code == 404, user
        if user not in MAY:
            assert browser.post(path, {"reason": "x"}, form="/settings").status_code == wanted
    nobody = lab.browser()
    assert (nobody.get(path).status_code, nobody.get(missing).status_code) == (401, 401)
    headers = OWN | {"content-type": "application/x-www-form-urlencoded"}
    assert nobody.client.post(path, content="reason=x", headers=headers).status_code == 401
    browser = lab.browser("owner")
    other = lab.browser("owner").page(path).token()
    assert browser.client.post(path, content=f"reason=x&csrf={other}", headers=headers).status_code == 403
    assert browser.post(path, {"reason": "x"}, headers={"sec-fetch-site": "same-site"}).status_code == 403
    assert (state(lab), acted(lab)) == (before, lines)


def test_deleting_asks_for_the_password_again_and_yanking_does_not(lab):
    browser = lab.browser("owner")
    with lab.app.database.write() as session:
        session.execute(update(BrowserSession).values(confirmed_at=lab.app.now() - sessions.CONFIRMED_MS))
    answer = browser.get(f"{FILE}/delete")
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/confirm")
    answer = browser.post(f"{FILE}/delete", form="/settings")
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/confirm")
    assert state(lab) == ("listed", None)
    assert browser.post(f"{FILE}/yank", {"reason": "x"}).status_code == 303


# --- yanking ---------------------------------------------------------------------------------------------------------


def test_a_yanked_file_leaves_the_index_and_stays_for_lock_files(lab):
    browser = lab.browser("maintainer")
    answer = browser.post(f"{FILE}/yank", {"reason": "  Crashes at\n start: use 2.0 "})
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PACKAGE}/files")
    assert state(lab) == ("yanked", "Crashes at start: use 2.0")
    assert NAME not in listed(lab)
    assert lab.get(f"/lab/noarch/{NAME}", lab.owner_key).status_code == 200
    answer = browser.post(f"{FILE}/unyank")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PACKAGE}/files")
    assert state(lab) == ("listed", None)
    assert NAME in listed(lab)
    assert acted(lab) == [(f"artifact.{act}", "maintainer", f"noarch/{NAME}") for act in ("yank", "unyank")]


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_yank_needs_a_reason(lab, reason):
    answer = lab.browser("owner").post(f"{FILE}/yank", {"reason": reason})
    assert answer.status_code == 422
    (field,) = [one for one in Tags(answer.text).named("input") if one.get("name") == "reason"]
    assert (field["aria-invalid"], field["value"]) == ("true", reason)
    assert state(lab) == ("listed", None)


def test_the_reason_can_be_changed_and_is_text(lab):
    browser = lab.browser("owner")
    browser.post(f"{FILE}/yank", {"reason": "first"})
    page = browser.page(f"{FILE}/yank")
    assert "first" in [one.get("value") for one in page.named("input")]
    browser.post(f"{FILE}/yank", {"reason": HOSTILE})
    assert state(lab) == ("yanked", HOSTILE)
    page = browser.page(f"{FILE}/unyank")
    assert HOSTILE in page.text
    assert not [one for one in page.named("img") if one.get("src") == "x"]


def test_a_whole_version_is_yanked_on_every_platform_and_put_back(lab):
    browser = lab.browser("maintainer")
    text = browser.page(f"{VERSION}/yank").text
    assert "noarch/arm-1.0" in text
    assert "linux-64/arm-1.0" in text
    assert browser.post(f"{VERSION}/yank", {"reason": ""}).status_code == 422
    assert browser.post(f"{VERSION}/yank", {"reason": "all broken"}).status_code == 303
    assert listed(lab) == {"arm-2.0-h0_0.conda"}
    assert browser.get(f"{VERSION}/unyank").status_code == 200
    assert browser.post(f"{VERSION}/unyank").status_code == 303
    assert len(listed(lab)) == 3
    assert browser.get(f"{VERSION}/unyank").status_code == 404
    assert browser.post(f"{VERSION}/unyank", form="/settings").status_code == 404
    for user, wanted in (("uploader", 403), ("stranger", 404)):
        refused = lab.browser(user)
        assert refused.get(f"{VERSION}/yank").status_code == wanted
        assert refused.post(f"{VERSION}/yank", {"reason": "x"}, form="/settings").status_code == wanted


def test_versions_may_be_called_what_conda_allows(lab):
    assert lab.put("lab", conda_package("arm", "1!2.0+cu12"), lab.owner_key).status_code == 201
    browser = lab.browser("owner")
    page = browser.page(f"{PACKAGE}/files/noarch/arm-1%212.0%2Bcu12-h0_0.conda/yank")
    (path,) = [one["href"] for one in page.named("a") if "/versions/" in (one.get("href") or "")]
    assert browser.post(path, {"reason": "x"}).status_code == 303
    assert state(lab, "arm-1!2.0+cu12-h0_0.conda") == ("yanked", "x")


# --- deleting --------------------------------------------------------------------------------------------------------


def test_a_deleted_file_leaves_the_index_and_comes_back(lab):
    browser = lab.browser("maintainer")
    answer = browser.post(f"{FILE}/delete")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{LAB}/trash")
    assert NAME not in listed(lab)
    page = browser.page(f"{LAB}/trash")
    assert NAME in page.text
    assert f"{FILE}/undelete" in [one.get("href") for one in page.named("a")]
    answer = browser.post(f"{FILE}/undelete")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PACKAGE}/files")
    assert NAME in listed(lab)
    assert "No deleted files" in browser.page(f"{LAB}/trash").text
    for user, wanted in (("uploader", 403), ("viewer", 403), ("stranger", 404)):
        assert lab.browser(user).get(f"{LAB}/trash").status_code == wanted


def test_the_last_file_of_a_package_comes_back_too(lab):
    lab.put("lab", conda_package("alone"), lab.owner_key)
    browser = lab.browser("owner")
    path = f"{LAB}/packages/alone/files/noarch/alone-1.0-h0_0.conda"
    assert browser.post(f"{path}/delete").status_code == 303
    assert "alone-1.0-h0_0.conda" in browser.page(f"{LAB}/trash").text
    assert browser.post(f"{path}/undelete").status_code == 303
    assert "alone-1.0-h0_0.conda" in listed(lab)


def test_what_a_quota_has_no_room_for_stays_deleted_and_says_why(lab):
    browser = lab.browser("owner")
    browser.post(f"{FILE}/delete")
    with lab.app.database.write() as session:
        channels.set_quota(session, CONSOLE, "lab", 1, now=1)
    answer = browser.post(f"{FILE}/undelete")
    assert answer.status_code == 422
    assert "has no room" in answer.text
    assert state(lab)[0] == "deleted"


# --- what there is nothing to be done to -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        f"{FILE}/unyank",
        f"{FILE}/undelete",
        f"{FILE}/eat",
        f"{VERSION}/unyank",
        f"{VERSION}/delete",
        f"{PACKAGE}/versions/9/yank",
        f"{PACKAGE}/files/osx-64/{NAME}/yank",
        f"{PACKAGE}/files/noarch/arm-9-h0_0.conda/delete",
        FILE.replace("/packages/arm/", "/packages/other/") + "/yank",
    ],
)
def test_what_cannot_be_done_is_not_there(lab, path):
    browser = lab.browser("owner")
    assert browser.get(path).status_code == 404
    if "other" not in path:  # which package an address says does not matter to what is done
        assert browser.post(path, {"reason": "x"}, form="/settings").status_code == 404
        assert (state(lab), acted(lab)) == (("listed", None), [])


# --- what it costs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        f"{FILE}/yank",
        f"{FILE}/delete",
        f"{VERSION}/yank",
        f"{LAB}/trash",
        f"{LAB}/upload",
        f"{LAB}/members",
        f"{LAB}/members/viewer",
        f"{LAB}/invite",
        f"{LAB}/leave",
        f"{LAB}/settings",
        f"{LAB}/settings/visibility",
        f"{LAB}/settings/danger",
        "/channels/trash",
    ],
)
def test_each_page_asks_the_database_at_most_six_times(lab, path):
    browser = lab.browser("owner")
    assert min(statements(lab, browser, path) for _ in range(3)) <= MOST_QUERIES


def statements(site, browser, path):
    count = 0

    def seen(connection, cursor, statement, *_):
        nonlocal count
        count += statement != "BEGIN"

    event.listen(site.app.database.reader, "before_cursor_execute", seen)
    try:
        assert browser.get(path).status_code == 200
    finally:
        event.remove(site.app.database.reader, "before_cursor_execute", seen)
    return count
