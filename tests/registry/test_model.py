"""Whatever is done to files, in whatever order: what is counted and listed is what a plain model says."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from sqlalchemy import select

from fairway import errors
from fairway.conda import version
from fairway.db.models import Channel, Need, Package
from fairway.registry import channels, fsck, sweep, trash, withdraw
from fairway.registry.actor import CONSOLE
from fairway.registry.rows import bits_of
from tests.registry.world import DAY
from tests.support.builders import conda_package

KEEP = 7 * DAY
VERSIONS = ("1.0", "1.0.0", "0.9", "2.0")
SUBDIRS = ("noarch", "linux-64")
STEPS = 60


@dataclass
class File:
    """One name that was published once."""

    package: str
    version: str
    subdir: str
    size: int
    sha256: str
    needs: frozenset[str]
    summary: str
    at: tuple[int, int]
    yanked: bool = False
    deleted: int | None = None
    purged: bool = False

    @property
    def listed(self) -> bool:
        return not self.yanked and self.deleted is None


class Model:
    """The world and what it should say."""

    def __init__(self, world, dice):
        self.world, self.dice = world, dice
        self.files: dict[tuple[str, str], File] = {}
        self.steps = 0
        self.log: list[str] = []
        world.set(allow_overwrite=True)

    def act(self, do, *arguments, **options):
        with self.world.app.database.write() as session:
            return do(session, CONSOLE, "lab", *arguments, now=self.world.now, **options)

    def put(self):
        name, text = self.dice.choice(("demo", "other")), self.dice.choice(VERSIONS)
        subdir, needs = self.dice.choice(SUBDIRS), self.dice.sample(("a", "b", "c"), self.dice.randrange(3))
        summary = self.dice.choice(("one", "two", "three"))
        package = conda_package(name, text, subdir=subdir, depends=needs, about={"summary": summary})
        place = subdir, package[0]
        old = self.files.get(place)
        self.log.append(f"put {place} {needs} {summary}")
        try:
            done = self.world.put(package, force=True)
        except errors.ArtifactExists:
            assert old is not None
            return
        if done.created:
            self.files[place] = File(
                name, text, subdir, done.size, done.sha256, frozenset(needs), summary, (self.world.now, self.steps)
            )

    def some(self, *which):
        found = [place for place, file in self.files.items() if all(one(file) for one in which)]
        return self.dice.choice(sorted(found)) if found else None

    def delete(self):
        if place := self.some(lambda file: file.deleted is None):
            self.act(withdraw.delete, *place)
            self.files[place].deleted = self.world.now
            self.log.append(f"delete {place}")

    def undelete(self):
        if place := self.some(lambda file: file.deleted is not None, lambda file: not file.purged):
            file = self.files[place]
            self.log.append(f"undelete {place}")
            if file.deleted < self.world.now - KEEP:
                with pytest.raises(errors.NotFound):
                    self.act(withdraw.undelete, *place, keep_ms=KEEP)
            else:
                self.act(withdraw.undelete, *place, keep_ms=KEEP)
                file.deleted = None

    def yank(self):
        if place := self.some(lambda file: file.deleted is None):
            self.act(withdraw.yank, *place, "why")
            self.files[place].yanked = True
            self.log.append(f"yank {place}")

    def unyank(self):
        if place := self.some(lambda file: file.deleted is None, lambda file: file.yanked):
            self.act(withdraw.unyank, *place)
            self.files[place].yanked = False
            self.log.append(f"unyank {place}")

    def yank_version(self):
        if place := self.some(lambda file: file.deleted is None):
            wanted = self.files[place]
            self.act(withdraw.yank_version, wanted.package, wanted.version, "why")
            for file in self.files.values():
                if (file.package, file.version, file.deleted) == (wanted.package, wanted.version, None):
                    file.yanked = True
            self.log.append(f"yank version {wanted.package} {wanted.version}")

    def wait(self):
        self.world.now += self.dice.choice((1000, DAY, 4 * DAY))

    def sweep(self):
        sweep.sweep(self.world.app.database, self.world.app.blobs, now=self.world.now, keep_ms=KEEP)
        for file in self.files.values():
            if file.deleted is not None and file.deleted < self.world.now - KEEP:
                file.purged = True
        self.log.append("sweep")

    def away_and_back(self):
        self.act(channels.delete_channel)
        self.act(trash.restore_channel, keep_ms=KEEP)

    def step(self):
        self.steps += 1
        acts = (self.put,) * 4 + (
            self.delete, self.undelete, self.yank, self.unyank, self.yank_version, self.wait, self.sweep, self.away_and_back,
        )  # fmt: skip
        self.dice.choice(acts)()

    def check(self):
        live = [file for file in self.files.values() if file.deleted is None]
        with self.world.app.database.read() as session:
            channel = session.scalar(select(Channel))
            told = channel.packages, channel.artifacts, channel.size
            assert told == (len({file.package for file in live}), len(live), sum(file.size for file in live)), self.log
            packages = {package.name: package for package in session.scalars(select(Package))}
            needs = {name: set() for name in packages}
            names = {package.id: package.name for package in packages.values()}
            for need in session.scalars(select(Need)):
                needs[names[need.package_id]].add(need.name)
        for name, package in packages.items():
            mine = [file for file in live if file.package == name]
            listed = [file for file in mine if file.listed]
            assert package.live == len(mine), self.log
            assert package.places == bits_of(file.subdir for file in listed), self.log
            if not listed:
                assert (package.version, needs[name]) == ("", set()), self.log
                continue
            key = max(version.sort_key(file.version) for file in listed)
            newest = [file for file in listed if version.sort_key(file.version) == key]
            assert package.version in {file.version for file in newest}, self.log
            assert package.summary in {file.summary for file in newest}, self.log
            assert needs[name] == set().union(*(file.needs for file in newest)), self.log


@pytest.mark.parametrize("seed", range(4))
def test_counts_and_listings_are_those_of_a_plain_model(world, seed):
    model = Model(world, random.Random(seed))
    for _ in range(STEPS):
        model.step()
        model.check()
    world.publish_index()
    found = [one for one in fsck.check(world.app.database, world.app.blobs, deep=True) if one.harm == "error"]
    assert found == []
