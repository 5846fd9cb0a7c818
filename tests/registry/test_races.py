"""Many at once on one channel, in threads: what exactly one of them may get, and what becomes of the others' bytes."""

from __future__ import annotations

import hashlib

import pytest
from sqlalchemy import select

from fairway.blobs import keys
from fairway.db.models import Artifact, Retired
from fairway.errors import ArtifactExists, NotFound
from fairway.registry import channels, fsck, trash
from fairway.registry.actor import CONSOLE
from fairway.registry.publish import Published
from tests.crash.harness import together
from tests.registry.world import World
from tests.support.builders import conda_package

MANY = 12


def packages(name: str) -> list[tuple[str, bytes]]:
    """One file name, and each time other bytes."""
    return [conda_package(name, files={"x": b"%d" % number}) for number in range(MANY)]


def path_of(data: bytes) -> str:
    return keys.package(hashlib.sha256(data).hexdigest()).path


def state(world: World) -> tuple[set[str], set[str]]:
    """The objects that files are made of, and those that were let go."""
    with world.app.database.read() as session:
        used = {keys.package(sha256).path for sha256 in session.scalars(select(Artifact.sha256))}
        return used, set(session.scalars(select(Retired.path).where(Retired.path.like("packages/%"))))


def test_of_many_who_force_one_is_last_and_every_other_is_let_go(world):
    world.set(allow_overwrite=True)
    files = packages("forced")
    results = together(lambda number: world.put(files[number], force=True), MANY)
    assert all(isinstance(result, Published) for result in results), results
    assert sorted(result.change for result in results) == list(range(1, MANY + 1))
    last = max(results, key=lambda result: result.change)
    used, gone = state(world)
    assert used == {keys.package(last.sha256).path}
    assert gone == {path_of(data) for _, data in files} - used
    world.publish_index()
    assert list(fsck.check(world.app.database, world.app.blobs, deep=True)) == []


def test_of_many_who_do_not_the_losers_bytes_are_let_go(world):
    files = packages("contested")
    results = together(lambda number: world.put(files[number]), MANY)
    (won,) = (result for result in results if isinstance(result, Published))
    assert sum(isinstance(result, ArtifactExists) for result in results) == MANY - 1
    used, gone = state(world)
    assert used == {keys.package(won.sha256).path}
    assert gone == {path_of(data) for _, data in files} - used
    world.publish_index()
    assert list(fsck.check(world.app.database, world.app.blobs, deep=True)) == []


def test_what_is_uploaded_while_its_channel_is_deleted_is_in_it_or_refused(world):
    """And all that was said to be in is there when the channel comes back."""
    files = [conda_package(f"pack{number}") for number in range(MANY)]

    def act(number: int) -> object:
        if number != MANY // 2:
            return world.put(files[number])
        with world.app.database.write() as session:
            return channels.delete_channel(session, CONSOLE, "lab", now=world.now)

    results = together(act, MANY)
    published = [result for result in results if isinstance(result, Published)]
    assert {type(result) for result in results} <= {Published, NotFound, type(None)}, results
    with world.app.database.write() as session:
        view = trash.restore_channel(session, CONSOLE, "lab", now=world.now, keep_ms=1)
    assert view.artifacts == len(published)
    world.publish_index()
    found = fsck.check(world.app.database, world.app.blobs, deep=True)
    assert [finding for finding in found if finding.where != "storage"] == []


@pytest.mark.parametrize("damage", ["missing", "short", "changed"])
def test_bytes_that_were_lost_come_back_with_the_same_file(world, damage):
    done = world.put()
    file = world.app.settings.data / "blobs" / keys.package(done.sha256).path
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if damage == "short" else bytes(len(data)))
    assert next(iter(fsck.check(world.app.database, world.app.blobs, deep=True))).harm == "error"
    again = world.put(same_is_fine=True)
    assert not again.created
    assert file.read_bytes() == data
