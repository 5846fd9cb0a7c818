"""Every route, asked by everybody about every kind of channel: the whole table, in a file that people can read.

`FAIRWAY_TEST_GOLDEN=write ./dev test tests/web/test_matrix.py` writes it anew; what changed in it is what a review has to
look at. The rules behind it are in test_access.py.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import select, update

from fairway.db.models import BrowserSession, Channel, Shard, Subdir, User
from fairway.registry import channels, invitations, tokens, upstreams, withdraw
from fairway.registry.actor import CONSOLE, Role
from fairway.web.limits import Limit, Passwords
from fairway.web.pages.forms import token_of
from tests.conftest import ROUNDS
from tests.support.builders import conda_package
from tests.support.site import bearer
from tests.test_routes import DECISIONS
from tests.web.test_access import ROLES, World
from tests.web.test_sending import BOUNDARY, multipart

GOLDEN = Path(__file__).with_name("matrix.txt")
CALLERS = (
    "nobody", "bad key", "expired key", "revoked key", "suspended user", "stranger", *ROLES, "administrator",
    "owner, read key", "owner, upload key", "owner, key for another channel",
    "stranger, browser", "viewer, browser", "owner, browser", "administrator, browser",
)  # fmt: skip
BROWSER = ", browser"
FORM = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}
VISIBILITIES = ("public", "internal", "private", "missing")
FILES = (
    "/{channel}/noarch/repodata.json",
    "/{channel}/noarch/repodata.json.zst",
    "/{channel}/noarch/repodata_shards.msgpack.zst",
    "/{channel}/noarch/shards/{shard}.msgpack.zst",
    "/{channel}/noarch/run_exports.json",
    "/{channel}/noarch/{package}",
    "/{channel}/noarch/{package}.sigs",
    "/{channel}/channeldata.json",
    "/{channel}/notices.json",
    "/get/{channel}/noarch/repodata.json",
)
ROUTES = sorted([*DECISIONS, *(("GET", path) for path in FILES)], key=lambda route: (route[1], route[0]))
UPSTREAM = "https://1.1.1.1/conda"  # a number: nobody looks its name up, and nobody asks it
CHANGES = {"DELETE", "PATCH", "PUT", "POST"}
HEADER = """# What each route answers to each caller, by the visibility of the channel it is asked about.
# Written by tests/web/test_matrix.py, read by people: a changed line is a changed promise.
# Lists also say which channels they show: p public, i internal, s private ("secret").
#
"""


class Matrix(World):
    """A world in which each question is asked of a channel as it was at the beginning."""

    def __init__(self, site: Any) -> None:
        super().__init__(site)
        site.user("suspended")
        self.keys["suspended user"] = site.key("suspended", "admin")
        with site.app.database.write() as session:
            for name in ("public", "internal", "private"):
                channels.set_member(session, CONSOLE, f"the-{name}", "suspended", Role.OWNER, now=1)
            session.execute(update(User).where(User.name == "suspended").values(suspended_at=1))
        self.fresh_names = itertools.count(1)
        site.user("another")
        self.others_session, self.others_invitation, self.others_key = self.of_somebody_else()

    def of_somebody_else(self) -> tuple[int, int, int]:
        """A session, an invitation and a key of the user "another", who is none of the callers."""
        self.site.session("another")
        self.site.key("another")
        with self.site.app.database.write() as session:
            sent = invitations.invite(session, CONSOLE, "the-private", "another", Role.VIEWER, now=self.site.app.now())
            (key,) = tokens.list_tokens(session, "another")
            return session.scalars(select(BrowserSession.id)).one(), sent.invitation.id, key.id

    def copy_of(self, visibility: str) -> str:
        """A channel like `the-...`, for a question that may change it."""
        if visibility == "missing":
            return "the-missing"
        name = f"{visibility}-{next(self.fresh_names)}"
        self.site.channel(name, visibility)
        with self.site.app.database.write() as session:
            for role in ROLES:
                channels.set_member(session, CONSOLE, name, role, Role.of(role), now=1)
        return name

    def ask(self, method: str, path: str, visibility: str, caller: str) -> str:
        changes = "{channel" in path and (method in CHANGES or path.endswith("/upstream"))
        channel = self.copy_of(visibility) if changes else f"the-{visibility}"
        filename, data = conda_package("fresh", f"1.{next(self.numbers)}") if changes else conda_package("base")
        if visibility != "missing":
            self.prepare(method, path, channel, (filename, data))
        filled = (
            path.replace("{channel:path}", channel).replace("{channel}", channel).replace("{subdir}", "noarch")
            .replace("{filename}", filename).replace("{name}", "fresh" if changes else "base")
            .replace("{version}", filename.split("-")[1]).replace("{user}", "viewer").replace("*", "mark.svg")
            .replace("{package}", "base-1.0-h0_0.conda").replace("{shard}", self.shard(visibility))
            .replace("{session_id}", str(self.others_session)).replace("{token_id}", str(self.others_key))
            .replace("{which}", str(self.others_invitation)).replace("{code}", "fwy-i-none").replace("{job_id}", "1")
            .replace("{act}", "resume" if "/admin/" in path else "yank")
            .replace("{invitation_id}", str(self.asked(path, channel)))
        )  # fmt: skip
        body: dict[str, Any] = {}
        headers = self.credentials(caller)
        if method == "POST" and path.startswith("/channels/{"):
            body = self.filled_in(path, channel, (filename, data))
            headers |= FORM | body.pop("headers", {})
        elif method == "POST" and not path.startswith("/api/"):
            headers |= FORM
            # asked often, and mostly in vain
            self.site.limits.passwords, self.site.limits.accounts = Passwords(), Limit("accounts", 0, 1, 0)
        elif path.endswith("/search"):
            body["params"] = {"q": "base"}
        elif path.endswith("/yank"):
            body["json"] = {"reason": "broken"}
        elif path.endswith("/upstream/estimate"):
            body["json"] = {}
            self.site.limits.estimates = Limit("estimates", 0, 1, 0)
        elif path.endswith("/upstream/release"):
            body["json"] = {"name": "fresh"}
        elif path.endswith("/upstream/accept"):
            body["json"] = {"subdir": "noarch", "filename": filename}
        elif "/artifacts/" in path and method == "PUT":
            body["content"] = data
        elif "/upload/" in path:
            body["files"] = {"file": (filename, data, "application/octet-stream")}
        elif method in {"PATCH", "PUT", "POST"}:
            made = f"made-{next(self.fresh_names)}"
            body["json"] = {"name": made} if path == "/api/v1/channels" else {"role": "viewer", "description": "x"}
        if path.endswith("/upstream") and "json" in body:
            body["json"] = {"url": UPSTREAM}
        elif (
            path.startswith("/api/v1/channels")
            and method in {"PATCH", "PUT"}
            and "json" in body
            and "/yank" not in path
        ):
            body["json"] = {"role": "viewer"} if "members" in path else {"description": "x"}
        answer = self.site.client.request(method, filled, headers=headers, follow_redirects=False, **body)
        self.site.client.cookies.clear()
        shown = ""
        if DECISIONS.get((method, path)) == "list" and answer.status_code == 200:
            letters = (("p", "the-public"), ("i", "the-internal"), ("s", "the-private"))
            shown = "".join(letter for letter, name in letters if name in answer.text)
        return f"{answer.status_code}{shown}"

    def credentials(self, caller: str) -> dict[str, str]:
        """What this caller sends of itself. A browser is always one that signed in a moment ago, and has our page open."""
        if not caller.endswith(BROWSER):
            key = self.keys[caller]
            return bearer(key) if key else {}
        user = caller.removesuffix(BROWSER)
        secret = self.site.session("admin" if user == "administrator" else user)
        return {"cookie": f"fairway={secret}", "x-csrf-token": token_of(secret)}

    def filled_in(self, path: str, channel: str, package: tuple[str, bytes]) -> dict[str, Any]:
        """What the form of a channel's page holds: every field that one of them has. The token is in a header."""
        if path.endswith("/upload/file"):
            kind = {"content-type": "application/octet-stream"}
            return {"params": {"filename": package[0]}, "content": package[1], "headers": kind}
        if path.endswith(("/upload", "/logo")):
            part = ("file", package) if path.endswith("/upload") else ("remove", "1")
            kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
            return {"content": multipart([part]), "headers": kind}
        fields = {
            "description": "x", "visibility": "internal", "typed": channel, "act": "delete", "typed_delete": channel,
            "who": "another", "role": "viewer", "reason": "broken", "url": UPSTREAM, "typed_remove": channel,
        }  # fmt: skip
        return {"content": urlencode(fields)}

    def asked(self, path: str, channel: str) -> int:
        """The number of an invitation that this address could be about, made now; of none for the others."""
        if "{invitation_id}" not in path:
            return 0
        if not path.startswith("/admin/"):
            return self.invitation(channel)
        with self.site.app.database.write() as session:
            return invitations.invite_to_server(session, CONSOLE, None, now=self.site.app.now()).invitation.id

    def invitation(self, channel: str) -> int:
        """The number of one into that channel, made now; of none if there is no such channel."""
        if channel == "the-missing":
            return 1 << 40
        with self.site.app.database.write() as session:
            return invitations.invite(
                session, CONSOLE, channel, "another", Role.VIEWER, now=self.site.app.now()
            ).invitation.id

    def prepare(self, method: str, path: str, channel: str, package: tuple[str, bytes]) -> None:
        """Make what is asked about: a file there, or yanked, or deleted; a deleted channel."""
        yanks = path.endswith("/yank")
        acts = method == "POST" and path.startswith("/channels/") and path.endswith("/{act}")
        if yanks or acts or (method in {"DELETE", "POST"} and "{subdir}" in path):
            assert self.site.put(channel, package, self.admin).status_code == 201
        with self.site.app.database.write() as session:
            here = (session, CONSOLE, channel, "noarch", package[0])
            if "/upstream" in path and (method, path[-9:]) != ("PUT", "/upstream"):
                upstreams.attach(session, CONSOLE, channel, upstreams.Settings(UPSTREAM), now=self.site.app.now())
            elif yanks and method == "DELETE":
                withdraw.yank(*here, "broken", now=self.site.app.now())
            elif path.endswith("{filename}/restore"):
                withdraw.delete(*here, now=self.site.app.now())
            elif path.endswith("{channel}/restore"):
                channels.delete_channel(session, CONSOLE, channel, now=self.site.app.now())

    def shard(self, visibility: str) -> str:
        """The hash of the package's shard in that channel; of the private one for the channel that is not there."""
        name = f"the-{'private' if visibility == 'missing' else visibility}"
        query = select(Shard.sha256).join(Subdir, Subdir.id == Shard.subdir_id)
        query = query.join(Channel, Channel.id == Subdir.channel_id).where(Shard.name == "base", Channel.name == name)
        with self.site.app.database.read() as session:
            return session.scalars(query).one().hex()


def table(matrix: Matrix, routes: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield HEADER.rstrip("\n")
    for number, caller in enumerate(CALLERS, 1):
        yield f"# {number:2}  {caller}"
    yield "#"
    yield f"{'':76} " + " ".join(f"{number:>6}" for number in range(1, len(CALLERS) + 1))
    for method, path in routes:
        about = VISIBILITIES if "{channel" in path else ("-",)
        for visibility in about:
            cells = [
                matrix.ask(method, path, "public" if visibility == "-" else visibility, caller) for caller in CALLERS
            ]
            yield f"{method:6} {path:59} {visibility:9}" + " " + " ".join(f"{cell:>6}" for cell in cells)


def test_every_route_answers_every_caller_as_the_table_says(site):
    # who may do what is decided by the same code on every database: on the second one a part of the table will do
    routes = ROUTES if site.app.database.is_sqlite or ROUNDS > 1 else ROUTES[::3]
    made = "\n".join(line.rstrip() for line in table(Matrix(site), routes)).splitlines()
    if os.environ.get("FAIRWAY_TEST_GOLDEN") == "write" and routes is ROUTES:
        GOLDEN.write_text("\n".join(made) + "\n")
    asked = ("#", " ", *(f"{method:6} {path:59} " for method, path in routes))
    golden = [line for line in GOLDEN.read_text().splitlines() if line.startswith(asked)]
    different = [(old, new) for old, new in itertools.zip_longest(golden, made) if old != new]
    assert different == []


def test_no_route_is_missing_in_the_table():
    rows = {tuple(line.split()[:2]) for line in GOLDEN.read_text().splitlines() if line[:1].isalpha()}
    assert rows == set(ROUTES)


@pytest.mark.parametrize("caller", ["bad key", "expired key", "revoked key", "suspended user"])
def test_a_key_that_is_no_good_changes_nothing_anywhere(caller):
    column = CALLERS.index(caller)
    for line in GOLDEN.read_text().splitlines():
        if line[:1].isalpha() and line.split()[0] in CHANGES:
            assert line.split()[3 + column] == "401", line
