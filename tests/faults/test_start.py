"""What Fairway does not start on, said by the real command line in one sentence, with exit status 1, nothing touched."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairway.db import migrate
from fairway.db.engine import Database
from tests.crash.harness import Quick, Wire, make_channel
from tests.support.builders import conda_package
from tests.support.server import FAIRWAY, free_port

NOBODY = 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users and mount a file system")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    return path


def refused(folder: Path, *command: str, **env: str) -> str:
    """The one sentence of a command that refuses to run; it must not have changed the folder."""
    before = contents(folder)
    done = subprocess.run(
        [FAIRWAY, *command],
        env={"PATH": os.environ["PATH"], "FAIRWAY_DATA": str(folder), "FAIRWAY_PORT": str(free_port()), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("fairway: ")
    assert contents(folder) == before
    return line.removeprefix("fairway: ")


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, but for what opening a database leaves beside it."""
    if not folder.is_dir():
        return {}
    left = ("server.lock", "fairway.db", "-wal", "-shm")
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and not path.name.endswith(left)
    }


COMMANDS = pytest.mark.parametrize("command", [("serve",), ("channel", "list")], ids=["serve", "command"])


@COMMANDS
def test_a_folder_with_other_things_in_it(folder, command):
    (folder / "thesis.tex").write_text("mine")
    assert refused(folder, *command).startswith(
        f"The folder {folder} holds other things, such as thesis.tex, and was never Fairway's: name an empty one, or put"
    )


def test_a_folder_with_other_things_that_is_meant(folder):
    (folder / "certificate.pem").write_text("mine")
    (folder / "fairway.toml").touch()
    with Quick(folder) as server:
        assert server.stop() == 0


def test_something_that_is_no_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    assert refused(file, "serve") == f"The data folder {file} cannot be made: File exists."
    assert refused(file / "below", "serve") == f"The data folder {file / 'below'} cannot be made: Not a directory."
    assert file.read_text() == "mine"


@COMMANDS
def test_a_file_that_is_no_database(folder, command):
    (folder / "fairway.db").write_bytes(b"no database at all" * 100)
    assert refused(folder, *command).startswith("The database file is not a database of SQLite; nothing was changed.")


def test_a_damaged_database(folder):
    migrated(folder)
    file = folder / "fairway.db"
    data = bytearray(file.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    file.write_bytes(data)
    assert "damaged, and its administrator has to restore a backup" in refused(folder, "fsck")


@COMMANDS
def test_the_database_of_another_program(folder, command):
    with sqlite3.connect(folder / "fairway.db") as other:
        other.execute("CREATE TABLE channels (id INTEGER)")
    assert refused(folder, *command) == (
        "The database holds tables that are not Fairway's, such as channels: give Fairway a database of its own."
    )


def migrated(folder: Path, revision: str = migrate.HEAD) -> None:
    database = Database(f"sqlite:///{folder / 'fairway.db'}")
    migrate.upgrade(database, revision)
    with database.writer.begin() as connection:
        connection.exec_driver_sql("INSERT INTO users (name, email, is_admin, created_at) VALUES ('me', 'me@x', 1, 1)")
    database.close()


def test_a_database_of_a_newer_version(folder):
    migrated(folder)
    with sqlite3.connect(folder / "fairway.db") as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
    assert refused(folder, "serve").startswith(
        "The database is at schema 9999, which this version of Fairway does not know"
    )
    assert refused(folder, "channel", "list") == (
        f"The database is at schema 9999 and this version of Fairway has {migrate.HEAD}: it was used by a newer version, so "
        "use the commands of that version."
    )


@pytest.mark.skipif(migrate.HEAD == "0001", reason="there is no older schema")
def test_a_database_of_an_older_version_is_migrated_by_the_server_alone(folder):
    migrated(folder, "0001")
    assert refused(folder, "channel", "list") == (
        f"The database is at schema 0001 and this version of Fairway has {migrate.HEAD}: start the server of this version, "
        "which migrates it."
    )
    with Quick(folder) as server:
        key = make_channel(server, "lab", "public", user="me")
        with Wire(server, key) as wire:
            assert wire.put("lab", *conda_package())[0] == 201


def test_an_address_that_is_taken(folder):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused(folder, "serve", FAIRWAY_PORT=str(port))
    assert said == f"Nobody can listen on 127.0.0.1 port {port}: Address already in use."


def test_a_host_that_is_not_here(folder):
    assert refused(folder, "serve", "--host", "203.0.113.1").startswith("Nobody can listen on 203.0.113.1 port")


def test_a_postgresql_that_is_not_there_and_its_password(folder):
    url = f"postgresql://fairway:very-secret@127.0.0.1:{free_port()}/fairway"
    for command in (("serve",), ("channel", "list")):
        said = refused(folder, *command, FAIRWAY_DATABASE_URL=url)
        assert said.startswith("The database does not answer; nothing was changed. Try again in a moment. (")
        assert "Connection refused" in said
        assert "very-secret" not in said


# --- another user --------------------------------------------------------------------------------------------------


@root_only
@COMMANDS
@pytest.mark.parametrize("name", ["fairway.db", "blobs"])
def test_files_of_another_user(folder, command, name):
    """Root could use them, and would leave files behind that the server cannot write."""
    migrated(folder)
    (folder / "blobs").mkdir()
    os.chown(folder / name, NOBODY, NOBODY)
    assert refused(folder, *command) == (
        f"{folder / name} belongs to the user nobody, and this is root: run Fairway as the user nobody."
    )


@pytest.fixture
def read_only(folder: Path) -> Iterator[Path]:
    migrated(folder)
    done = [
        subprocess.run(["mount", *options, folder], capture_output=True, check=False).returncode
        for options in (("--bind", str(folder)), ("-o", "remount,ro,bind"))
    ]
    if any(done):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@root_only
def test_a_read_only_folder(read_only):
    for command in (("serve",), ("channel", "list")):
        assert refused(read_only, *command) == f"The data folder {read_only} cannot be written by this user."


def test_what_a_command_makes_is_for_its_user_alone(folder):
    folder.chmod(0o755)
    env = {"PATH": os.environ["PATH"], "FAIRWAY_DATA": str(folder)}
    subprocess.run(["sh", "-c", f"umask 022; exec {FAIRWAY} channel list"], env=env, check=True, capture_output=True)
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*")} == {0}
