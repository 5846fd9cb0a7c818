"""A server that is killed in the middle of uploads loses nothing it has acknowledged, and comes back by itself."""

from __future__ import annotations

import os
import random
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import FULL, ROUNDS
from tests.crash.harness import Quick, Wire, Zygote, errors, eventually, fsck, make_channel
from tests.crash.journal import CHANNEL, Journal, Shards, Storm, check, download
from tests.support.builders import conda_package
from tests.support.postgres import fresh_database

CYCLES = 14 * ROUNDS  # in each of two tests; with those of test_torture.py more than 70 kills in every run of the suite
CLOUD_CYCLES = 4 * ROUNDS
STOPS = 5


def seed() -> int:
    """A new one each time; the one that failed can be given again, which repeats the choices but not the moments."""
    return int(os.environ.get("FAIRWAY_TEST_SEED") or secrets.randbits(32))


def storm_and_kill(server: Quick, journal: Journal, key: str, *, moment: float, **clients: int) -> None:
    storm = Storm(server, journal, key, **clients)
    storm.start()
    time.sleep(moment)
    server.kill()
    storm.join()


def staging(server: Quick, *, local: bool) -> Path:
    return server.staging if local else server.data / "staging"


def cycles(server: Quick, journal: Journal, key: str, count: int, *, longest: float, local: bool) -> None:
    """Start, check, storm, kill. Now and then the server is killed while it starts, and while it catches up."""
    shards, dice = Shards(), random.Random(journal.random.random())
    server.kill()
    for number in range(count):
        if number % 4 == 3:
            server.launch()
            time.sleep(dice.uniform(0, 0.5))
            server.kill()
        left = set(staging(server, local=local).iterdir())
        server.start()
        assert not left & set(staging(server, local=local).iterdir()), "dead uploads are left in staging"
        if number % 5:
            check(server, journal, shards, key, untouched=number % 9 == 1)
        storm_and_kill(server, journal, key, moment=dice.uniform(0.02, longest))
    server.start()
    check(server, journal, shards, key, untouched=True)
    assert not errors(found := fsck(server)), found
    assert server.stop() == 0
    assert not list(staging(server, local=local).iterdir())


def report(journal: Journal, count: int, started: float, record) -> None:
    """Figures for whoever wants them (`-rP`, junit); and proof that the kills hit something."""
    figures = {"cycles": count, **journal.figures(), "lost": 0, "seconds": round(time.monotonic() - started, 1)}
    for name, value in figures.items():
        record(name, value)
    print(figures)
    assert journal.acknowledged > 3 * count
    assert journal.deleted > 0
    assert journal.cut > count
    assert journal.reads > count


@pytest.mark.parametrize("half", [1, 2])
def test_no_acknowledged_upload_is_lost_to_a_kill(tmp_path, record_property, half):
    started, number = time.monotonic(), seed()
    record_property("seed", number)
    print(f"FAIRWAY_TEST_SEED={number}")
    journal = Journal(number)
    with Zygote() as zygote, Quick(tmp_path / "server", zygote=zygote) as server:
        cycles(server, journal, make_channel(server, CHANNEL), CYCLES, longest=0.7, local=True)
    report(journal, CYCLES, started, record_property)


def test_no_acknowledged_upload_is_lost_to_a_stop(tmp_path, record_property):
    """Asked to stop in the middle of uploads, as at every upgrade, the server ends by itself, and with status 0."""
    journal, shards = Journal(number := seed()), Shards()
    print(f"FAIRWAY_TEST_SEED={number}")
    with Zygote() as zygote, Quick(tmp_path / "server", zygote=zygote) as server:
        key = make_channel(server, CHANNEL)
        for _ in range(STOPS):
            storm = Storm(server, journal, key)
            storm.start()
            time.sleep(0.5)
            assert server.stop() == 0
            storm.join()
            assert not list(server.staging.iterdir())
            server.start()
            check(server, journal, shards, key)
    print({"stops": STOPS, **journal.figures()})
    assert journal.acknowledged > 3 * STOPS


def test_an_upload_under_way_is_finished_before_a_stop(tmp_path):
    """A client that is in the middle of its file when the server is asked to stop sends the rest and gets its answer."""
    filename, data = conda_package("slow", files={"share/x": random.Random(1).randbytes(3 << 20)})
    with Zygote() as zygote, Quick(tmp_path / "server", zygote=zygote) as server:
        key = make_channel(server, CHANNEL)

        def slowly() -> Iterator[bytes]:
            yield data[: 1 << 20]
            assert eventually(lambda: list(server.staging.iterdir()), seconds=10)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(1)
            yield data[1 << 20 :]

        with Wire(server, key) as wire:
            status, answer = wire.put(CHANNEL, filename, slowly())
        assert (status, answer["indexed"]) == (201, True)
        assert server.stop() == 0
        server.start()
        with Wire(server, key) as wire:
            assert download(wire, f"/{CHANNEL}/noarch/{filename}") == (200, data)


@pytest.mark.skipif(not FULL, reason="PostgreSQL and S3 are for the full run (FAIRWAY_TEST_FULL=1)")
@pytest.mark.parametrize("workers", [1, 2])
def test_none_is_lost_on_postgresql_and_s3(tmp_path, postgres_template, s3, record_property, workers):
    """Here the server is started as people start it, alone and with two web processes."""
    started, number = time.monotonic(), seed()
    print(f"FAIRWAY_TEST_SEED={number}")
    journal = Journal(number)
    with fresh_database(postgres_template) as url:
        storage = {"FAIRWAY_DATABASE_URL": url, "FAIRWAY_STORAGE_URL": f"s3://{s3.fresh_bucket()}", **s3.options}
        arguments = ("--workers", str(workers))
        with Quick(tmp_path / "server", env=storage, arguments=arguments) as server:
            cycles(server, journal, make_channel(server, CHANNEL), CLOUD_CYCLES, longest=4, local=False)
    report(journal, CLOUD_CYCLES, started, record_property)
