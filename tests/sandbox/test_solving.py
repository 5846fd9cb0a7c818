"""Solving children: what hostile dependencies cannot do, and that none is left behind."""

import itertools
import json
import os
import signal
import sys
import threading
import time
from collections import defaultdict

import msgspec
import pytest

from fairway.conda import shards, version
from fairway.conda.artifact import MEBI
from fairway.conda.question import Found, Place, Question, Virtual
from fairway.conda.repodata import Entry
from fairway.errors import Unavailable
from fairway.sandbox.solving import Solvers
from tests.support.rows import made, named

HOME = Place(1, "home")


class Held:
    """Shards of one channel, in memory."""

    def __init__(self, *records):
        entries = defaultdict(list)
        for filename, record in named(*records).items():
            entries[record["name"]].append(Entry(1, filename, json.dumps(record).encode()))
        self.shards = {name: shards.shard(some) for name, some in entries.items()}
        self.asked = []

    def find(self, channels, names):
        self.asked += names
        return [Found(1, "linux-64", name, shards.sha256(self.shards[name])) for name in names if name in self.shards]

    def read(self, wanted):
        return [self.shards[one.name] for one in wanted]

    def suppliers(self, names):
        return []


def question(name="top", seconds=10.0):
    virtual = [Virtual("__glibc", "2.28")]
    return Question(
        name=name,
        version=None,
        home=1,
        related=[HOME],
        subdirs=["linux-64", "noarch"],
        virtual=virtual,
        seconds=seconds,
    )


@pytest.fixture
def solvers():
    made_here = Solvers(processes=1)
    yield made_here
    made_here.close()
    assert made_here.running == 0


FINE = Held(made("top", "1.0", ["below"]), made("below"))


def still_works(solvers):
    answer = solvers.ask(question(), FINE)
    assert answer.solvable
    assert [one.name for one in answer.packages] == ["below", "top"]


def pigeons(count):
    """So many of them, and a hole less: the solver has to try all."""
    holes = range(count - 1)
    yield made("top", "1.0", [f"p{one}" for one in range(count)])
    for one, hole in itertools.product(range(count), holes):
        yield made(f"p{one}", str(hole), [f"h{hole} =={one}"])
        yield made(f"h{hole}", str(one))


def far_apart():
    """Ten thousand candidates, none of which goes with any other."""
    yield made("top", "1.0", ["a", "b"])
    for one in range(5_000):
        yield made("a", str(one), [f"c =={one}"])
        yield made("b", str(one), [f"c =={one + 100_000}"])


def chain(length):
    for one in range(length):
        yield made(f"n{one}" if one else "top", "1.0", [f"n{one + 1}"])


HOSTILE = {
    "pigeons": lambda: pigeons(14),
    "far apart": far_apart,
    "a chain that ends nowhere": lambda: chain(3_000),
    "a chain too long for a stack": lambda: chain(30_000),
    "itself": lambda: [made("top", "1.0", ["top >=2"]), made("top", "2.0", ["top <2"])],
    "a circle": lambda: [made("top", "1.0", ["a"]), made("a", "1.0", ["b <1"]), made("b", "1.0", ["top >=3"])],
    "everybody": lambda: (
        made("top" if not one else f"e{one}", str(number), [f"e{other} !={number}" for other in range(1, 60)])
        for one in range(60)
        for number in range(20)
    ),
    "no specs": lambda: [made("top", "1.0", ["!!!", "", " ", "[", "a" * 5000, 'a[when=""]', "top 1 2 3 4"])],
}


@pytest.mark.parametrize("graph", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_graph_gets_an_answer_in_time_and_the_next_one_another(solvers, graph):
    answer = solvers.ask(question(seconds=2.0), Held(*graph()))
    assert not answer.solvable or answer.packages
    assert answer.reason.endswith(".") or answer.solvable
    assert len(answer.explanation) <= 6_010
    assert "channel.invalid" not in answer.reason + answer.explanation
    still_works(solvers)


def test_a_record_that_cannot_be_read_is_said(solvers):
    answer = solvers.ask(question(), Held(made("top", "1.0", ["bad"]), made("bad", "1.0") | {"build_number": -5}))
    assert not answer.solvable
    assert answer.reason.startswith("A record that is needed cannot be read by the solver: ")
    still_works(solvers)


def test_versions_that_are_none_do_not_end_the_search(solvers):
    held = Held(made("top", "1.0"), made("top", "2.0"))
    assert solvers.ask(question(), held).version == "2.0"
    assert version.sort_key("2.0") > version.sort_key("1.0")


def test_memory_has_an_end():
    solvers = Solvers(processes=1, memory=700 * MEBI)
    try:
        held = Held(*(made("top", f"1.{n}", [f"{'x' * 200}{n}-{m}" for m in range(60)]) for n in range(4_000)))
        answer = solvers.ask(question(seconds=20.0), held)
        assert not answer.solvable
        still_works(solvers)
    finally:
        solvers.close()


def test_a_child_that_hangs_is_ended(solvers):
    """Somebody who never answers it, and one who is stopped."""
    still_works(solvers)
    (child,) = [one for one in solvers._idle.queue if one]
    os.kill(child._process.pid, signal.SIGSTOP)
    answer = solvers.ask(question(seconds=0.2), FINE)
    assert (answer.solvable, answer.decided) == (False, False)
    assert answer.reason == "The solver found no answer in 0.2 seconds."
    assert child._process.returncode == -signal.SIGKILL
    still_works(solvers)


def test_what_the_supply_raises_ends_the_child(solvers):
    class Broken(Held):
        def find(self, channels, names):
            raise Unavailable("The database does not answer.")

    with pytest.raises(Unavailable, match="database"):
        solvers.ask(question(), Broken())
    assert solvers.running == 0
    still_works(solvers)


def test_nobody_waits_for_ever_for_a_child():
    solvers = Solvers(processes=1, patience=0.05)
    asked, go_on = threading.Event(), threading.Event()

    class Slow(Held):
        def find(self, channels, names):
            asked.set()
            go_on.wait(30)
            return super().find(channels, names)

    first = threading.Thread(target=solvers.ask, args=(question(), Slow(made("top"))))
    first.start()
    assert asked.wait(30)
    with pytest.raises(Unavailable, match="busy"):
        solvers.ask(question(), FINE)
    go_on.set()
    first.join()
    still_works(solvers)
    solvers.close()


def test_closing_ends_who_is_at_work():
    solvers = Solvers(processes=1)
    asked, outcome = threading.Event(), []

    class Slow(Held):
        def find(self, channels, names):
            asked.set()
            time.sleep(0)
            while not solvers._closed:
                threading.Event().wait(0.01)
            return super().find(channels, names)

    def ask():
        try:
            outcome.append(solvers.ask(question(), Slow(made("top"))))
        except Unavailable as error:
            outcome.append(error)

    working = threading.Thread(target=ask)
    working.start()
    assert asked.wait(30)
    solvers.close()
    working.join()
    assert isinstance(outcome[0], Unavailable)
    assert solvers.running == 0
    with pytest.raises(Unavailable, match="closing"):
        solvers.ask(question(), FINE)


def test_a_child_that_does_nothing_is_ended_after_a_while():
    solvers = Solvers(processes=1, idle=0.01)
    still_works(solvers)
    for timer in [one for one in threading.enumerate() if isinstance(one, threading.Timer)]:
        timer.join()
    assert solvers.running == 0
    still_works(solvers)
    solvers.close()


def test_shards_are_asked_for_once(solvers):
    held = Held(made("top", "1.0", ["below"]), made("below"))
    read = []
    held.read = lambda wanted: [read.append(one.name) or held.shards[one.name] for one in wanted]
    for _ in range(3):
        assert solvers.ask(question(), held).solvable
    assert sorted(read) == ["below", "top"]


def test_the_server_does_not_load_the_solver():
    """It takes memory and time to start, of every command too."""
    import subprocess

    code = "import sys, fairway.web.app, fairway.cli.main; sys.exit('rattler' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_odd_records_harm_only_themselves(solvers):
    """What the shards of a channel elsewhere may hold, and a database of ours never should."""
    odd = {
        "packages": {"a.tar.bz2": 5, 7: made("top", "9.0"), "b.tar.bz2": made("top", "8.0") | {1: 2}},
        "packages.conda": {
            "top-1.0-0.conda": made("top", "1.0", ["below"]),
            "top-x-0.conda": made("top", "no version at all", ["below"]),
            "top-2.0-0.conda": made("top", "2.0") | {"depends": {"below": 1}},
        },
        "v3": [],
    }
    held = Held(made("below"))
    held.shards["top"] = shards.compressed(msgspec.msgpack.encode(odd), 1)
    answer = solvers.ask(question(), held)
    assert answer.reason.startswith("A record that is needed cannot be read by the solver: ")
    del odd["packages.conda"]["top-x-0.conda"], odd["packages.conda"]["top-2.0-0.conda"]
    held.shards["top"] = shards.compressed(msgspec.msgpack.encode(odd), 1)
    answer = solvers.ask(question(), held)
    assert (answer.solvable, answer.version) == (True, "1.0")


def test_what_is_no_shard_is_an_answer(solvers):
    held = Held(made("below"))
    for data in (b"", b"x", shards.compressed(b"\xc1", 1), shards.compressed(msgspec.msgpack.encode([]), 1)):
        held.shards["top"] = data
        answer = solvers.ask(question(), held)
        assert not answer.solvable
        assert answer.reason.endswith(".")
    still_works(solvers)
