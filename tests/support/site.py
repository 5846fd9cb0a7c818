"""The whole application inside the test's process: the real routes, rows, blobs and index, without a socket."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from starlette.testclient import TestClient

from fairway.app import Fairway
from fairway.registry import accounts, channels, sessions, tokens
from fairway.registry.actor import CONSOLE, Scope, Visibility
from fairway.web.app import create
from fairway.web.limits import Limits
from tests.support.browser import Browser

BASE = "http://127.0.0.1:8000"


class Site:
    """`client` asks anonymously; `bearer(key)` makes the headers of somebody."""

    def __init__(self, app: Fairway, *, admin: bool = True) -> None:
        self.app, self._admin = app, admin
        self.client = TestClient(create(app, background=False), base_url=BASE, raise_server_exceptions=False)

    def __enter__(self) -> Self:
        self.client.__enter__()
        if self._admin:
            self.user("admin", admin=True)
        return self

    @classmethod
    def around(cls, app: Fairway) -> Self:
        """The application of a Fairway that has its accounts already."""
        return cls(app, admin=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.__exit__(kind, error, trace)

    def user(self, name: str, *, admin: bool = False) -> None:
        with self.app.database.write() as session:
            accounts.create_user(
                session,
                CONSOLE,
                name,
                email=f"{name}@example.org",
                password_hash=None,
                is_admin=admin,
                now=self.app.now(),
            )

    def key(self, user: str = "admin", scope: str = "upload", **options: Any) -> str:
        with self.app.database.write() as session:
            return tokens.create_token(
                session, CONSOLE, user=user, name="test", scope=Scope.of(scope), now=self.app.now(), **options
            )

    def session(self, user: str = "admin") -> str:
        """The secret of a session that was started without a password."""
        with self.app.database.write() as session:
            found = accounts.user_named(session, user)
            return sessions.start(session, found.id, name=user, address="192.0.2.1", agent="test", now=self.app.now())

    @property
    def limits(self) -> Limits:
        """Those of this application."""
        found: Limits = self.client.app.app.router.state.limits  # type: ignore[attr-defined]
        return found

    def browser(self, user: str | None = None) -> Browser:
        """A browser of its own; with `user`, signed in."""
        return Browser(self.client.app, self.app.settings.url, None if user is None else self.session(user))

    def channel(self, name: str, visibility: str = "private", *, owner: str = "admin") -> None:
        with self.app.database.write() as session:
            channels.create_channel(
                session, CONSOLE, name, owner=owner, visibility=Visibility(visibility), now=self.app.now()
            )

    def put(
        self, channel: str, package: tuple[str, bytes], key: str, *, subdir: str | None = None, **params: Any
    ) -> Any:
        """Upload with Fairway's own PUT."""
        filename, data = package
        place = filename if subdir is None else f"{subdir}/{filename}"
        return self.client.put(
            f"/api/v1/channels/{channel}/artifacts/{place}", content=data, params=params, headers=bearer(key)
        )

    def get(self, path: str, key: str | None = None, **headers: str) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get(path, headers=sent | (bearer(key) if key else {}), follow_redirects=False)

    def settle(self) -> None:
        """Do what the background would: bring every index up to date, write every count."""
        self.app.publisher.catch_up()
        self.app.counts.flush(self.app.database)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
