"""People and their passwords."""

import threading
import time

import pytest
from sqlalchemy import select

from fairway import errors
from fairway.db.models import Audit, User
from fairway.registry import accounts, passwords
from fairway.registry.actor import CONSOLE

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def digest():
    return passwords.hashed(PASSWORD)


def create(database, name="alice", email="alice@example.org", **options):
    options = {"password_hash": None, "is_admin": False, "now": 1, **options}
    with database.write() as session:
        return accounts.create_user(session, CONSOLE, name, email=email, **options)


def verified(database, name, password):
    with database.read() as session:
        found = accounts.credential(session, name)
    return found.user if passwords.matches(found.kept, password) else None


def test_an_account_is_kept_in_lower_case_with_its_audit_line(database):
    made = create(database, " Alice ", " Alice@Example.org ", is_admin=True, now=7)
    assert (made.name, made.email, made.is_admin, made.created_at) == ("alice", "alice@example.org", True, 7)
    with database.read() as session:
        assert accounts.user_named(session, " ALICE ") == made
        assert accounts.list_users(session) == [made]
        assert accounts.count_users(session) == 1
        (line,) = session.scalars(select(Audit))
    assert (line.action, line.actor, line.subject, line.details) == (
        "user.create",
        "console",
        "alice",
        {"is_admin": True},
    )


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", ".a", "a b", "ä", "a/b", "a" * 65, "a\nb", "\uff41", "a@b", "Console"]
)
def test_odd_names_are_refused(database, name):
    with pytest.raises(errors.Invalid) as caught:
        create(database, name)
    assert caught.value.code == "name_invalid"


@pytest.mark.parametrize("email", ["", "a", "a@", "@b", "a b@c", "a@b c", "a@b@c", "a" * 65 + "@b", "a\x00@b"])
def test_what_is_no_address_is_refused(database, email):
    with pytest.raises(errors.Invalid) as caught:
        create(database, email=email)
    assert caught.value.code == "email_invalid"


def test_names_and_addresses_are_given_out_once_whatever_their_case(database):
    create(database)
    with pytest.raises(errors.NameTaken, match="user name alice"):
        create(database, "ALICE", "other@example.org")
    with pytest.raises(errors.NameTaken, match=r"address alice@example\.org"):
        create(database, "bob", "ALICE@example.org")


def test_of_two_who_take_a_name_at_once_one_is_refused(database):
    outcomes = []

    def take(email):
        try:
            create(database, "alice", email)
            outcomes.append("made")
        except errors.NameTaken:
            outcomes.append("taken")
        except Exception as error:
            outcomes.append(repr(error))

    threads = [threading.Thread(target=take, args=(f"{n}@example.org",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made", *["taken"] * 5]


def test_a_password_is_right_or_wrong_by_name_or_address(database, digest):
    create(database, password_hash=digest)
    assert digest.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    for name in ("alice", "Alice", "alice@example.org"):
        assert verified(database, name, PASSWORD).name == "alice"
        assert verified(database, name, PASSWORD + " ") is None
    assert verified(database, "bob", PASSWORD) is None
    create(database, "keyless", "keyless@example.org")
    assert verified(database, "keyless", PASSWORD) is None
    assert verified(database, "keyless", "nobody has this password") is None
    with database.write() as session:
        session.scalars(select(User).where(User.name == "alice")).one().suspended_at = 1
    assert verified(database, "alice", PASSWORD) is None


def test_a_wrong_name_takes_as_long_as_a_wrong_password(database, digest):
    create(database, password_hash=digest)

    def seconds(name):
        begin = time.process_time()  # not the clock's: others work here too
        verified(database, name, "wrong")
        return time.process_time() - begin

    there, missing = (min(seconds(name) for _ in range(5)) for name in ("alice", "bob"))
    assert missing > there / 3  # without the work for nobody's password it would be a hundredth


@pytest.mark.parametrize("password", ["", "a" * 14, "a" * 4_097])
def test_passwords_have_a_length(password):
    with pytest.raises(errors.Invalid) as caught:
        passwords.check(password)
    assert caught.value.code == "password_invalid"


def test_two_hashes_of_one_password_differ(digest):
    assert passwords.hashed(PASSWORD) != digest


def test_a_suspended_or_unknown_user_is_not_found(database):
    create(database)
    with database.write() as session:
        session.scalars(select(User)).one().suspended_at = 1
    for name in ("alice", "bob"):
        with pytest.raises(errors.NotFound), database.read() as session:
            accounts.user_named(session, name)
