"""Channels and publications without HTTP, for tests of the rules."""

from __future__ import annotations

from typing import Any

from fairway.app import Fairway
from fairway.blobs import keys
from fairway.conda.names import Filename
from fairway.registry import accounts, channels, index, publish, tokens
from fairway.registry.actor import CONSOLE, Actor, Role, Scope, Visibility
from fairway.registry.publish import Published
from tests.support.builders import conda_package
from tests.web.reading import unpacked

NOW = 1_790_000_000_000
DAY = 86_400_000


class World:
    """An open Fairway, the channel "lab", and somebody in each role."""

    def __init__(self, app: Fairway) -> None:
        self.app = app
        self.now = NOW
        with app.database.write() as session:
            for name in ("admin", "owner", "maintainer", "uploader", "viewer", "stranger"):
                accounts.create_user(
                    session, CONSOLE, name, email=f"{name}@example.org", password_hash=None, is_admin=name == "admin",
                    now=NOW,
                )  # fmt: skip
        self.channel("lab", members=True)

    def channel(self, name: str, visibility: str = "private", *, members: bool = False) -> int:
        with self.app.database.write() as session:
            view = channels.create_channel(
                session, CONSOLE, name, owner="owner", visibility=Visibility(visibility), now=self.now
            )
            for role in ("maintainer", "uploader", "viewer") if members else ():
                channels.set_member(session, CONSOLE, name, role, Role.of(role), now=self.now)
        return view.id

    def key(self, user: str = "owner", scope: str = "admin", **options: Any) -> str:
        with self.app.database.write() as session:
            return tokens.create_token(
                session, CONSOLE, user=user, name="test", scope=Scope.of(scope), now=self.now, **options
            )

    def actor(self, user: str = "owner", scope: str = "admin") -> Actor:
        key = self.key(user, scope)
        with self.app.database.read() as session:
            return tokens.recognise(session, key, now=self.now).actor

    def put(
        self,
        package: tuple[str, bytes] | None = None,
        *,
        actor: Actor = CONSOLE,
        channel: str = "lab",
        force: bool = False,
        same_is_fine: bool = False,
        **more: Any,
    ) -> Published:
        """Publish a package (demo 1.0 unless another is given), as an upload does."""
        filename, data = package or conda_package()
        with self.app.staging.open(1 << 30) as staged:
            staged.write(data)
            return publish.accept(
                self.app.intake,
                actor,
                staged,
                publish.Offer(channel, Filename.parse(filename), force=force, same_is_fine=same_is_fine, **more),
                now=self.now,
            )

    def set(self, channel: str = "lab", **change: Any) -> None:
        with self.app.database.write() as session:
            channels.update_channel(session, CONSOLE, channel, channels.Change(**change), now=self.now)

    def documents(self, subdir: str = "noarch", channel: str = "lab") -> dict[str, bytes]:
        """What is published of a subdir now, read as the server reads it."""
        with self.app.database.read() as session:
            gate = channels.show(session, CONSOLE, channel).id
        shelf = self.app.lookup.view().shelf(gate, subdir, rows=True)
        if shelf is None:
            return {}
        made = self.app.shard_indexes.make(shelf.subdir_id)
        return ({} if made is None else {index.SHARD_INDEX: made.body}) | {
            kind: self.app.blobs.get(keys.document(gate, subdir, kind, sha256))
            for kind, (sha256, _) in shelf.documents.items()
        }

    def shards(self, subdir: str = "noarch", channel: str = "lab") -> dict[str, bytes]:
        """The published shard index: each name's hash."""
        found: dict[str, bytes] = unpacked(self.documents(subdir, channel)[index.SHARD_INDEX])["shards"]
        return found

    def publish_index(self) -> None:
        self.app.publisher.catch_up()
