"""What one more package costs in a channel of a thousand records, and in one of a million."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import plot
from bench.client import ROOT
from bench.context import Context
from bench.measure import median
from bench.report import Table, number

SIZES = (1_000, 10_000, 100_000, 1_000_000)
REPEAT = 5
PICTURE = ROOT / "docs" / "growth.svg"
WORK = ("+1 shards", "+1 shard index", "+1 flat")


def run(context: Context) -> list[Table]:
    made = Table(
        "One more package in a channel of so many records (milliseconds of wall, in brackets of CPU)",
        ("records", "rows and shard", "shard index", "flat", "all", "from scratch: shards, flat (s)", "MB"),
    )
    lines: dict[str, list[tuple[float, float]]] = {"rows and shard": [], "shard index": [], "flat": []}
    for size in context.sizes or SIZES:
        context.say(f"growth, {size:,} records")
        data = context.folder(f"grown-{size}")
        child(data, size, 0)
        taken = json.loads(child(data, size, REPEAT))
        for name, kind in zip(lines, WORK, strict=True):
            lines[name].append((size, middle(taken[kind], "wall") * 1000))
        scratch = " and ".join(number(middle(taken[f"scratch {kind}"], "wall")) for kind in ("shards", "flat"))
        all_of_it = sum(middle(taken[kind], "wall") for kind in WORK) * 1000
        rss = max(one["rss"] for one in taken["+1 flat"])
        made.rows.append((
            f"{size:,}", *(shown(taken[kind]) for kind in WORK), number(all_of_it), scratch, number(rss),
        ))  # fmt: skip
        remove(data)
    made.notes.append(
        "The transaction of an upload without its file, the shard index that the next reader gets, and repodata.json with "
        "its .zst and run_exports; each median of five. Records are real ones and clones of them, as far as the corpus is "
        "there. MB: the most the measuring process took, after building everything from scratch."
    )
    if not context.sizes:
        PICTURE.write_text(plot.loglog("One more package, by the size of its channel", "records", "ms", lines))
        made.notes.append("![The same as a plot](growth.svg)")
    return [made]


def child(data: Path, size: int, repeat: int) -> str:
    command = [sys.executable, "-m", "bench.grow", str(data), str(size), str(repeat)]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def remove(data: Path) -> None:
    subprocess.run(["rm", "-rf", str(data)], check=True)


def middle(values: list[dict[str, Any]], key: str) -> float:
    return median([value[key] for value in values])


def shown(values: list[dict[str, Any]]) -> str:
    return f"{number(middle(values, 'wall') * 1000)} ({number(middle(values, 'cpu') * 1000)})"
