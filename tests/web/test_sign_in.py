"""Signing in and out, and what a session is worth."""

from urllib.parse import urlencode

import pytest
from sqlalchemy import delete, select, update

from fairway.db.models import Audit, BrowserSession, User
from fairway.registry import accounts, administer, passwords, sessions
from fairway.registry.actor import CONSOLE
from tests.support.browser import FORM, OWN, Tags
from tests.support.builders import conda_package
from tests.support.site import bearer

PASSWORD = "correct horse battery staple"
WRONG = "wrong horse battery staple"


@pytest.fixture(scope="module")
def digest():
    return passwords.hashed(PASSWORD)


@pytest.fixture
def ada(site, digest):
    """A site with somebody who has a password, and a channel of hers."""
    site.user("ada")
    site.channel("lab", owner="ada")
    give_password(site, "ada", digest)
    return site


def give_password(site, name, digest):
    with site.app.database.write() as session:
        session.execute(update(User).where(User.name == name).values(password_hash=digest))


def sign_in(browser, name="ada", password=PASSWORD, *, then="/"):
    return browser.post("/login", {"name": name, "password": password, "next": then})


def audited(site):
    with site.app.database.read() as session:
        return [(line.action, line.actor, line.subject) for line in session.scalars(select(Audit).order_by(Audit.id))]


def test_a_password_signs_in_and_out(ada):
    browser = ada.browser()
    assert browser.get("/settings").headers["location"] == "/login?next=%2Fsettings"
    answer = sign_in(browser, then="/settings")
    assert (answer.status_code, answer.headers["location"]) == (303, "/settings")
    assert "ada" in browser.page("/settings").text
    assert browser.page("/channels/lab").named("h1")
    assert browser.get("/login").headers["location"] == "/"
    secret = browser.secret
    answer = browser.post("/logout", form="/settings")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert browser.secret is None
    assert "You are signed out" in browser.page("/").text
    assert "You are signed out" not in browser.page("/").text  # it is said once
    again = ada.browser()
    again.take(secret)
    assert again.get("/settings").status_code == 303
    assert [line for line in audited(ada) if line[0].startswith("session")] == [
        ("session.start", "ada", "ada"),
        ("session.end", "ada", "ada"),
    ]


def test_a_wrong_password_a_wrong_name_and_a_suspended_user_are_told_the_same(ada, digest):
    ada.user("bob")
    give_password(ada, "bob", digest)
    with ada.app.database.write() as session:
        administer.suspend(session, CONSOLE, "bob", now=ada.app.now())
    told = set()
    for name, password in (("ada", WRONG), ("nobody", PASSWORD), ("bob", PASSWORD), ("admin", PASSWORD), ("x", "")):
        answer = sign_in(ada.browser(), name, password)
        assert answer.status_code == 422
        assert "set-cookie" not in answer.headers
        text = answer.text.split("</header>")[1]
        token = answer.text.split('name="csrf" value="')[1][:43]
        told.add(text.replace(token, "").replace(f'value="{name}"', ""))
    assert len(told) == 1
    refused = [line for line in audited(ada) if line[0] == "session.refuse"]
    # a password typed into the field for the name must not be kept
    assert [subject for _, _, subject in refused] == ["ada", "?", "?", "?", "?"]


def test_the_cookie_is_out_of_reach(ada):
    answer = sign_in(ada.browser())
    (cookie,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith("fairway=fwy-s-")]
    assert cookie.split("; ")[1:] == ["Max-Age=43200", "Path=/", "HttpOnly", "SameSite=Lax"]


def test_over_tls_no_neighbour_can_plant_the_cookie():
    from fairway.web.cookies import Cookies

    jar = Cookies("https://conda.example.org")
    assert (jar.session, jar.form) == ("__Host-fairway", "__Host-fairway-form")
    assert jar.write(jar.session, "x").split("; ")[1:] == ["Path=/", "HttpOnly", "SameSite=Lax", "Secure"]
    below = Cookies("https://example.org/conda")
    assert below.write(below.session, "x") == "fairway=x; Path=/conda/; HttpOnly; SameSite=Lax; Secure"
    assert below.read("fairway", [b"a=b; fairway-form=1", b" x=; fairway=good"]) == "good"


def test_a_planted_session_is_not_taken_over(ada):
    """Fixation: the secret after signing in is never one that was there before, and the old one is dead."""
    ada.user("mallory")
    planted = ada.session("mallory")
    victim = ada.browser()
    victim.take(planted)
    assert victim.get("/login").status_code == 303  # somebody is signed in already
    answer = victim.post("/login", {"name": "ada", "password": PASSWORD}, form="/settings")
    assert answer.status_code == 303
    secrets = [one for one in answer.headers.get_list("set-cookie") if one.startswith("fairway=")]
    assert len(secrets) == 1
    assert planted not in secrets[0]
    thief = ada.browser()
    thief.take(planted)
    assert thief.get("/settings").status_code == 303


def dead(site, secret):
    browser = site.browser()
    browser.take(secret)
    return (
        browser.get("/settings").status_code == 303 and site.app.lookup.view().actor(secret, rows=True).user_id is None
    )


def test_whatever_ends_a_session_ends_it_at_once(ada):
    def session_of(secret):
        with ada.app.database.read() as session:
            return sessions.recognise(session, secret, now=ada.app.now()).actor

    for end in (
        lambda session, actor: sessions.end(session, actor, actor.session_id, now=2),
        lambda session, actor: sessions.end_all(session, CONSOLE, actor.user_id, now=2),
        lambda session, actor: administer.suspend(session, CONSOLE, "ada", now=2),
        lambda session, actor: accounts.set_password(session, CONSOLE, "ada", "x", now=2),
        lambda session, actor: session.execute(update(User).where(User.name == "ada").values(suspended_at=1)),
    ):
        secret = ada.session("ada")
        assert not dead(ada, secret)
        actor = session_of(secret)
        with ada.app.database.write() as session:
            end(session, actor)
        assert dead(ada, secret)
        with ada.app.database.write() as session:
            administer.resume(session, CONSOLE, "ada", now=3)
    # the last one was suspended past us: its session was not ended, and lives again with its user
    assert not dead(ada, secret)


def test_a_session_ends_by_itself(ada, monkeypatch):
    """Two hours without a request, twelve in all; who is there now and then stays."""
    at = start = ada.app.now()

    def now():
        return at

    monkeypatch.setattr(ada.app, "now", now)
    monkeypatch.setattr(ada.app.lookup, "clock", now)
    secret = ada.session("ada")
    for hours in range(1, 12):
        at = start + hours * 3_600_000
        assert not dead(ada, secret), hours
        ada.app.counts.flush(ada.app.database)
    at = start + sessions.LIFE_MS
    assert dead(ada, secret)
    at = start
    idle = ada.session("ada")
    at = start + sessions.IDLE_MS - 1
    assert not dead(ada, idle)
    at = start + 2 * sessions.IDLE_MS
    ada.app.counts.flush(ada.app.database)
    assert dead(ada, idle)
    with ada.app.database.write() as session:
        assert sessions.forget(session, now=start + sessions.LIFE_MS) == 2


def test_being_seen_is_written_now_and_then(ada):
    browser = ada.browser("ada")
    for _ in range(5):
        browser.page("/")
    assert ada.app.counts.flush(ada.app.database) == 1
    browser.page("/")
    assert ada.app.counts.flush(ada.app.database) == 0


def test_a_session_reads_pages_and_files_and_nothing_of_the_api(ada):
    key = ada.key("ada", "admin")
    filename, data = conda_package("demo")
    assert ada.put("lab", (filename, data), key).status_code == 201
    browser = ada.browser("ada")
    file = browser.get(f"/lab/noarch/{filename}")
    assert (file.status_code, file.content) == (200, data)
    assert file.headers["vary"] == "Authorization, X-API-Key, Cookie"
    assert file.headers["cache-control"].startswith("private")
    assert browser.get(f"/lab/noarch/{filename}").status_code == 200  # and from memory
    assert browser.client.head("/lab/noarch/repodata.json").status_code == 200
    for path in ("/api/v1/channels/lab", "/api/v1/channels/lab/packages"):
        assert browser.get(path).status_code == 401
    assert browser.get("/api/v1/channels").json()["items"] == []
    change = {"description": "x"}
    assert browser.client.patch("/api/v1/channels/lab", json=change, headers=OWN).status_code == 401
    assert browser.client.put(f"/api/v1/channels/lab/artifacts/{filename}", content=data).status_code == 401
    assert browser.client.put(f"/lab/noarch/{filename}", content=data).status_code in {401, 405}


def test_what_is_for_everybody_may_be_kept_for_everybody(ada):
    ada.channel("open", "public")
    for client in (ada.client, ada.browser("ada").client):
        answer = client.get("/open/noarch/repodata.json")
        assert answer.headers["vary"] == "Authorization, X-API-Key"
        assert answer.headers["cache-control"] == "public, max-age=60"


def test_the_secret_of_a_session_is_no_key(ada):
    secret = ada.session("ada")
    for headers in (bearer(secret), {"x-api-key": secret}, {"authorization": f"token {secret}"}):
        assert ada.client.get("/api/v1/channels/lab", headers=headers).status_code == 401
        assert ada.client.get("/lab/noarch/repodata.json", headers=headers).status_code == 401
        assert ada.client.get("/", headers=headers, follow_redirects=False).status_code == 401
    assert ada.client.get(f"/t/{secret}/lab/noarch/repodata.json").status_code == 401


def test_a_key_is_no_session(ada):
    key = ada.key("ada", "admin")
    assert ada.get("/channels/lab", key).status_code == 200
    for path in ("/settings", "/settings/keys", "/settings/keys/new", "/invitations", "/confirm"):
        answer = ada.get(path, key)
        assert (answer.status_code, answer.headers["location"][:6]) == (303, "/login"), path
    browser = ada.browser()
    browser.take(key)
    assert browser.get("/settings").status_code == 303
    assert browser.get("/channels/lab").status_code == 401
    assert browser.get("/lab/noarch/repodata.json").status_code == 401


def test_dangerous_acts_ask_for_the_password_again(ada):
    browser = ada.browser("ada")
    assert browser.get("/settings/keys/new").status_code == 200
    with ada.app.database.write() as session:
        session.execute(update(BrowserSession).values(confirmed_at=ada.app.now() - sessions.CONFIRMED_MS))
    answer = browser.get("/settings/keys/new?channel=lab")
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "/confirm?next=%2Fsettings%2Fkeys%2Fnew%3Fchannel%3Dlab",
    )
    before = browser.secret
    wrong = browser.post("/confirm", {"password": WRONG, "next": "/settings/keys/new"})
    assert wrong.status_code == 422
    assert browser.get("/settings/keys/new").status_code == 303
    right = browser.post("/confirm", {"password": PASSWORD, "next": "/settings/keys/new?channel=lab"})
    assert (right.status_code, right.headers["location"]) == (303, "/settings/keys/new?channel=lab")
    assert browser.get("/settings/keys/new").status_code == 200
    # whoever had got hold of the session is out
    assert browser.secret != before
    assert dead(ada, before)


@pytest.mark.parametrize(
    ("path", "referer", "back"),
    [
        ("/settings/keys/new", "http://127.0.0.1:8000/settings", "/settings/keys/new"),
        (
            "/settings/sessions/end-others",
            "http://127.0.0.1:8000/settings/keys?page=2",
            "/settings/keys?page=2",
        ),
        ("/settings/sessions/end-others", "http://evil.example/settings", "/"),
        ("/settings/sessions/end-others", "http://127.0.0.1:8000//evil.example", "/"),
        ("/settings/sessions/end-others", "http://[", "/"),
        ("/settings/sessions/end-others", "", "/"),
    ],
)
def test_a_form_sent_after_the_session_leads_back_to_a_page(ada, path, referer, back):
    browser = ada.browser("ada")
    token = browser.page("/settings").token()
    with ada.app.database.write() as session:
        session.execute(delete(BrowserSession))
    headers = {**OWN, "content-type": FORM, "referer": referer}
    sent = browser.client.post(path, content=f"csrf={token}", headers=headers)
    assert sent.status_code == 401
    assert f"/login?{urlencode({'next': back})}" in {one.get("href") for one in Tags(sent.text).named("a")}


def test_who_guesses_is_stopped(ada):
    browser = ada.browser()
    for _ in range(10):
        assert sign_in(browser, password=WRONG).status_code == 422
    answer = sign_in(browser)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 300
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    # by name as well, from wherever
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ada.limits.passwords._address, "take", lambda _: None)
        assert sign_in(ada.browser()).status_code == 429
        assert sign_in(ada.browser(), "bob").status_code == 422


def test_strangers_do_not_keep_out_whom_they_guess_at(ada):
    """From many addresses they use up what a name has, for as long as they like: whoever signed in with their browser
    before gets in all the same, signs in again, and confirms.
    """
    browser = ada.browser()
    assert sign_in(browser).status_code == 303
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ada.limits.passwords._address, "take", lambda _: None)
        patch.setattr(ada.limits.passwords._address, "give_back", lambda _: None)
        for _ in range(10):
            assert sign_in(ada.browser(), password=WRONG).status_code == 422
        assert sign_in(ada.browser()).status_code == 429  # one that nobody knows
        assert browser.post("/confirm", {"password": PASSWORD}).status_code == 303
        assert browser.post("/logout", form="/settings").status_code == 303
        assert sign_in(browser).status_code == 303
        assert browser.post("/logout", form="/settings").status_code == 303
        # it is known for this person and this password only, and bounded too
        assert sign_in(browser, "bob").status_code == 422
        for _ in range(10):
            assert sign_in(browser, password=WRONG).status_code == 422
        assert sign_in(browser).status_code == 429


def test_a_known_browser_is_one_that_the_password_was_given_in(ada):
    browser = ada.browser()
    answer = sign_in(browser)
    (cookie,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith("fairway-known=")]
    assert cookie.split("; ")[1:] == ["Max-Age=31536000", "Path=/", "HttpOnly", "SameSite=Lax"]
    mark = cookie.split(";")[0].partition("=")[2]
    with ada.app.database.read() as session:
        kept = session.scalar(select(User.password_hash).where(User.name == "ada"))
    assert passwords.is_known(kept, mark)
    number, _, seal = mark.partition(".")
    other = passwords.hashed(PASSWORD)
    wrong = ("", ".", number, seal, f"x{mark}", f"{mark}x", f"{mark[:-1]}\u00ff", passwords.browser_mark(other))
    assert not any(passwords.is_known(kept, one) for one in wrong)
    assert not passwords.is_known(other, mark)  # the password was changed
    assert not passwords.is_known(None, mark)
    assert not passwords.is_known(None, passwords.browser_mark(passwords.NOBODYS_HASH))


def test_who_knows_the_password_is_not_counted(ada):
    for _ in range(12):
        assert sign_in(ada.browser()).status_code == 303


def test_no_limit_no_sign_in(ada):
    """A limiter that fails lets nobody in (SECURITY.md: fail closed)."""

    def broken(*_):
        raise RuntimeError

    browser = ada.browser()
    browser.page("/login")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ada.limits.passwords, "take", broken)
        assert sign_in(browser).status_code == 500
    assert browser.secret is None


def test_a_password_is_kept_in_the_newest_form(ada):
    from argon2 import PasswordHasher

    old = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    give_password(ada, "ada", old)
    assert sign_in(ada.browser()).status_code == 303
    with ada.app.database.read() as session:
        kept = session.scalar(select(User.password_hash).where(User.name == "ada"))
    assert kept != old
    assert not passwords.outdated(kept)
    assert sign_in(ada.browser()).status_code == 303


def test_a_password_that_changes_meanwhile_signs_nobody_in(ada, monkeypatch):
    real = passwords.matches

    def slow(kept, password):
        found = real(kept, password)
        give_password(ada, "ada", "another")
        return found

    monkeypatch.setattr(passwords, "matches", slow)
    assert sign_in(ada.browser()).status_code == 422


def test_no_password_and_no_secret_is_logged_or_kept(ada, capfd):
    capfd.readouterr()
    browser = ada.browser()
    sign_in(browser, password=WRONG)
    sign_in(browser, name=PASSWORD, password=WRONG)
    sign_in(browser)
    secret = browser.secret
    browser.page("/settings/sessions")
    browser.client.get("/nowhere", headers={"cookie": f"fairway={secret}"})
    told = "".join(capfd.readouterr())
    with ada.app.database.read() as session:
        told += str([(line.subject, line.details) for line in session.scalars(select(Audit))])
        told += str(session.execute(select(BrowserSession.digest, BrowserSession.agent)).all())
    for word in (PASSWORD, WRONG, secret, secret[6:]):
        assert word not in told


def test_another_sites_form_does_nothing(ada):
    browser = ada.browser()
    token = browser.page("/login").token()
    body = f"name=ada&password={PASSWORD.replace(' ', '+')}&csrf={token}"
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8000.evil.example"},
        {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "cross-site"},
        {},
    ):
        answer = browser.client.post("/login", content=body, headers={"content-type": FORM, **headers})
        assert (answer.status_code, "This form is too old" in answer.text) == (403, True), headers
    for wrong in ("", token[:-1], token.swapcase(), ada.browser().page("/login").token()):
        answer = browser.client.post(
            "/login", content=body.replace(token, wrong), headers={"content-type": FORM, **OWN}
        )
        assert answer.status_code == 403
    for headers in (OWN, {"origin": "http://127.0.0.1:8000"}):
        browser = ada.browser()
        body = body.replace(token, token := browser.page("/login").token())
        answer = browser.client.post("/login", content=body, headers={"content-type": FORM, **headers})
        assert answer.status_code == 303


def test_a_new_password_puts_out_who_has_a_copy_of_the_cookie(ada):
    """Whoever fears that somebody got hold of the session changes the password in that very session."""
    browser, thief = ada.browser(), ada.browser()
    sign_in(browser)
    stolen = browser.secret
    thief.take(stolen)
    assert thief.get("/settings").status_code == 200
    answer = browser.post("/settings/password", {"current": PASSWORD, "password": "staple battery horse correct"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/settings/password")
    assert browser.secret != stolen
    assert "Your password is changed" in browser.page("/settings/password").text
    assert thief.get("/settings").status_code == 303
