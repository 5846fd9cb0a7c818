"""How long it takes to say which channels a package needs."""

from __future__ import annotations

import json
import subprocess
import sys

from bench.client import ROOT
from bench.context import Context
from bench.measure import median
from bench.report import Table, number

SIZES = (1_000, 10_000, 100_000)
KINDS = {
    "first": "first ever (starts the child)",
    "new": "not asked before",
    "changed": "after a change of the index",
    "kept": "asked before",
}


def run(context: Context) -> list[Table]:
    made = Table(
        "Which channels does a package need (milliseconds of wall, in brackets of CPU)",
        ("records", *KINDS.values(), "packages", "MB of the child"),
    )
    for size in context.sizes or SIZES:
        context.say(f"solve, {size:,} records")
        command = [sys.executable, "-m", "bench.solving", str(context.folder(f"solving-{size}")), str(size)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        taken = json.loads(done.stdout)
        shown = [
            f"{number(median([one['wall'] for one in taken[kind]]) * 1000)} "
            f"({number(sum(one['cpu'] for one in taken[kind]) / len(taken[kind]) * 1000)})"
            for kind in KINDS
        ]
        made.rows.append((f"{size:,}", *shown, str(taken["packages"]), number(taken["rss"])))
    made.notes.append(
        "Two channels, the second one's packages needed by the first's; four versions of each package; medians of 20 packages "
        "(of three for the first), CPU as means of server and child together. Each answer is at least two solves: the "
        "channel alone, which is not enough, and both. `packages`: how many are installed."
    )
    return [made]
