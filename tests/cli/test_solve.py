"""`fairway solve`: which channels a package needs, for who has the server's data."""

import json

import pytest

from fairway.app import Fairway
from fairway.registry import channels
from fairway.registry.actor import CONSOLE, Visibility
from fairway.settings import load as settings
from tests.support.rows import NOW, load, made, named


@pytest.fixture
def cli(cli, tmp_path, database_url):
    with Fairway(settings({"data": tmp_path / "data", "database_url": database_url}, environ={})) as app:
        for name in ("own", "libs"):
            with app.database.write() as session:
                channels.create_channel(session, CONSOLE, name, owner="admin", visibility=Visibility.PRIVATE, now=NOW)
        load(app, "own", "linux-64", named(made("app", "1.0", ["lib"]), made("app", "2.0", ["nowhere"])))
        load(app, "own", "linux-64", named(made("other", "1.0", ["nowhere"])))
        load(app, "libs", "linux-64", named(made("lib")))
    return cli


def test_the_channels_are_printed_and_why_there_are_none(cli):
    done = cli("solve", "own/app", "--version", "1.0")
    assert done.stdout.splitlines() == ["http://127.0.0.1:8000/own", "http://127.0.0.1:8000/libs"]
    assert done.status == 0
    older = cli("solve", "own/app")
    assert older.stdout == done.stdout
    assert older.stderr.startswith(
        "This is for app 1.0; 2.0 cannot be installed. These dependencies are met by no channel"
    )
    none = cli("solve", "own/other")
    assert (none.status, none.stdout) == (1, "")
    assert none.stderr == "These dependencies are met by no channel you may read: nowhere.\n"
    found = json.loads(cli("solve", "own/app", "--json").stdout)
    assert [one["name"] for one in found["channels"]] == ["own", "libs"]
    for wrong in ("app", "own/", "own/app/1.0", "own/missing"):
        assert cli("solve", wrong).status == 1
