"""A server on the demo's data, and people who are signed in to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from playwright.sync_api import Page

from fairway.app import Fairway
from fairway.registry import accounts, sessions
from fairway.settings import load
from tests.support.server import Server


class Demo:
    """`passwords` are of those who can sign in with one; everybody else is signed in by `sign_in`."""

    def __init__(self, server: Server, passwords: dict[str, str]) -> None:
        self.server, self.passwords = server, passwords

    @classmethod
    def fill(cls, data: Path, *, small: bool = True, **env: str) -> Self:
        """Made, and not started yet."""
        server = Server(data, env={"FAIRWAY_DEVELOPMENT": "true", **env})
        said = server.cli("demo", *(["--small"] if small else [])).stdout
        return cls(server, dict(re.findall(r"Sign in as (\S+) +with the password (\S+)", said)))

    def secret(self, user: str) -> str:
        """What the cookie of a browser holds that somebody has just signed in with."""
        with Fairway(load({"data": self.server.data}, environ={})) as app:
            with app.database.read() as session:
                user_id = accounts.user_named(session, user).id
            with app.database.write() as session:
                return sessions.start(session, user_id, name=user, address="127.0.0.1", agent="test", now=app.now())

    def sign_in(self, page: Page, user: str) -> None:
        """Nobody counts as a wrong password, and no hash takes its time."""
        page.context.add_cookies([{"name": "fairway", "value": self.secret(user), "url": self.server.url}])
