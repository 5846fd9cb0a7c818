"""Deleted channels come back as they were, within their time, for who may bring them back."""

from __future__ import annotations

import pytest

from fairway import errors
from fairway.registry import channels, fsck, listing, sweep, trash, withdraw
from fairway.registry.actor import CONSOLE, INVALID, NOBODY, Role
from tests.registry.world import DAY

KEEP = 7 * DAY


def delete(world, name="lab"):
    with world.app.database.write() as session:
        channels.delete_channel(session, CONSOLE, name, now=world.now)


def restore(world, actor=CONSOLE, name="lab"):
    with world.app.database.write() as session:
        return trash.restore_channel(session, actor, name, now=world.now, keep_ms=KEEP)


def shown_to(world, actor):
    with world.app.database.read() as session:
        return [found.name for found in trash.channels(session, actor, now=world.now, keep_ms=KEEP)]


def test_a_channel_comes_back_with_its_files_members_keys_and_index(world):
    world.put()
    world.publish_index()
    before = world.documents()
    bound = world.key("viewer", "read", channels=["lab"])
    with world.app.database.read() as session:
        members = channels.list_members(session, CONSOLE, "lab")
    delete(world)
    with world.app.database.read() as session, pytest.raises(errors.NotFound):
        channels.show(session, CONSOLE, "lab")
    with pytest.raises(errors.NameTaken):
        world.channel("lab")
    world.now += KEEP
    sweep.sweep(world.app.database, world.app.blobs, now=world.now, keep_ms=KEEP)
    view = restore(world, world.actor("owner"))
    assert (view.name, view.artifacts, view.packages) == ("lab", 1, 1)
    world.publish_index()
    assert world.documents() == before
    with world.app.database.read() as session:
        assert channels.list_members(session, CONSOLE, "lab") == members
    gate = world.app.lookup.view().actor(bound, rows=True)
    with world.app.database.read() as session:
        assert listing.enter(session, gate, "lab").role is Role.VIEWER
    assert not [found for found in fsck.check(world.app.database, world.app.blobs) if found.harm == "error"]


def test_too_late_is_too_late(world):
    world.put()
    delete(world)
    world.now += KEEP + 1
    assert shown_to(world, CONSOLE) == []
    with pytest.raises(errors.NotFound):
        restore(world)
    assert sweep.sweep(world.app.database, world.app.blobs, now=world.now, keep_ms=KEEP).channels == 1
    world.channel("lab")


def test_owners_see_their_own_and_administrators_all(world):
    world.channel("other")
    for name in ("lab", "other"):
        delete(world, name)
        world.now += 1
    assert shown_to(world, world.actor("stranger")) == []
    assert shown_to(world, world.actor("owner")) == shown_to(world, world.actor("admin")) == ["other", "lab"]
    assert shown_to(world, world.actor("maintainer")) == []
    for actor, refusal in (
        (NOBODY, errors.AuthRequired),
        (INVALID, errors.TokenInvalid),
        (world.actor("stranger"), errors.NotFound),
        (world.actor("maintainer"), errors.NotFound),
        (world.actor("owner", "upload"), errors.NotAllowed),
    ):
        for name in ("lab", "none") if refusal is not errors.NotAllowed else ("lab",):
            with pytest.raises(refusal):
                restore(world, actor, name)
    restore(world, world.actor("admin"))
    with pytest.raises(errors.NotFound):
        restore(world)


def test_a_key_for_another_channel_restores_nothing(world):
    world.channel("other")
    key = world.key("owner", "admin", channels=["other"])
    delete(world)
    actor = world.app.lookup.view().actor(key, rows=True)
    assert shown_to(world, actor) == []
    with pytest.raises(errors.NotFound):
        restore(world, actor)


def test_files_that_can_come_back_are_listed(world):
    done = world.put()
    with world.app.database.write() as session:
        withdraw.delete(session, CONSOLE, "lab", "noarch", done.filename, now=world.now)

    def listed():
        with world.app.database.read() as session:
            head = listing.enter(session, CONSOLE, "lab")
            return [file.filename for file in trash.files(session, head, now=world.now, keep_ms=KEEP).items]

    assert listed() == [done.filename]
    world.now += KEEP + 1
    assert listed() == []
