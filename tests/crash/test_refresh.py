"""A refresh of an upstream whose process is killed, or whose server is: clients have the last good index all the time, and what
is served in the end is what the upstream has.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from backports import zstd
from sqlalchemy import select

from fairway.db.models import Job, Subdir, UpstreamName
from fairway.registry import upstreams
from fairway.registry.actor import CONSOLE
from fairway.registry.upstreams import Settings
from tests.conftest import ROUNDS
from tests.crash.harness import GONE, Quick, Wire, Zygote, children, eventually, fsck, make_channel, opened, running
from tests.support import misbehaving
from tests.support.upstream import Upstream

NAMES = 430
PATIENCE = 60
MOMENTS = 2 * ROUNDS

# What the upstream does not answer any more when the process is killed, after how many good answers; names that are kept by then
STEPS = [
    ("/up/noarch/repodata_shards.msgpack.zst", 0, 0),
    ("/up/noarch/shards/*", 50, 0),
    ("/up/noarch/shards/*", 250, 200),
    ("/up/noarch/run_exports.json*", 0, NAMES),
    ("/up/linux-64/repodata_shards.msgpack.zst", 0, NAMES),
    ("/up/win-arm64/repodata_shards.msgpack.zst", 0, NAMES + 1),
]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(documents=("shards",)) as upstream:
        yield upstream


@pytest.fixture
def server(tmp_path: Path, database_url: str, upstream: Upstream) -> Iterator[Quick]:
    env = {"FAIRWAY_DATABASE_URL": database_url, "FAIRWAY_UPSTREAM_ALLOW": upstream.allow}
    with Zygote() as zygote, Quick(tmp_path / "data", zygote=zygote, env=env) as server:
        yield server


def fill(upstream: Upstream, version: str) -> None:
    """Every name in another version than before, and one platform besides."""
    upstream.records.clear()
    upstream.files.clear()
    for number in range(NAMES):
        upstream.add(f"p{number:03}", version)
    upstream.add("tool", version, subdir="linux-64")
    upstream.publish()


def has(upstream: Upstream) -> dict[str, frozenset[str]]:
    return {subdir: frozenset(upstream.records[subdir]) for subdir in ("noarch", "linux-64")}


class Lab:
    """A channel with the upstream, as clients see it."""

    def __init__(self, server: Quick, upstream: Upstream, name: str = "lab", **settings: Any) -> None:
        self.server, self.upstream, self.name = server, upstream, name
        make_channel(server, name, "public")
        with opened(server) as app, app.database.write() as session:
            self.id = upstreams.attach(
                session, CONSOLE, name, Settings(upstream.url, **settings), now=app.now()
            ).channel_id

    def ask(self) -> None:
        """Have it looked at, without the pause that people have to make."""
        with opened(self.server) as app, app.database.write() as session:
            upstreams.look_now(session, self.id, now=app.now())

    def state(self) -> upstreams.UpstreamView:
        with opened(self.server) as app, app.database.read() as session:
            return upstreams.show_of(session, self.id)

    def kept(self) -> int:
        """Names of the upstream's state now that are kept, shown or not."""
        wanted = self.hashes()
        with opened(self.server) as app, app.database.read() as session:
            query = select(UpstreamName.source).join(Subdir, Subdir.id == UpstreamName.subdir_id)
            return sum(source in wanted for source in session.scalars(query.where(Subdir.channel_id == self.id)))

    def hashes(self) -> set[bytes]:
        return {bytes.fromhex(path.split("/")[-1][:64]) for path in self.upstream.files if "/shards/" in path}

    def idle(self) -> bool:
        """Whether nobody works on it, and nobody is about to."""
        with opened(self.server) as app, app.database.read() as session:
            job = session.scalars(select(Job).where(Job.kind == "refresh", Job.key == str(self.id))).one()
            return job.lease_until == 0 and job.run_at > app.now()

    def documents(self) -> dict[str, frozenset[str]]:
        """The files in repodata.json of each platform."""
        found = {}
        with Wire(self.server) as wire:
            for subdir in ("noarch", "linux-64"):
                status, _, body = wire.ask("GET", f"/{self.name}/{subdir}/repodata.json")
                found[subdir] = frozenset(json.loads(body)["packages.conda"]) if status == 200 else frozenset()
        return found

    def shards(self) -> frozenset[str]:
        with Wire(self.server) as wire:
            status, _, body = wire.ask("GET", f"/{self.name}/noarch/repodata_shards.msgpack.zst")
            if status != 200:
                return frozenset()
            return frozenset(msgspec.msgpack.decode(zstd.decompress(body))["shards"])

    def is_whole(self) -> bool:
        return eventually(lambda: self.documents() == has(self.upstream), seconds=PATIENCE, pause=0.2)


class Watching:
    """Somebody who reads the index all the time, also while the server is away."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._over = lab, threading.Event()
        self.documents: set[tuple[str, frozenset[str]]] = set()
        self.shards: set[frozenset[str]] = set()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            with contextlib.suppress(*GONE):
                self.documents |= set(self._lab.documents().items())
                self.shards.add(self._lab.shards())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=60)


@contextlib.contextmanager
def only_whole_states(lab: Lab, *before: dict[str, frozenset[str]]) -> Iterator[None]:
    """What clients get meanwhile is one of these or what the upstream has in the end, whole."""
    with Watching(lab) as watching:
        yield
    states = [*before, has(lab.upstream)]
    assert watching.documents <= {one for state in states for one in state.items()}
    assert watching.shards <= {frozenset(name.split("-")[0] for name in state["noarch"]) for state in states}
    assert watching.documents


NOTHING: dict[str, frozenset[str]] = {"noarch": frozenset(), "linux-64": frozenset()}


def refreshing(server: Quick) -> list[int]:
    """The processes in which the server refreshes upstreams."""
    return [pid for pid in children(server.process.pid) if b"upstream\0refresh" in commandline(pid)]


def commandline(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def stall(lab: Lab, pattern: str, good: int, kept: int) -> int:
    """Have the upstream stop answering there, and what was read until then kept; the process that waits for it."""
    upstream = lab.upstream
    upstream.heal()
    upstream.asked.clear()
    upstream.fault(pattern, misbehaving.hangs())
    if good:
        upstream.fault(pattern, misbehaving.good(), times=good)
    lab.ask()
    upstream.wait_for(pattern, good + 1)
    assert eventually(lambda: lab.kept() >= kept, seconds=PATIENCE)
    (child,) = refreshing(lab.server)
    return child


def killed(lab: Lab, pattern: str, good: int, kept: int) -> None:
    """The process of a refresh is killed there; the server says so, and the next one ends well."""
    os.kill(stall(lab, pattern, good, kept), signal.SIGKILL)
    assert eventually(lambda: "broken off" in (lab.state().error or ""), seconds=PATIENCE)
    assert lab.state().progress is None
    assert eventually(lab.idle, seconds=PATIENCE)
    lab.upstream.heal()
    lab.upstream.asked.clear()
    lab.ask()
    assert lab.is_whole()
    assert lab.upstream.count("*/shards/*") <= NAMES + 1 - kept
    assert eventually(lambda: lab.state().error is None and lab.idle(), seconds=PATIENCE)


def test_a_first_import_whose_process_is_killed_shows_nothing_and_goes_on(server, upstream):
    fill(upstream, "1.0")
    for number, step in enumerate((STEPS[0], *STEPS[2:5])):
        upstream.fault("*", misbehaving.hangs())
        lab = Lab(server, upstream, f"lab{number}")
        with only_whole_states(lab, NOTHING):
            killed(lab, *step)
    assert not fsck(server)


def test_a_refresh_whose_process_is_killed_shows_the_state_before_and_goes_on(server, upstream):
    fill(upstream, "1.0")
    lab = Lab(server, upstream)
    assert lab.is_whole()
    assert eventually(lab.idle, seconds=PATIENCE)
    for number, step in enumerate((*STEPS[1:4], STEPS[5])):
        before = has(upstream)
        fill(upstream, f"2.{number}")
        with only_whole_states(lab, before):
            killed(lab, *step)
    assert not fsck(server)


def test_a_refresh_that_is_killed_at_any_moment_loses_nothing(server, upstream):
    fill(upstream, "1.0")
    lab = Lab(server, upstream)
    assert lab.is_whole()
    dice = random.Random(os.environ.get("FAIRWAY_TEST_SEED"))
    for number in range(MOMENTS):
        assert eventually(lab.idle, seconds=PATIENCE)
        before = has(upstream)
        fill(upstream, f"2.{number}")
        upstream.asked.clear()
        with only_whole_states(lab, before):
            lab.ask()
            upstream.wait_for("/up/noarch/shards/*", dice.randrange(1, NAMES))
            time.sleep(dice.uniform(0, 0.5))
            for pid in refreshing(server):
                os.kill(pid, signal.SIGKILL)
            assert eventually(lab.idle, seconds=PATIENCE)
            lab.ask()
            assert lab.is_whole()
    assert eventually(lab.idle, seconds=PATIENCE)
    assert not fsck(server)


@pytest.mark.parametrize("step", [STEPS[2], STEPS[3]], ids=["reading", "showing"])
def test_the_refresh_of_a_server_that_is_killed_ends_and_begins_anew_with_the_next(server, upstream, step):
    """It is not asked for again: who comes back knows that nobody can be at it any more."""
    fill(upstream, "1.0")
    lab = Lab(server, upstream)
    assert lab.is_whole()
    assert eventually(lab.idle, seconds=PATIENCE)
    before = has(upstream)
    fill(upstream, "2.0")
    with only_whole_states(lab, before):
        child = stall(lab, *step)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        assert eventually(lambda: not running([child]), seconds=10), "the refresh lives on without its server"
        assert lab.state().progress is not None
        upstream.heal()
        upstream.asked.clear()
        server.start()
        assert lab.documents() == before
        assert lab.is_whole()
        assert upstream.count("*/shards/*") <= NAMES + 1 - step[2]
    assert eventually(lambda: lab.idle() and lab.state().error is None, seconds=PATIENCE)
    assert lab.state().failures == 0
    assert not fsck(server)


def test_a_mirror_whose_process_is_killed_fetches_what_is_not_here_yet(server, upstream):
    fill(upstream, "1.0")
    lab = Lab(server, upstream, mode="mirror", wanted={"names": ["p00*"]})
    assert eventually(lambda: lab.state().kept_files == 10 and lab.idle(), seconds=PATIENCE)
    fill(upstream, "2.0")
    child = stall(lab, "*.conda", 4, 0)
    assert eventually(lambda: lab.state().kept_files >= 14, seconds=PATIENCE)
    os.kill(child, signal.SIGKILL)
    assert eventually(lambda: "broken off" in (lab.state().error or "") and lab.idle(), seconds=PATIENCE)
    upstream.heal()
    upstream.asked.clear()
    lab.ask()
    assert eventually(lambda: lab.state().kept_files == 20 and lab.idle(), seconds=PATIENCE)
    assert upstream.count("*.conda") == 6
    assert not fsck(server)
