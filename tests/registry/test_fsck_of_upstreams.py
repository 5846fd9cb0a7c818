"""fsck of channels that have upstreams: nothing is found whatever is done, each damage is found, and mended where it can be."""

from __future__ import annotations

import hashlib
import random

import pytest

from fairway.registry import fsck, sweep, upstreams, withdraw
from fairway.registry.actor import CONSOLE
from fairway.registry.upstreams import Settings
from tests.registry import test_refresh as reading
from tests.registry.test_refresh import attach, flat, refresh, upstreams_of
from tests.support.builders import conda_package
from tests.support.site import bearer

site, upstream = reading.site, reading.upstream

DAY = 86_400_000
PLACES = ("noarch", "linux-64")
SETTINGS = {"proxy": {}, "mirror": {"mode": "mirror"}, "merge": {"merge": True}}


def found(site, *, deep=True):
    """What there is to say, but for what only takes room."""
    site.settle()
    findings = fsck.check(site.app.database, site.app.blobs, deep=deep)
    return [(one.harm, one.where, one.what) for one in findings if one.where != "storage"]


def fetch(site, filename, subdir="noarch"):
    answer = site.client.get(f"/lab/{subdir}/{filename}")
    assert answer.status_code == 200, answer.text
    return answer.content


# --- nothing is found where all is well -----------------------------------------------------------------------------


class Walk:
    """A channel that has an upstream, and what may happen to both."""

    def __init__(self, site, upstream, settings, seed):
        self.site, self.upstream, self.settings = site, upstream, settings
        self.chance = random.Random(seed)
        self.view = attach(site, upstream, **settings)
        self.names = [f"p{number}" for number in range(5)]
        self.mine: dict[tuple[str, str], str] = {}
        self.acts = [self.add, self.add, self.add, self.drop, self.read, self.read, self.read, self.bring, self.bring]
        self.acts += [self.withdraw, self.fetch, self.turn, self.leave]

    def place(self):
        return self.chance.choice(PLACES)

    def add(self):
        """Or change: a file may come with other dependencies, another licence and other bytes."""
        name, version = self.chance.choice(self.names), f"{self.chance.randint(1, 3)}.0"
        depends = self.chance.sample(self.names, self.chance.randint(0, 3))
        data = self.chance.choice((None, None, b"other"))
        self.upstream.add(name, version, "h0_0", subdir=self.place(), depends=depends, data=data)

    def drop(self):
        subdir = self.place()
        for filename in sorted(self.upstream.records.get(subdir, {}))[: self.chance.randint(0, 3)]:
            self.upstream.remove(filename, subdir)

    def read(self):
        self.upstream.publish()
        assert refresh(self.site, self.view).errors == {}

    def bring(self):
        """A file of ours, perhaps called as one of the upstream's."""
        name, version, subdir = self.chance.choice(self.names), f"{self.chance.randint(1, 4)}.0", self.place()
        depends = self.chance.sample(self.names, self.chance.randint(0, 2))
        filename, data = conda_package(name, version, "h0_0", subdir=subdir, depends=depends)
        if (subdir, filename) not in self.mine:
            path = f"/api/v1/channels/lab/artifacts/{subdir}/{filename}"
            assert self.site.client.put(path, content=data, headers=bearer(self.site.key())).status_code == 201
            self.mine[subdir, filename] = "there"

    def withdraw(self):
        now, lab = self.site.app.now(), (CONSOLE, "lab")
        for (subdir, filename), before in list(self.mine.items()):
            state = before
            with self.site.app.database.write() as session:
                if before == "there" and self.chance.random() < 0.3:
                    withdraw.yank(session, *lab, subdir, filename, "broken", now=now)
                    state = "yanked"
                elif before == "yanked" and self.chance.random() < 0.5:
                    withdraw.unyank(session, *lab, subdir, filename, now=now)
                    state = "there"
                elif before == "there" and self.chance.random() < 0.5:
                    withdraw.delete(session, *lab, subdir, filename, now=now)
                    state = "deleted"
                elif before == "deleted" and self.chance.random() < 0.5:
                    withdraw.undelete(session, *lab, subdir, filename, now=now, keep_ms=DAY)
                    state = "there"
            self.mine[subdir, filename] = state

    def fetch(self):
        """Whatever is in the index can be had, and has the hash that the index says."""
        self.upstream.publish()
        refresh(self.site, self.view)
        for subdir in PLACES:
            for filename, record in flat(self.site, subdir)["packages.conda"].items():
                if not self.gone(subdir, filename):
                    assert hashlib.sha256(fetch(self.site, filename, subdir)).hexdigest() == record["sha256"]

    def gone(self, subdir, filename):
        """The upstream claims other bytes, and ours were never fetched."""
        theirs = self.upstream.records.get(subdir, {}).get(filename)
        return theirs is not None and theirs["sha256"] != flat(self.site, subdir)["packages.conda"][filename]["sha256"]

    def turn(self):
        """Merge names, or no longer."""
        current = upstreams_of(self.site)
        self.attach(Settings(current.url, mode=current.mode, merge=not current.merge))

    def leave(self):
        with self.site.app.database.write() as session:
            upstreams.detach(session, CONSOLE, "lab", now=self.site.app.now())
        assert found(self.site) == []
        self.attach(Settings(self.upstream.url, **self.settings))

    def attach(self, settings):
        with self.site.app.database.write() as session:
            upstreams.attach(session, CONSOLE, "lab", settings, now=self.site.app.now())


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_done_nothing_is_found(site, upstream, settings, seed):
    walk = Walk(site, upstream, SETTINGS[settings], seed)
    for step in range(30):
        act = walk.chance.choice(walk.acts)
        act()
        assert found(site) == [], (step, act.__name__)
    walk.fetch()
    later = site.app.now() + 30 * DAY
    sweep.sweep(site.app.database, site.app.blobs, now=later, keep_ms=DAY)
    assert found(site) == []
    # and nobody takes what was fetched for something that nobody knows
    assert sweep.retire_unknown(site.app.database, site.app.blobs, now=later) == []
