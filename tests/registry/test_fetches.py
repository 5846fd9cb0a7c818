"""One fetch for several processes: two Fairways on one database, and on one folder or not."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, select, update

from fairway.app import Fairway
from fairway.cli.upstreams import fetch
from fairway.db.models import Channel, Copy, Fetch
from fairway.errors import RemoteUnavailable, RemoteWrong
from fairway.registry import copies, fetches, upstreams
from fairway.registry.actor import CONSOLE
from fairway.registry.copies import Offer
from fairway.registry.fetches import LEASE_MS
from fairway.registry.upstreams import Settings
from fairway.remote.arriving import Follower
from fairway.remote.sharing import State
from fairway.settings import load
from fairway.web import passing
from tests.registry import test_refresh as reading
from tests.registry.test_refresh import attach, refresh
from tests.support import misbehaving as bad
from tests.support.upstream import Handler
from tests.support.waiting import eventually

site, upstream = reading.site, reading.upstream
BODY = random.Random(7).randbytes(3 << 20)
HALF = len(BODY) // 2


@pytest.fixture
def file(site, upstream) -> str:
    """The path of a large file of a mirror, which so far has nothing."""
    name = upstream.add("big", data=BODY)
    upstream.publish()
    refresh(site, attach(site, upstream))
    with site.app.database.write() as session:
        upstreams.attach(session, CONSOLE, "lab", Settings(upstream.url, mode="mirror"), now=site.app.now())
    return name


@pytest.fixture
def other(site, file) -> Iterator[Fairway]:
    """A second process, as far as the database can tell."""
    with Fairway(site.app.loaded) as app:
        yield app


@pytest.fixture
def elsewhere(site, file, tmp_path, upstream) -> Iterator[Fairway]:
    """One on another machine. It has the same store."""
    url = site.app.database.url.render_as_string(hide_password=False)
    options = {
        "data": tmp_path / "elsewhere", "database_url": url, "upstream_allow": upstream.allow,
        "storage_url": f"file://{tmp_path / 'data' / 'blobs'}",
    }  # fmt: skip
    with Fairway(load(options, environ={})) as app:
        app.fetches.machine = "another"
        yield app


def offer(app: Fairway, file: str) -> Offer | None:
    with app.database.read() as session:
        place = session.scalars(select(Channel.id)).one()
        return copies.here(session, place, "noarch", file) or copies.offered(session, place, "noarch", file)


def follow(app: Fairway, file: str) -> Follower:
    found = offer(app, file)
    assert found is not None
    assert found.mirrored
    follower = passing.follow(app, found)
    assert follower is not None
    return follower


def read(follower: Follower) -> bytes:
    with follower:
        return b"".join(follower.chunks())


def first(follower: Follower, size: int) -> bytes:
    """So many bytes, while the rest has not come; the follower goes on."""
    got = b""
    for chunk in follower.chunks():
        got += chunk
        if len(got) >= size:
            break
    return got[:size]


def idle(app: Fairway) -> None:
    eventually(lambda: not app.transfers.under_way())


def kept(app: Fairway) -> int:
    with app.database.read() as session:
        return session.scalar(select(func.count()).where(Copy.fetched_at.is_not(None))) or 0


def rows(app: Fairway) -> int:
    with app.database.read() as session:
        return session.scalar(select(func.count()).select_from(Fetch)) or 0


def later(app: Fairway) -> Callable[[], int]:
    now = app.now
    return lambda: now() + LEASE_MS + 1


def test_another_process_follows_the_file_while_it_grows(site, upstream, file, other):
    upstream.fault(f"*/{file}", bad.hangs(after=HALF))
    ours = follow(site.app, file)
    ours.ready()
    theirs = [follow(other, file) for _ in range(5)]
    # half of it has come, and the last piece of that is held back
    assert all(first(one, HALF // 2) == BODY[: HALF // 2] for one in theirs)
    assert kept(site.app) == 0
    with ThreadPoolExecutor(6) as threads:
        reading = [threads.submit(read, one) for one in (ours, *theirs)]
        upstream.released.set()
        assert all(one.result() == BODY for one in reading)
    idle(site.app), idle(other)
    assert (upstream.count(f"*/{file}"), kept(site.app)) == (1, 1)
    found = offer(other, file)
    assert found is not None
    assert found.url is None


def test_the_last_piece_waits_for_the_word_that_all_was_right(site, upstream, file, other):
    """All bytes are in the staged file, and its holder has not looked at them yet."""
    allowed = threading.Event()
    end = fetches.FileClaim.end

    class Slow(fetches.FileClaim):
        def end(self, *arguments, **named):
            assert allowed.wait(30)
            end(self, *arguments, **named)

    found = offer(site.app, file)
    claim = Slow(site.app.fetches, found)
    keep = threading.Event()
    follower = site.app.transfers.follow("key", passing_wanted(found), lambda *_: keep.wait(30), claim)
    assert follower is not None
    assert read(follower) == BODY  # who is in the same process may have it
    mine = follow(other, file)
    assert first(mine, HALF) == BODY[:HALF]
    ended = threading.Thread(target=lambda: results.append(read(mine)))
    results: list[bytes] = []
    ended.start()
    ended.join(1)
    assert results == []
    keep.set(), allowed.set()
    ended.join(30)
    assert results == [BODY]


def passing_wanted(found: Offer):
    from fairway.remote.arriving import Wanted

    return Wanted(found.url, sha256=found.sha256, size=found.size)


def test_another_machine_waits_for_the_store(site, upstream, file, elsewhere):
    upstream.fault(f"*/{file}", bad.hangs(after=HALF))
    ours = follow(site.app, file)
    ours.ready()
    theirs = follow(elsewhere, file)
    with ThreadPoolExecutor(1) as threads:
        ready = threads.submit(theirs.ready)
        upstream.released.set()
        assert read(ours) == BODY
        assert ready.result() is False
    theirs.close()
    idle(elsewhere)
    assert (upstream.count(f"*/{file}"), kept(site.app)) == (1, 1)


def test_who_waits_is_told_what_was_wrong_and_the_next_begins_anew(site, upstream, file, other):
    def wrong(handler: Handler, body: bytes) -> None:
        handler.send(200, body[:HALF], length=len(body))
        handler.pause()
        handler.wfile.write(body[HALF:-1] + b"?")

    upstream.fault(f"*/{file}", wrong, times=1)
    ours = follow(site.app, file)
    ours.ready()
    theirs = follow(other, file)
    assert first(theirs, 1000) == BODY[:1000]
    upstream.released.set()
    for one in (ours, theirs):
        with pytest.raises(RemoteWrong) as caught:
            read(one)
        assert caught.value.code == "remote_mismatch"
    idle(site.app), idle(other)
    assert (upstream.count(f"*/{file}"), kept(site.app)) == (1, 0)
    assert read(follow(other, file)) == BODY
    assert upstream.count(f"*/{file}") == 2


def test_a_server_that_stops_hands_its_fetch_over(site, upstream, file, other):
    """Those who have half of it from the first get the rest from the second, and see nothing of it."""
    upstream.fault(f"*/{file}", bad.hangs(after=HALF), times=1)
    ours = follow(other, file)
    ours.ready()
    theirs = [follow(site.app, file) for _ in range(3)]
    assert all(first(one, HALF // 2) == BODY[: HALF // 2] for one in theirs)
    other.close()
    with pytest.raises(RemoteUnavailable):
        read(ours)
    assert [read(one) for one in theirs] == [BODY] * 3
    assert upstream.count(f"*/{file}") == 2
    idle(site.app)
    assert kept(site.app) == 1


def test_a_claim_that_lapsed_is_taken_over_once(site, upstream, file, other):
    """Whoever holds it is not dead, only late: what it brings at last does no harm."""
    upstream.fault(f"*/{file}", bad.hangs(after=HALF), times=1)
    ours = follow(other, file)
    ours.ready()
    theirs = follow(site.app, file)
    assert first(theirs, 1000) == BODY[:1000]
    site.app.now = later(site.app)
    assert read(theirs) == BODY
    assert upstream.count(f"*/{file}") == 2
    upstream.released.set()
    assert read(ours) == BODY
    idle(other), idle(site.app)
    assert (upstream.count(f"*/{file}"), kept(site.app)) == (2, 1)


def test_what_begins_with_other_bytes_is_not_sent_on(site, upstream, file, other):
    """The first sent wrong bytes and died before anybody could know; the second sends the right ones."""

    def evil(handler: Handler, body: bytes) -> None:
        handler.send(200, b"evil" * (HALF // 4), length=len(body))
        handler.pause()

    upstream.fault(f"*/{file}", evil, times=1)
    ours = follow(other, file)
    ours.ready()
    theirs = follow(site.app, file)
    assert first(theirs, 1000) == b"evil" * 250
    site.app.now = later(site.app)
    with pytest.raises(RemoteUnavailable):
        read(theirs)
    idle(site.app)
    assert read(follow(site.app, file)) == BODY
    upstream.released.set()
    with pytest.raises(RemoteUnavailable):
        read(ours)


def test_many_who_take_over_at_once_fetch_it_once(site, upstream, file):
    """The claim is a dead process's, and ten others want it."""
    found = offer(site.app, file)
    claims = [fetches.Fetches(site.app.database, site.app.now) for _ in range(10)]
    dead = claims[0].of(found)
    assert dead is not None
    assert dead.take().state is State.OURS
    assert dead.take().state is State.THEIRS
    with site.app.database.write() as session:
        session.execute(update(Fetch).values(lease_until=site.app.now() - 1))
    with ThreadPoolExecutor(10) as threads:
        turns = list(threads.map(lambda one: one.of(found).take(), claims))
    assert sorted(turn.state.name for turn in turns) == ["OURS"] + ["THEIRS"] * 9
    assert len({turn.owner for turn in turns}) == 1
    for one in claims:
        one.close()


def test_a_lease_is_prolonged_and_forgotten(site, upstream, file):
    found = offer(site.app, file)
    mine = fetches.Fetches(site.app.database, site.app.now)
    claim = mine.of(found)
    turn = claim.take()
    with site.app.database.write() as session:
        session.execute(update(Fetch).values(lease_until=site.app.now() - 1))
    assert claim.look(turn.owner).state is State.FREE
    eventually(lambda: claim.look(turn.owner).state is State.THEIRS)
    claim.end(turn.owner, State.GOOD)
    assert claim.look(turn.owner).state is State.GOOD
    mine.close()
    assert rows(site.app) == 0
    # of a process that was killed, and of one whose clock ran ahead
    for now in (site.app.now() - 3 * fetches.FORGET_MS, site.app.now() + 3 * fetches.FORGET_MS):
        left = fetches.Fetches(site.app.database, lambda now=now: now)
        left.of(found).take()
        left._stop.set()
        assert rows(site.app) == 1
        fetches.forget(site.app.database, now=site.app.now())
        assert rows(site.app) == 0


def test_who_is_behind_is_sent_to_the_store(site, upstream, file, other):
    """A page of half a second ago said that the file is to be fetched."""
    stale = offer(other, file)
    assert read(follow(site.app, file)) == BODY
    idle(site.app)
    follower = passing.follow(other, stale)
    assert follower is not None
    assert follower.ready() is False
    follower.close()
    idle(other)
    assert passing.follow(other, stale) is None
    assert upstream.count(f"*/{file}") == 1
    assert site.client.get(f"/lab/noarch/{file}").content == BODY


def test_a_mirrors_job_waits_for_what_the_server_is_sending(site, upstream, file, other):
    upstream.fault(f"*/{file}", bad.hangs(after=HALF))
    ours = follow(site.app, file)
    ours.ready()
    found = offer(site.app, file)
    with other.database.read() as session:
        _, remote = other.upstream_of(session, found.channel_id)
    with ThreadPoolExecutor(1) as threads:
        job = threads.submit(fetch, other, found.channel_id, remote, seconds=60)
        eventually(lambda: [one for one in threading.enumerate() if one.name.startswith("mirror_")])
        upstream.released.set()
        done = job.result()
    assert (done.files, done.failed) == (1, 0)
    assert read(ours) == BODY
    assert upstream.count(f"*/{file}") == 1


def test_a_client_follows_what_a_mirrors_job_is_fetching(site, upstream, file, other):
    upstream.fault(f"*/{file}", bad.hangs(after=HALF))
    found = offer(site.app, file)
    with other.database.read() as session:
        _, remote = other.upstream_of(session, found.channel_id)
    with ThreadPoolExecutor(1) as threads:
        job = threads.submit(fetch, other, found.channel_id, remote, seconds=60)
        upstream.wait_for(f"*/{file}")
        mine = follow(site.app, file)
        assert first(mine, HALF // 2) == BODY[: HALF // 2]
        upstream.released.set()
        assert read(mine) == BODY
        assert job.result().files == 1
    assert upstream.count(f"*/{file}") == 1
    assert hashlib.sha256(site.client.get(f"/lab/noarch/{file}").content).hexdigest() == found.sha256


def test_a_proxy_on_sqlite_needs_no_claim(site, upstream, file):
    found = offer(site.app, file)
    claim = site.app.fetches.of(replace(found, mirrored=False))
    assert (claim is None) == site.app.database.is_sqlite


def test_a_claim_of_a_moment_ahead_is_held(site, upstream, file):
    """Whoever asks looked at the clock, and then waited for the row."""
    found = offer(site.app, file)
    ahead = fetches.Fetches(site.app.database, lambda: site.app.now() + 1_000)
    turn = ahead.of(found).take()
    mine = site.app.fetches.of(found)
    assert (mine.take().state, mine.look(turn.owner).state) == (State.THEIRS, State.THEIRS)
    ahead.close()
