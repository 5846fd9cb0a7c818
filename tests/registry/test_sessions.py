"""Sessions, passwords, the set-up code: the rules, without a browser."""

import threading

import pytest
from sqlalchemy import select, update

from fairway import errors
from fairway.db.models import BrowserSession, SetupCode, User
from fairway.registry import accounts, administer, passwords, sessions, setup, tokens
from fairway.registry.actor import CONSOLE, INVALID, NOBODY, Scope
from tests.registry.world import NOW
from tests.support.builders import conda_package


def start(world, user="owner", *, now=NOW):
    with world.app.database.write() as session:
        found = accounts.user_named(session, user)
        return sessions.start(session, found.id, name=user, address="192.0.2.7", agent="a browser", now=now)


def known(world, secret, *, now=NOW):
    with world.app.database.read() as session:
        return sessions.recognise(session, secret, now=now)


def test_a_session_is_its_users_and_only_its_digest_is_kept(world):
    secret = start(world)
    found = known(world, secret)
    assert (found.actor.name, found.actor.scope, found.actor.channels) == ("owner", Scope.ADMIN, None)
    assert found.actor.session_id is not None
    assert found.actor.token_id is None
    assert (found.expires_at, found.confirmed_at) == (NOW + sessions.IDLE_MS, NOW)
    with world.app.database.read() as session:
        (row,) = session.scalars(select(BrowserSession))
    assert row.digest == tokens.digest(secret)
    assert secret not in repr(vars(row))
    # and it is no key
    with world.app.database.read() as session:
        assert tokens.recognise(session, secret, now=NOW).actor is INVALID


def test_what_is_no_session_is_nobody(world):
    start(world)
    for secret in ("", "x", "fwy-s-" + "0" * 38, "fwy-s-", tokens.new_secret("s"), tokens.new_secret()):
        assert known(world, secret).actor is NOBODY


def test_a_session_never_outlives_its_day_whatever_is_done(world):
    secret = start(world)
    session_id = known(world, secret).actor.session_id
    for at in range(NOW, NOW + sessions.LIFE_MS, sessions.IDLE_MS // 2):
        assert known(world, secret, now=at).actor.name == "owner"
        with world.app.database.write() as session:
            sessions.mark_seen(session, {session_id: at})
            sessions.mark_seen(session, {session_id: NOW})  # an older time replaces nothing
    assert known(world, secret, now=NOW + sessions.LIFE_MS).actor is NOBODY


def test_nobody_ends_or_sees_what_is_not_their_own(world):
    mine, theirs = start(world), start(world, "viewer")
    actor, other = known(world, mine).actor, known(world, theirs).actor
    with pytest.raises(errors.NotFound), world.app.database.write() as session:
        sessions.end(session, actor, other.session_id, now=NOW)
    with world.app.database.read() as session:
        assert [one.id for one in sessions.list_sessions(session, actor.user_id, now=NOW)] == [actor.session_id]
    with world.app.database.write() as session:
        assert sessions.end_all(session, actor, actor.user_id, now=NOW) == 1
    assert known(world, theirs).actor.name == "viewer"


def test_giving_the_password_again_makes_another_secret_of_the_same_session(world):
    old = start(world)
    actor = known(world, old).actor
    with world.app.database.write() as session:
        new = sessions.confirm(session, actor, now=NOW + 5)
    assert known(world, old).actor is NOBODY
    assert (known(world, new).actor, known(world, new).confirmed_at) == (actor, NOW + 5)


def test_an_upload_of_somebody_whose_session_ended_publishes_nothing(world):
    secret = start(world)
    actor = known(world, secret).actor
    world.put(actor=actor)
    with world.app.database.write() as session:
        sessions.end(session, actor, actor.session_id, now=NOW)
    with pytest.raises(errors.AuthRequired):
        world.put(conda_package("demo", "2.0"), actor=actor)


def test_a_new_password_ends_every_other_session(world):
    here, there, others = start(world), start(world), start(world, "viewer")
    with world.app.database.write() as session:
        assert accounts.set_password(session, known(world, here).actor, "owner", "hash", now=NOW) == 1
    assert known(world, here).actor.name == "owner"
    assert known(world, there).actor is NOBODY
    assert known(world, others).actor.name == "viewer"
    with pytest.raises(errors.NotAllowed), world.app.database.write() as session:
        accounts.set_password(session, known(world, others).actor, "owner", "hash", now=NOW)


def test_who_is_suspended_is_signed_out_for_good(world):
    secret = start(world)
    with world.app.database.write() as session:
        administer.suspend(session, CONSOLE, "owner", now=NOW)
    assert known(world, secret).actor is NOBODY
    with world.app.database.write() as session:
        administer.resume(session, CONSOLE, "owner", now=NOW)
    assert known(world, secret).actor is NOBODY


def test_what_is_over_is_forgotten(world):
    start(world)
    late = start(world, now=NOW + sessions.IDLE_MS)
    with world.app.database.write() as session:
        assert sessions.forget(session, now=NOW + sessions.IDLE_MS) == 1
    assert known(world, late, now=NOW + sessions.IDLE_MS).actor.name == "owner"


# --- passwords -------------------------------------------------------------------------------------------------------

GOOD = (
    "correct horse battery staple",
    "vergessene Möwen zählen Steine",
    "8nR2kQw7ZpX4tLb",
    "four gulls and a lighthouse",
    "パスワードは長いほうがよいです。",
    "my fairway has seventeen buoys",
)
BAD = (
    "aaaaaaaaaaaaaaa",
    "abcabcabcabcabcabc",
    "123456789012345678",
    "abcdefghijklmnopqrst",
    "qwertyuiopasdfghjkl",
    "password password password",
    "fairwayfairwayfairway",
    "Password123456789",
    "ada.lovelace@example.org",
    "adalovelaceadalovelace",
    "conda.example.org conda",
    "987654321987654321",
    "zzzzzzzzzzzzzzzzzzzzzzzza",
    "               ",
)


def test_passwords_that_are_easy_to_guess_are_refused():
    words = ("ada", "ada.lovelace@example.org", "Ada Lovelace", "conda.example.org")
    for password in GOOD:
        passwords.check(password, words)
    passed = []
    for password in BAD:
        try:
            passwords.check(password, words)
            passed.append(password)
        except errors.Invalid as error:
            assert error.code == "password_invalid"  # noqa: PT017
    assert passed == []


def test_a_password_is_the_same_however_its_letters_were_typed():
    kept = passwords.hashed("zwölf Möwen im Nebel")
    assert passwords.matches(kept, "zwo\u0308lf Mo\u0308wen im Nebel")
    assert not passwords.matches(kept, "zwolf Mowen im Nebel")
    assert not passwords.matches(None, "nobody has this password")


def test_only_so_many_wait_for_a_hash():
    """A flood of sign-ins must leave threads for everybody else."""
    held = [passwords.QUEUE.acquire(blocking=False) for _ in range(passwords.AT_ONCE + passwords.WAITING)]
    try:
        assert all(held)
        with pytest.raises(errors.Unavailable):
            passwords.hashed("correct horse battery staple")
    finally:
        for _ in held:
            passwords.QUEUE.release()
    assert passwords.hashed("correct horse battery staple")


# --- the first administrator -----------------------------------------------------------------------------------------


def finish(database, code, name="ada", *, now=NOW):
    with database.write() as session:
        return setup.finish(
            session, code, name=name, email=f"{name}@example.org", full_name="", password_hash="x", now=now
        )


def begin(database, *, now=NOW):
    with database.write() as session:
        return setup.new_code(session, now=now)


def test_the_code_makes_one_administrator_however_it_is_typed(database):
    code = begin(database)
    assert [len(part) for part in code.split("-")] == [5, 5, 5, 5]
    made = finish(database, f" {code.lower().replace('-', ' ').replace('0', 'o').replace('1', 'l')}")
    assert (made.name, made.is_admin) == ("ada", True)
    with pytest.raises(errors.NotFound):
        finish(database, code, "bob")
    assert begin(database) is None
    with database.read() as session:
        assert session.scalars(select(SetupCode)).all() == []


def test_a_wrong_an_old_and_a_superseded_code_make_nobody(database):
    first = begin(database)
    second = begin(database)
    for code, now in ((first, NOW), (second, NOW + setup.LIFE_MS), ("", NOW), (second[:-1], NOW)):
        with pytest.raises(errors.Invalid) as caught:
            finish(database, code, now=now)
        assert caught.value.code == "setup_code_invalid"
        with pytest.raises(errors.Invalid), database.read() as session:
            setup.check(session, code, now=now)
    assert finish(database, second).is_admin


def test_a_refused_name_leaves_the_code_as_it_was(database):
    code = begin(database)
    with pytest.raises(errors.Invalid):
        finish(database, code, "not a name")
    assert finish(database, code).is_admin


def test_of_many_who_set_up_at_once_one_does(database):
    code = begin(database)
    outcomes = []
    ready = threading.Barrier(12)

    def attempt(number):
        ready.wait()
        try:
            outcomes.append(finish(database, code, f"user{number}").name)
        except errors.FairwayError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([one for one in outcomes if isinstance(one, str)]) == 1, outcomes
    with database.read() as session:
        assert len(session.scalars(select(User)).all()) == 1


def test_nobody_sets_up_where_somebody_has_an_account(database):
    code = begin(database)
    with database.write() as session:
        accounts.create_user(
            session, CONSOLE, "bob", email="b@example.org", password_hash=None, is_admin=False, now=NOW
        )
    with pytest.raises(errors.NotFound):
        finish(database, code)
    with database.write() as session:
        session.execute(update(User).values(suspended_at=1))
    with pytest.raises(errors.NotFound), database.read() as session:
        setup.check(session, code, now=NOW)
