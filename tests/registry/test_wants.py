"""What channels want is counted as packages come and go: always what the rows say, whoever writes them."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import delete, select

from fairway.db.models import Channel, Need, Package, Want
from fairway.registry import channels, sweep, withdraw
from fairway.registry.actor import CONSOLE
from tests.support.builders import conda_package


def counted(world):
    with world.app.database.read() as session:
        return {(one.channel_id, one.name): (one.packages, one.here) for one in session.scalars(select(Want))}


def said(world):
    """The same, from the rows it is made of."""
    found: dict[tuple[int, str], int] = {}
    with world.app.database.read() as session:
        there = set(session.execute(select(Package.channel_id, Package.name).where(Package.version != "")).tuples())
        for place in session.execute(
            select(Package.channel_id, Need.name).join(Need, Need.package_id == Package.id)
        ).tuples():
            found[place] = found.get(place, 0) + 1
    return {place: (times, place in there) for place, times in found.items()}


def test_counts_follow_uploads_yanks_deletes_and_restores(world):
    world.put(conda_package("tool", "1.0", depends=["engine >=1", "numpy"]))
    lab = next(iter(counted(world)))[0]
    assert counted(world) == {(lab, "engine"): (1, False), (lab, "numpy"): (1, False)}
    world.put(conda_package("other", depends=["numpy"]))
    world.put(conda_package("engine"))
    assert counted(world) == said(world) == {(lab, "engine"): (1, True), (lab, "numpy"): (2, False)}
    with world.app.database.write() as session:
        withdraw.yank(session, CONSOLE, "lab", "noarch", "engine-1.0-h0_0.conda", "broken", now=world.now)
    assert counted(world) == said(world) == {(lab, "engine"): (1, False), (lab, "numpy"): (2, False)}
    with world.app.database.write() as session:
        withdraw.unyank(session, CONSOLE, "lab", "noarch", "engine-1.0-h0_0.conda", now=world.now)
        withdraw.delete(session, CONSOLE, "lab", "noarch", "other-1.0-h0_0.conda", now=world.now)
    assert counted(world) == said(world) == {(lab, "engine"): (1, True), (lab, "numpy"): (1, False)}
    world.put(conda_package("tool", "2.0", depends=["scipy"]))
    assert counted(world) == said(world) == {(lab, "scipy"): (1, False)}
    with world.app.database.write() as session:
        withdraw.delete(session, CONSOLE, "lab", "noarch", "tool-2.0-h0_0.conda", now=world.now)
        withdraw.undelete(session, CONSOLE, "lab", "noarch", "other-1.0-h0_0.conda", now=world.now, keep_ms=1)
    assert counted(world) == said(world) == {(lab, "engine"): (1, True), (lab, "numpy"): (2, False)}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_done_they_agree(world, seed):
    chance = random.Random(seed)
    names = [f"p{number}" for number in range(6)]
    world.channel("second")
    there: list[tuple[str, str]] = []
    for step in range(40):
        name, version = chance.choice(names), f"{chance.randint(1, 3)}.{step}"
        channel = chance.choice(("lab", "second"))
        act = chance.random()
        if act < 0.6 or not there:
            package = conda_package(name, version, depends=chance.sample(names, chance.randint(0, 3)))
            world.put(package, channel=channel)
            there.append((channel, package[0]))
        else:
            channel, filename = there.pop(chance.randrange(len(there)))
            with world.app.database.write() as session:
                if act < 0.8:
                    withdraw.delete(session, CONSOLE, channel, "noarch", filename, now=world.now)
                else:
                    withdraw.yank(session, CONSOLE, channel, "noarch", filename, "x", now=world.now)
        assert counted(world) == said(world), step


def test_a_package_or_a_channel_that_goes_leaves_nothing(world):
    world.channel("second")
    for channel in ("lab", "second"):
        world.put(conda_package("tool", depends=["engine", "numpy"]), channel=channel)
        world.put(conda_package("engine", depends=["numpy"]), channel=channel)
    with world.app.database.write() as session:
        session.execute(delete(Package).where(Package.name == "engine"))
    assert counted(world) == said(world)
    assert set(counted(world).values()) == {(1, False)}
    with world.app.database.write() as session:
        channels.delete_channel(session, CONSOLE, "second", now=world.now)
    sweep.sweep(world.app.database, world.app.blobs, now=world.now + 10, keep_ms=1)
    assert counted(world) == said(world)
    assert len(counted(world)) == 2
    with world.app.database.write() as session:
        session.execute(delete(Channel))
    assert counted(world) == {}
