"""One's own pages: who one is, browsers, keys."""

import re

import pytest
from sqlalchemy import select

from fairway.db.models import Audit, Token, User
from fairway.registry import passwords
from fairway.registry.tokens import PATTERN
from tests.support.browser import Tags
from tests.support.builders import conda_package
from tests.support.site import bearer
from tests.web.test_sign_in import PASSWORD, give_password, sign_in


@pytest.fixture(scope="module")
def digest():
    return passwords.hashed(PASSWORD)


@pytest.fixture
def ada(site, digest):
    site.user("ada")
    site.user("bob")
    site.channel("lab", owner="ada")
    give_password(site, "ada", digest)
    return site


def made(answer):
    assert answer.status_code == 200, answer.text
    tags = Tags(answer.text)
    (key,) = {match[0] for match in PATTERN.finditer(tags.text)}
    return key, tags


def make(browser, **fields):
    usual = {"name": "laptop", "scope": "read", "reach": "all", "expires": "90d"}
    return browser.post("/settings/keys/new", [*(usual | fields).items()])


def test_a_profile_is_changed(ada):
    browser = ada.browser("ada")
    answer = browser.post("/settings", {"full_name": " Ada  Lovelace ", "email": "Ada@Lovelace.example"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/settings")
    tags = browser.page("/settings")
    assert "Saved." in tags.text
    values = {one["name"]: one.get("value") for one in tags.named("input")}
    assert (values["full_name"], values["email"]) == ("Ada Lovelace", "ada@lovelace.example")
    for email in ("bob@example.org", "BOB@example.org", "x"):
        assert browser.post("/settings", {"full_name": "", "email": email}).status_code == 422
    with ada.app.database.read() as session:
        line = session.scalars(select(Audit).where(Audit.action == "user.update")).one()
    assert line.details["email"] == ["ada@example.org", "ada@lovelace.example"]
    assert sign_in(ada.browser(), "ada@lovelace.example").status_code == 303


def test_a_password_is_changed_by_who_knows_it(ada):
    here, there = ada.browser("ada"), ada.browser("ada")
    new = "four gulls and a lighthouse"
    for fields, wrong in (
        ({"current": "wrong", "password": new}, {"current"}),
        ({"current": PASSWORD, "password": "short"}, {"password"}),
        ({"current": PASSWORD, "password": "ada ada ada ada ada"}, {"password"}),
        ({}, {"current", "password"}),
    ):
        answer = here.post("/settings/password", fields)
        assert answer.status_code == 422
        inputs = Tags(answer.text).named("input")
        assert {one["name"] for one in inputs if one.get("aria-invalid")} == wrong
        assert all(not one.get("value") for one in inputs if one.get("type") == "password")
    answer = here.post("/settings/password", {"current": PASSWORD, "password": new})
    assert answer.headers["location"] == "/settings/password"
    assert "every other browser is signed out" in here.page("/settings/password").text
    assert there.get("/settings").status_code == 303
    assert sign_in(ada.browser()).status_code == 422
    assert sign_in(ada.browser(), password=new).status_code == 303


def test_browsers_are_listed_and_signed_out(ada):
    here = ada.browser()
    here.client.headers["user-agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    sign_in(here)
    there, third = ada.browser("ada"), ada.browser("ada")
    tags = here.page("/settings/sessions")
    assert "Firefox on Linux" in tags.text
    assert "192.0.2.1" in tags.text
    assert tags.text.count("this one") == 1
    actions = [str(one["action"]) for one in tags.named("form") if str(one.get("action")).endswith("/end")]
    assert len(actions) == 2
    assert here.post(actions[0], form="/settings/sessions").headers["location"] == "/settings/sessions"
    assert [browser.get("/settings").status_code for browser in (here, there, third)].count(303) == 1
    assert here.post("/settings/sessions/end-others", form="/settings/sessions").status_code == 303
    assert [browser.get("/settings").status_code for browser in (here, there, third)] == [200, 303, 303]
    assert here.post(actions[1], form="/settings/sessions").status_code == 404


@pytest.mark.parametrize("agent", ["", "\x1b[31m", "<script>", "a" * 5000, "Mozilla/5.0 Edg/1 Windows"])
def test_what_a_browser_calls_itself_is_only_text(ada, agent):
    browser = ada.browser()
    browser.client.headers["user-agent"] = agent
    sign_in(browser)
    page = browser.get("/settings/sessions").text
    assert "<script>" not in page.split("</head>")[1].replace('<script type="module"', "")
    assert "\x1b" not in page
    assert "a" * 400 not in page


def test_a_key_is_made_shown_once_and_works(ada):
    browser = ada.browser("ada")
    key, tags = made(make(browser, scope="upload", reach="some", channel="lab"))
    assert tags.text.count(key) >= 6
    for client in (
        "pixi auth login",
        "rattler-build",
        "conda install -c http://127.0.0.1:8000/t/",
        "micromamba",
        "curl",
    ):
        assert client in tags.text
    assert "--channel lab" in tags.text
    listed = browser.get("/settings/keys").text
    assert "laptop" in listed
    assert key not in listed
    filename, data = conda_package()
    assert ada.put("lab", (filename, data), key).status_code == 201
    assert ada.get(f"/lab/noarch/{filename}", key).content == data
    assert ada.client.post("/api/v1/channels", json={"name": "more"}, headers=bearer(key)).status_code == 403
    with ada.app.database.read() as session:
        row = session.scalars(select(Token)).one()
        line = session.scalars(select(Audit).where(Audit.action == "token.create")).one()
    assert row.bound
    assert 89 <= (row.expires_at - row.created_at) / 86_400_000 <= 90
    assert (line.actor, line.details["channels"]) == ("ada", ["lab"])
    ada.settle()
    assert "just now" in browser.page("/settings/keys").text


def test_what_every_line_of_a_key_says_is_true(ada):
    """The lines that can be asked here: the addresses are those that clients then use."""
    key, tags = made(make(ada.browser("ada"), scope="read"))
    in_path = re.search(rf"http://127\.0\.0\.1:8000(/t/{key})/CHANNEL", tags.text)
    assert ada.get(f"{in_path[1]}/lab/noarch/repodata.json").status_code == 200
    assert "fairway upload" not in tags.text
    assert "upload prefix" not in tags.text


def test_a_key_that_cannot_be_is_not_made(ada):
    ada.channel("hidden")
    browser = ada.browser("ada")
    for fields, field in (
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"reach": "some"}, "others"),
        ({"reach": "some", "others": "hidden"}, "others"),
        ({"reach": "some", "others": "nowhere, lab"}, "others"),
        ({"expires": "1000y"}, "expires"),
        ({"scope": "root"}, None),
    ):
        answer = make(browser, **fields)
        assert answer.status_code == 422, fields
        tags = Tags(answer.text)
        wrong = [one.get("name") for one in (*tags.named("input"), *tags.named("select")) if one.get("aria-invalid")]
        assert wrong == ([] if field is None else [field]), fields
    with ada.app.database.read() as session:
        assert session.scalars(select(Token)).all() == []


def test_a_key_is_revoked_by_whose_it_is(ada):
    browser = ada.browser("ada")
    key, _ = made(make(browser))
    with ada.app.database.read() as session:
        number = session.scalars(select(Token.id)).one()
    path = f"/settings/keys/{number}/revoke"
    other = ada.browser("bob")
    assert other.get(path).status_code == 404
    assert other.post(path, form="/settings").status_code == 404
    assert ada.get("/lab/noarch/repodata.json", key).status_code == 200
    assert "laptop" in browser.page(path).text
    assert browser.post(path).headers["location"] == "/settings/keys"
    assert ada.get("/lab/noarch/repodata.json", key).status_code == 401
    assert "You have no API key" in browser.page("/settings/keys").text
    assert browser.get(path).status_code == 404


def test_many_keys_have_pages(ada):
    for number in range(53):
        ada.key("ada", "read") if number else ada.key("bob", "read")
    browser = ada.browser("ada")
    first = browser.page("/settings/keys")
    (following,) = [str(one["href"]) for one in first.named("a") if one.get("rel") == "next"]
    second = browser.page(following)
    shown = [
        {str(one["href"]) for one in tags.named("a") if str(one.get("href")).endswith("/revoke")}
        for tags in (first, second)
    ]
    assert [len(one) for one in shown] == [50, 2]
    assert shown[0].isdisjoint(shown[1])
    for after in ("x", "-1", "1" * 30, "0"):
        assert browser.get(f"/settings/keys?after={after}").status_code == 422


def test_a_page_asks_the_database_little(ada):
    from sqlalchemy import event

    browser = ada.browser("ada")
    for _ in range(3):
        made(make(browser, reach="some", channel="lab"))
    asked = []
    engine = ada.app.database.reader

    def seen(_, __, statement, *___):
        asked.append(statement)

    event.listen(engine, "before_cursor_execute", seen)
    for path in ("/settings", "/settings/password", "/settings/keys", "/settings/keys/new", "/settings/sessions",
                 "/invitations", "/login", "/signup", "/confirm"):  # fmt: skip
        ada.user(f"someone{len(path)}{path.count('s')}")  # so that nothing is remembered
        asked.clear()
        browser.get(path)
        assert len(asked) <= 4, (path, asked)


def test_an_administrator_is_offered_the_administration(ada):
    assert "/admin" in {one.get("href") for one in ada.browser("admin").page("/settings").named("a")}
    assert "/admin" not in {one.get("href") for one in ada.browser("ada").page("/settings").named("a")}
    with ada.app.database.read() as session:
        assert session.scalar(select(User.is_admin).where(User.name == "ada")) is False
