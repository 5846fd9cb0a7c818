"""fsck of channels that have upstreams: nothing is found whatever is done, each damage is found, and mended where it can be."""

from __future__ import annotations

import hashlib
import random

import pytest
from sqlalchemy import delete, func, insert, literal, select, update

from fairway.blobs import keys
from fairway.cli import maintain
from fairway.db.models import (
    Channel,
    ChannelDay,
    Copy,
    Job,
    Need,
    Package,
    PackageDay,
    Shard,
    ShardBytes,
    Subdir,
    Upstream,
    UpstreamName,
    UpstreamSubdir,
    Want,
)
from fairway.registry import fsck, reserved, sweep, upstreams, withdraw
from fairway.registry.actor import CONSOLE
from fairway.registry.upstreams import Settings
from tests.conftest import ROUNDS
from tests.registry import test_refresh as reading
from tests.support import misbehaving
from tests.support.beside import attach, flat, names, publish, refresh, upstreams_of
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
        self.acts += [self.withdraw, self.release, self.fetch, self.turn, self.leave]

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

    def release(self):
        with self.site.app.database.write() as session:
            for one in reserved.names(session, CONSOLE, "lab")[:1]:
                reserved.release(session, CONSOLE, "lab", one.name, now=self.site.app.now())

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
@pytest.mark.parametrize("seed", range(ROUNDS))
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


# --- damages ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def lab(site, upstream):
    """A channel with names of the upstream, shown and hidden, in two subdirs; files that were fetched; downloads."""
    for name, version, subdir, depends in (
        ("tool", "9.0", "noarch", ["other"]),
        ("tool", "9.0", "linux-64", ["wings"]),
        ("other", "1.0", "noarch", []),
        ("other", "2.0", "noarch", ["tool", "nothing"]),
        ("alone", "1.0", "noarch", []),
        ("seen", "5.0", "noarch", []),
        ("hidden", "5.0", "noarch", ["nothing"]),
        ("hidden", "5.0", "linux-64", []),
    ):
        upstream.add(name, version, subdir=subdir, depends=depends, indexed_timestamp=1_600_000_000_000)
    upstream.publish()
    refresh(site, attach(site, upstream))
    publish(site, "hidden", "1.0"), publish(site, "mine", "1.0")
    for filename in ("tool-9.0-h0_0.conda", "alone-1.0-h0_0.conda", "mine-1.0-h0_0.conda"):
        fetch(site, filename)
    assert found(site) == []
    return site


def change(site, *statements):
    with site.app.database.write() as session:
        for statement in statements:
            session.execute(statement, execution_options={"synchronize_session": False})


def state(site):
    """Every row of which others can be made again."""
    columns = (
        select(Channel.artifacts, Channel.size, Channel.packages),
        select(
            Package.name, Package.live, Package.remote, Package.version, Package.version_key, Package.places,
            Package.downloads, Package.summary, Package.licence,
        ),
        select(Subdir.name, Subdir.upstream),
        select(UpstreamSubdir.records, UpstreamSubdir.size),
        select(UpstreamName.name, UpstreamName.sha256, UpstreamName.records, UpstreamName.size),
        select(Shard.name, func.coalesce(Shard.sha256, b"")),
        select(Need.package_id, Need.name),
        select(Want.channel_id, Want.name, Want.packages, Want.here),
        select(PackageDay.package_id, PackageDay.day, PackageDay.count, PackageDay.remote),
        select(ChannelDay.channel_id, ChannelDay.day, ChannelDay.count, ChannelDay.remote),
    )  # fmt: skip
    with site.app.database.read() as session:
        return [sorted(map(tuple, session.execute(query))) for query in columns]


def mend(site):
    findings = list(fsck.check(site.app.database, site.app.blobs, deep=True))
    maintain.mend(site.app, findings, deep=True)


def package(name):
    return Package.name == name


def hash_of(name):
    return select(UpstreamName.sha256).where(UpstreamName.name == name)


COUNTED = {
    "names of the channel": (update(Channel).values(packages=2), "it counts 2 packages instead of 6"),
    "records": (update(Package).where(package("other")).values(remote=7), "it counts 7 files of the upstream"),
    "records that are not seen": (update(Package).where(package("mine")).values(remote=7), "it counts 7 files"),
    "no records": (update(Package).where(package("hidden")).values(remote=0), "it counts 0 files of the upstream"),
    "version": (update(Package).where(package("other")).values(version="1", version_key=b"x"), "is said to be 1"),
    "version of what is hidden": (
        update(Package).where(package("hidden")).values(version="5.0", version_key=b"x"), "is said to be 5.0",
    ),
    "places": (update(Package).where(package("tool")).values(places=1), "the platforms it is listed for"),
    "a need too few": (delete(Need).where(Need.name == "wings"), "what it is said to need"),
    "a need too many": (
        insert(Need).from_select(["package_id", "name"], select(Package.id, literal("extra")).where(package("other"))),
        "what it is said to need",
    ),
    "wants": (update(Want).where(Want.name == "wings").values(packages=4), "what it is said to want"),
    "wants what is here": (update(Want).where(Want.name == "tool").values(here=False), "what it is said to want"),
    "wants nothing": (delete(Want), "what it is said to want"),
    "wants too much": (
        insert(Want).from_select(
            ["channel_id", "name", "packages", "here"], select(Channel.id, literal("extra"), literal(1), literal(False))
        ),
        "what it is said to want",
    ),
    "totals of a subdir": (update(UpstreamSubdir).values(records=1), "the upstream's totals are 1 files"),
    "bytes of a subdir": (update(UpstreamSubdir).values(size=1), "the upstream's totals are"),
    "mark": (update(Subdir).values(upstream=False), "is not marked so"),
    "downloads": (update(PackageDay).values(count=PackageDay.count + 1), "its downloads by day"),
    "downloads of the channel": (update(ChannelDay).values(count=1), "its downloads by day"),
}  # fmt: skip


@pytest.mark.parametrize("damage", COUNTED)
def test_what_is_counted_wrongly_is_found_and_counted_anew(lab, damage):
    before = state(lab)
    statement, said = COUNTED[damage]
    change(lab, statement)
    wrong = found(lab)
    assert {harm for harm, *_ in wrong} == {"error"}
    assert any(said in what for *_, what in wrong), wrong
    mend(lab)
    assert found(lab) == []
    assert state(lab) == before


SHARDS = {
    "another shard": update(Shard).where(Shard.name == "other").values(sha256=hash_of("alone").scalar_subquery()),
    "no shard": delete(Shard).where(Shard.name == "other"),
    "a hidden name that is shown": update(Shard)
    .where(Shard.name == "hidden", Shard.sha256.is_(None))
    .values(sha256=select(UpstreamName.sha256).where(UpstreamName.subdir_id == Shard.subdir_id, UpstreamName.name == "hidden").scalar_subquery()),
    "a name that nobody has": insert(Shard).from_select(
        ["subdir_id", "name", "changed", "due", "sha256"],
        select(Shard.subdir_id, literal("ghost"), Shard.changed, literal(False), Shard.sha256).where(Shard.name == "other"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", SHARDS)
def test_shards_that_are_not_those_of_the_rows_are_found_and_made_anew(lab, damage):
    before = state(lab)
    change(lab, SHARDS[damage])
    assert ("error", "the shards do not hold the records of the rows: reindex it") in {
        (harm, what) for harm, _, what in found(lab)
    }
    mend(lab)
    assert found(lab) == []
    assert [row for row in state(lab)[5] if row[0] != "ghost"] == before[5]


@pytest.mark.parametrize("column", ["records", "size"])
@pytest.mark.parametrize("name", ["hidden", "seen"])
def test_a_wrong_count_of_what_a_shard_holds_is_found_and_counted_anew(lab, column, name):
    before = state(lab)
    change(lab, update(UpstreamName).where(UpstreamName.name == name).values({column: 9}))
    assert any(f"the upstream's shard of {name} does not hold" in what for *_, what in found(lab))
    mend(lab)
    assert found(lab) == []
    assert state(lab) == before


DAMAGED = {
    "missing": (lambda name: delete(ShardBytes).where(ShardBytes.sha256.in_(hash_of(name))), "is missing"),
    "damaged": (
        lambda name: update(ShardBytes).where(ShardBytes.sha256.in_(hash_of(name))).values(data=b"x"), "is damaged",
    ),
    "another hash": (
        lambda name: insert(Copy).from_select(
            ["subdir_id", "filename", "name", "sha256", "md5", "size", "indexed_at"],
            select(
                UpstreamName.subdir_id, literal(f"{name}-5.0-h0_0.conda"), literal(name), literal("0" * 64), literal(""),
                literal(1), literal(1),
            ).where(UpstreamName.name == name),
        ),
        "not of the bytes that were seen first",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("name", ["hidden", "seen"])
def test_a_damaged_shard_of_an_upstream_is_let_go_of_and_read_again(lab, damage, name):
    before = state(lab)
    statement, said = DAMAGED[damage]
    change(lab, delete(Job), statement(name))
    assert any(harm == "error" and said in what and name in what for harm, _, what in found(lab))
    mend(lab)
    assert found(lab) == []
    assert ("seen" in names(lab)) == (name != "seen")
    with lab.app.database.read() as session:
        assert session.scalar(select(func.count()).where(Job.kind == upstreams.REFRESH)) == 1
    refresh(lab, upstreams_of(lab))
    assert found(lab) == []
    if damage == "another hash":  # which is believed, since it was noted first
        assert upstreams_of(lab).conflicts
    else:
        assert state(lab) == before
        assert "seen" in names(lab)


def test_a_shard_that_is_about_to_be_swept_is_kept(lab):
    before = state(lab)
    change(lab, update(ShardBytes).where(ShardBytes.sha256.in_(hash_of("hidden"))).values(retired_at=1))
    assert [what for *_, what in found(lab)] == ["the upstream's shard of hidden is about to be swept"] * 2
    mend(lab)
    assert found(lab) == []
    sweep.sweep(lab.app.database, lab.app.blobs, now=lab.app.now() + 30 * DAY, keep_ms=DAY)
    assert found(lab) == []
    assert state(lab) == before


def test_while_names_are_read_nothing_is_expected_of_them(lab, upstream):
    """A refresh that is broken off has written some names, which nobody is shown yet."""
    for number in range(250):
        upstream.add(f"p{number:03}")
    upstream.add("other", "3.0", depends=["p001"])
    upstream.publish()
    broken = max(path for path in upstream.files if path.startswith("noarch/shards/"))
    upstream.fault(f"/up/{broken}", misbehaving.status(404))
    assert "noarch" in refresh(lab, upstreams_of(lab)).errors
    with lab.app.database.read() as session:
        assert session.scalar(select(func.count()).where(UpstreamName.pending)) == 200
    assert found(lab) == []
    publish(lab, "p001"), publish(lab, "other")
    assert found(lab) == []
    upstream.heal()
    assert refresh(lab, upstreams_of(lab)).errors == {}
    assert found(lab) == []


@pytest.mark.parametrize("deep", [True, False])
def test_bytes_of_a_fetched_file_that_are_not_what_they_should_be(lab, upstream, deep):
    filename = "tool-9.0-h0_0.conda"
    file = lab.app.blobs.local_path(keys.package(upstream.records["noarch"][filename]["sha256"]))
    good = file.read_bytes()
    for bad, said in ((good[:-1], "long instead of"), (bytes(len(good)), "its bytes are damaged"), (None, "missing")):
        if bad is None:
            file.unlink()
        else:
            file.write_bytes(bad)
        if deep or len(bad or b"") != len(good):
            ((harm, where, what),) = found(lab, deep=deep)
            assert (harm, where) == ("error", f"lab/noarch/{filename}")
            assert said in what
            assert "it can be fetched again" in what
    mend(lab)
    assert found(lab) == []
    lab.app.transfers.close()
    with lab.app.database.read() as session:
        assert session.scalar(select(Copy.fetched_at).where(Copy.filename == filename)) is None


def test_names_without_an_upstream_are_taken_away(lab):
    change(lab, delete(Upstream))
    assert ("error", "lab", "it has names of an upstream, and no upstream") in found(lab)
    mend(lab)
    assert found(lab) == []
    assert list(names(lab)) == ["hidden", "mine"]


def test_what_has_been_fetched_is_no_leftover_of_a_crash(lab):
    assert [one.what for one in fsck.check(lab.app.database, lab.app.blobs) if one.where == "storage"] == []
    later = lab.app.now() + 30 * DAY
    assert sweep.retire_unknown(lab.app.database, lab.app.blobs, now=later) == []
    with lab.app.database.write() as session:
        upstreams.detach(session, CONSOLE, "lab", now=lab.app.now())
    assert sweep.sweep(lab.app.database, lab.app.blobs, now=later, keep_ms=DAY).objects > 2
    assert found(lab) == []
    assert list(lab.app.blobs.list(keys.packages_prefix())) != []
