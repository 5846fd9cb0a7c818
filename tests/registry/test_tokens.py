"""API keys: their form, who they are, until when, and what is kept of them."""

import hashlib
import re
import string
import zlib

import pytest
from sqlalchemy import select

from fairway import errors
from fairway.db.models import Audit, Token, User
from fairway.registry import channels, sweep, tokens
from fairway.registry.actor import CONSOLE, INVALID, Scope
from tests.registry.world import DAY


def recognised(world, key, *, now=None):
    with world.app.database.read() as session:
        return tokens.recognise(session, key, now=now or world.now).actor


def row(world):
    with world.app.database.read() as session:
        return session.scalars(select(Token).order_by(Token.id.desc())).first()


def test_a_key_has_the_form_that_conda_and_scanners_understand():
    keys = {tokens.new_secret() for _ in range(200)}
    assert len(keys) == 200
    for key in keys:
        assert re.fullmatch(r"fwy-u-[0-9A-Za-z]{38}", key)
        assert tokens.well_formed(key)
        # conda cuts a key in /t/KEY/ at the first character that is not one of these
        assert set(key) <= set(string.ascii_letters + string.digits + "-")


def test_the_checksum_is_the_crc32_of_the_secret_in_base62():
    key = tokens.new_secret()
    secret, check = key[6:38], key[38:]
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    number = 0
    for character in check:
        number = number * 62 + digits.index(character)
    assert number == zlib.crc32(secret.encode())


def test_a_mistyped_key_is_refused_without_a_look_at_the_database():
    key = tokens.new_secret()
    for at in range(len(key)):
        other = key[:at] + ("0" if key[at] != "0" else "1") + key[at + 1 :]
        assert tokens.well_formed(other) is (at == 4 and other[4].isalpha()), other  # only the kind is not in the sum
    for other in ("", key[:-1], key + "0", " " + key, key + "\n", key.upper(), "fwy-u-" + "é" * 38):
        assert not tokens.well_formed(other)


def test_only_the_hash_of_a_key_is_kept(world):
    key = world.key("owner", "upload")
    kept = row(world)
    assert kept.digest == hashlib.sha256(key.encode()).digest()
    with world.app.database.read() as session:
        bind = session.connection()
        for table in Token.metadata.sorted_tables:
            for values in bind.execute(select(table)):
                assert key not in repr(tuple(values))
                assert key[6:] not in repr(tuple(values))


def test_a_key_is_its_user_with_its_scope(world):
    for scope in ("read", "upload", "admin"):
        actor = recognised(world, world.key("owner", scope))
        assert (actor.name, actor.scope.text, actor.is_admin, actor.channels) == ("owner", scope, False, None)
        assert actor.token_id == row(world).id
    assert recognised(world, world.key("admin")).is_admin


def test_a_key_lives_until_its_time_is_over(world):
    key = world.key(lives_ms=90 * DAY)
    assert recognised(world, key, now=world.now + 90 * DAY - 1).is_known
    assert recognised(world, key, now=world.now + 90 * DAY) is INVALID
    assert recognised(world, world.key(lives_ms=None), now=world.now + 9_999 * DAY).is_known


def test_an_unknown_a_revoked_and_a_suspended_users_key_are_alike(world):
    key = world.key()
    with world.app.database.write() as session:
        tokens.revoke_token(session, CONSOLE, row(world).id, now=world.now)
        tokens.revoke_token(session, CONSOLE, row(world).id, now=world.now + 1)
    assert (recognised(world, key), row(world).revoked_at) == (INVALID, world.now)
    assert recognised(world, tokens.new_secret()) is INVALID
    viewers = world.key("viewer")
    with world.app.database.write() as session:
        session.scalars(select(User).where(User.name == "viewer")).one().suspended_at = world.now
    assert recognised(world, viewers) is INVALID


def test_a_key_can_be_bound_to_channels_and_stays_bound_when_they_are_gone(world):
    bound = {world.channel("one"), world.channel("two")}
    key = world.key(channels=["one", "two", "one"])
    assert recognised(world, key).channels == bound
    with world.app.database.write() as session:
        for name in ("one", "two"):
            channels.delete_channel(session, CONSOLE, name, now=1)
    sweep.sweep(world.app.database, world.app.blobs, now=world.now, keep_ms=0)
    assert recognised(world, key).channels == frozenset()


@pytest.mark.parametrize(
    ("maker", "scope", "options", "error"),
    [
        (("stranger", "admin"), "read", {}, errors.NotAllowed),  # for somebody else
        (("owner", "upload"), "admin", {}, errors.NotAllowed),  # more than oneself has
        (("owner", "admin"), "read", {"channels": ["none"]}, errors.NotFound),
        (("owner", "admin"), "read", {"name": "  "}, errors.Invalid),
        (("owner", "admin"), "read", {"name": "x" * 101}, errors.Invalid),
        (("owner", "admin"), "read", {"user": "nobody"}, errors.NotFound),
    ],
)
def test_nobody_makes_a_key_that_may_more_than_they_may(world, maker, scope, options, error):
    actor = world.actor(*maker)
    with world.app.database.read() as session:
        before = len(session.scalars(select(Token)).all())
    with pytest.raises(error), world.app.database.write() as session:
        tokens.create_token(
            session, actor, **{"user": "owner", "name": "laptop", "scope": Scope.of(scope), "now": 1, **options}
        )
    with world.app.database.read() as session:
        assert len(session.scalars(select(Token)).all()) == before


def test_a_key_can_make_lesser_keys_of_its_user_unless_it_is_bound(world):
    actor = recognised(world, world.key("owner", "upload"))
    with world.app.database.write() as session:
        lesser = tokens.create_token(session, actor, user="owner", name="less", scope=Scope.READ, now=world.now)
    assert recognised(world, lesser).scope is Scope.READ
    bound = recognised(world, world.key("owner", "admin", channels=["lab"]))
    with pytest.raises(errors.NotAllowed), world.app.database.write() as session:
        tokens.create_token(session, bound, user="owner", name="more", scope=Scope.READ, now=world.now)


def test_only_its_user_revokes_a_key(world):
    key = world.key("owner")
    mine = row(world).id
    stranger = world.actor("stranger")
    with pytest.raises(errors.NotFound), world.app.database.write() as session:
        tokens.revoke_token(session, stranger, mine, now=world.now)
    actor = recognised(world, key)
    with world.app.database.write() as session:
        tokens.revoke_token(session, actor, mine, now=world.now)
    assert recognised(world, key) is INVALID
    with world.app.database.read() as session:
        lines = [(line.action, line.actor) for line in session.scalars(select(Audit).order_by(Audit.id))]
    assert lines[-1] == ("token.revoke", "owner")
    assert ("token.create", "console") in lines


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("12h", DAY // 2),
        ("90d", 90 * DAY),
        ("6w", 42 * DAY),
        ("1y", 365 * DAY),
        ("99999d", 99_999 * DAY),
        ("never", None),
    ],
)
def test_lifetimes_are_written_for_people(text, ms):
    assert tokens.lifetime(text) == ms


@pytest.mark.parametrize("text", ["", "90", "d", "0d", "-1d", "1.5d", "90 d", "90D", "1m", "100000d", "٣d", "90d\n"])
def test_other_lifetimes_are_refused(text):
    with pytest.raises(errors.Invalid) as caught:
        tokens.lifetime(text)
    assert caught.value.code == "expiry_invalid"


def test_when_a_key_was_last_used_only_moves_on(world):
    world.key()
    token = row(world).id
    for at, wanted in ((100, 100), (50, 100), (200, 200)):
        with world.app.database.write() as session:
            tokens.mark_used(session, {token: at})
        assert row(world).last_used_at == wanted


def test_a_listing_shows_what_a_key_may_and_never_the_key(world):
    key = world.key("owner", "upload", channels=["lab"], lives_ms=DAY)
    with world.app.database.read() as session:
        (listed,) = tokens.list_tokens(session, "owner")
        assert tokens.list_tokens(session, "stranger") == []
    assert (listed.user, listed.name, listed.scope, listed.channels) == ("owner", "test", "upload", ("lab",))
    assert (listed.created_at, listed.expires_at) == (world.now, world.now + DAY)
    assert key[6:] not in repr(listed)
