"""`fairway solve`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from fairway.cli.context import DataOption, JsonOption, opened
from fairway.errors import Malformed
from fairway.registry import virtual
from fairway.registry.actor import CONSOLE
from fairway.registry.solving import USUAL


def solve(
    package: Annotated[str, typer.Argument(help="CHANNEL/PACKAGE")],
    platform: Annotated[str, typer.Option("--platform", help="What it is to run on")] = USUAL,
    version: Annotated[str | None, typer.Option("--version", help="Of the package; the newest by default")] = None,
    cuda: Annotated[str | None, typer.Option("--cuda", help="Version of CUDA; none by default")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the channels that a package needs, the first before the others; all channels of the server count."""
    channel, slash, name = package.partition("/")
    if not slash or not channel or not name or "/" in name:
        raise Malformed(f"{package!r} is not CHANNEL/PACKAGE.")
    with opened(data) as app:
        found = app.solving.which(CONSOLE, channel, name, virtual.system(platform, cuda=cuda), version)
        base = app.settings.url
    if as_json:
        print(json.dumps(asdict(found), indent=2))
    for line in () if as_json else [f"{base}/{one.name}" for one in found.channels]:
        print(line)
    if found.reason:
        older = f"This is for {name} {found.version}; {found.newest} cannot be installed. " if found.solvable else ""
        print(older + found.reason, file=sys.stderr)
    if not found.solvable:
        raise typer.Exit(1)
