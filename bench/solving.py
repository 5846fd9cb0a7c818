"""What it takes to say which channels a package needs, in channels of so many records: `python -m bench.solving DATA COUNT`.

Two channels: a twentieth of the packages are the ones that are asked for, and the other channel has what they depend on:
each of some six packages further down, four versions of each. So a question leads to some hundred names.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.load import make_admin, make_channel, open_fairway
from bench.measure import cpu_seconds, rss, tree
from fairway.app import Fairway
from fairway.registry import virtual
from fairway.registry.actor import NOBODY
from fairway.registry.solving import Solving
from tests.support.rows import load, made, named

VERSIONS = 4
ASKED = 20
WINDOW = 20
LOADED_AT_ONCE = 4_000
LINUX = virtual.system("linux-64")


def depends(number: int, dice: random.Random) -> list[str]:
    below = number // 2
    chosen = {max(0, below + dice.randrange(-WINDOW, WINDOW)) for _ in range(6)}
    return [f"p{one} >={dice.randrange(1, VERSIONS)},<10" for one in sorted(chosen) if one < number]


def fill(app: Fairway, count: int) -> list[str]:
    """The names that are asked for."""
    dice = random.Random(1)
    for channel in ("tools", "libs"):
        make_channel(app, channel, "public")
    names = count // VERSIONS
    first_tool = names - max(ASKED, names // 20)
    waiting: dict[str, list[dict[str, Any]]] = {"tools": [], "libs": []}
    for number in range(names):
        channel = "tools" if number >= first_tool else "libs"
        for value in range(1, VERSIONS + 1):
            waiting[channel].append(made(f"p{number}", str(value), depends(min(number, first_tool), dice)))
        if len(waiting[channel]) >= LOADED_AT_ONCE or number in {first_tool - 1, names - 1}:
            load(app, channel, "linux-64", named(*waiting.pop(channel)))
            waiting[channel] = []
    return [f"p{one}" for one in dice.sample(range(first_tool, names), ASKED)]


def timed(work: Callable[[], Any]) -> dict[str, float]:
    cpu, wall = cpu_seconds(os.getpid()), time.perf_counter()
    work()
    return {"wall": time.perf_counter() - wall, "cpu": cpu_seconds(os.getpid()) - cpu}


def main() -> None:
    data, count = Path(sys.argv[1]), int(sys.argv[2])
    with open_fairway(data) as app:
        make_admin(app)
        asked = fill(app, count)
        taken: dict[str, Any] = {"first": []}
        for name in asked[:3]:
            solving = Solving(app.database)
            taken["first"].append(timed(lambda solving=solving, name=name: solving.which(NOBODY, "tools", name, LINUX)))
            solving.close()
        solving = app.solving
        solving.which(NOBODY, "tools", asked[0], LINUX)
        solve = [lambda name=name: solving.which(NOBODY, "tools", name, LINUX) for name in asked[1:]]
        taken["new"] = [timed(one) for one in solve]
        load(app, "libs", "linux-64", named(made("another")))
        taken["changed"] = [timed(one) for one in solve]
        taken["kept"] = [timed(one) for one in solve]
        found = [solving.which(NOBODY, "tools", name, LINUX) for name in asked]
        assert all(len(one.channels) == 2 and one.smallest for one in found), found
        taken["packages"] = sorted(len(one.packages) for one in found)[len(found) // 2]
        taken["rss"] = rss([pid for pid in tree(os.getpid()) if pid != os.getpid()])
        print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    main()
