"""Tables, on the terminal and in docs/performance.md."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

BEGIN, END = "<!-- bench:{} -->", "<!-- /bench:{} -->"
INTRODUCTION = """# Performance

Figures of `./dev bench`, each measured in one run beside a peer or a limit of the same machine: repetitions alternate
between them and the median counts, so read the ratios; absolute figures are as good as the machine was quiet.

    ./dev bench                      every bench, some minutes
    ./dev bench upload get           only these
    ./dev bench index --size 100000  at another size
    ./dev bench --write              and put the tables in here

nginx and wrk take part where they are installed (`apt-get install nginx-light wrk`). Packages are made by the bench
itself (3.5 kB each, heavy-tailed names). Memory is the resident set of the whole process tree, reading children included.
"""


@dataclass(slots=True)
class Table:
    """One table of figures. Cells are texts already; `notes` are sentences below it."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        rows = [self.columns, *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.columns))]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([f"### {self.title}", "", *lines, *(f"\n{note}" for note in self.notes)]) + "\n"


def number(value: float, digits: int = 3) -> str:
    """A figure with as many digits as it deserves: 12,300 / 45.6 / 0.0789."""
    if value != value:  # noqa: PLR0124 - nothing was measured
        return "-"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def times(mine: float, other: float) -> str:
    """How many times more `mine` is than `other`."""
    return f"{number(mine / other, 2)}x" if other else "-"


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    versions = {
        name: metadata.version(name) for name in ("fairway", "granian", "starlette", "sqlalchemy", "py-rattler")
    }
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"; load average at the end {load}."
    )


def write(path: Path, name: str, tables: Sequence[Table], *, arguments: Sequence[str]) -> None:
    """Replace one bench's part of the document, or add it."""
    text = path.read_text(encoding="utf-8") if path.exists() else INTRODUCTION
    begin, end = BEGIN.format(name), END.format(name)
    body = "\n".join(table.markdown() for table in tables)
    again = f"Again: `./dev bench {' '.join([name, *arguments])}`"
    part = f"{begin}\n\n## {name}\n\n{machine()} {again}\n\n{body}\n{end}"
    if begin in text and end in text:
        before, _, rest = text.partition(begin)
        text = before + part + rest.partition(end)[2]
    else:
        text = text.rstrip() + "\n\n" + part + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"bench: wrote {name} into {path}", file=sys.stderr)
