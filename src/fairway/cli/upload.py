"""`fairway upload`: files into a channel, over HTTP or straight into the data folder."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import httpx2 as httpx
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from fairway import settings as settings_module
from fairway.app import Fairway
from fairway.cli.context import DataOption, opened
from fairway.conda import notes
from fairway.conda.names import Filename
from fairway.errors import FairwayError, Invalid, SetupError, Unavailable
from fairway.registry.actor import CONSOLE
from fairway.registry.publish import Offer

PIECE = 1 << 20
AGAIN = (429, 500, 502, 503, 504, 507)
PAUSES = (1.0, 3.0, 9.0)
# A key is read from the environment too, so that it need not stand in a shell's history.
DEFAULT_SERVER = "http://127.0.0.1:8000"

Send = Callable[[Path, Callable[[int], None]], str]


def upload(
    channel: Annotated[str, typer.Argument(help="The channel's name")],
    files: Annotated[list[Path], typer.Argument(help=".conda and .tar.bz2 files", exists=False)],
    server: Annotated[str | None, typer.Option("--server", help="The server's address (or FAIRWAY_SERVER)")] = None,
    token: Annotated[str | None, typer.Option("--token", help="An API key that may upload (or FAIRWAY_TOKEN)")] = None,
    local: Annotated[bool, typer.Option("--local", help="Into the data folder, without a server")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that exist, where the channel allows it")
    ] = False,
    data: DataOption = None,
) -> None:
    """Upload packages. A refused file does not stop the others; the exit status is 1 if any was refused."""
    if local:
        with opened(data) as app:
            refused = run(files, lambda path, moved: send_local(app, channel, path, moved, force=force))
    else:
        base = (server or settings_module.secret("SERVER") or DEFAULT_SERVER).rstrip("/")
        key = token or settings_module.secret("TOKEN")
        if not key:
            raise SetupError("An API key is needed: --token KEY, or the variable FAIRWAY_TOKEN.")
        limits = httpx.Timeout(30.0, read=120.0)
        with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=limits) as client:
            refused = run(files, lambda path, moved: send(client, base, channel, path, moved, force=force))
    raise typer.Exit(1 if refused else 0)


def run(files: list[Path], send_one: Send) -> int:
    """Send each file, show how far it is, say what became of it; how many were refused."""
    refused = done = size = 0
    started = time.monotonic()
    with bars() as progress:
        for path in files:
            try:
                task = progress.add_task(path.name, total=path.stat().st_size)
                word = send_one(path, lambda moved, task=task: progress.update(task, completed=moved))  # type: ignore[misc]
            except OSError as error:
                word = f"refused: {path} cannot be read: {error.strerror}"
            except FairwayError as error:
                word = f"refused: {error.detail}"
            else:
                done += 1
                size += path.stat().st_size
                progress.remove_task(task)
                progress.console.print(f"{path.name}: {word}", highlight=False, soft_wrap=True)
                continue
            refused += 1
            for left in progress.task_ids:
                progress.remove_task(left)
            progress.console.print(f"{path.name}: {word}", style="red", highlight=False, markup=False, soft_wrap=True)
    seconds = time.monotonic() - started
    print(f"{done} uploaded ({size / 1e6:.1f} MB in {seconds:.1f} s), {refused} refused")
    return refused


@contextmanager
def bars() -> Iterator[Progress]:
    """Progress on a terminal; in a log, one line a file is enough."""
    console = Console(file=sys.stdout)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


def send(
    client: httpx.Client, base: str, channel: str, path: Path, moved: Callable[[int], None], *, force: bool
) -> str:
    """PUT one file; a PUT of the same bytes again is harmless, so a lost answer is asked for again."""
    size = path.stat().st_size
    sha256 = digest(path)
    url = f"{base}/api/v1/channels/{quote(channel, safe='')}/artifacts/{quote(path.name, safe='')}"
    params = {"sha256": sha256} | ({"force": "true"} if force else {})
    for pause in (*PAUSES, None):
        try:
            answer = client.put(url, params=params, content=pieces(path, moved), headers={"Content-Length": str(size)})
        except httpx.TransportError as error:
            if pause is None:
                raise Unavailable(f"{base} does not answer: {error}") from None
        else:
            if answer.status_code not in AGAIN or pause is None:
                return said(answer)
        time.sleep(pause)
    raise AssertionError


def said(answer: httpx.Response) -> str:
    """One word for a success. Raises: Invalid: the server's own sentence."""
    try:
        body = answer.json()
    except ValueError:
        body = {}
    if answer.is_success and isinstance(body, dict):
        word = "published" if body.get("created") else "already there"
        late = "" if body.get("indexed", True) else "; its index will follow shortly"
        warned = "".join(f"; note: {notes.sentence(code)}" for code in body.get("warnings", []))
        return f"{word} in {body.get('channel')}/{body.get('subdir')}{late}{warned}"
    detail = body.get("detail") if isinstance(body, dict) else None
    raise Invalid(f"{detail or answer.text[:500] or 'no reason given'} (HTTP {answer.status_code})")


def send_local(app: Fairway, channel: str, path: Path, moved: Callable[[int], None], *, force: bool) -> str:
    name = Filename.parse(path.name)
    with app.staging.open(app.settings.max_file_size) as staged:
        for piece in pieces(path, moved):
            staged.write(piece)
        published = app.take(CONSOLE, staged, Offer(channel, name, force=force, same_is_fine=True))
    return f"{'published' if published.created else 'already there'} in {channel}/{published.subdir}"


def pieces(path: Path, moved: Callable[[int], None]) -> Iterator[bytes]:
    sent = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece
            sent += len(piece)
            moved(sent)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
