"""`fairway`: exit status 0 on success, 1 with one sentence on stderr when something was refused, 2 for wrong usage."""

from __future__ import annotations

import sys

import typer

from fairway import __version__
from fairway.cli import accounts, channels, logs, maintain, serve, upload
from fairway.errors import FairwayError

app = typer.Typer(
    name="fairway",
    help="The server with which a team hosts its own conda channels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
app.add_typer(accounts.users, name="user")
app.add_typer(accounts.tokens, name="token")
app.add_typer(channels.channels, name="channel")
app.add_typer(maintain.config, name="config")
app.command()(serve.serve)
app.command()(serve.worker)
app.command()(upload.upload)
app.command()(maintain.fsck)
app.command()(maintain.reindex)
app.command()(maintain.sweep)
app.command()(maintain.backup)
app.command()(maintain.restore)
app.command()(maintain.doctor)


def version(show: bool) -> None:
    if show:
        print(f"fairway {__version__}")
        raise typer.Exit


@app.callback()
def common(
    _version: bool = typer.Option(
        False, "--version", help="Say which version this is", callback=version, is_eager=True
    ),
) -> None:
    logs.configure("text", "warning")


def main() -> None:
    try:
        app()
    except FairwayError as error:
        print(f"fairway: {error.detail}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
