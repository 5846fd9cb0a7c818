"""`fairway`: exit status 0 on success, 1 with one sentence on stderr when something was refused, 2 for wrong usage."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import typer

from fairway import __version__, logs
from fairway.errors import FairwayError

# Every command and where it is. Only the module of the command that is called is loaded: a key should be made at once.
GROUPS = {
    "user": "accounts.users",
    "token": "accounts.tokens",
    "channel": "channels.channels",
    "upstream": "upstreams.upstreams",
    "config": "maintain.config",
    "secrets": "secret.secrets",
}
COMMANDS = {
    "serve": "serve",
    "worker": "serve",
    "upload": "upload",
    "yank": "withdrawing",
    "unyank": "withdrawing",
    "solve": "solve",
    "demo": "demo",
    **dict.fromkeys(("fsck", "reindex", "sweep", "backup", "restore", "doctor"), "maintain"),
}


def build(called: str | None = None) -> typer.Typer:
    """The command line; with `called` only what that needs: its command, if there is one of this name."""
    app = typer.Typer(
        name="fairway",
        help="The server with which a team hosts its own conda channels.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        add_completion=False,
    )
    app.callback()(common)
    every = called not in {*GROUPS, *COMMANDS, "--version"}
    for name, place in GROUPS.items():
        if every or name == called:
            module, group = place.split(".")
            app.add_typer(getattr(import_module(f"fairway.cli.{module}"), group), name=name)
    for name, module in COMMANDS.items():
        if every or name == called:
            app.command(name)(getattr(import_module(f"fairway.cli.{module}"), name))
    return app


def version(show: bool) -> None:
    if show:
        print(f"fairway {__version__}")
        raise typer.Exit


def common(
    _version: bool = typer.Option(
        False, "--version", help="Say which version this is", callback=version, is_eager=True
    ),
) -> None:
    os.umask(0o077)  # whatever a command leaves on the disk is for the server's user alone
    logs.configure("text", "warning")


def main() -> None:
    try:
        build(sys.argv[1] if len(sys.argv) > 1 else None)()
    except FairwayError as error:
        print(f"fairway: {error.detail}{reason(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def reason(error: FairwayError) -> str:
    """What the database itself said, which strangers are not told and whoever sits here needs."""
    said = str(getattr(error.__cause__, "orig", None) or "").strip()
    return f" ({said.splitlines()[0].strip()})" if said else ""
