"""Senders that take their time: how long they may, and what holds when they are done."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from fairway.app import Fairway
from fairway.db.models import Artifact, Token, User
from fairway.errors import Malformed
from fairway.web.app import create
from fairway.web.uploads import intake
from tests.support.builders import conda_package
from tests.support.site import Site
from tests.web.dialects import DIALECTS, Request, ask_slowly, refusal, request

PACKAGE = conda_package("demo")


@dataclass
class Lab:
    """A server with the public channel "open" and its owner's key."""

    app: Fairway
    key: str


@pytest.fixture
def lab(site: Site) -> Lab:
    site.user("owner")
    site.channel("open", "public", owner="owner")
    return Lab(site.app, site.key("owner"))


class Trickle(list[dict[str, Any]]):
    """The messages of a client that sends a byte, a little later another one, and so on for ever."""

    def __init__(self, asked: Request, between: Any) -> None:
        super().__init__([{}])  # there is always more
        self._between, self._asked, self.sent = between, asked, 0

    def pop(self, _: Any = None) -> dict[str, Any]:
        self._between()
        self.sent += 1
        more = self.sent < len(self._asked.body)
        return {"type": "http.request", "body": self._asked.body[self.sent - 1 : self.sent], "more_body": more}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_client_that_sends_a_byte_now_and_then_is_given_up(lab, dialect, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(intake, "time", SimpleNamespace(monotonic=lambda: now[0]))
    asked = request(dialect, "open", PACKAGE, lab.key)
    asked.headers["Content-Length"] = str(len(asked.body))

    def later() -> None:
        now[0] += 10

    pieces = Trickle(asked, later)
    answer = asyncio.run(ask_slowly(create(lab.app, background=False), asked, pieces))
    found = refusal(dialect, *answer)
    assert (found.status, found.code) == (400, "upload_timeout")
    assert "less than 16 KiB a second" in found.sentence


def test_who_keeps_pace_is_not_given_up():
    intake.keep_pace(59, 1)
    intake.keep_pace(61, 61 * 16384)
    intake.keep_pace(3 * 3600, 3 * 3600 * 16384)
    with pytest.raises(Malformed):
        intake.keep_pace(61, 61 * 16384 - 1)
    with pytest.raises(Malformed, match="4 hours"):
        intake.keep_pace(4 * 3600 + 1, 1 << 60)


CHANGES = {
    "revoked": lambda session: session.execute(update(Token).values(revoked_at=1)),
    "expired": lambda session: session.execute(update(Token).values(expires_at=1)),
    "suspended": lambda session: session.execute(update(User).values(suspended_at=1)),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_key_that_ends_while_the_body_arrives_publishes_nothing(lab, dialect, change):
    """Who may upload is asked before the body, and again in the transaction that publishes."""
    asked = request(dialect, "open", PACKAGE, lab.key)
    asked.headers["Content-Length"] = str(len(asked.body))

    class Changing(list[dict[str, Any]]):
        def pop(self, place: Any = None) -> dict[str, Any]:
            if len(self) == 1:
                with lab.app.database.write() as session:
                    CHANGES[change](session)
            return super().pop(0)

    pieces = Changing([
        {"type": "http.request", "body": asked.body[:100], "more_body": True},
        {"type": "http.request", "body": asked.body[100:], "more_body": False},
    ])  # fmt: skip
    answer = asyncio.run(ask_slowly(create(lab.app, background=False), asked, pieces))
    found = refusal(dialect, *answer)
    assert (found.status, found.code) == (401, "token_invalid")
    with lab.app.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Artifact)) == 0
