"""One fetch for everybody: while it arrives, and whatever goes wrong with it."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fairway.blobs.staging import Digest, StagedFile, StagingArea
from fairway.errors import RemoteError, RemoteRefused, RemoteUnavailable, RemoteWrong, StorageFull
from fairway.remote.arriving import HELD_BACK, Follower, Wanted
from fairway.remote.client import Client
from fairway.remote.credentials import Credential
from fairway.remote.transfer import Transfers
from tests.support import misbehaving as bad
from tests.support.upstream import Upstream

BODY = random.Random(5).randbytes(3 << 20)
NAME = "big-1.0-h0_0.conda"


class Place:
    """Transfers from `up`, and a store that keeps what it gets."""

    def __init__(self, up: Upstream, client: Client, folder: Path, **options: Any) -> None:
        self.up, self.staging = up, StagingArea(folder / "staging")
        self.stored: dict[str, bytes] = {}
        self.kept = threading.Event()
        self.transfers = Transfers(client, self.staging, **options)
        self.wanted = self.of(NAME, BODY)

    def of(self, name: str, body: bytes, **changed: Any) -> Wanted:
        made = {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body), **changed}
        return Wanted(f"{self.up.url}/noarch/{name}", **made)

    def store(self, staged: StagedFile, digest: Digest) -> None:
        self.stored[digest.sha256] = staged.path.read_bytes()
        self.kept.set()

    def follow(self, wanted: Wanted | None = None, key: str = "key") -> Follower:
        follower = self.transfers.follow(key, wanted or self.wanted, self.store)
        assert follower is not None
        return follower

    def staged(self) -> list[str]:
        return [path.name for path in self.staging.folder.iterdir()]

    def settle(self) -> None:
        """Wait until nothing is under way."""
        with self.transfers._changed:
            assert self.transfers._changed.wait_for(lambda: not self.transfers._running.total(), 30)


@pytest.fixture
def place_of(up: Upstream, client: Client, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    up.files[f"noarch/{NAME}"] = BODY
    made: list[Place] = []

    def make(**options: Any) -> Place:
        made.append(Place(up, client, tmp_path, **options))
        return made[-1]

    yield make
    for each in made:
        each.transfers.close()


@pytest.fixture
def place(place_of: Callable[..., Place]) -> Place:
    return place_of()


def read(follower: Follower, start: int = 0, length: int | None = None) -> bytes:
    with follower:
        return b"".join(follower.chunks(start, length))


async def read_async(follower: Follower, start: int = 0, length: int | None = None) -> bytes:
    with follower:
        return b"".join([chunk async for chunk in follower.stream(start, length)])


async def waiting(place: Place, count: int) -> None:
    """Until so many followers of the one transfer wait for bytes."""
    while len(place.transfers._known["key"]._waiters) < count:  # noqa: ASYNC110 - nobody tells when one begins to wait
        await asyncio.sleep(0)


def broken(follower: Follower) -> tuple[int, RemoteError]:
    """How many bytes came, and what then was the case."""
    sizes: list[int] = []
    with pytest.raises(RemoteError) as caught, follower:
        sizes.extend(len(chunk) for chunk in follower.chunks())
    return sum(sizes), caught.value


def test_fifty_follow_one_fetch(place: Place, up: Upstream) -> None:
    """Half of them in threads, half in an event loop; some come when half of it is there, and one for a part."""
    up.fault(f"*/{NAME}", bad.hangs(after=len(BODY) // 2))
    early = [place.follow() for _ in range(25)]
    for follower in early:
        follower.ready()
    late = [place.follow() for _ in range(25)]

    async def all_of(followers: list[Follower]) -> list[bytes]:
        parts = [read_async(place.follow(), 1000, 5000), read_async(place.follow(), len(BODY) - 10)]
        task = asyncio.gather(*(read_async(follower) for follower in followers), *parts)
        up.released.set()
        return await task

    with ThreadPoolExecutor(26) as threads:
        waiting = [threads.submit(read, follower) for follower in early]
        in_loop = asyncio.run(all_of(late))
        bodies = [each.result() for each in waiting] + in_loop[:-2]
    assert len(bodies) == 50
    assert all(body == BODY for body in bodies)
    assert in_loop[-2:] == [BODY[1000:6000], BODY[-10:]]
    assert up.count(f"*/{NAME}") == 1
    assert place.kept.wait(30)
    assert place.stored == {hashlib.sha256(BODY).hexdigest(): BODY}
    place.settle()
    assert place.staged() == []


def test_no_thread_waits_for_a_follower_in_a_loop(place: Place, up: Upstream) -> None:
    up.fault(f"*/{NAME}", bad.hangs(after=len(BODY) // 2))
    place.follow().ready()
    before = threading.active_count()

    async def some() -> None:
        tasks = [asyncio.ensure_future(read_async(place.follow())) for _ in range(40)]
        await waiting(place, 40)
        assert threading.active_count() == before
        up.released.set()
        assert [await task for task in tasks] == [BODY] * 40

    asyncio.run(some())


def test_bytes_arrive_before_the_file_does_and_its_end_is_held_back(place: Place, up: Upstream) -> None:
    keep = len(BODY) - 10
    up.fault(f"*/{NAME}", bad.hangs(after=keep))
    got = 0
    follower = place.follow()
    chunks = follower.chunks()
    while got < keep - HELD_BACK:
        got += len(next(chunks))
    assert got == keep - HELD_BACK
    assert place.stored == {}
    up.released.set()
    assert got + sum(map(len, chunks)) == len(BODY)
    follower.close()


def test_a_part_is_not_whole_before_the_file_is_good(place: Place, up: Upstream) -> None:
    """A range that ends before the file does would end cleanly with bytes nobody has vouched for."""
    up.files[f"noarch/{NAME}"] = BODY[:-1] + bytes([BODY[-1] ^ 1])
    up.fault(f"*/{NAME}", bad.hangs(after=len(BODY) - 100))
    follower = place.follow()
    chunks = follower.chunks(0, 1 << 20)
    got = 0
    while got < (1 << 20) - HELD_BACK:
        got += len(next(chunks))
    up.released.set()
    with pytest.raises(RemoteWrong):
        list(chunks)
    follower.close()


WRONG: list[tuple[str, Any, str, str]] = [
    ("one bit", bad.flipped(), "remote_mismatch", "its sha256 is not the one in its index"),
    ("one bit at the start", bad.flipped(0), "remote_mismatch", "its sha256 is not"),
    ("another file", bad.instead(b"x" * 100), "remote_mismatch", "it has 100 bytes, and its index says 3,145,728"),
    ("half of it as all", bad.half(), "remote_mismatch", "it has 1,572,864 bytes"),
    ("half of it without a length", bad.unsized(0.5), "remote_mismatch", "it has 1,572,864 bytes"),
    ("more of it without a length", bad.huge(chunked=False), "remote_too_large", "larger than 3,145,728 bytes"),
    ("cut off", bad.truncated(), "remote_cut_off", "broke off before the end"),
    ("a web page", bad.html(), "remote_not_data", "a web page"),
    ("compressed", bad.encoded(), "remote_encoding", "compressed"),
    ("nothing there", bad.status(404), "remote_missing", "is not there"),
    ("busy", bad.status(503), "remote_unavailable", "cannot answer now"),
    ("reset", bad.reset(), "remote_cut_off", "off"),
]


@pytest.mark.parametrize(("fault", "code", "words"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_nobody_gets_a_wrong_file(place: Place, up: Upstream, fault: Any, code: str, words: str) -> None:
    up.fault(f"*/{NAME}", fault)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: broken(place.follow()), range(8)))
    for got, error in results:
        assert got <= len(BODY) - HELD_BACK
        assert error.code == code
        assert words in error.detail
        assert error.detail.startswith(f"{up.url}/noarch/{NAME}")
    place.settle()
    assert (place.stored, place.staged(), place.transfers.under_way()) == ({}, [], 0)
    up.heal()
    assert read(place.follow()) == BODY  # the next who asks begins anew


def test_followers_in_a_loop_fail_alike(place: Place, up: Upstream) -> None:
    up.fault(f"*/{NAME}", bad.flipped())

    async def all_of() -> list[Any]:
        return await asyncio.gather(*(read_async(place.follow()) for _ in range(20)), return_exceptions=True)

    assert [getattr(each, "code", each) for each in asyncio.run(all_of())] == ["remote_mismatch"] * 20
    assert len({id(each) for each in asyncio.run(all_of())}) == 20  # an exception of its own for each


def test_an_error_comes_before_the_first_byte_of_a_small_file(place: Place, up: Upstream) -> None:
    up.files["noarch/small.conda"] = b"small"
    follower = place.follow(place.of("small.conda", b"Small"))
    with pytest.raises(RemoteWrong), follower:
        follower.ready()
    follower = place.follow(place.of("small.conda", b"small"))

    async def ready() -> None:
        await follower.ready_async()
        assert follower.size == 5
        assert await read_async(follower) == b"small"

    asyncio.run(ready())


def test_who_leaves_stops_nothing(place: Place, up: Upstream) -> None:
    up.fault(f"*/{NAME}", bad.hangs(after=len(BODY) // 2))
    for _ in range(5):
        follower = place.follow()
        next(follower.chunks())
        follower.close()
        follower.close()
    up.released.set()
    assert place.kept.wait(30)
    assert up.count(f"*/{NAME}") == 1


def test_a_cancelled_follower_leaves_the_others_alone(place: Place, up: Upstream) -> None:
    up.fault(f"*/{NAME}", bad.hangs(after=len(BODY) // 2))

    async def some() -> bytes:
        gone = asyncio.ensure_future(read_async(place.follow()))
        stays = asyncio.ensure_future(read_async(place.follow()))
        await waiting(place, 2)
        gone.cancel()
        up.released.set()
        return await stays

    assert asyncio.run(some()) == BODY


def test_readers_keep_the_bytes_that_the_store_took_away(place: Place) -> None:
    """A local store renames the staged file, and whoever reads goes on; it may fail, too, and they go on all the same."""

    def failing(staged: StagedFile, digest: Digest) -> None:
        staged.path.unlink()
        raise StorageFull

    follower = place.transfers.follow("key", place.wanted, failing)
    assert follower is not None
    follower.finish()
    place.settle()
    assert read(follower) == BODY
    assert place.staged() == []
    again = place.follow()  # it was not stored
    assert read(again) == BODY


def test_who_comes_just_after_is_sent_to_the_store(place: Place, up: Upstream) -> None:
    assert read(place.follow()) == BODY
    place.settle()
    assert place.transfers.follow("key", place.wanted, place.store) is None
    assert read(place.follow(key="another")) == BODY
    assert up.count(f"*/{NAME}") == 2


def test_what_the_index_does_not_say_is_not_compared(place: Place, up: Upstream) -> None:
    md5 = hashlib.md5(BODY).hexdigest()
    for number, wanted in enumerate((
        place.of(NAME, BODY, size=None),
        place.of(NAME, BODY, sha256=None, md5=md5),
        place.of(NAME, BODY, md5="0" * 32),  # sha256 decides
        place.of(NAME, BODY, sha256=None, size=None),
    )):  # fmt: skip
        assert read(place.follow(wanted, key=str(number))) == BODY
    assert broken(place.follow(place.of(NAME, BODY, sha256=None, md5="0" * 32), key="x"))[1].code == "remote_mismatch"
    limited = place.of(NAME, BODY, size=None, limit=1 << 20)
    assert broken(place.follow(limited, key="y"))[1].code == "remote_too_large"
    assert up.count(f"*/{NAME}") == 6


def test_so_many_at_once_and_so_many_from_one_server(place_of: Callable[..., Place], up: Upstream) -> None:
    place = place_of(at_once=3, of_one=2)
    up.fault("*/slow*", bad.hangs())
    with Upstream(host="127.0.0.2") as other:
        # another address is another server; the client may ask it because its rules are asked at each connection
        place.transfers._client._backend._rules = type(place.transfers._client._backend._rules).parse(
            f"{up.allow},{other.allow}"
        )
        other.fault("*/slow*", bad.hangs())
        for number in range(4):
            up.files[f"noarch/slow{number}"] = other.files[f"noarch/slow{number}"] = b"x"
        waiting = [place.follow(place.of(f"slow{number}", b"x"), key=f"one{number}") for number in range(4)]
        up.wait_for("*/slow*", 2)
        for number in range(2):
            wanted = Wanted(f"{other.url}/noarch/slow{number}", size=1)
            waiting.append(place.follow(wanted, key=f"two{number}"))
        other.wait_for("*/slow*", 1)
        assert (up.count("*/slow*"), other.count("*/slow*")) == (2, 1)
        assert place.transfers.under_way() == 6
        up.released.set()
        other.released.set()
        for follower in waiting:
            assert read(follower) == b"x"


def test_no_more_than_so_many_wait(place: Place, up: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairway.remote.transfer.WAITING", 3)
    up.fault("*", bad.hangs())
    followers = [place.follow(key=str(number)) for number in range(8 + 3)]
    with pytest.raises(RemoteUnavailable, match="too many files"):
        place.follow(key="one more")
    up.released.set()
    for follower in followers:
        follower.close()


def test_no_room_is_said_before_anybody_is_asked(place_of: Callable[..., Place], up: Upstream) -> None:
    def room(size: int) -> None:
        assert size == len(BODY)
        raise StorageFull

    place = place_of(room=room)
    with pytest.raises(StorageFull):
        read(place.follow())
    assert up.asked == []


def test_closing_ends_all_of_it(place: Place, up: Upstream) -> None:
    up.fault("*", bad.hangs(after=1 << 20))
    running = [place.follow(key=str(number)) for number in range(12)]  # eight run, four wait
    running[0].ready()
    with ThreadPoolExecutor(12) as threads:
        results = [threads.submit(broken, follower) for follower in running]
        place.transfers.close()
        assert {each.result()[1].code for each in results} == {"remote_unavailable"}
    assert place.staged() == []
    with pytest.raises(RemoteUnavailable):
        place.follow()


def test_a_credential_goes_along_and_a_bad_address_is_refused(place: Place, up: Upstream) -> None:
    up.wants = ("Authorization", "Bearer sk-1")
    assert broken(place.follow())[1].code == "remote_denied"
    assert read(place.follow(place.of(NAME, BODY, credential=Credential.make("bearer", "sk-1", up.url)))) == BODY
    with pytest.raises(RemoteRefused):
        place.follow(Wanted("file:///etc/passwd"), key="x")
    assert broken(place.follow(Wanted("http://10.0.0.1/x"), key="y"))[1].code == "remote_refused"


def test_memory_stays_bounded(place: Place, up: Upstream) -> None:
    """64 MiB for five slow readers and a fast one: what is in memory is a piece for each."""
    size = 64 << 20
    up.fault("*/zeros", bad.huge(size, chunked=False))
    wanted = Wanted(f"{up.url}/noarch/zeros", size=size, sha256=hashlib.sha256(bytes(size)).hexdigest())
    slow = [place.transfers.follow("zeros", wanted, lambda staged, digest: None) for _ in range(5)]
    iterators = [follower.chunks() for follower in slow if follower is not None]
    first = [len(next(iterator)) for iterator in iterators]
    tracemalloc.start()
    try:
        assert sum(map(len, place.follow(wanted, key="zeros").chunks())) == size
        assert [had + sum(map(len, rest)) for had, rest in zip(first, iterators, strict=True)] == [size] * 5
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
