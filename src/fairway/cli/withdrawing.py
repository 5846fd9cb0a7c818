"""`fairway yank` and `fairway unyank`."""

from __future__ import annotations

from typing import Annotated

import typer

from fairway.cli.context import DataOption, opened
from fairway.conda.names import KNOWN_SUBDIRS
from fairway.errors import Malformed
from fairway.registry import withdraw
from fairway.registry.actor import CONSOLE

Channel = Annotated[str, typer.Argument(help="The channel's name")]
What = Annotated[str, typer.Argument(help="SUBDIR/FILE, or NAME/VERSION for all files of a version")]


def yank(
    channel: Channel,
    what: What,
    reason: Annotated[str, typer.Option("--reason", help="One line that people read where the file was")],
    data: DataOption = None,
) -> None:
    """Take files out of the index, and keep them for lock files that name them."""
    first, second = parts(what)
    with opened(data) as app, app.database.write() as session:
        now = app.now()
        if first in KNOWN_SUBDIRS:
            withdraw.yank(session, CONSOLE, channel, first, second, reason, now=now)
        else:
            withdraw.yank_version(session, CONSOLE, channel, first, second, reason, now=now)
    print(f"{what} is yanked from {channel}.")


def unyank(channel: Channel, what: What, data: DataOption = None) -> None:
    """Put yanked files back into the index."""
    first, second = parts(what)
    with opened(data) as app, app.database.write() as session:
        now = app.now()
        if first in KNOWN_SUBDIRS:
            withdraw.unyank(session, CONSOLE, channel, first, second, now=now)
        else:
            withdraw.unyank_version(session, CONSOLE, channel, first, second, now=now)
    print(f"{what} is in the index of {channel} again.")


def parts(what: str) -> tuple[str, str]:
    """A subdir and a file, or a name and a version. Raises: Malformed."""
    first, slash, second = what.partition("/")
    if not slash or not first or not second or "/" in second:
        raise Malformed(f"{what!r} is neither SUBDIR/FILE nor NAME/VERSION, such as linux-64/demo-1.0-0.conda.")
    return first, second
