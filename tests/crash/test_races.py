"""Many clients at the same moment, on one server, on two processes, and on two servers: exactly one of them wins."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from fairway.registry import channels
from fairway.registry.actor import CONSOLE
from tests.conftest import FULL, ROUNDS
from tests.crash.harness import Quick, Wire, eventually, fsck, make_channel, opened, together
from tests.crash.journal import download
from tests.support.builders import conda_package
from tests.support.postgres import fresh_database

CLIENTS = 16
KINDS = ["one server", "two processes", "two servers"]


class Stage:
    """One or two servers of the same Fairway; client n talks to one of them."""

    def __init__(self, servers: list[Quick]) -> None:
        self.servers = servers
        self.key = make_channel(servers[0], "lab", "public")

    def wire(self, number: int = 0) -> Wire:
        return Wire(self.servers[number % len(self.servers)], self.key)

    def race(self, packages: list[tuple[str, bytes]], **params: str) -> list[tuple[int, dict]]:
        def upload(number: int) -> tuple[int, dict]:
            with self.wire(number) as wire:
                return wire.put("lab", *packages[number], **params)

        results = together(upload, len(packages))
        assert not [result for result in results if isinstance(result, BaseException)], results
        return results

    def listed(self, number: int = 0) -> dict[str, str]:
        """The packages in the index, file name to sha256, as one of the servers shows it."""
        with self.wire(number) as wire:
            _, _, body = wire.ask("GET", "/lab/noarch/repodata.json")
        return {name: record["sha256"] for name, record in json.loads(body)["packages.conda"].items()}

    def settled(self, wanted: dict[str, str]) -> None:
        """Every server lists this, and serves it; rows, files and index agree."""
        for number in range(len(self.servers)):
            assert eventually(lambda number=number: wanted.items() <= self.listed(number).items(), seconds=30)
            with self.wire(number) as wire:
                for filename, sha256 in wanted.items():
                    status, body = download(wire, f"/lab/noarch/{filename}")
                    assert (status, hashlib.sha256(body).hexdigest()) == (200, sha256)

    def checked(self) -> None:
        assert not [finding for finding in fsck(self.servers[0]) if finding["harm"] == "error"]


@pytest.fixture(scope="module", params=KINDS if FULL else KINDS[:1])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("race")
    with contextlib.ExitStack() as stack:
        env: dict[str, str] = {}
        if request.param != "one server":
            template, s3 = request.getfixturevalue("postgres_template"), request.getfixturevalue("s3")
            url = stack.enter_context(fresh_database(template))
            env = {"FAIRWAY_DATABASE_URL": url, "FAIRWAY_STORAGE_URL": f"s3://{s3.fresh_bucket()}", **s3.options}
        arguments = ("--workers", "2") if request.param == "two processes" else ()
        count = 2 if request.param == "two servers" else 1
        servers = [Quick(folder / f"server{number}", env=env, arguments=arguments) for number in range(count)]
        stage = Stage([stack.enter_context(server) for server in servers])
        yield stage
        stage.checked()
        assert [server.stop() for server in servers] == [0] * count


def versions(name: str, count: int) -> list[tuple[str, bytes]]:
    """One file name, and each time other bytes."""
    return [conda_package(name, files={"share/number": b"%d" % number}) for number in range(count)]


def test_one_of_many_different_files_wins_a_name(stage):
    winners = {}
    for number in range(2 * ROUNDS):
        packages = versions(f"different{number}", CLIENTS)
        results = stage.race(packages)
        assert Counter(status for status, _ in results) == {201: 1, 409: CLIENTS - 1}
        assert {answer["code"] for status, answer in results if status == 409} == {"file_exists"}
        (won,) = (place for place, (status, _) in enumerate(results) if status == 201)
        filename, data = packages[won]
        winners[filename] = hashlib.sha256(data).hexdigest()
        assert results[won][1]["sha256"] == winners[filename]
    stage.settled(winners)


def test_the_same_file_from_many_is_stored_once(stage):
    stored = {}
    for number in range(2 * ROUNDS):
        filename, data = conda_package(f"same{number}")
        results = stage.race([(filename, data)] * CLIENTS)
        assert Counter(status for status, _ in results) == {201: 1, 200: CLIENTS - 1}
        assert len({answer["indexed_timestamp"] for _, answer in results}) == 1
        stored[filename] = hashlib.sha256(data).hexdigest()
    stage.settled(stored)


def test_different_files_from_many_are_all_stored_and_counted(stage):
    with opened(stage.servers[0]) as app, app.database.read() as session:
        before = channels.show(session, CONSOLE, "lab")
    packages = [conda_package(f"many{number}", files={"x": random.randbytes(50)}) for number in range(CLIENTS)]
    results = stage.race(packages)
    assert {status for status, _ in results} == {201}
    stage.settled({filename: hashlib.sha256(data).hexdigest() for filename, data in packages})
    with opened(stage.servers[0]) as app, app.database.read() as session:
        after = channels.show(session, CONSOLE, "lab")
    assert after.artifacts - before.artifacts == CLIENTS
    assert after.size - before.size == sum(len(data) for _, data in packages)


def test_a_forced_name_has_the_bytes_of_one_of_them(stage):
    """Each replaces what it finds; whichever is last is there whole, counted once."""
    with opened(stage.servers[0]) as app, app.database.write() as session:
        channels.update_channel(session, CONSOLE, "lab", channels.Change(allow_overwrite=True), now=app.now())
    try:
        time.sleep(1.1)  # other processes may keep a channel's settings for a second
        packages = versions("forced", CLIENTS)
        results = stage.race(packages, force="true")
        assert {status for status, _ in results} == {201}
        assert sum(not answer["replaced"] for _, answer in results) == 1
        sent = {hashlib.sha256(data).hexdigest() for _, data in packages}
        stage.checked()
        with stage.wire() as wire:
            last = wire.ask("GET", "/api/v1/channels/lab/artifacts/noarch/forced-1.0-h0_0.conda")[2]
        (current,) = (sha256 for sha256 in sent if sha256.encode() in last)
        stage.settled({"forced-1.0-h0_0.conda": current})
    finally:
        with opened(stage.servers[0]) as app, app.database.write() as session:
            channels.update_channel(session, CONSOLE, "lab", channels.Change(allow_overwrite=False), now=app.now())


def test_one_of_many_deletes_wins(stage):
    filename, data = conda_package("deleted")
    with stage.wire() as wire:
        assert wire.put("lab", filename, data)[0] == 201

    def delete(number: int) -> int:
        with stage.wire(number) as wire:
            return wire.ask("DELETE", f"/api/v1/channels/lab/artifacts/noarch/{filename}")[0]

    assert Counter(together(delete, CLIENTS)) == {204: 1, 404: CLIENTS - 1}
    for number in range(len(stage.servers)):
        assert eventually(lambda number=number: filename not in stage.listed(number), seconds=30)
    again = stage.race([(filename, data)] * 4)
    assert {(status, answer["code"]) for status, answer in again} == {(409, "filename_retired")}


def test_a_download_outlives_the_delete(stage):
    """A slow client that has begun gets the whole file, and one that comes a little later does too."""
    filename, data = conda_package("slow", files={"share/x": random.Random(1).randbytes(20 << 20)})
    with stage.wire() as wire:
        assert wire.put("lab", filename, data)[0] == 201
    path = f"/t/{stage.key}/lab/noarch/{filename}"  # a key in the path: also an object store's file is streamed
    with Wire(stage.servers[0]) as slow:
        connection = slow._connection
        connection.request("GET", path)
        answer = connection.getresponse()
        received = [answer.read(1000)]
        with stage.wire(1) as wire:
            assert wire.ask("DELETE", f"/api/v1/channels/lab/artifacts/noarch/{filename}")[0] == 204
        while piece := answer.read(3 << 20):
            received.append(piece)
            time.sleep(0.05)
    assert b"".join(received) == data
    with stage.wire() as wire:
        assert download(wire, f"/lab/noarch/{filename}") == (200, data)


def test_readers_never_see_a_name_without_its_file(stage):
    """Uploads, deletes and readers at once: whatever an index of any moment names can be fetched as it says."""
    rounds = 12

    def work(number: int) -> list[str]:
        wrongs = []
        with stage.wire(number) as wire:
            for turn in range(rounds):
                if number < 4:
                    filename, data = conda_package(f"busy{number}", f"1.{turn}")
                    if wire.put("lab", filename, data)[0] != 201:
                        wrongs.append(f"upload of {filename}")
                    if turn % 3 == 2:
                        wire.ask("DELETE", f"/api/v1/channels/lab/artifacts/noarch/{filename}")
                    continue
                listed = {name: sha for name, sha in stage.listed(number).items() if name.startswith("busy")}
                for filename, sha256 in list(listed.items())[-5:]:
                    status, body = download(wire, f"/lab/noarch/{filename}")
                    if (status, hashlib.sha256(body).hexdigest()) != (200, sha256):
                        wrongs.append(f"{filename}: {status}")
        return wrongs

    assert together(work, 8) == [[]] * 8
