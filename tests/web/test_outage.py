"""The database or the object store is away: what is known goes on, the rest says so at once, and all of it comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from fairway.app import Fairway
from fairway.registry import lookup
from fairway.registry.lookup import MISSING, Memory
from fairway.settings import load
from fairway.web import fetching
from tests.support.builders import conda_package
from tests.support.postgres import fresh_database
from tests.support.s3 import own_s3_server
from tests.support.servers import Missing
from tests.support.site import Site, bearer
from tests.support.wire import Wire
from tests.web.reading import Channel, filled

COLD = ("/lab/linux-64/shards/" + "0" * 64 + ".msgpack.zst", "/none/noarch/repodata.json")


@pytest.fixture
def wire(postgres_template: str) -> Iterator[tuple[Wire, str]]:
    """A PostgreSQL at the end of a wire."""
    with fresh_database(template=postgres_template) as url:
        parts = urlsplit(url)
        with Wire(parts.port or 5432) as wire:
            netloc = parts.netloc.rsplit(":", 1)[0] + f":{wire.port}"
            yield wire, urlunsplit(parts._replace(netloc=netloc))


@pytest.fixture
def far(wire: tuple[Wire, str], tmp_path: Path) -> Iterator[Site]:
    """A site whose database is at the end of the wire, and its packages on this disk."""
    options = {"data": tmp_path / "data", "database_url": wire[1], "reading_processes": 1}
    app = Fairway(load(options, environ={}))
    with Site(app) as site:
        yield site
        wire[0].mend()
    app.close()


def lose(wire: Wire, site: Site) -> None:
    """Cut it, and wait until that is noticed: what is less than half a second old needs no database."""
    wire.cut()
    until("it is noticed", lambda: site.get("/asked-for-now/notices.json").status_code and site.app.lookup.away)


def warm(lab: Channel) -> dict[str, bytes]:
    return {name: lab.get(name, lab.key).content for name in lab.paths}


def until(what: str, check: object) -> None:
    deadline = time.monotonic() + 30
    while not check():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_readers_go_on_while_the_database_is_away_and_writers_are_told(wire, far):
    lab, secret = filled(far, "lab"), filled(far, "secret", "private")
    wanted, hidden = warm(lab), warm(secret)
    for name in lab.paths:
        lab.get(name)
    lose(wire[0], far)
    for name, body in wanted.items():
        for key in (None, lab.key, far_stranger(lab.key)):
            answer = lab.get(name, key)
            assert (answer.status_code, answer.content) == (200, body), (name, key)
    for name, body in hidden.items():  # this key is warm
        assert secret.get(name, secret.key).content == body, name
    answer = far.put("lab", conda_package("new"), lab.key)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert lab.get("repodata.json", if_none_match="*").status_code == 304
    assert lab.get("conda", range="bytes=0-9").content == lab.conda[1][:10]


def far_stranger(key: str) -> str:
    """A key of the right form that nobody was ever given."""
    from fairway.registry.tokens import new_secret

    return new_secret(key[4])


def test_readiness_names_what_is_away_and_the_process_lives(wire, far):
    assert far.get("/health/ready").json() == {"status": "ok", "database": "ok", "storage": "ok"}
    lose(wire[0], far)
    answer = far.get("/health/ready")
    assert answer.status_code == 503
    assert (answer.json()["storage"], answer.json()["database"] == "ok") == ("ok", False)
    assert far.get("/health/live").status_code == 200


def test_nobody_learns_from_an_outage_which_hidden_channels_there_are(wire, far):
    secret = filled(far, "secret", "private")
    warm(secret)
    for name in ("secret", "none"):
        assert far.get(f"/{name}/noarch/repodata.json").status_code == 401  # and so both are remembered
    lose(wire[0], far)
    keys = (None, far_stranger(secret.key), "hello")
    for key in keys:
        answers = [far.get(f"/{name}/noarch/repodata.json", key) for name in ("secret", "none", "never-asked-for")]
        assert {answer.status_code for answer in answers} == {503}
        assert len({answer.content for answer in answers}) == 1


def test_a_key_is_good_for_a_minute_and_no_longer(wire, far, monkeypatch):
    lab, secret = filled(far, "lab"), filled(far, "secret", "private")
    warm(lab)
    warm(secret)
    lose(wire[0], far)
    assert secret.get("repodata.json", secret.key).status_code == 200
    monkeypatch.setattr(lookup, "PERSONAL_SECONDS", 0.0)
    far.app.lookup._view = lookup.View(far.app.lookup, None)  # its half second is over
    answer = secret.get("repodata.json", secret.key)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert lab.get("repodata.json", secret.key).status_code == 200  # needs no key


def test_what_changed_is_seen_once_the_database_is_back(wire, far):
    lab = filled(far, "lab")
    warm(lab)
    lose(wire[0], far)
    assert lab.get("repodata.json").status_code == 200
    wire[0].mend()
    until("the database is found again", lambda: not far.app.lookup.away)
    admin = far.key(scope="admin")
    change = far.client.patch("/api/v1/channels/lab", json={"visibility": "private"}, headers=bearer(admin))
    assert change.status_code == 200, change.text
    assert lab.get("repodata.json").status_code == 401
    assert far.get("/health/ready").status_code == 200


def test_a_database_that_says_nothing_holds_nobody_up_for_long(wire, far):
    lab = filled(far, "lab")
    wanted = warm(lab)
    for name in lab.paths:
        lab.get(name)
    wire[0].silence()
    before = threading.active_count()
    until("it is noticed", lambda: lab.get("conda").status_code == 200 and far.app.lookup.away)
    for name, body in wanted.items():
        assert lab.get(name).content == body, name
    for path in COLD:
        assert far.get(path).status_code in {404, 503}
    assert threading.active_count() <= before + 8
    wire[0].mend()
    until("the database is found again", lambda: not far.app.lookup.away)


def test_a_blocked_writer_keeps_no_reader_out(site):
    lab = filled(site, "lab")
    wanted = warm(lab)
    with site.app.database.write():
        for name, body in wanted.items():
            assert lab.get(name).content == body
            assert lab.get(name, lab.key).content == body


@pytest.fixture
def cloud(database_url: str, tmp_path: Path) -> Iterator[tuple[Site, object]]:
    """A site on an S3 server of its own."""
    try:
        with own_s3_server() as server:
            environ = {**server.options}
            options = {
                "data": tmp_path / "data",
                "database_url": database_url,
                "storage_url": f"s3://{server.fresh_bucket()}/fairway",
                "reading_processes": 1,
            }
            app = Fairway(load(options, environ=environ))
            with Site(app) as site:
                yield site, server
            app.close()
    except Missing as reason:
        pytest.skip(f"no S3: {reason}")


def test_while_the_object_store_hangs_what_is_in_memory_is_served_and_the_rest_is_refused_soon(cloud, monkeypatch):
    site, server = cloud
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 1.0)
    monkeypatch.setattr("fairway.web.health.READY_SECONDS", 1.0)
    lab, other = filled(site, "lab"), filled(site, "other")
    warm(lab)
    server.pause()
    try:
        for name in lab.paths:
            # packages are the store's own affair: the signed address is made here
            wanted = 307 if name in {"conda", "tar.bz2"} else 200
            assert lab.get(name).status_code == wanted, name
        answer = other.get("repodata.json")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        ready = site.get("/health/ready")
        assert (ready.status_code, ready.json()["database"]) == (503, "ok")
        assert ready.json()["storage"] != "ok"
        assert site.get("/health/live").status_code == 200
    finally:
        server.resume()
    until("the store is found again", lambda: other.get("repodata.json").status_code == 200)


def test_while_the_object_store_is_gone_what_is_in_memory_is_served(cloud):
    site, server = cloud
    lab, other = filled(site, "lab"), filled(site, "other")
    warm(lab)
    server.kill()
    assert {lab.get(name).status_code for name in ("repodata.json", "repodata.json.zst", "shard")} == {200}
    answer = other.get("repodata.json")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_a_memory_forgets_its_older_half():
    memory = Memory(4)
    for number in range(4):
        memory.put(number, str(number))
    assert [memory.get(number)[0] for number in range(4)] == ["0", "1", "2", "3"]
    memory.put(4, None)
    assert [memory.get(number)[0] for number in range(5)] == [MISSING, MISSING, "2", "3", None]
