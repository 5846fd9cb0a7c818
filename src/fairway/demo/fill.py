"""Fills an empty Fairway with the demo. Everything goes the way it goes on a server: accounts, channels and uploads
through the registry, each at the time it is said to have happened.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice

from sqlalchemy import select

from fairway.app import Fairway
from fairway.conda.names import Filename
from fairway.db.models import Artifact, Channel, Subdir, Token
from fairway.demo import contents, pictures
from fairway.demo.archives import conda_file
from fairway.demo.calendar import BEFORE_DAYS, DAY_MS, YEAR_DAYS, Shelved, downloads, releases, versions
from fairway.demo.catalogue import FEW_RELEASES, KINDS, REMOVED, YANKED, Pack, shelf
from fairway.demo.people import BASES, CHANNELS, DELETED, INVITED, KEYS, PEOPLE, ROBOT, ApiKey, Home
from fairway.errors import SetupError
from fairway.registry import accounts, channels, invitations, logos, passwords, publish, statistics, tokens, withdraw
from fairway.registry.actor import CONSOLE, Actor, Role, Scope

SEED = 2026
HOUR_MS = 3_600_000


@dataclass(slots=True)
class Filled:
    """What is there now, and the passwords of those who can sign in."""

    passwords: dict[str, str] = field(default_factory=dict)
    channels: int = 0
    packages: int = 0
    files: int = 0
    downloads: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """A version of a package: when it came out (ms), and until when it was the newest."""

    home: Home
    pack: Pack
    version: str
    at: int
    until: int


class Filling:
    """One run. `small` is a few packages of each channel, for tests."""

    def __init__(self, app: Fairway, *, small: bool) -> None:
        self.app, self.small = app, small
        self.now = app.now()
        self.began = self.now - (YEAR_DAYS + BEFORE_DAYS) * DAY_MS
        self.rng = random.Random(SEED)
        self.done = Filled()
        self.actors: dict[str, Actor] = {}
        self.shelved: dict[tuple[str, str, str], Shelved] = {}

    def run(self) -> Filled:
        """Raises: SetupError: somebody has an account here, or there is a channel."""
        with self.app.database.read() as session:
            if accounts.count_users(session) or channels.list_channels(session, CONSOLE, limit=1):
                raise SetupError("A demo needs an empty Fairway: name a data folder that does not exist yet.")
        self.make_people()
        self.make_channels()
        plan = list(self.plan())
        for _, _, act in sorted(self.acts(plan)):
            act()
        self.count_downloads()
        self.app.publisher.catch_up()
        self.delete_channel()
        return self.done

    # --- who and where ---

    def make_people(self) -> None:
        for n, person in enumerate(PEOPLE):
            kept = None
            if person.password:
                password = self.done.passwords[person.name] = "-".join(secrets.token_hex(3) for _ in range(4))
                kept = passwords.hashed(password)
            with self.app.database.write() as session:
                view = accounts.create_user(
                    session, CONSOLE, person.name, email=f"{person.name}@saltmarsh.example", full_name=person.full_name, password_hash=kept,
                    is_admin=person.admin, now=self.began + n * DAY_MS,
                )  # fmt: skip
            self.actors[person.name] = Actor(view.id, view.name, is_admin=person.admin, scope=Scope.ADMIN)

    def make_channels(self) -> None:
        for n, home in enumerate(CHANNELS):
            at = self.began + (10 + 2 * n) * DAY_MS
            owner = self.owner(home)
            with self.app.database.write() as session:
                channels.create_channel(
                    session, owner, home.name, visibility=home.visibility, description=home.description, now=at
                )
            with self.app.database.write() as session:
                for user, role in home.members.items():
                    if user != owner.name:
                        channels.set_member(session, owner, home.name, user, role, now=at + DAY_MS)
                readme = home.readme.replace("{url}", self.app.settings.url)
                channels.update_channel(session, owner, home.name, channels.Change(readme=readme), now=at + DAY_MS)
                if home.quota is not None:
                    channels.set_quota(session, self.actors["mara"], home.name, home.quota, now=at)
                picture = pictures.of(home.name)
                if picture is not None:
                    channels.set_logo(session, owner, home.name, logos.encoded(picture), now=at + DAY_MS)
            self.done.channels += 1
        for home in CHANNELS:
            if home.name in BASES:
                with self.app.database.write() as session:
                    change = channels.Change(base=BASES[home.name])
                    channels.update_channel(session, self.owner(home), home.name, change, now=self.began + 30 * DAY_MS)

    def make_key(self, key: ApiKey) -> None:
        with self.app.database.write() as session:
            secret = tokens.create_token(
                session, CONSOLE, user=key.user, name=key.name, scope=key.scope, channels=key.channels,
                lives_ms=key.lives_days and key.lives_days * DAY_MS, now=self.now - key.made_days * DAY_MS,
            )  # fmt: skip
            made = session.scalar(select(Token.id).where(Token.digest == tokens.digest(secret)))
            if key.used_hours is not None and made is not None:
                tokens.mark_used(session, {made: self.now - round(key.used_hours * HOUR_MS)})

    def invite(self, asked: tuple[str, str, str, Role], at: int) -> None:
        by, channel, who, role = asked
        with self.app.database.write() as session:
            if channel:
                invitations.invite(session, self.actors[by], channel, who, role, now=at)
            else:
                invitations.invite_to_server(session, self.actors[by], who, now=at)

    def owner(self, home: Home) -> Actor:
        return self.actors[next(user for user, role in home.members.items() if role is Role.OWNER)]

    # --- what and when ---

    def plan(self) -> Iterator[Release]:
        for home in CHANNELS:
            for pack in shelf(home.name, small=self.small):
                rng = random.Random(f"{SEED}/{home.name}/{pack.name}")
                found = versions(pack.latest, min(pack.releases, FEW_RELEASES) if self.small else pack.releases)
                moments = releases(rng, len(found), now=self.now)
                for version, at, until in zip(found, moments, [*moments[1:], self.now + DAY_MS], strict=True):
                    yield Release(home, pack, version, at, until)
                self.done.packages += 1

    def acts(self, plan: list[Release]) -> Iterator[tuple[int, int, Callable[[], None]]]:
        """What happened, and when: `(ms, number, act)`."""
        number = count()
        for release in plan:
            yield release.at, next(number), lambda release=release: self.publish(release)  # type: ignore[misc]
        for key in KEYS:
            yield self.now - key.made_days * DAY_MS, next(number), lambda key=key: self.make_key(key)  # type: ignore[misc]
        for n, asked in enumerate(INVITED):
            at = self.now - (n + 1) * DAY_MS - 3 * HOUR_MS
            yield at, next(number), lambda asked=asked, at=at: self.invite(asked, at)  # type: ignore[misc]
        channel, package, reason = YANKED
        bad = [release for release in plan if (release.home.name, release.pack.name) == (channel, package)][-1]
        yield self.now - 2 * DAY_MS, next(number), lambda: self.yank(bad, reason)
        first = next(release for release in plan if (release.home.name, release.pack.name) == REMOVED)
        yield self.now - DAY_MS, next(number), lambda: self.remove(first)

    def publish(self, release: Release) -> None:
        """Every file of a version, a few minutes apart."""
        actor = self.uploader(release.home)
        for n, subdir in enumerate(KINDS[release.pack.kind]):
            at = release.at + n * 90_000
            build = contents.make(
                release.pack, release.version, subdir, channel=release.home.name, number=0, at=at // 1000 - 300
            )
            offer = publish.Offer(release.home.name, Filename.parse(build.filename), subdir=subdir)
            with self.app.staging.open(self.app.settings.max_file_size) as staged:
                staged.write(conda_file(build))
                published = publish.accept(self.app.intake, actor, staged, offer, now=at)
            self.done.files += 1
            fame = release.home.fame * release.pack.fame
            place = (release.home.name, subdir, published.filename)
            self.shelved[place] = Shelved(release.pack.name, subdir, at // DAY_MS, release.until // DAY_MS, fame)

    def uploader(self, home: Home) -> Actor:
        """A build machine where there is one, nearly always; else somebody who may."""
        may = [user for user, role in home.members.items() if role >= Role.UPLOADER]
        machine = ROBOT in may and self.rng.random() < 0.8
        return self.actors[ROBOT if machine else self.rng.choice(may)]

    def yank(self, release: Release, reason: str) -> None:
        actor = self.owner(release.home)
        with self.app.database.write() as session:
            withdraw.yank_version(
                session, actor, release.home.name, release.pack.name, release.version, reason, now=self.now - 2 * DAY_MS
            )

    def remove(self, release: Release) -> None:
        at = self.now - DAY_MS
        with self.app.database.write() as session:
            for channel, subdir, filename in self.shelved:
                if channel == release.home.name and filename.startswith(f"{release.pack.name}-{release.version}-"):
                    withdraw.delete(session, self.owner(release.home), channel, subdir, filename, now=at)

    def delete_channel(self) -> None:
        home = next(home for home in CHANNELS if home.name == DELETED)
        with self.app.database.write() as session:
            channels.delete_channel(session, self.owner(home), DELETED, now=self.now - DAY_MS // 2)

    # --- how much ---

    def count_downloads(self) -> None:
        with self.app.database.read() as session:
            query = (
                select(Artifact.id, Channel.name, Subdir.name, Artifact.filename)
                .join(Channel, Channel.id == Artifact.channel_id)
                .join(Subdir, Subdir.id == Artifact.subdir_id)
                .order_by(Artifact.package_id, Artifact.id)
            )
            files = [(row[0], self.shelved[row[1], row[2], row[3]]) for row in session.execute(query)]
        rows = iter(downloads(self.rng, files, now=self.now))
        while batch := dict(islice(rows, statistics.BATCH)):
            self.done.downloads += sum(batch.values())
            with self.app.database.write() as session:
                statistics.add_downloads(session, batch)
