"""Every form of every page: from our own page or not at all. And where it leads: to ourselves or nowhere."""

import re
from urllib.parse import urlsplit

import pytest
from starlette.routing import Route

from fairway.web.deps import own_path
from fairway.web.pages import forms
from fairway.web.pages.forms import Form, PageRoute, StreamRoute, token_of
from tests.support.browser import FORM, OWN, Tags
from tests.test_routes import DECISIONS, router, routes

UNSAFE = sorted(
    (method, path) for method, path in DECISIONS if method != "GET" and not path.startswith(("/api/", "/health"))
)
PLACES = {"channel": "lab", "name": "demo", "subdir": "noarch", "filename": "demo-1.0-h0_0.conda", "user": "admin"}

FOREIGN = (
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "origin": "http://127.0.0.1:8000"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:8001"},
    {"origin": "http://127.0.0.1"},
    {"referer": "http://127.0.0.1:8000/settings"},
    {},
)
TYPES = (FORM, "text/plain", "multipart/form-data; boundary=x", "application/json")


def address(path):
    """A route's, about something; the numbers in it are of nothing."""
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: PLACES.get(match[1], "1"), path)


def test_there_are_forms():
    assert len(UNSAFE) >= 10


def test_every_page_that_takes_something_is_guarded(site):
    for route in routes(router(site).routes):
        if (
            isinstance(route, Route)
            and (route.methods or set()) - {"GET", "HEAD"}
            and not route.path.startswith("/api/")
        ):
            assert isinstance(route, PageRoute), route.path


@pytest.mark.parametrize("how", ["token in the body", "token in a header"])
def test_what_another_site_sends_changes_nothing(site, how):
    """Even if it had got hold of the token: every unsafe page, every shape of another site's request."""
    site.channel("lab")
    browser = site.browser("admin")
    token = token_of(browser.secret)
    for method, path in UNSAFE:
        for kind in TYPES:
            for headers in FOREIGN:
                sent = {"content-type": kind, **headers}
                if how == "token in a header":
                    sent["x-csrf-token"] = token
                body = f"csrf={token}&next=/"
                answer = browser.client.request(method, address(path), content=body, headers=sent)
                assert answer.status_code == 403, (method, path, headers)
                assert "This form is too old" in answer.text
                assert "set-cookie" not in answer.headers
    browser.page("/settings")  # nothing has signed anybody out


def test_what_our_own_page_sends_without_the_token_changes_nothing(site):
    site.channel("lab")
    browser = site.browser("admin")
    good = token_of(browser.secret)
    streamed = {route.path for route in routes(router(site).routes) if isinstance(route, StreamRoute)}
    sent = {"content-type": FORM, **OWN}
    for method, path in UNSAFE:
        for token in ("", "x", good[:-1], good.swapcase(), token_of(site.session()), browser.secret, None):
            body = b"" if token is None else f"csrf={token}"
            answer = browser.client.request(method, address(path), content=body, headers=sent)
            # whose handlers read the body themselves refuse what is none of theirs before they look for a token in it
            refused = {400, 403, 422} if path in streamed else {403}
            assert answer.status_code in refused, (method, path, token)
    browser.page("/settings")


def test_a_form_of_who_is_not_signed_in_is_tied_to_their_browser(site):
    """Signing somebody in with another's account is an attack as well."""
    for path in ("/login", "/signup"):
        one, other = site.browser(), site.browser()
        mine, theirs = one.page(path).token(), other.page(path).token()
        assert mine != theirs
        assert one.page(path).token() == mine  # other tabs of the same browser stay good
        sent = {"content-type": FORM, **OWN}
        assert one.client.post(path, content=f"csrf={theirs}", headers=sent).status_code == 403
        assert one.client.post(path, content=f"csrf={mine}", headers=sent).status_code == 422
        assert site.browser().client.post(path, content=f"csrf={mine}", headers=sent).status_code == 403


def test_the_token_says_nothing_of_the_secret():
    secret = "fwy-s-" + "a" * 38
    assert len(token_of(secret)) == 43
    assert token_of(secret) == token_of(secret)
    assert token_of(secret) != token_of("fwy-s-" + "b" * 38)
    assert secret[6:] not in token_of(secret)


def test_a_form_in_pieces_or_of_another_kind_is_refused(site):
    browser = site.browser("admin")
    token = token_of(browser.secret)
    own = {**OWN, "x-csrf-token": token}

    def post(content, kind=FORM, **headers):
        return browser.client.post("/settings", content=content, headers={"content-type": kind, **own, **headers})

    assert post("full_name=Ada&email=a@example.org").status_code == 303
    assert post("full_name=Ada&email=a@example.org", FORM + "; charset=UTF-8").status_code == 303
    for kind in ("text/plain", "application/json", "multipart/form-data; boundary=x", ""):
        assert post("full_name=Ada&email=a@example.org", kind).status_code == 400, kind
    for content in ("full_name=%FF", "full_name=%00", b"full_name=\xff", "&".join(["a=b"] * 1001)):
        assert post(content).status_code == 400, content
    assert post("full_name=" + "a" * forms.LARGEST).status_code == 413
    stranger = site.browser()
    token = stranger.page("/login").token()
    much = f"csrf={token}&password=" + "a" * forms.STRANGERS_LARGEST
    assert stranger.client.post("/login", content=much, headers={"content-type": FORM, **OWN}).status_code == 413


def test_a_refused_form_is_shown_again_with_what_was_filled_in(site):
    browser = site.browser("admin")
    answer = browser.post("/settings", {"full_name": "Ada", "email": "nobody"})
    assert answer.status_code == 422
    tags = Tags(answer.text)
    (email,) = [one for one in tags.named("input") if one.get("name") == "email"]
    assert (email["value"], email["aria-invalid"]) == ("nobody", "true")
    described = str(email["aria-describedby"]).split()
    assert [one["id"] for one in tags.named("p") if one.get("id") in described]
    assert [one["value"] for one in tags.named("input") if one.get("name") == "full_name"] == ["Ada"]
    assert "'nobody' is not an e-mail address." in tags.text


def test_what_was_filled_in_is_text_and_nothing_else(site):
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=y>{{7*7}}"
    browser = site.browser("admin")
    for path, fields in (
        ("/settings", {"full_name": hostile, "email": hostile}),
        ("/settings/keys/new", {"name": hostile, "others": hostile, "scope": hostile, "reach": "some"}),
    ):
        tags = Tags(browser.post(path, fields).text)
        assert not [one for one in tags.named("script") if not str(one.get("src", "")).startswith("/static/")]
        assert not [one for one in tags.named("img") if one.get("src") == "x"]
        assert not [name for _, attributes in tags.tags for name in attributes if name.startswith("on")]
    stranger = site.browser()
    answer = stranger.post("/login", {"name": hostile, "password": "x", "next": hostile})
    assert hostile not in answer.text
    assert [one["value"] for one in Tags(answer.text).named("input") if one.get("name") == "name"] == [hostile]


def test_a_note_says_only_what_we_say(site):
    browser = site.browser()
    browser.client.cookies.set("fairway-note", "<b>pay here</b>", domain="127.0.0.1")
    assert "pay here" not in browser.get("/").text
    browser.client.cookies.set("fairway-note", "saved", domain="127.0.0.1")
    answer = browser.get("/")
    assert "Saved." in answer.text
    assert "fairway-note=; Max-Age=0" in answer.headers["set-cookie"]


def test_forms_are_read_field_by_field():
    form = Form.parse(b"a=+x+&b=1&b=2&t=&n=12&m=-1&l=1%0D%0A2")
    assert (form.text("a"), form.value("a"), form.every("b"), form.ticked("t"), form.ticked("u")) == (
        "x",
        " x ",
        ["1", "2"],
        True,
        False,
    )
    assert (form.number("n"), form.number("m"), form.number("a"), form.lines("l")) == (12, None, None, "1\n2")
    form.refuse("a", "one")
    form.refuse("a", "two")
    assert (form.error("a"), form.error("b"), form.status) == ("one", None, 422)


OURS = (
    "/",
    "/settings",
    "/settings/keys/new?channel=lab",
    "/channels/lab/packages/a+b~c",
    "/search?q=a%20b&after=x%3D",
)
THEIRS = [
    "//evil.example",
    "//evil.example/",
    "///evil.example",
    "////evil.example",
    "/\\evil.example",
    "/\\/evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "/\\\\evil.example",
    "http://evil.example",
    "https://evil.example",
    "https:evil.example",
    "https:/evil.example",
    "http:///evil.example",
    "HTTPS://evil.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,x",
    "vbscript:x",
    "//evil.example\\@127.0.0.1",
    "//127.0.0.1:8000@evil.example",
    "@evil.example",
    "evil.example",
    "evil.example/",
    ".evil.example",
    "?next=//evil.example",
    "#//evil.example",
    "/..//evil.example",
    "/.//evil.example",
    "/a/..//evil.example",
    "/a//evil.example",
    "/%2f/evil.example",
    "/%2F%2Fevil.example",
    "/%5cevil.example",
    "/%5Cevil.example",
    "/a/%2e%2e/%2f/evil.example",
    "/%00",
    "/%0d%0aLocation:x",
    "/%09/evil.example",
    "/%0a/evil.example",
    "/a|b",
    "/a^b",
    "/a`b",
    "/a{b}",
    "/a<b>",
    '/a"b',
    "/./",
    "/../",
    "/a/.",
    "/a/..",
    "/t/fwy-u-x/lab",
    "/t/x",
    "//",
    "ftp://evil.example",
    "ws://evil.example",
    "file:///etc/passwd",
    "blob:x",
    "about:blank",
    "mailto:a@evil.example",
    "//[::1]/",
    "//1/",
    "/\\1",
    "https://127.0.0.1:8000.evil.example",
    "https://127.0.0.1:8000@evil.example",
    "http://127.0.0.1:8000/",
    "//127.0.0.1:8000/",
]
ODD = (
    "", " ", " /", "/ ", "/a b", "\t//evil.example", "/\t/evil.example", "/\n/evil.example", "/\r/evil.example",
    "/\x00", "\n/settings", "/\u2028", "/ä", "\uff0f\uff0fevil.example", "/\u3002evil", "/" + "a" * 2000, "\ufeff/", "/\x7f",
)  # fmt: skip


def test_only_our_own_paths_are_gone_on_to():
    for path in OURS:
        assert own_path(path) == path
    assert len(THEIRS) + len(ODD) >= 80
    assert {path: own_path(path) for path in (*THEIRS, *ODD) if own_path(path) != "/"} == {}


def test_wherever_next_is_said_nobody_is_sent_away(site):
    from tests.web.test_sign_in import PASSWORD, give_password

    give_password(site, "admin", forms_digest())
    for path in ("//evil.example", "/\\evil.example", "https://evil.example", "/%09/evil.example", "/settings"):
        wanted = "/settings" if path == "/settings" else "/"
        browser = site.browser()
        answer = browser.post("/login", {"name": "admin", "password": PASSWORD, "next": path})
        assert answer.headers["location"] == wanted
        assert browser.client.get("/login", params={"next": path}).headers["location"] == wanted
        assert browser.post("/confirm", {"password": PASSWORD, "next": path}).headers["location"] == wanted
        for page in ("/login", "/confirm"):
            shown = Tags(
                site.browser("admin" if page == "/confirm" else None).client.get(page, params={"next": path}).text
            )
            assert [one["value"] for one in shown.named("input") if one.get("name") == "next"] == [wanted]


def forms_digest():
    from fairway.registry import passwords
    from tests.web.test_sign_in import PASSWORD

    return passwords.hashed(PASSWORD)


def test_below_a_mount_everything_stays_below_it(site, tmp_path):
    from fairway.app import Fairway
    from fairway.settings import load
    from tests.support.site import Site
    from tests.web.test_sign_in import PASSWORD, give_password

    app = Fairway(
        load(
            {"data": tmp_path / "mounted", "base_url": "http://127.0.0.1:8000/conda", "reading_processes": 1},
            environ={},
        )
    )
    with Site(app) as mounted:
        give_password(mounted, "admin", forms_digest())
        browser = mounted.browser()
        browser.client.base_url = "http://127.0.0.1:8000"
        assert browser.get("/conda/settings").headers["location"] == "/conda/login?next=%2Fsettings"
        answer = browser.post("/conda/login", {"name": "admin", "password": PASSWORD, "next": "/settings"})
        assert answer.headers["location"] == "/conda/settings"
        assert "Path=/conda/" in answer.headers["set-cookie"]
        tags = browser.page("/conda/settings")
        links = [one["href"] for one in tags.named("a")] + [one["action"] for one in tags.named("form")]
        assert [link for link in links if str(link).startswith("/") and not str(link).startswith("/conda/")] == []
        assert urlsplit(str(browser.get("/conda/settings/").headers.get("location", ""))).netloc in {
            "",
            "127.0.0.1:8000",
        }
