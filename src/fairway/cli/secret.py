"""`fairway secrets`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fairway.cli.context import DataOption, opened
from fairway.registry import sealing

secrets = typer.Typer(help="The keys with which credentials of upstreams are sealed.", no_args_is_help=True)


@secrets.callback()
def group() -> None:
    """The keys with which credentials of upstreams are sealed."""


@secrets.command()
def rotate(
    forget_old: Annotated[
        bool,
        typer.Option("--forget-old", help="Drop the old keys; what a backup holds can then not be opened any more"),
    ] = False,
    data: DataOption = None,
) -> None:
    """Make a new key, and seal everything with it. Safe while the server runs. Exit status 1 if something was sealed with
    a key that is not there: it has to be entered again.
    """
    with opened(data) as app:
        app.keyring.rotate()
        with app.database.write() as session:
            done, lost = sealing.reseal(session, app.keyring)
        dropped = app.keyring.forget_old() if forget_old else 0
        kept = app.keyring.count()
    print(f"Sealed {done} secret{'' if done == 1 else 's'} with a new key; {app.keyring.path} holds {kept} keys.")
    if dropped:
        print(f"Dropped {dropped} old key{'' if dropped == 1 else 's'}.")
    if lost:
        print(f"{lost} could not be opened, and must be entered again; 'fairway doctor' counts them.", file=sys.stderr)
    raise typer.Exit(1 if lost else 0)
