"""`fairway upstream reserved` and `release`: names that stay a channel's when all their files are deleted."""

from __future__ import annotations

import json

from fairway.db.engine import Database
from fairway.registry import withdraw
from fairway.registry.actor import CONSOLE
from tests.support.builders import conda_package
from tests.support.upstream import Upstream


def test_names_are_listed_and_released_after_asking(cli, tmp_path, database_url):
    filename, data = conda_package("acme", "1.0", "h0_0")
    (tmp_path / filename).write_bytes(data)
    with Upstream() as upstream:
        env = {"FAIRWAY_UPSTREAM_ALLOW": upstream.allow}
        upstream.add("acme", "9.0")
        upstream.publish()
        assert cli("upstream", "set", "lab", upstream.url, env=env).status == 0
        assert cli("upstream", "refresh", "lab", env=env).status == 0
        assert cli("upload", "lab", tmp_path / filename, "--local", env=env).status == 0
        assert json.loads(cli("upstream", "reserved", "lab", "--json").stdout) == []
    database = Database(database_url)
    with database.write() as session:
        withdraw.delete(session, CONSOLE, "lab", "noarch", filename, now=1_790_000_000_000)
    database.close()
    (kept,) = json.loads(cli("upstream", "reserved", "lab", "--json").stdout)
    assert (kept["name"], kept["files upstream"]) == ("acme", 1)
    asked = cli("upstream", "release", "lab", "acme")  # and nobody answers
    assert asked.status == 1
    assert "dependency confusion" in asked.stdout
    assert len(json.loads(cli("upstream", "reserved", "lab", "--json").stdout)) == 1
    assert cli("upstream", "release", "lab", "acme", "--yes").status == 0
    assert json.loads(cli("upstream", "reserved", "lab", "--json").stdout) == []
    missing = cli("upstream", "release", "lab", "acme", "--yes")
    assert missing.status == 1
    assert "keeps no name acme" in missing.stderr
