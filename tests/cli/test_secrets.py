"""`fairway secrets`, and what backup, restore and doctor say of the file with the keys."""

from pathlib import Path

import pytest
from sqlalchemy import select

from fairway.app import Fairway
from fairway.db.models import Channel, Upstream
from fairway.settings import load

SECRET = "sk-very-secret-1234"
URL = "https://conda.example.org/private"


@pytest.fixture
def sealed(cli, tmp_path, database_url) -> Path:
    """The key file of a data folder whose channel "lab" has an upstream with a credential."""
    with Fairway(load({"data": tmp_path / "data", "database_url": database_url}, {})) as app:
        credential = app.seal(SECRET.encode(), URL)
        with app.database.write() as session:
            channel = session.scalars(select(Channel.id)).one()
            session.add(
                Upstream(channel_id=channel, url=URL, mode="proxy", credential=credential, every=60, created_at=1)
            )
        return app.settings.secrets


def keys_of(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def test_rotating_makes_a_new_key_first(cli, sealed):
    before = keys_of(sealed)
    done = cli("secrets", "rotate")
    assert (done.status, done.stdout) == (0, f"Sealed 1 secret with a new key; {sealed} holds 2 keys.\n")
    after = keys_of(sealed)
    assert (len(after), after[1:]) == (2, before)
    done = cli("secrets", "rotate", "--forget-old")
    assert done.stdout.endswith("holds 1 keys.\nDropped 2 old keys.\n")
    assert f"good  secrets: {sealed} opens the credential of an upstream" in cli("doctor").stdout


def test_a_lost_key_is_said(cli, sealed):
    kept = sealed.read_text()
    sealed.unlink()
    done = cli("doctor")
    assert done.status == 1
    assert f"bad   secrets: {sealed} does not open the credential of an upstream" in done.stdout
    done = cli("secrets", "rotate")
    assert (done.status, done.stderr) == (1, "1 could not be opened, and must be entered again; 'fairway doctor' counts them.\n")  # fmt: skip
    sealed.write_text(sealed.read_text() + kept)
    assert cli("doctor").status == 0


def test_a_backup_has_no_key_and_no_secret_in_clear_and_says_so(cli, sealed, tmp_path):
    done = cli("backup", tmp_path / "one.tar")
    assert f"Not in it, on purpose: {sealed}, without which the credential of an upstream" in done.stdout
    body = (tmp_path / "one.tar").read_bytes()
    assert SECRET.encode() not in body
    assert all(key.encode() not in body for key in keys_of(sealed))
    elsewhere = {"FAIRWAY_DATA": str(tmp_path / "other"), "FAIRWAY_DATABASE_URL": f"sqlite:///{tmp_path}/other.db"}
    done = cli("restore", tmp_path / "one.tar", env=elsewhere)
    assert done.status == 0
    assert "does not open the credential of an upstream: bring that file too" in done.stderr
    (tmp_path / "other" / "secrets.key").write_text(sealed.read_text())
    (tmp_path / "other" / "secrets.key").chmod(0o600)
    assert "good  secrets" in cli("doctor", env=elsewhere).stdout


def test_a_named_file(cli, tmp_path):
    elsewhere = {"FAIRWAY_SECRETS_FILE": str(tmp_path / "keys" / "fairway.key")}
    done = cli("secrets", "rotate", env=elsewhere)
    assert done.status == 1
    assert "The folder of the key file" in done.stderr
    (tmp_path / "keys").mkdir()
    assert cli("secrets", "rotate", env=elsewhere).status == 0
    assert (tmp_path / "keys" / "fairway.key").stat().st_mode & 0o777 == 0o600
