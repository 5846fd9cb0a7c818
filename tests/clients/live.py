"""A running server for the tests of one module, and quick ways to prepare what is not under test.

Users, keys and channels are made straight in its database, as `fairway user`, `token` and `channel` do, without waiting
for a Python to start each time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2 as httpx

from fairway.app import now_ms
from fairway.db.engine import Database
from fairway.registry import accounts, channels, tokens
from fairway.registry.actor import CONSOLE, Role, Scope, Visibility
from tests.support.server import Server

Package = tuple[str, bytes]


class Live:
    """`server` is the process; the user `admin` may do everything, `key` is an upload key of theirs."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = server.url
        self.database = Database(f"sqlite:///{server.data / 'fairway.db'}")
        self._numbers = count(1)
        self.user("admin", admin=True)
        self.key = self.new_key()

    def asked(self, under: str) -> list[dict[str, Any]]:
        """The log's lines of every request so far below a path. A request is logged just after it is answered, so one
        more is sent and waited for.
        """
        mark = uuid4().hex
        self.server.get("/health/live", **{"X-Request-Id": mark})
        deadline = time.monotonic() + 10
        lines: list[dict[str, Any]] = []
        while not any(line.get("request_id") == mark for line in lines):
            assert time.monotonic() < deadline
            lines = self.server.log_lines()
        return [line for line in lines if str(line.get("path", "")).startswith(f"{under}/")]

    def close(self) -> None:
        self.database.close()

    def user(self, name: str, *, admin: bool = False) -> None:
        with self.database.write() as session:
            email = f"{name}@example.org"
            accounts.create_user(session, CONSOLE, name, email=email, password_hash=None, is_admin=admin, now=now_ms())

    def new_key(self, user: str = "admin", scope: str = "upload", **options: Any) -> str:
        """A key; `lives_ms` and `channels` as in the registry."""
        with self.database.write() as session:
            return tokens.create_token(
                session, CONSOLE, user=user, name="test", scope=Scope.of(scope), now=now_ms(), **options
            )

    def channel(self, visibility: str = "private", *packages: Package, name: str | None = None) -> Channel:
        """A new channel with some packages in it."""
        made = Channel(self, name or f"lab{next(self._numbers)}")
        with self.database.write() as session:
            channels.create_channel(
                session, CONSOLE, made.name, owner="admin", visibility=Visibility(visibility), now=now_ms()
            )
        for package in packages:
            made.put(package)
        return made

    def change(self, channel: Channel, **settings: Any) -> None:
        """Settings as in the registry's `Change`."""
        with self.database.write() as session:
            channels.update_channel(session, CONSOLE, channel.name, channels.Change(**settings), now=now_ms())

    def member(self, channel: Channel, user: str, role: str) -> None:
        with self.database.write() as session:
            channels.set_member(session, CONSOLE, channel.name, user, Role.of(role), now=now_ms())


@dataclass(frozen=True)
class Channel:
    """A channel of the running server; `put` and `delete` act as its owner."""

    live: Live
    name: str

    @property
    def url(self) -> str:
        return f"{self.live.url}/{self.name}"

    def url_with(self, key: str) -> str:
        return f"{self.live.url}/t/{key}/{self.name}"

    def asked(self) -> list[tuple[str, str, int]]:
        """The requests so far: method, path below the channel, status."""
        lines = self.live.asked(f"/{self.name}")
        return [(line["method"], line["path"].removeprefix(f"/{self.name}/"), line["status"]) for line in lines]

    def paths(self) -> set[str]:
        return {path for _, path, _ in self.asked()}

    def put(self, package: Package, **params: str) -> None:
        filename, data = package
        answer = self.live.server.put(self.name, filename, data, self.live.key, **params)
        assert answer.status_code == 201, answer.text
        assert answer.json()["indexed"]

    def put_files(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self.put((path.name, path.read_bytes()))

    def delete(self, subdir: str, filename: str) -> None:
        url = f"{self.live.url}/api/v1/channels/{self.name}/artifacts/{subdir}/{filename}"
        answer = httpx.delete(url, headers={"Authorization": f"Bearer {self.live.key}"}, timeout=60)
        assert answer.status_code == 204, answer.text

    def yank(self, subdir: str, filename: str, reason: str | None) -> None:
        """Yank a file for a reason; with none undo it."""
        url = f"{self.live.url}/api/v1/channels/{self.name}/artifacts/{subdir}/{filename}/yank"
        headers = {"Authorization": f"Bearer {self.live.key}"}
        if reason is None:
            answer = httpx.delete(url, headers=headers, timeout=60)
        else:
            answer = httpx.put(url, headers=headers, json={"reason": reason}, timeout=60)
        assert answer.status_code == 204, answer.text

    def get(self, path: str, key: str | None = None, **headers: str) -> httpx.Response:
        """Read a file of the channel, as its owner unless another key is given."""
        return self.live.server.get(f"/{self.name}/{path}", key or self.live.key, **headers)
