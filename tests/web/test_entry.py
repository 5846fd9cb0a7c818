"""Setting a server up, and making an account."""

import threading
from html import unescape

import pytest
from sqlalchemy import select

from fairway.app import Fairway
from fairway.db.models import Audit, User
from fairway.registry import invitations
from fairway.registry.actor import CONSOLE, Actor, Role, Scope
from fairway.settings import load
from tests.support.browser import Tags
from tests.support.site import Site

PASSWORD = "correct horse battery staple"
ADA = {"name": "Ada", "full_name": "Ada Lovelace", "email": "Ada@Example.org", "password": PASSWORD}


@pytest.fixture
def empty(fairway):
    """The application while nobody has an account."""
    with Site(fairway, admin=False) as site:
        yield site


@pytest.fixture
def with_mode(database_url, tmp_path):
    opened = []

    def make(mode):
        data = tmp_path / "data"
        options = {"data": data, "database_url": database_url, "reading_processes": 1, "sign_up": mode}
        app = Fairway(load(options, environ={}))
        site = Site(app).__enter__()
        opened.append((site, app))
        return site

    yield make
    for site, app in opened:
        site.__exit__(None, None, None)
        app.close()


def users(site):
    with site.app.database.read() as session:
        return [(user.name, user.is_admin) for user in session.scalars(select(User).order_by(User.id))]


def person(site, name):
    with site.app.database.read() as session:
        user = session.scalars(select(User).where(User.name == name)).one()
    return Actor(user.id, user.name, is_admin=user.is_admin, scope=Scope.ADMIN)


# --- the first administrator -----------------------------------------------------------------------------------------


def test_the_code_of_the_console_makes_the_first_administrator(empty):
    code = empty.app.new_setup_code()
    file = empty.app.setup_code_file
    assert file.read_text() == code + "\n"
    assert file.stat().st_mode & 0o777 == 0o600
    browser = empty.browser()
    assert [one for one in browser.page("/").named("a") if one.get("href") == "/setup"]
    wrong = browser.post("/setup", {**ADA, "code": "AAAAA-AAAAA-AAAAA-AAAAA"})
    assert wrong.status_code == 422
    assert users(empty) == []
    answer = browser.post("/setup", {**ADA, "code": code.lower()})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert users(empty) == [("ada", True)]
    assert not file.exists()
    assert "Ada Lovelace" in browser.page("/").text
    for method in ("GET", "POST"):
        assert empty.browser().client.request(method, "/setup").status_code in {404, 403}
    assert browser.get("/setup").status_code == 404
    assert browser.post("/setup", {**ADA, "code": code}, form="/settings").status_code == 404
    with empty.app.database.read() as session:
        lines = [(line.action, line.actor) for line in session.scalars(select(Audit).order_by(Audit.id))]
    assert lines == [("user.create", "console"), ("session.start", "ada")]


def test_a_new_code_ends_the_one_before_and_the_code_is_only_where_it_belongs(empty, capfd):
    first, second = empty.app.new_setup_code(), empty.app.new_setup_code()
    browser = empty.browser()
    assert browser.post("/setup", {**ADA, "code": first}).status_code == 422
    assert browser.post("/setup", {**ADA, "code": second}).status_code == 303
    told = "".join(capfd.readouterr())
    assert first not in told
    assert second not in told
    assert empty.app.new_setup_code() is None


def test_whoever_guesses_codes_is_stopped(empty):
    empty.app.new_setup_code()
    browser = empty.browser()
    statuses = [browser.post("/setup", {**ADA, "code": f"{number:020}"}).status_code for number in range(12)]
    assert statuses == [422] * 10 + [429] * 2


def test_of_fifty_who_set_up_at_once_exactly_one_does(empty):
    code = empty.app.new_setup_code()
    empty.limits.passwords._address.take = empty.limits.passwords._name.take = lambda _: None
    browsers = [empty.browser() for _ in range(50)]
    for browser in browsers:
        browser.page("/setup")
    outcomes = []
    ready = threading.Barrier(len(browsers))

    def attempt(number, browser):
        token = browser.page("/setup").token()
        ready.wait()
        fields = {**ADA, "name": f"user{number}", "email": f"{number}@example.org", "code": code, "csrf": token}
        headers = {"sec-fetch-site": "same-origin"}
        outcomes.append(browser.client.post("/setup", data=fields, headers=headers).status_code)

    threads = [threading.Thread(target=attempt, args=pair) for pair in enumerate(browsers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # the others find it done, or were too many for the hashes that may be made at once
    assert sorted(set(outcomes) - {404, 503}) == [303]
    assert outcomes.count(303) == 1
    assert len(users(empty)) == 1


def test_what_is_wrong_stands_beside_each_field_and_the_code_still_works(empty):
    code = empty.app.new_setup_code()
    browser = empty.browser()
    answer = browser.post(
        "/setup", {"name": "not a name", "email": "x", "full_name": "a" * 101, "password": "short", "code": code}
    )
    assert answer.status_code == 422
    tags = Tags(answer.text)
    wrong = {one["name"] for one in tags.named("input") if one.get("aria-invalid") == "true"}
    assert wrong == {"name", "email", "full_name", "password"}
    # what was typed stays, but for the password
    values = {one["name"]: one.get("value") for one in tags.named("input")}
    assert (values["name"], values["password"], values["code"]) == ("not a name", "", code)
    assert browser.post("/setup", {**ADA, "password": "ada ada ada lovelace ada", "code": code}).status_code == 422
    assert browser.post("/setup", {**ADA, "code": code}).status_code == 303


# --- making an account -----------------------------------------------------------------------------------------------


def test_everybody_makes_an_account_where_that_is_open(with_mode):
    site = with_mode("open")
    browser = site.browser()
    assert [one for one in browser.page("/login").named("a") if one.get("href") == "/signup"]
    answer = browser.post("/signup", ADA)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert users(site) == [("admin", True), ("ada", False)]
    assert "Ada Lovelace" in browser.page("/settings").text
    again = site.browser().post("/signup", ADA)
    assert again.status_code == 422
    assert "already in use" in again.text


@pytest.mark.parametrize("mode", ["invitation", "closed"])
def test_nobody_makes_an_account_uninvited(with_mode, mode):
    site = with_mode(mode)
    browser = site.browser()
    assert not [one for one in browser.page("/login").named("a") if one.get("href") == "/signup"]
    tags = browser.page("/signup")
    assert not [one for one in tags.named("input") if one.get("name") == "password"]
    assert ("invitation" if mode == "invitation" else "administrators") in tags.text
    token = browser.page("/login").token()
    own = {"sec-fetch-site": "same-origin"}
    for code in ("", "fwy-i-" + "0" * 38):
        answer = browser.client.post("/signup", data={**ADA, "csrf": token, "invitation": code}, headers=own)
        assert answer.status_code == 422
    assert users(site) == [("admin", True)]


def test_a_link_leads_through_an_account_into_the_channel(with_mode, capfd):
    site = with_mode("invitation")
    site.channel("lab")
    with site.app.database.write() as session:
        code = invitations.invite(
            session, person(site, "admin"), "lab", "ada@example.org", Role.UPLOADER, now=site.app.now()
        ).code
    browser = site.browser()
    tags = browser.page(f"/invitations/{code}")
    assert "admin invites you into the channel lab as uploader" in " ".join(tags.text.split())
    (link,) = {str(one["href"]) for one in tags.named("a") if str(one.get("href")).startswith("/signup")}
    form = browser.page(link)
    values = {one["name"]: one.get("value") for one in form.named("input")}
    assert (values["email"], values["invitation"]) == ("ada@example.org", code)
    answer = browser.post("/signup", {**ADA, "invitation": code}, form=link)
    assert (answer.status_code, answer.headers["location"]) == (303, "/invitations")
    asked = browser.page("/invitations")
    assert "lab" in asked.text
    (accept,) = {str(one["action"]) for one in asked.named("form") if str(one.get("action")).endswith("/accept")}
    answer = browser.post(accept, form="/invitations")
    assert answer.headers["location"] == "/channels/lab"
    assert "You are a member now" in browser.page("/channels/lab").text
    # the link is used up, for everybody, and nobody can read it off a log
    assert site.browser().get(f"/invitations/{code}").status_code == 404
    assert code not in "".join(capfd.readouterr())


def test_who_has_an_account_signs_in_and_says_yes(with_mode):
    site = with_mode("closed")
    site.channel("lab")
    site.user("bob")
    with site.app.database.write() as session:
        code = invitations.invite(
            session, person(site, "admin"), "lab", "other@example.org", Role.VIEWER, now=site.app.now()
        ).code
    tags = site.browser().page(f"/invitations/{code}")
    assert f"/login?next=%2Finvitations%2F{code}" in {one.get("href") for one in tags.named("a")}
    browser = site.browser("bob")
    assert browser.get("/channels/lab").status_code == 404
    answer = browser.post(f"/invitations/{code}/accept", form=f"/invitations/{code}")
    assert answer.headers["location"] == "/channels/lab"
    assert browser.get("/channels/lab").status_code == 200


def test_an_owners_link_makes_no_account_where_that_takes_an_administrator(with_mode):
    site = with_mode("invitation")
    site.user("bob")
    site.channel("lab", owner="bob")
    with site.app.database.write() as session:
        code = invitations.invite(
            session, person(site, "bob"), "lab", "x@example.org", Role.VIEWER, now=site.app.now()
        ).code
    tags = site.browser().page(f"/signup?invitation={code}")
    assert "An administrator can invite you" in tags.text
    assert not [one for one in tags.named("input") if one.get("name") == "password"]


def test_how_many_accounts_one_address_makes_is_bounded(with_mode):
    site = with_mode("open")
    statuses = [site.browser().post("/signup", {"name": "x y"}).status_code for _ in range(12)]
    assert statuses == [422] * 10 + [429] * 2


def test_an_invitation_onto_the_server_by_command(with_mode):
    site = with_mode("invitation")
    with site.app.database.write() as session:
        sent = invitations.invite_to_server(session, CONSOLE, None, now=site.app.now())
    page = site.browser().get(f"/invitations/{sent.code}")
    assert "You are invited to make an account" in unescape(page.text)
    answer = site.browser().post("/signup", {**ADA, "invitation": sent.code}, form=f"/signup?invitation={sent.code}")
    assert answer.status_code == 303


@pytest.mark.parametrize("mode", ["open", "invitation", "closed"])
def test_an_administrator_is_told_when_an_invitation_is_of_no_use(with_mode, mode):
    site = with_mode(mode)
    for path in ("/admin/invitations", "/admin/invitations/new"):
        said = f"the setting sign_up is {mode}" in site.browser("admin").page(path).text
        assert said is (mode != "invitation"), path
