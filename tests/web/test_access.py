"""Who gets which answer: one table over visibilities, callers and acts, and what it must not give away."""

import base64
import itertools
import secrets
import time

import pytest
from sqlalchemy import event, select

from fairway.db.models import Channel
from fairway.registry import channels, tokens
from fairway.registry.actor import CONSOLE, Role
from tests.support.builders import conda_package
from tests.support.site import Site, bearer
from tests.web.reading import same

ACTS = ("file", "api", "put", "prefix", "delete", "reindex", "manage", "members")
DONE = {
    "file": 200,
    "api": 200,
    "put": 201,
    "prefix": 201,
    "delete": 204,
    "reindex": 202,
    "manage": 200,
    "members": 200,
}
EVERYTHING = set(ACTS)
READS = {"file", "api"}
ROLES = ("viewer", "uploader", "maintainer", "owner")
BAD_KEY = "fwy-u-" + "0" * 38

# What each caller may do in a channel that it may read; everything else there is 403.
MAY = {
    "stranger": READS,
    "viewer": READS,
    "uploader": READS | {"put", "prefix"},
    "maintainer": EVERYTHING - {"manage"},
    "owner": EVERYTHING,
    "administrator": EVERYTHING,
    "owner, read key": READS | {"members"},
    "owner, upload key": EVERYTHING - {"manage"},
    "owner, key for this channel": EVERYTHING,
    "owner, key for another channel": READS,
}
# Who may read nothing of it, by visibility: for them it is not there.
HIDDEN = {
    "public": set(),
    "internal": {"owner, key for another channel"},
    "private": {"owner, key for another channel", "stranger"},
    "missing": set(MAY),
}
UNKNOWN = ("nobody", "bad key", "expired key", "revoked key")


def wanted(visibility: str, caller: str) -> dict[str, int]:
    if caller in UNKNOWN:
        passes = set()
        if visibility == "public":
            passes = READS if caller == "nobody" else {"file"}
        return {act: DONE[act] if act in passes else 401 for act in ACTS}
    if caller in HIDDEN[visibility]:
        return dict.fromkeys(ACTS, 404)
    return {act: DONE[act] if act in MAY[caller] else 403 for act in ACTS}


class World:
    """Channels of each visibility called as it is, somebody in every role, and a key of every kind."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.numbers = itertools.count(1)
        for name in ("public", "internal", "private"):
            site.channel(f"the-{name}", name)
        site.channel("another")
        for user in (*ROLES, "stranger"):
            site.user(user)
        with site.app.database.write() as session:
            for name in ("public", "internal", "private"):
                for role in ROLES:
                    channels.set_member(session, CONSOLE, f"the-{name}", role, Role.of(role), now=1)
            channels.set_member(session, CONSOLE, "another", "owner", Role.OWNER, now=1)
        self.admin = site.key(scope="admin")
        self.keys: dict[str, str | None] = {"nobody": None, "bad key": BAD_KEY, "administrator": self.admin}
        for user in ("stranger", *ROLES):
            self.keys[user] = site.key(user, "admin")
        for scope in ("read", "upload"):
            self.keys[f"owner, {scope} key"] = site.key("owner", scope)
        self.keys["owner, key for another channel"] = site.key("owner", "admin", channels=["another"])
        self.keys["expired key"] = site.key("owner", "admin", lives_ms=1)
        self.keys["revoked key"] = self.revoked()
        for name in ("public", "internal", "private"):
            assert site.put(f"the-{name}", conda_package("base"), self.admin).status_code == 201
        site.settle()

    def revoked(self) -> str:
        key = self.site.key("owner", "admin")
        with self.site.app.database.write() as session:
            newest = max(token.id for token in tokens.list_tokens(session, "owner"))
            tokens.revoke_token(session, CONSOLE, newest, now=1)
        return key

    def key(self, caller: str, channel: str) -> str | None:
        if caller == "owner, key for this channel":
            bound = [] if channel == "the-missing" else [channel]
            return self.site.key("owner", "admin", channels=bound or ["another"])
        return self.keys[caller]

    def fresh(self) -> tuple[str, bytes]:
        return conda_package("fresh", f"1.{next(self.numbers)}")

    def act(self, act: str, channel: str, key: str | None) -> int:
        headers = bearer(key) if key else {}
        client, api = self.site.client, f"/api/v1/channels/{channel}"
        if act in {"put", "prefix"}:
            filename, data = self.fresh()
            if act == "put":
                return client.put(f"{api}/artifacts/{filename}", content=data, headers=headers).status_code
            form = {"file": (filename, data, "application/octet-stream")}
            return client.post(f"/api/v1/upload/{channel}", files=form, headers=headers).status_code
        if act == "delete":
            filename, data = self.fresh()
            self.site.put(channel, (filename, data), self.admin)
            return client.delete(f"{api}/artifacts/noarch/{filename}", headers=headers).status_code
        method, path, body = {
            "file": ("GET", f"/{channel}/noarch/repodata.json", None),
            "api": ("GET", f"{api}/packages", None),
            "reindex": ("POST", f"/api/v1/reindex/{channel}", None),
            "manage": ("PATCH", api, {"description": f"changed {next(self.numbers)} times"}),
            "members": ("GET", f"{api}/members", None),
        }[act]
        return client.request(method, path, json=body, headers=headers).status_code


@pytest.fixture
def world(site: Site) -> World:
    return World(site)


@pytest.mark.parametrize("visibility", ["public", "internal", "private", "missing"])
def test_each_caller_gets_the_answer_of_the_table(world, visibility):
    channel = f"the-{visibility}"
    callers = (*UNKNOWN, *MAY)
    found = {caller: {act: world.act(act, channel, world.key(caller, channel)) for act in ACTS} for caller in callers}
    assert found == {caller: wanted(visibility, caller) for caller in callers}


# Every way to speak of a channel. What each answers to somebody who may not see it must not depend on its being there.
QUESTIONS = (
    ("GET", "/{}/noarch/repodata.json"),
    ("HEAD", "/{}/noarch/repodata.json"),
    ("GET", "/{}/noarch/repodata_shards.msgpack.zst"),
    ("GET", "/{}/linux-64/repodata.json.zst"),
    ("GET", "/{}/nowhere/repodata.json"),
    ("GET", "/{}/noarch/base-1.0-h0_0.conda"),
    ("GET", "/{}/noarch/none-1.0-h0_0.conda"),
    ("GET", "/{}/noarch/base-1.0-h0_0.conda.sigs"),
    ("GET", "/{}/channeldata.json"),
    ("GET", "/{}/notices.json"),
    ("GET", "/{}"),
    ("GET", "/get/{}/noarch/repodata.json"),
    ("GET", "/channels/{}"),
    ("GET", "/api/v1/channels/{}"),
    ("GET", "/api/v1/channels/{}/packages"),
    ("GET", "/api/v1/channels/{}/packages/base"),
    ("GET", "/api/v1/channels/{}/artifacts/noarch/base-1.0-h0_0.conda"),
    ("GET", "/api/v1/channels/{}/members"),
    ("GET", "/api/v1/search?q=base&channel={}"),
    ("PATCH", "/api/v1/channels/{}"),
    ("DELETE", "/api/v1/channels/{}"),
    ("PUT", "/api/v1/channels/{}/members/owner"),
    ("DELETE", "/api/v1/channels/{}/members/owner"),
    ("PUT", "/api/v1/channels/{}/artifacts/base-1.0-h0_0.conda"),
    ("PUT", "/api/v1/channels/{}/artifacts/noarch/base-1.0-h0_0.conda"),
    ("PUT", "/api/v1/channels/{}/artifacts/no-package"),
    ("DELETE", "/api/v1/channels/{}/artifacts/noarch/base-1.0-h0_0.conda"),
    ("DELETE", "/api/v1/channels/{}/artifacts/noarch/none-1.0-h0_0.conda"),
    ("POST", "/api/v1/upload/{}"),
    ("DELETE", "/api/v1/delete/{}/noarch/base-1.0-h0_0.conda"),
    ("POST", "/api/v1/reindex/{}"),
    ("POST", "/api/v1/reindex/{}/noarch"),
)
BODIES = {"PATCH": b'{"visibility":"public"}', "PUT": b'{"role":"owner"}'}


def answers(site: Site, channel: str, headers: dict[str, str]) -> dict[tuple[str, str], object]:
    found = {}
    for method, template in QUESTIONS:
        answer = site.client.request(
            method,
            template.format(channel),
            content=BODIES.get(method, b""),
            headers={"content-type": "application/json", **headers},
            follow_redirects=False,
        )
        # a page says where to come back to after signing in; the names are of one length
        content = answer.content.replace(channel.encode(), b"CHANNEL")
        found[method, template] = (answer.status_code, content, same(answer))
    return found


@pytest.mark.parametrize("caller", ["nobody", "browser", "bad key", "stranger", "owner, key for another channel"])
def test_a_private_a_deleted_and_a_missing_channel_answer_with_the_same_bytes(world, caller):
    world.site.channel("the-deleted", "public")
    with world.site.app.database.write() as session:
        channels.delete_channel(session, CONSOLE, "the-deleted", now=1)
    key = world.keys.get(caller)
    headers = bearer(key) if key else {}
    if caller == "browser":
        # packed pages have a random length, on purpose
        headers = {"accept": "text/html", "sec-fetch-mode": "navigate", "accept-encoding": "identity"}
    missing = answers(world.site, "the-missing", headers)
    for channel in ("the-private", "the-deleted"):
        there = answers(world.site, channel, headers)
        for question, answer in missing.items():
            if answer[0] == 303:  # its address names what was asked for, whatever it is
                assert there[question][0] == 303
                continue
            assert there[question] == answer, question
    known = caller not in {"nobody", "browser", "bad key"}
    statuses = {status for status, _, _ in missing.values()}
    assert statuses - {200, 303} == ({404} if known else {401})
    if not known:
        challenge = 'Bearer realm="http://127.0.0.1:8000"'
        refused = [headers for status, _, headers in missing.values() if status == 401]
        assert {headers.get("www-authenticate") for headers in refused} == {challenge}
        assert {headers["cache-control"] for headers in refused} == {"no-store"}


def statements(site: Site, channel: str, headers: dict[str, str]) -> dict[tuple[str, str], list[str]]:
    """What each question asks of the database."""
    found: dict[tuple[str, str], list[str]] = {}
    asked: list[str] = []

    def seen(_: object, __: object, statement: str, *___: object) -> None:
        asked.append(statement)

    engines = {site.app.database.reader, site.app.database.writer}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", seen)
    for question in QUESTIONS:
        method, template = question
        site.app.counts.flush(site.app.database)
        site.user(f"user{secrets.token_hex(4)}")  # so that nothing is remembered
        asked.clear()
        site.client.request(method, template.format(channel), headers=headers, follow_redirects=False)
        found[question] = list(asked)
    for engine in engines:
        event.remove(engine, "before_cursor_execute", seen)
    return found


@pytest.mark.parametrize("caller", ["nobody", "bad key", "stranger"])
def test_a_hidden_channel_costs_the_database_as_much_as_none(world, caller):
    """Time tells too, and what takes it is what the database is asked for."""
    key = world.keys[caller]
    headers = bearer(key) if key else {}
    hidden, missing = (statements(world.site, channel, headers) for channel in ("the-private", "the-missing"))
    for question, asked in missing.items():
        assert hidden[question] == asked, question
        if "search" not in question[1]:
            # nor is an object made of the channel's row
            assert not [one for one in hidden[question] if "description" in one], question


@pytest.mark.parametrize("caller", ["nobody", "bad key", "stranger", "viewer", "owner, read key"])
def test_who_may_not_write_waits_for_no_writer(world, caller):
    """Whoever writes, and however long it takes: those who may not are told so, and keep nobody waiting either."""
    key = world.keys[caller]
    headers = {"content-type": "application/json"} | (bearer(key) if key else {})
    with world.site.app.database.write() as session:
        session.scalars(select(Channel).with_for_update()).all()
        for method, template in QUESTIONS:
            for channel in (
                ("the-private", "the-public", "the-missing") if method in BODIES or method in {"DELETE", "POST"} else ()
            ):
                body = BODIES.get(method, b"")
                answer = world.site.client.request(method, template.format(channel), content=body, headers=headers)
                assert answer.status_code in {401, 403, 404}, (method, template, channel)


def test_a_refused_upload_leaves_nothing_and_says_why_in_one_sentence(world):
    filename, data = conda_package("fresh")
    for key, status, begin in (
        (None, 401, "This channel does not exist or needs a sign-in"),
        (BAD_KEY, 401, "The API key is not valid"),
        (world.keys["owner, read key"], 403, "This API key may only read; to upload to the-private make one"),
        (world.keys["viewer"], 403, "You may not upload to the-private: that needs the role 'uploader'"),
    ):
        headers = {"x-file-name": filename, "content-type": "application/octet-stream", **(bearer(key) if key else {})}
        answer = world.site.client.post("/api/v1/upload/the-private", content=data, headers=headers)
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.startswith(begin), answer.text
        assert answer.text.count("\n") == 1
    assert world.site.get(f"/the-private/noarch/{filename}", world.admin).status_code == 404


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


FORMS = {
    "bearer": lambda key: {"authorization": f"Bearer {key}"},
    "bearer, lower case": lambda key: {"authorization": f"bearer {key}"},
    "token": lambda key: {"authorization": f"token {key}"},
    "basic, netrc": lambda key: basic("somebody", key),
    "basic, token": lambda key: basic("token", key),
    "basic, __token__": lambda key: basic("__token__", key),
    "basic, key as user": lambda key: basic(key, ""),
    "x-api-key": lambda key: {"x-api-key": key},
}


def test_a_key_is_taken_in_every_form_clients_send(site):
    site.channel("lab")
    key = site.key()
    for number, (form, headers_of) in enumerate(FORMS.items()):
        headers = headers_of(key)
        filename, data = conda_package("demo", f"1.{number}")
        put = site.client.put(f"/api/v1/channels/lab/artifacts/{filename}", content=data, headers=headers)
        assert put.status_code == 201, form
        assert site.client.get(f"/lab/noarch/{filename}", headers=headers).content == data, form
        assert site.client.get("/api/v1/channels/lab", headers=headers).status_code == 200, form
    assert site.client.get(f"/t/{key}/lab/noarch/repodata.json").status_code == 200
    assert site.client.get(f"/t/{key}/api/v1/channels/lab").status_code == 200


def test_what_claims_to_be_a_credential_and_is_none_is_refused_as_invalid(site):
    site.channel("lab")
    for headers in (
        {"authorization": "Basic not-base64"},
        {"authorization": "Digest username=x"},
        {"authorization": f"Bearer {site.key()}x"},
        {"authorization": f"Bearer {site.key().swapcase()}"},
        {"x-api-key": "none"},
        basic("admin", "password"),
    ):
        answer = site.client.get("/lab/noarch/repodata.json", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid"), headers
    for headers in ({"authorization": "Bearer"}, {"authorization": ""}, {"x-api-key": ""}, basic("", "")):
        answer = site.client.get("/lab/noarch/repodata.json", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "auth_required"), headers


def test_a_key_in_a_header_beats_one_in_the_path(site):
    site.channel("lab")
    site.user("stranger")
    mine, strangers = site.key(), site.key("stranger")
    assert site.get(f"/t/{strangers}/lab/noarch/repodata.json", mine).status_code == 200
    assert site.get(f"/t/{mine}/lab/noarch/repodata.json", strangers).status_code == 404


def test_a_role_that_is_taken_away_and_a_channel_made_private_close_at_once(world):
    reader, admin = world.keys["viewer"], world.admin
    assert world.site.get("/the-private/noarch/repodata.json", reader).status_code == 200
    gone = world.site.client.delete("/api/v1/channels/the-private/members/viewer", headers=bearer(admin))
    assert gone.status_code == 204
    assert world.site.get("/the-private/noarch/repodata.json", reader).status_code == 404
    assert world.site.get("/the-public/noarch/repodata.json").status_code == 200
    world.site.client.patch("/api/v1/channels/the-public", json={"visibility": "private"}, headers=bearer(admin))
    assert world.site.get("/the-public/noarch/repodata.json").status_code == 401


def test_a_key_expires_while_the_server_remembers_it(site):
    site.channel("lab")
    key = site.key(lives_ms=400)
    assert site.get("/lab/noarch/repodata.json", key).status_code == 200
    time.sleep(0.5)
    assert site.get("/lab/noarch/repodata.json", key).json()["code"] == "token_invalid"
