"""`fairway demo`."""

from __future__ import annotations

import shlex
import time
from typing import Annotated

import typer

from fairway import settings as settings_module
from fairway.cli.context import DataOption, opened
from fairway.demo.fill import Filling
from fairway.settings import Settings


def demo(
    data: DataOption = None,
    small: Annotated[bool, typer.Option("--small", help="A few packages only, in a second or two")] = False,
) -> None:
    """Fill an empty data folder with people, channels and packages to look at."""
    began = time.monotonic()
    with opened(data) as app:
        done = Filling(app, small=small).run()
        folder = app.settings.data
    print(
        f"{done.channels} channels, {done.packages} packages, {done.files} files and {done.downloads} downloads in "
        f"{time.monotonic() - began:.0f} s.\n"
    )
    for name, password in done.passwords.items():
        print(f"  Sign in as {name:<8} with the password {password}")
    default = folder == Settings.model_fields["data"].default
    print(
        f"\nLook at it: {settings_module.command_name()} serve{'' if default else f' --data {shlex.quote(str(folder))}'}"
    )
