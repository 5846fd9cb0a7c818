"""channeldata.json: made once for all who ask together, never older than what they have seen, and bounded in memory."""

import asyncio
import threading

import pytest
from sqlalchemy import event

from fairway.web.app import create
from fairway.web.channeldata import ChannelData
from tests.support.builders import conda_package
from tests.web.dialects import Request, ask_slowly

MANY = 32


def test_many_who_ask_together_cost_the_database_one_reading(site):
    site.channel("lab", "public")
    assert site.put("lab", conda_package("demo"), site.key()).status_code == 201
    readings = 0

    def seen(_, __, statement, *___):
        nonlocal readings
        readings += "details" in statement and "run_exports" in statement  # not what a package is listed with

    async def ask_all():
        app = create(site.app, background=False)
        asked = Request("GET", "/lab/channeldata.json", {}, b"")
        return await asyncio.gather(*(ask_slowly(app, asked, []) for _ in range(MANY)))

    event.listen(site.app.database.reader, "before_cursor_execute", seen)
    answers = asyncio.run(ask_all())
    event.remove(site.app.database.reader, "before_cursor_execute", seen)
    assert {status for status, _, _ in answers} == {200}
    assert len({body for _, _, body in answers}) == 1
    assert readings == 1


def test_a_large_one_arrives_whole_and_in_parts(site):
    site.channel("lab", "public")
    key = site.key()
    for number in range(70):
        about = {"description": f"{number} " + "a" * 64_000}
        assert site.put("lab", conda_package(f"demo{number}", about=about), key).status_code == 201
    whole = site.get("/lab/channeldata.json")
    assert len(whole.content) == int(whole.headers["content-length"]) > 4 << 20
    assert len(whole.json()["packages"]) == 70
    assert site.get("/lab/channeldata.json").content == whole.content
    part = site.get("/lab/channeldata.json", Range="bytes=10-")
    assert (part.status_code, part.content) == (206, whole.content[10:])


class Channels:
    """Channels whose documents take as long to make as somebody wants."""

    def __init__(self, size=1):
        self.levels, self.size = {1: 1, 2: 1, 3: 1}, size
        self.made, self.busy, self.most = [], 0, 0
        self.go = threading.Event()
        self.lock = threading.Lock()

    def body(self, channel_id):
        with self.lock:
            self.busy += 1
            self.most = max(self.most, self.busy)
        level = self.levels[channel_id]
        self.go.wait(30)
        with self.lock:
            self.busy -= 1
            self.made.append((channel_id, level))
        return b"%d" % level * self.size


async def under_way(channels, count):
    while channels.busy < count:  # noqa: ASYNC110 - threads change it
        await asyncio.sleep(0.001)


def test_who_has_seen_a_change_does_not_get_what_was_begun_before_it():
    async def run():
        channels = Channels()
        data = ChannelData(channels.levels.get, channels.body)
        early = [asyncio.ensure_future(data.get(1, 1)) for _ in range(5)]
        await under_way(channels, 1)
        channels.levels[1] = 2
        late = [asyncio.ensure_future(data.get(1, 2)) for _ in range(5)]
        await under_way(channels, 2)
        channels.go.set()
        assert {made.body for made in await asyncio.gather(*early)} == {b"1"}
        assert {made.body for made in await asyncio.gather(*late)} == {b"2"}
        assert sorted(channels.made) == [(1, 1), (1, 2)]
        assert data.kept(1, 2).body == b"2"
        assert data.kept(1, 3) is None

    asyncio.run(run())


def test_who_looked_just_before_it_was_finished_gets_it():
    async def run():
        channels = Channels()
        channels.go.set()
        data = ChannelData(channels.levels.get, channels.body)
        assert data.kept(1, 1) is None  # a thread looks, and comes back later
        await data.get(1, 1)
        assert (await data.get(1, 1)).body == b"1"
        assert channels.made == [(1, 1)]
        channels.levels[1] = 2
        assert (await data.get(1, 2)).body == b"2"

    asyncio.run(run())


def test_two_are_made_at_a_time_and_one_who_leaves_takes_it_from_nobody():
    async def run():
        channels = Channels()
        data = ChannelData(channels.levels.get, channels.body)
        tasks = [asyncio.ensure_future(data.get(channel_id, 1)) for channel_id in (1, 2, 3)]
        leaving = asyncio.ensure_future(data.get(1, 1))
        await under_way(channels, 2)
        leaving.cancel()
        channels.go.set()
        await asyncio.gather(*tasks)
        assert channels.most == 2
        assert sorted(channels.made) == [(1, 1), (2, 1), (3, 1)]

    asyncio.run(run())


def test_a_failure_is_told_to_all_who_wait_and_tried_again():
    async def run():
        def fails(channel_id):
            raise OSError(channel_id)

        data = ChannelData(lambda _: 1, fails)
        found = await asyncio.gather(*(data.get(1, 1) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in found] == [OSError] * 3
        with pytest.raises(OSError, match="1"):
            await data.get(1, 1)

    asyncio.run(run())


@pytest.mark.parametrize(("most", "left"), [(300, {1, 2, 3}), (299, {2, 3}), (50, {3})])
def test_what_is_kept_is_bounded_in_bytes(most, left):
    async def run():
        channels = Channels(size=100)
        channels.go.set()
        data = ChannelData(channels.levels.get, channels.body, most=most)
        for channel_id in (1, 2, 3):
            await data.get(channel_id, 1)
        assert {channel_id for channel_id in (1, 2, 3) if data.kept(channel_id, 1)} == left

    asyncio.run(run())
