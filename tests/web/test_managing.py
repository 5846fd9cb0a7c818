"""A channel's settings in a browser: what it says, who sees it, who is in it, whose it is, and whether it is there."""

import io
import re

import pytest
from PIL import Image
from sqlalchemy import select, update

from fairway.db.models import Audit, BrowserSession, Channel
from fairway.registry import channels, logos, sessions
from fairway.registry.actor import CONSOLE, Visibility
from tests.support.browser import OWN, Tags
from tests.support.builders import conda_package
from tests.support.people import ROLES, populated
from tests.web.test_pages import HOSTILE
from tests.web.test_sending import BOUNDARY, multipart

LAB = "/channels/lab"
SETTINGS = f"{LAB}/settings"
MANAGERS = ("owner", "admin")
FORMS = {
    SETTINGS: {"description": "changed"},
    f"{SETTINGS}/visibility": {"visibility": "public", "typed": "lab"},
    f"{SETTINGS}/danger": {"act": "delete", "typed_delete": "lab"},
    f"{LAB}/invite": {"who": "stranger", "role": "viewer"},
    f"{LAB}/members/viewer": {"act": "remove"},
}
SURE = [path for path in FORMS if path != SETTINGS]


@pytest.fixture
def lab(site):
    return populated(site)


def row(site, name="lab"):
    with site.app.database.read() as session:
        return session.execute(select(*Channel.__table__.c).where(Channel.name == name)).one()


def audited(site):
    with site.app.database.read() as session:
        lines = session.scalars(select(Audit).where(Audit.actor.in_((*ROLES, "stranger", "admin"))).order_by(Audit.id))
        return [(line.action, line.actor, line.subject) for line in lines if not line.action.startswith("session")]


def members(site):
    with site.app.database.read() as session:
        return {member.user: member.role for member in channels.list_members(session, CONSOLE, "lab")}


def long_ago(site):
    """Everybody's password was given an hour ago."""
    with site.app.database.write() as session:
        session.execute(update(BrowserSession).values(confirmed_at=site.app.now() - sessions.CONFIRMED_MS))


def went_to(answer, path):
    assert (answer.status_code, answer.headers.get("location")) == (303, path), answer.text[:1000]


# --- who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FORMS)
def test_only_who_manages_gets_there_and_nobody_learns_of_it(lab, path):
    missing = path.replace("/lab", "/missing")
    for user in (*ROLES, "stranger", "admin"):
        browser = lab.browser(user)
        wanted = 200 if user in MANAGERS else 404 if user == "stranger" else 403
        assert browser.get(path).status_code == wanted, user
        assert browser.get(missing).status_code == 404, user
        if wanted != 200:
            assert browser.post(path, FORMS[path], form="/settings").status_code == wanted
            assert browser.post(missing, FORMS[path], form="/settings").status_code == 404
    nobody = lab.browser()
    hidden, none = nobody.get(path), nobody.get(missing)
    assert (hidden.status_code, none.status_code) == (401, 401)
    assert plain(hidden).replace("/lab", "/missing").replace("%2Flab", "%2Fmissing") == plain(none)
    assert nobody.client.post(path, content="csrf=x", headers=OWN | {"content-type": "application/x-www-form-urlencoded"}).status_code == 401  # fmt: skip
    assert audited(lab) == []


def plain(answer):
    """A page without what is random in each."""
    return re.sub(r"<!--.*?-->", "", answer.text.split("<main")[1], flags=re.DOTALL)


@pytest.mark.parametrize("path", FORMS)
def test_a_form_of_another_site_or_session_changes_nothing(lab, path):
    browser = lab.browser("owner")
    other = lab.browser("owner").page(SETTINGS).token()
    for sent in ({"csrf": other}, {}):
        body = "&".join(f"{key}={value}" for key, value in {**FORMS[path], **sent}.items())
        headers = OWN | {"content-type": "application/x-www-form-urlencoded"}
        assert browser.client.post(path, content=body, headers=headers).status_code == 403
    cross = browser.post(path, FORMS[path], headers={"sec-fetch-site": "cross-site"})
    assert cross.status_code == 403
    assert audited(lab) == []


@pytest.mark.parametrize("path", SURE)
def test_what_is_dangerous_asks_for_the_password_again(lab, path):
    browser = lab.browser("owner")
    token = browser.page(SETTINGS).token()
    long_ago(lab)
    went_to(browser.get(path), f"/confirm?next={path.replace('/', '%2F')}")
    body = "&".join(f"{key}={value}" for key, value in {**FORMS[path], "csrf": token}.items())
    headers = OWN | {"content-type": "application/x-www-form-urlencoded"}
    went_to(browser.client.post(path, content=body, headers=headers), f"/confirm?next={path.replace('/', '%2F')}")
    assert audited(lab) == []
    assert browser.get(SETTINGS).status_code == 200


# --- general ---------------------------------------------------------------------------------------------------------


def test_an_owner_says_what_the_channel_is_for(lab):
    browser = lab.browser("owner")
    sent = {"description": "Robot arm", "readme": "# Arm\r\n\r\nIt *moves*.", "allow_overwrite": "1"}
    went_to(browser.post(SETTINGS, sent), SETTINGS)
    found = row(lab)
    assert (found.description, found.readme) == ("Robot arm", "# Arm\n\nIt *moves*.")
    assert (found.allow_v3, found.allow_overwrite) == (False, True)
    page = browser.page(SETTINGS)
    assert "Saved." in page.text
    assert "Robot arm" in [one.get("value") for one in page.named("input")]
    checked = {one["name"]: "checked" in one for one in page.named("input") if one.get("type") == "checkbox"}
    assert checked == {"allow_v3": False, "allow_overwrite": True}
    assert audited(lab) == [("channel.update", "owner", "lab")]


def test_a_preview_shows_the_readme_and_keeps_nothing(lab):
    browser = lab.browser("owner")
    answer = browser.post(SETTINGS, {"description": "new", "readme": "# Arm\n\nIt *moves*.", "preview": "1"})
    assert answer.status_code == 200
    assert "<em>moves</em>" in answer.text
    assert "# Arm" in answer.text  # it is still in its field
    assert 'value="new"' in answer.text
    assert (row(lab).readme, audited(lab)) == ("", [])


def test_a_readme_is_harmless_also_in_its_preview(lab):
    browser = lab.browser("owner")
    answer = browser.post(SETTINGS, {"readme": HOSTILE + "\n\n[x](javascript:alert(1))", "preview": "1"})
    page = Tags(answer.text)
    assert not [one for one in page.named("img") if one.get("src") == "x"]
    assert not [v for _, one in page.tags for v in one.values() if v and v.startswith("javascript:")]
    assert "alert('x')" not in "".join(one.get("src") or "" for one in page.named("script"))


def test_what_is_too_long_is_said_beside_its_field_and_nothing_is_lost(lab):
    browser = lab.browser("owner")
    answer = browser.post(SETTINGS, {"description": "x" * 1001, "readme": "kept"})
    assert answer.status_code == 422
    page = Tags(answer.text)
    (field,) = [one for one in page.named("input") if one.get("name") == "description"]
    assert field["aria-invalid"] == "true"
    assert "at most 1000 characters" in page.text
    assert "kept" in page.text
    assert audited(lab) == []


# --- the picture -----------------------------------------------------------------------------------------------------


def picture(size=(600, 300), kind="JPEG"):
    out = io.BytesIO()
    Image.new("RGB", size, (200, 60, 20)).save(
        out, kind, **({"comment": b"where it was taken"} if kind == "JPEG" else {})
    )
    return out.getvalue()


def send_picture(browser, *parts, csrf=None):
    token = browser.page(SETTINGS).token() if csrf is None else csrf
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", **OWN}
    return browser.client.post(f"{SETTINGS}/logo", content=multipart([("csrf", token), *parts]), headers=headers)


def test_a_picture_is_encoded_anew_served_and_taken_away(lab):
    browser = lab.browser("owner")
    assert browser.get(f"{LAB}/logo").status_code == 404
    went_to(send_picture(browser, ("file", ("me.jpg", picture()))), SETTINGS)
    answer = browser.get(f"{LAB}/logo")
    assert answer.status_code == 200
    shown = Image.open(io.BytesIO(answer.content))
    assert (shown.format, shown.size) == ("PNG", (256, 128))
    assert b"taken" not in answer.content
    headers = answer.headers
    assert (headers["content-type"], headers["cache-control"]) == ("image/png", "private, no-cache")
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    again = browser.get(f"{LAB}/logo", if_none_match=headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    assert f"{LAB}/logo" in [one["src"] for one in browser.page(SETTINGS).named("img")]
    went_to(send_picture(browser, ("file", ("", b"")), ("remove", "1")), SETTINGS)
    assert browser.get(f"{LAB}/logo").status_code == 404
    assert [line[0] for line in audited(lab)] == ["channel.logo", "channel.logo"]


def test_a_picture_is_seen_by_who_sees_the_channel(lab):
    went_to(send_picture(lab.browser("owner"), ("file", ("me.png", picture(kind="PNG")))), SETTINGS)
    asked = {user: lab.browser(user).get(f"{LAB}/logo") for user in (*ROLES, "stranger", "admin")}
    assert {user: answer.status_code for user, answer in asked.items()} == {
        **dict.fromkeys((*ROLES, "admin"), 200), "stranger": 404,
    }  # fmt: skip
    etag = asked["owner"].headers["etag"]
    nobody = [lab.get(f"/channels/{name}/logo", if_none_match=etag) for name in ("lab", "missing")]
    assert [(one.status_code, one.content) for one in nobody] == [(401, nobody[0].content)] * 2
    with lab.app.database.write() as session:
        session.execute(update(Channel).values(visibility="public"))
    answer = lab.get(f"{LAB}/logo")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "public, max-age=300")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        bytes(logos.BYTES_MAX + 1),
    ],
    ids=["empty", "text", "svg", "large"],
)
def test_what_is_no_picture_is_refused_beside_its_field(lab, data):
    answer = send_picture(lab.browser("owner"), ("file", ("me.png", data)))
    assert answer.status_code == 422
    (field,) = [one for one in Tags(answer.text).named("input") if one.get("name") == "file"]
    assert field["aria-invalid"] == "true"
    assert (row(lab).logo, audited(lab)) == (None, [])


def test_a_picture_needs_its_own_forms_token_and_the_right(lab):
    token = lab.browser("owner").page(SETTINGS).token()
    logo = ("file", ("me.jpg", picture()))
    assert send_picture(lab.browser("owner"), logo, csrf=token).status_code == 403
    for user, wanted in (("maintainer", 403), ("viewer", 403), ("stranger", 404)):
        browser = lab.browser(user)
        assert send_picture(browser, logo, csrf=browser.page("/settings").token()).status_code == wanted
    assert send_picture(lab.browser(), logo, csrf=token).status_code == 401
    assert (row(lab).logo, audited(lab)) == (None, [])


# --- who may see it --------------------------------------------------------------------------------------------------


def test_visibility_changes_for_a_typed_name(lab):
    browser, path = lab.browser("owner"), f"{SETTINGS}/visibility"
    assert "Everybody sees all of it" in browser.page(path).text
    for typed in ("", "LAB", "other"):
        answer = browser.post(path, {"visibility": "public", "typed": typed})
        assert answer.status_code == 422
        assert "Type lab to confirm" in answer.text
    assert browser.post(path, {"visibility": "hidden", "typed": "lab"}).status_code == 422
    assert (row(lab).visibility, audited(lab)) == ("private", [])
    went_to(browser.post(path, {"visibility": "public", "typed": "lab"}), path)
    assert row(lab).visibility == "public"
    assert lab.get("/lab/noarch/repodata.json").status_code == 200
    assert "Installs without an API key fail" in browser.page(path).text


@pytest.mark.parametrize("now", list(Visibility))
def test_each_visibility_says_what_changes(lab, now):
    with lab.app.database.write() as session:
        session.execute(update(Channel).values(visibility=now))
    page = lab.browser("owner").page(f"{SETTINGS}/visibility")
    chosen = [one["value"] for one in page.named("input") if one.get("type") == "radio" and "checked" in one]
    assert chosen == [now]


# --- whose it is, and whether it is there ----------------------------------------------------------------------------


def test_a_channel_is_given_to_a_member(lab):
    owner, path = lab.browser("owner"), f"{SETTINGS}/danger"
    for sent, words in (
        ({"user": "viewer", "typed_transfer": "la"}, "Type lab"),
        ({"user": "", "typed_transfer": "lab"}, "Choose who"),
        ({"user": "stranger", "typed_transfer": "lab"}, "no member"),
        ({"user": "owner", "typed_transfer": "lab"}, "yourself"),
    ):
        answer = owner.post(path, {"act": "transfer", **sent})
        assert (answer.status_code, words in answer.text) == (422, True), sent
    assert audited(lab) == []
    went_to(owner.post(path, {"act": "transfer", "user": "viewer", "typed_transfer": "lab"}), LAB)
    assert (members(lab)["viewer"], members(lab)["owner"]) == ("owner", "maintainer")
    assert owner.get(path).status_code == 403


def test_a_deleted_channel_comes_back_as_it_was(lab):
    package = conda_package("arm")
    assert lab.put("lab", package, lab.key("owner")).status_code == 201
    owner, path = lab.browser("owner"), f"{SETTINGS}/danger"
    assert owner.post(path, {"act": "delete", "typed_delete": "other"}).status_code == 422
    assert owner.post(path, {"act": "eat", "typed_delete": "lab"}).status_code == 400
    assert row(lab).deleted_at is None
    went_to(owner.post(path, {"act": "delete", "typed_delete": "lab"}), "/channels/trash")
    assert owner.get(LAB).status_code == 404
    assert lab.get(f"/lab/noarch/{package[0]}", lab.key("owner")).status_code == 404
    for user in ("maintainer", "viewer", "stranger"):
        browser = lab.browser(user)
        assert "lab" not in [one.get("value") for one in browser.page("/channels/trash").named("button")]
        assert browser.post("/channels/trash", {"channel": "lab"}, form="/settings").status_code == 404
    assert lab.browser().get("/channels/trash").status_code == 303
    for user in ("owner", "admin"):
        assert "lab" in [one.get("value") for one in lab.browser(user).page("/channels/trash").named("button")]
    went_to(owner.post("/channels/trash", {"channel": "lab"}), LAB)
    assert lab.get(f"/lab/noarch/{package[0]}", lab.key("owner")).status_code == 200
    assert members(lab).keys() == set(ROLES)
    assert [line[0] for line in audited(lab)] == ["artifact.publish", "channel.delete", "channel.restore"]


def test_what_was_deleted_too_long_ago_does_not_come_back(lab):
    with lab.app.database.write() as session:
        session.execute(update(Channel).values(deleted_at=lab.app.now() - 8 * 86_400_000))
    owner = lab.browser("owner")
    assert "Nothing to bring back" in owner.page("/channels/trash").text
    assert owner.post("/channels/trash", {"channel": "lab"}).status_code == 404


def test_the_quota_is_shown_and_not_asked_for(lab):
    assert "no quota" in lab.browser("owner").page(SETTINGS).text
    with lab.app.database.write() as session:
        channels.set_quota(session, CONSOLE, "lab", 5_000_000, now=1)
    text = lab.browser("owner").page(SETTINGS).text
    assert "An administrator of this server sets the quota" in text
    went_to(lab.browser("owner").post(SETTINGS, {"quota": "9"}), SETTINGS)
    assert row(lab).quota == 5_000_000
