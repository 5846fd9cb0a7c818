"""How often somebody may ask, and who that is behind proxies."""

from ipaddress import ip_network

import pytest

from fairway.app import Fairway
from fairway.errors import RateLimited
from fairway.settings import load
from fairway.web.limits import REMEMBERED, Limit, Passwords, caller
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


def tried(limit, name, address, browser=None):
    try:
        limit.take(name, address, browser)
    except RateLimited as refused:
        return refused.seconds
    return True


def test_an_address_that_tries_many_names_is_slowed():
    clock = Clock()
    limit = Passwords(clock=clock)
    found = [tried(limit, f"name{number}", "192.0.2.1") for number in range(12)]
    assert found == [True] * 10 + [30, 30]
    assert tried(limit, "name10", "192.0.2.2") is True  # and nobody else by it
    clock.now += 30
    assert [tried(limit, f"name{number}", "192.0.2.1") for number in (20, 21)] == [True, 30]


def test_a_name_tried_from_many_addresses_is_slowed_but_not_for_the_browser_that_is_known():
    clock = Clock()
    limit = Passwords(clock=clock)
    for minutes in range(60):  # for an hour strangers take whatever there is
        clock.now = 100.0 + 60 * minutes
        while tried(limit, "ada", f"stranger{clock.now}") is True:
            clock.now += 0.001
        assert tried(limit, "ada", "home") is not True
        assert tried(limit, "ada", "home", "known") is True
        limit.right("ada", "home", "known")
    # waiting for the name has used up nothing of the address
    assert [tried(limit, "bob", "home") for _ in range(11)] == [True] * 10 + [30]
    assert [tried(limit, "ada", "home", "known") for _ in range(11)] == [True] * 10 + [30]
    assert tried(limit, "Ada ", "home", "another") is True
    clock.now += 300
    assert tried(limit, "ada", "home") is True  # and it is over when they are


def test_all_together_are_bounded_and_known_browsers_are_not_kept_out_by_that():
    clock = Clock()
    limit = Passwords(clock=clock)
    passed = 0
    while tried(limit, f"n{passed}", f"a{passed}") is True:
        limit.right(f"n{passed}", f"a{passed}")
        passed += 1
    assert 999 <= passed <= 1_000  # thirds of a second do not add up in binary
    assert tried(limit, "ada", "home") == 1
    assert tried(limit, "ada", "home", "known") is True


def test_the_code_of_the_set_up_is_not_kept_from_whoever_has_it():
    """Strangers who use up the name that the code is counted by would keep the administrator out."""
    limit = Passwords(clock=Clock())
    for number in range(100):
        limit.take_code(f"192.0.2.{number}")
    for _ in range(10):
        limit.take_code("home")
    with pytest.raises(RateLimited):
        limit.take_code("home")


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
