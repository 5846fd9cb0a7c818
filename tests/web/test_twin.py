"""Two servers, one with a private channel and one without: nobody who may not see it can tell which is which.

And whatever that channel is called and holds is in no answer, log line or metric of anybody else (A1 to A5 of the threat
model); no key is anywhere in clear.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from sqlalchemy import text

from fairway import app as application
from fairway.app import Fairway
from fairway.registry import channels
from fairway.registry.actor import CONSOLE, Role
from fairway.settings import load
from fairway.web.limits import Passwords
from fairway.web.pages.forms import token_of
from tests.support.builders import conda_package
from tests.support.site import Site, bearer
from tests.test_routes import DECISIONS
from tests.web.reading import same
from tests.web.test_matrix import FILES

NOW = 1_790_000_000_000
CANARIES = ("canarychannel", "canarypackage", "canarysummary", "canaryuser", "canaryfile", "canarylicence")
HEADERS = (
    {},
    {"accept": "text/html", "sec-fetch-mode": "navigate"},
    {"if-none-match": "*"},
    {"if-none-match": '"' + "0" * 64 + '"'},
    {"if-modified-since": "Wed, 21 Oct 2035 07:28:00 GMT"},
    {"range": "bytes=0-9"},
    {"range": "bytes=9999999-"},
    {"x-api-key": "fwy-u-" + "0" * 38},
    {"authorization": "Basic " + base64.b64encode(b"canary:none").decode()},
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
QUERIES = (
    "?q=canary",
    "?q=canarypackage",
    "?q=canarypakage",
    "?q=ca",
    "?q=base",
    "?q=&channel=canarychannel",
    "?limit=1",
    "?cursor=1",
    "?after=canary",
)


def build(folder: Path, *, secret: bool, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(application, "now_ms", lambda: NOW)
    # without limits: they go by the clock, and one of the two may be asked a moment later
    app = Fairway(load({"data": folder, "reading_processes": 1, "searches_per_minute": 0}, environ={}))
    site = Site(app)
    site.__enter__()
    site.user("stranger")
    site.channel("open", "public")
    # accounts are numbered alike on both: what a number gives away is not what this is about
    site.user("canaryuser")
    key = site.key("admin", "admin")
    assert site.put("open", conda_package("base"), key).status_code == 201
    if secret:
        site.channel("canarychannel")
        with app.database.write() as session:
            channels.set_member(session, CONSOLE, "canarychannel", "canaryuser", Role.OWNER, now=NOW)
        package = conda_package(
            "canarypackage",
            about={"summary": "canarysummary"},
            index={"license": "canarylicence"},
            files={"share/canaryfile": b"x"},
        )
        assert site.put("canarychannel", package, key).status_code == 201
    site.settle()
    return site


@pytest.fixture
def twins(tmp_path, monkeypatch):
    sites = [build(tmp_path / name, secret=name == "with", monkeypatch=monkeypatch) for name in ("with", "without")]
    yield sites
    for site in sites:
        site.__exit__(None, None, None)
        site.app.close()


def probes():
    """Every route and file path about the private channel, about the public one, and about nothing in particular."""
    for _, path in [*DECISIONS, *(("GET", path) for path in FILES)]:
        for channel in ("canarychannel", "open") if "{channel" in path else ("",):
            if channel == "open" and path.endswith("shards/{shard}.msgpack.zst"):
                continue
            for name, filename in (("canarypackage", "canarypackage-1.0-h0_0.conda"), ("base", "base-1.0-h0_0.conda")):
                yield (
                    path.replace("{channel:path}", channel).replace("{channel}", channel).replace("{subdir}", "noarch")
                    .replace("{filename}", filename).replace("{package}", filename).replace("{name}", name)
                    .replace("{which}", "1").replace("{token_id}", "1").replace("{session_id}", "1").replace("{code}", "x")
                    .replace("{version}", "1.0").replace("{user}", "canaryuser").replace("*", "mark.svg").replace("{shard}", "a" * 64)
                )  # fmt: skip


class Callers:
    """Who asks a site, and with what. A browser's token of forms is a secret of its own on each site: it is left out of
    what is compared.
    """

    NAMES = ("nobody", "stranger", "stranger's browser")

    def __init__(self, site: Site) -> None:
        self.site = site
        self.key = bearer(site.key("stranger", "admin"))
        self.secret = site.session("stranger")

    def ask(self, who: str, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        self.site.client.cookies.clear()
        self.site.limits.passwords = Passwords()  # they go by the clock
        # packed pages have a random length, on purpose
        sent = {"Accept-Encoding": "identity"} | headers
        token = token_of("planted")
        if who != "stranger's browser":
            sent |= {"cookie": "fairway-form=planted"} | (self.key if who == "stranger" else {})
        else:
            if method == "POST":
                self.secret = self.site.session("stranger")  # the one before may have ended by what it sent
            token = token_of(self.secret)
            sent |= {"cookie": f"fairway={self.secret}", "x-csrf-token": token, "sec-fetch-site": "same-origin"}
        if method == "POST" and not path.startswith("/api/"):
            sent |= {"content-type": "application/x-www-form-urlencoded"}
        answer = self.site.client.request(method, path, headers=sent, follow_redirects=False)
        return answer.status_code, same(answer), answer.content.replace(token.encode(), b"TOKEN")


def test_nobody_can_tell_whether_a_private_channel_is_there(twins):
    there, gone = map(Callers, twins)
    asked = 0
    for path in dict.fromkeys(probes()):
        queries = ("", *QUERIES) if path in {"/", "/api/v1/search", "/api/v1/channels"} else ("",)
        for query in queries:
            for method in METHODS:
                for headers in HEADERS if method in {"GET", "HEAD"} else HEADERS[:1]:
                    for who in Callers.NAMES:
                        if who != "nobody" and {"x-api-key", "authorization"} & headers.keys():
                            continue
                        if path == "/api/v1/channels" and method == "POST":
                            continue  # names are taken: said in docs/explanation/how-private-channels-answer.md
                        one, other = (callers.ask(who, method, path + query, headers) for callers in (there, gone))
                        asked += 1
                        what = (who, method, path + query, headers)
                        if path == "/metrics":
                            assert one[0] == other[0], what
                            continue  # it counts requests, which were as many on both; its words are looked at below
                        assert one[:2] == other[:2], what
                        assert one[2] == other[2], what
    assert asked > 3_000


def test_the_twins_are_compared_as_somebody_who_is_signed_in(twins):
    """Otherwise the test above would compare what nobody gets, thrice."""
    for site in twins:
        callers = Callers(site)
        assert b"stranger" in callers.ask("stranger's browser", "GET", "/settings", {})[2]
        assert callers.ask("stranger's browser", "POST", "/logout", {})[0] == 303
        assert callers.ask("nobody", "POST", "/login", {})[0] == 403


def test_no_word_of_a_private_channel_is_in_what_others_are_told(twins, capfd):
    site, _ = twins
    capfd.readouterr()
    key = bearer(site.key("stranger", "admin"))
    for path in dict.fromkeys(probes()):
        for headers in ({}, key):
            for method in ("GET", "POST", "DELETE"):
                answer = site.client.request(method, path, headers=headers, follow_redirects=False)
                told = answer.text + json.dumps(dict(answer.headers))
                asked = path + str(dict(headers))
                for word in CANARIES:
                    if word not in asked:  # what was asked may be repeated
                        assert word not in told, (method, path, word)
    metrics = site.client.get("/metrics").text
    assert [word for word in CANARIES if word in metrics] == []
    out = "".join(capfd.readouterr())
    # paths that were asked for are logged; what is behind them is not
    assert [word for word in ("canarysummary", "canarylicence", "canaryfile") if word in out] == []


FORMS = (
    lambda key: ({"authorization": f"Bearer {key}"}, ""),
    lambda key: ({"authorization": f"token {key}"}, ""),
    lambda key: ({"authorization": "Basic " + base64.b64encode(f"x:{key}".encode()).decode()}, ""),
    lambda key: ({"x-api-key": key}, ""),
    lambda key: ({}, f"/t/{key}"),
    lambda key: ({"referer": "http://127.0.0.1:8000/"}, f"/t/{key}"),
)


def test_a_key_is_nowhere_in_clear(tmp_path, monkeypatch, capfd):
    """In whatever form it comes, whatever is asked: not in an answer, a log line, a metric, a row or a file."""
    site = build(tmp_path / "one", secret=True, monkeypatch=monkeypatch)
    try:
        good, bad = site.key("admin", "admin"), "fwy-u-" + "0" * 38
        asked = 0
        for key in (good, bad, good[:-1] + ("0" if good[-1] != "0" else "1")):
            for form in FORMS:
                headers, prefix = form(key)
                for path in [
                    *dict.fromkeys(probes()),
                    "/canarychannel/%2e%2e/x",
                    "/nowhere",
                    "/%00",
                    "/api/v1/nothing",
                ]:
                    for method in ("GET", "PUT", "POST", "PATCH") if path == "/nowhere" else ("GET", "POST"):
                        answer = site.client.request(
                            method, prefix + path, headers=headers, content=b"{", follow_redirects=False
                        )
                        asked += 1
                        assert key not in answer.text, (method, path)
                        assert key not in str(answer.headers), (method, path)
        assert asked > 500
        site.settle()
        assert good not in site.client.get("/metrics").text
        with site.app.database.read() as session:
            for (table,) in session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).all():
                rows = session.execute(text(f'SELECT * FROM "{table}"')).all()
                assert good not in str(rows), table
        for file in (tmp_path / "one").rglob("*"):
            if file.is_file():
                assert good.encode() not in file.read_bytes(), file
        assert good not in capfd.readouterr().err
    finally:
        site.__exit__(None, None, None)
        site.app.close()
