"""The search for the channels that a package needs, without a child: how much it asks, and of whom."""

import json
from collections import Counter, defaultdict

from fairway.conda import shards
from fairway.conda.needed import ATTEMPTS, Search
from fairway.conda.partial import Parts
from fairway.conda.question import Found, Place, Question
from fairway.conda.repodata import Entry
from tests.support.rows import made, named


class Channels:
    """A supply of channels by their names, the first of which is the package's own."""

    def __init__(self, **channels):
        self.places = [Place(number, name) for number, name in enumerate(channels, 1)]
        self.shards = {}
        self.read_of = Counter()
        for number, records in enumerate(channels.values(), 1):
            entries = defaultdict(list)
            for filename, record in named(*records).items():
                entries[record["name"]].append(Entry(1, filename, json.dumps(record).encode()))
            self.shards |= {(number, name): shards.shard(some) for name, some in entries.items()}

    def find(self, channels, names):
        return [
            Found(one, "linux-64", name, shards.sha256(self.shards[one, name]))
            for one in channels
            for name in names
            if (one, name) in self.shards
        ]

    def read(self, wanted):
        self.read_of.update(one.channel for one in wanted)
        return [self.shards[one.channel, one.name] for one in wanted]

    def suppliers(self, names):
        having = Counter(one for one, name in self.shards if name in names)
        return [self.places[one - 1] for one, _ in sorted(having.items(), key=lambda pair: (-pair[1], pair[0]))]

    def search(self, *related):
        places = {one.name: one for one in self.places}
        question = Question(
            name="app", version=None, home=1, related=[places[one] for one in related or (self.places[0].name,)],
            subdirs=["linux-64", "noarch"], virtual=[], seconds=60.0,
        )  # fmt: skip
        answer = Search(question, self, Parts(), lambda: 60.0).answer()
        return answer, [self.places[one - 1].name for one in answer.channels]


def test_nobody_is_asked_about_what_is_not_lacking():
    world = Channels(own=[made("app", "1.0", ["lib"]), made("lib")], other=[made("lib", "9.0")])
    answer, found = world.search()
    assert (found, answer.attempts, answer.smallest) == (["own"], 1, True)
    assert world.read_of[2] == 0


def test_one_more_channel_is_found_in_two_solves():
    world = Channels(own=[made("app", "1.0", ["lib"])], other=[made("lib")], third=[made("lib")])
    answer, found = world.search()
    assert (found, answer.attempts, answer.smallest) == (["own", "other"], 2, True)
    assert world.read_of[3] == 0


def test_a_channel_that_is_used_and_not_needed_is_left_out():
    """The first of the two that have `lib` is taken while it is there."""
    world = Channels(
        own=[made("app", "1.0", ["lib", "x"])], first=[made("lib", "2.0")], second=[made("lib", "1.0"), made("x")]
    )
    answer, found = world.search("first", "second", "own")
    assert (found, answer.smallest) == (["second", "own"], True)


def test_two_of_many_are_found_without_trying_all_pairs():
    many = {f"c{number}": [made(f"need{number}"), made("some")] for number in range(10)}
    world = Channels(own=[made("app", "1.0", ["some", "need3", "need7"])], **many)
    answer, found = world.search()
    assert sorted(found) == ["c3", "c7", "own"]
    assert answer.smallest
    # alone, with each, with all, with those that are used, without each of them, and each pair that is smaller
    assert answer.attempts <= 20


def test_a_question_without_an_end_is_given_up_and_says_so():
    """Sixteen channels that each have a part, and what they have cannot be had together."""
    many = {
        f"c{number}": [made(f"need{number}", "1.0", [f"shared =={number}"]), made("shared", str(number))]
        for number in range(16)
    }
    world = Channels(own=[made("app", "1.0", [f"need{number}" for number in range(16)])], **many)
    answer, found = world.search()
    assert found == []
    assert answer.attempts <= ATTEMPTS
    assert not answer.solvable
    assert answer.reason


def test_orders_are_not_tried_where_none_can_help():
    many = {f"c{number}": [made("lib", str(number)), made(f"more{number}")] for number in range(6)}
    world = Channels(own=[made("app", "1.0", ["lib >=100"])], **many)
    answer, _ = world.search()
    assert not answer.solvable
    assert answer.decided
    assert answer.attempts == 1 + 6 + 1 + 1
