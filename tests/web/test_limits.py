"""How often somebody may ask, and who that is behind proxies."""

from ipaddress import ip_network

import pytest

from fairway.app import Fairway
from fairway.errors import RateLimited
from fairway.settings import load
from fairway.web.limits import REMEMBERED, Limit, caller
from tests.support.builders import conda_package
from tests.support.site import Site, bearer

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("127.0.0.1"))


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def passes(limit, who="a"):
    try:
        limit.take(who)
    except RateLimited as refused:
        return refused.seconds
    return True


def test_a_burst_passes_and_then_as_many_as_time_allows():
    clock = Clock()
    limit = Limit("things", 60, 60, 3, clock=clock)
    assert [passes(limit) for _ in range(5)] == [True, True, True, 1, 1]
    assert passes(limit, "another") is True
    clock.now += 1
    assert [passes(limit) for _ in range(2)] == [True, 1]
    clock.now += 3600
    assert [passes(limit) for _ in range(4)] == [True, True, True, 1]


def test_none_is_no_limit():
    limit = Limit("things", 0, 60, 0)
    assert all(passes(limit) is True for _ in range(1000))


def test_strangers_do_not_fill_the_memory():
    clock = Clock()
    limit = Limit("things", 1, 60, 1, clock=clock)
    for number in range(REMEMBERED + 50):
        assert passes(limit, number) is True
    assert len(limit._whole_at) == REMEMBERED
    assert passes(limit, REMEMBERED + 40) == 60


@pytest.mark.parametrize(
    ("client", "forwarded", "counted"),
    [
        # nobody's proxy: the header is what a stranger says
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1, 10.0.0.1"], "203.0.113.9"),
        # ours: what it saw
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [" 198.51.100.1 "], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ['"198.51.100.1"'], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["198.51.100.1"], "198.51.100.1"),
        ("fe80::1%eth0", ["198.51.100.1"], "fe80::/64"),
        # forged further left: the right one counts
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["127.0.0.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.2.3.4"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1, 10.2.3.4, 10.9.9.9"], "198.51.100.1"),
        # all of it ours: the outermost
        ("10.0.0.1", ["10.2.3.4"], "10.2.3.4"),
        ("10.0.0.1", [], "10.0.0.1"),
        # nonsense counts as the last that could be believed
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [","], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, _hidden"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, unknown, 10.2.3.4"], "10.2.3.4"),
        ("10.0.0.1", ["999.1.1.1"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1/8"], "10.0.0.1"),
        ("10.0.0.1", ["\u0661.2.3.4"], "10.0.0.1"),
        ("", ["198.51.100.1"], "unknown"),
        ("testclient", ["198.51.100.1"], "unknown"),
    ],
)
def test_who_is_counted(client, forwarded, counted):
    assert caller(client, forwarded, TRUSTED) == counted
    if client not in {"", "testclient"} and not forwarded:
        assert caller(client, ["1.2.3.4"], ()) == counted  # without proxies of ours nothing is believed


@pytest.fixture
def limited(tmp_path):
    options = {"data": tmp_path / "data", "reading_processes": 1, "searches_per_minute": 6, "channels_per_hour": 2,
               "uploads_per_minute": 1}  # fmt: skip
    app = Fairway(load(options, environ={}))
    with Site(app) as site:
        site.channel("lab", "public")
        yield site
    app.close()


def refused(answer):
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    return answer


def test_what_is_asked_too_often_gets_429_and_everything_else_goes_on(limited):
    key = bearer(limited.key("admin", "admin"))
    searches = [limited.client.get("/api/v1/search?q=x") for _ in range(31)]
    assert {answer.status_code for answer in searches[:30]} == {200}
    assert refused(searches[30]).json()["code"] == "rate_limited"
    made = [limited.client.post("/api/v1/channels", json={"name": f"c{n}"}, headers=key) for n in range(3)]
    assert [answer.status_code for answer in made[:2]] == [201, 201]
    assert "2 new channels an hour" in refused(made[2]).json()["detail"]
    for number in range(3):
        filename, data = conda_package("demo", f"1.{number}")
        path = f"/api/v1/channels/lab/artifacts/{filename}"
        assert limited.client.put(path, content=data, headers=key).status_code == 201
    filename, data = conda_package("demo", "2.0")
    refused(limited.client.put(f"/api/v1/channels/lab/artifacts/{filename}", content=data, headers=key))
    form = {"file": (filename, data, "application/octet-stream")}
    said = refused(limited.client.post("/api/v1/upload/lab", files=form, headers=key))
    assert (said.headers["content-type"].split(";")[0], said.headers["fairway-error"]) == ("text/plain", "rate_limited")
    other = bearer(limited.key("admin", "upload"))  # each key has its own
    assert limited.client.post("/api/v1/upload/lab", files=form, headers=other).status_code == 201
    for _ in range(200):
        assert limited.client.get("/lab/noarch/repodata_shards.msgpack.zst").status_code == 200


@pytest.mark.parametrize("http_server", ["granian", "uvicorn"])
def test_a_client_is_not_counted_as_whom_it_says_it_is(serve, http_server):
    """Also not by the HTTP server: from this machine, uvicorn would believe anybody."""
    server = serve(env={"FAIRWAY_HTTP_SERVER": http_server, "FAIRWAY_SEARCHES_PER_MINUTE": "1"})
    found = [
        server.get("/api/v1/search?q=x", **{"X-Forwarded-For": f"192.0.2.{number}"}).status_code for number in range(32)
    ]
    assert found.count(200) in {30, 31}
    assert found[-1] == 429
