"""Secrets in the database: nothing is read out of it without the key file, nothing is lost when keys change."""

from __future__ import annotations

import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairway.app import Fairway
from fairway.db.models import Channel, Upstream
from fairway.errors import SecretLost, SetupError
from fairway.registry import sealing
from fairway.registry.actor import Visibility
from fairway.registry.sealing import Keyring

SECRET, PURPOSE = b"sk-very-secret-1234", "upstream https://conda.example.org"


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "secrets.key")


def test_what_was_sealed_is_opened_again(keyring: Keyring, tmp_path: Path) -> None:
    sealed = keyring.seal(SECRET, PURPOSE)
    assert SECRET not in sealed
    assert keyring.unseal(sealed, PURPOSE) == SECRET
    assert Keyring(tmp_path / "secrets.key").unseal(sealed, PURPOSE) == SECRET
    assert keyring.seal(SECRET, PURPOSE) != sealed


def test_the_file_is_made_at_first_need_for_this_user_alone(keyring: Keyring, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        assert keyring.count() == 0
        with pytest.raises(SecretLost):
            keyring.unseal(b"\x01" + bytes(40), PURPOSE)
        assert not list(tmp_path.iterdir())
        keyring.seal(SECRET, PURPOSE)
    finally:
        os.umask(old)
    (made,) = tmp_path.iterdir()
    assert made.stat().st_mode & 0o777 == 0o600
    assert SECRET.decode() not in made.read_text()
    assert "secret" not in repr(sealing.parsed(made.read_bytes(), made)[0]).replace("secrets", "")


@pytest.mark.parametrize("purpose", ["upstream https://other.example.org", "upstream http://conda.example.org", ""])
def test_a_value_opens_only_for_what_it_was_sealed_for(keyring: Keyring, purpose: str) -> None:
    sealed = keyring.seal(SECRET, PURPOSE)
    with pytest.raises(SecretLost, match="belongs to something else"):
        keyring.unseal(sealed, purpose)


def test_no_byte_of_it_can_be_changed(keyring: Keyring) -> None:
    sealed = keyring.seal(SECRET, PURPOSE)
    for at in range(len(sealed)):
        wrong = bytearray(sealed)
        wrong[at] ^= 1
        with pytest.raises(SecretLost):
            keyring.unseal(bytes(wrong), PURPOSE)
    for end in range(len(sealed)):
        with pytest.raises(SecretLost):
            keyring.unseal(sealed[:end], PURPOSE)


def test_old_keys_open_until_they_are_forgotten(keyring: Keyring) -> None:
    old = keyring.seal(SECRET, PURPOSE)
    keyring.rotate()
    new = keyring.seal(SECRET, PURPOSE)
    assert (keyring.newest(old), keyring.newest(new), keyring.count()) == (False, True, 2)
    assert keyring.unseal(old, PURPOSE) == keyring.unseal(new, PURPOSE) == SECRET
    assert (keyring.forget_old(), keyring.forget_old(), keyring.count()) == (1, 0, 1)
    assert keyring.unseal(new, PURPOSE) == SECRET
    with pytest.raises(SecretLost, match="a key that is not in"):
        keyring.unseal(old, PURPOSE)


def test_what_another_process_changed_is_seen(keyring: Keyring, tmp_path: Path) -> None:
    keyring.seal(SECRET, PURPOSE)
    Keyring(tmp_path / "secrets.key").rotate()
    assert keyring.count() == 2


def test_two_who_make_the_first_key_have_the_same(tmp_path: Path) -> None:
    rings = [Keyring(tmp_path / "secrets.key") for _ in range(8)]
    barrier = threading.Barrier(8)

    def seal(ring: Keyring) -> bytes:
        barrier.wait(10)
        return ring.seal(SECRET, PURPOSE)

    with ThreadPoolExecutor(8) as threads:
        sealed = list(threads.map(seal, rings))
    assert [ring.unseal(each, PURPOSE) for ring, each in itertools.product(rings, sealed)] == [SECRET] * 64
    assert rings[0].count() == 1


def test_rotation_under_load_fails_nobody(keyring: Keyring) -> None:
    stop = threading.Event()

    def work() -> int:
        count = 0
        while not stop.is_set():
            assert keyring.unseal(keyring.seal(SECRET, PURPOSE), PURPOSE) == SECRET
            count += 1
        return count

    with ThreadPoolExecutor(4) as threads:
        working = [threads.submit(work) for _ in range(4)]
        for _ in range(50):
            keyring.rotate()
        stop.set()
        assert all(each.result() > 0 for each in working)
    assert keyring.count() in {50, 51}


def test_a_file_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    named = Keyring(tmp_path / "named.key", make=False)
    with pytest.raises(SetupError, match="fairway secrets rotate"):
        named.seal(SECRET, PURPOSE)
    named.rotate()
    assert named.unseal(named.seal(SECRET, PURPOSE), PURPOSE) == SECRET


@pytest.mark.parametrize("line", ["c2hvcnQ=", "no base 64 at all", "é"])
def test_a_file_that_is_none(tmp_path: Path, line: str) -> None:
    path = tmp_path / "secrets.key"
    path.write_text(line + "\n")
    path.chmod(0o600)
    with pytest.raises(SetupError, match="a line that is no key"):
        Keyring(path).seal(SECRET, PURPOSE)
    path.chmod(0o604)
    with pytest.raises(SetupError, match="chmod 600"):
        Keyring(path).seal(SECRET, PURPOSE)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be used: No such file"):
        Keyring(tmp_path / "none" / "secrets.key").seal(SECRET, PURPOSE)


def add(fairway: Fairway, name: str, url: str, credential: bytes | None) -> None:
    with fairway.database.write() as session:
        channel = Channel(name=name, visibility=Visibility.PRIVATE, created_at=1, updated_at=1)
        session.add(channel)
        session.flush()
        session.add(
            Upstream(channel_id=channel.id, url=url, mode="proxy", credential=credential, every=60, created_at=1)
        )


def test_rotating_seals_every_row_anew(fairway: Fairway) -> None:
    urls = [f"https://conda{number}.example.org/x" for number in range(3)]
    for number, url in enumerate(urls):
        add(fairway, f"chan{number}", url, fairway.seal(SECRET, url))
    add(fairway, "without", "https://open.example.org", None)
    add(fairway, "moved", "https://moved.example.org", fairway.seal(SECRET, urls[0]))  # copied from another row
    with fairway.database.read() as session:
        assert sealing.state(session, fairway.keyring) == (4, 1)
    fairway.keyring.rotate()
    with fairway.database.write() as session:
        assert sealing.reseal(session, fairway.keyring) == (3, 1)
    with fairway.database.write() as session:
        assert sealing.reseal(session, fairway.keyring) == (0, 1)
    fairway.keyring.forget_old()
    with fairway.database.read() as session:
        rows = {row.url: row.credential for row in session.query(Upstream) if row.credential}
        assert sealing.state(session, fairway.keyring) == (4, 1)
    assert [fairway.unseal(rows[url], url) for url in urls] == [SECRET] * 3


def test_the_database_alone_tells_nothing(fairway: Fairway) -> None:
    url = "https://conda.example.org/x"
    add(fairway, "chan", url, fairway.seal(SECRET, url))
    if fairway.settings.on_sqlite:
        files = [path for path in fairway.settings.data.rglob("*") if path.is_file()]
        assert files
        assert all(SECRET not in path.read_bytes() for path in files)
    fairway.settings.secrets.unlink()
    with fairway.database.read() as session:
        assert sealing.state(session, fairway.keyring) == (1, 1)
