"""What commands share: settings from options, an open Fairway, and how they answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fairway import settings
from fairway.app import Fairway

DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of the server's data")]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON")]


@contextmanager
def opened(data: Path | None = None) -> Iterator[Fairway]:
    """The Fairway that the settings name, without a server: commands work beside a running one."""
    loaded = settings.load({"data": data})
    with Fairway(loaded) as app:
        yield app


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a listing: its title, and how it is taken from an item."""

    title: str
    value: Callable[[Any], Any]


def listing(items: Sequence[Any], columns: Sequence[Column], *, as_json: bool) -> None:
    """Print items as JSON, or as a table for people."""
    if as_json:
        rows = [{column.title: column.value(item) for column in columns} for item in items]
        print(json.dumps(rows, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.title, overflow="fold")
    for item in items:
        table.add_row(*(shown(column.value(item)) for column in columns))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return str(value)


def moment(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
