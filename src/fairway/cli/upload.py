"""`fairway upload`: files into a channel, over HTTP or straight into the data folder."""

from __future__ import annotations

import gc
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
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from fairway import settings as settings_module
from fairway.app import Fairway
from fairway.cli.context import DataOption, opened
from fairway.conda import notes
from fairway.errors import FairwayError, Invalid, SetupError, Unavailable
from fairway.registry.actor import CONSOLE
from fairway.registry.many import Many, accept_many
from fairway.registry.publish import Published

PIECE = 1 << 20
AGAIN = (429, 500, 502, 503, 504, 507)
FLAT_SECONDS = 3_600.0
PAUSES = (1.0, 3.0, 9.0)
# A key is read from the environment too, so that it need not stand in a shell's history.
DEFAULT_SERVER = "http://127.0.0.1:8000"

Send = Callable[[Path, Callable[[int], None]], str]


def upload(
    channel: Annotated[str, typer.Argument(help="The channel's name")],
    files: Annotated[
        list[Path], typer.Argument(help=".conda and .tar.bz2 files, and folders with such files", exists=False)
    ],
    server: Annotated[str | None, typer.Option("--server", help="The server's address (or FAIRWAY_SERVER)")] = None,
    token: Annotated[str | None, typer.Option("--token", help="An API key that may upload (or FAIRWAY_TOKEN)")] = None,
    local: Annotated[bool, typer.Option("--local", help="Into the data folder, without a server")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that exist, where the channel allows it")
    ] = False,
    data: DataOption = None,
) -> None:
    """Upload packages. A refused file does not stop the others; the exit status is 1 if any was refused."""
    paths = packages_of(files)
    if local:
        with opened(data) as app:
            refused = run_local(app, channel, paths, force=force)
    else:
        base = (server or settings_module.secret("SERVER") or DEFAULT_SERVER).rstrip("/")
        key = token or settings_module.secret("TOKEN")
        if not key:
            raise SetupError("An API key is needed: --token KEY, or the variable FAIRWAY_TOKEN.")
        limits = httpx.Timeout(30.0, read=120.0)
        with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=limits) as client:
            refused = run(paths, lambda path, moved: send(client, base, channel, path, moved, force=force))
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
def bars(*, files: bool = False) -> Iterator[Progress]:
    """Progress on a terminal, in bytes or in files; in a log, one line a file is enough."""
    console = Console(file=sys.stdout)
    moved = (MofNCompleteColumn(),) if files else (DownloadColumn(), TransferSpeedColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *moved, TimeRemainingColumn())
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
        noted = notes.worth_knowing(body.get("warnings", ()), body.get("unmet", ()), body.get("hides", 0))
        return f"{word} in {body.get('channel')}/{body.get('subdir')}{late}{with_notes(noted)}"
    detail = body.get("detail") if isinstance(body, dict) else None
    raise Invalid(f"{detail or answer.text[:500] or 'no reason given'} (HTTP {answer.status_code})")


def run_local(app: Fairway, channel: str, paths: list[Path], *, force: bool) -> int:
    """Bring files in without a server; how many were refused. The index is complete when this returns."""
    many = Many(
        app.intake, app.staging, CONSOLE, channel, force, app.settings.max_file_size,
        threads=app.settings.reading_processes + 1, clock=app.now,
    )  # fmt: skip
    gc.collect()
    gc.freeze()  # what was imported stays: looking through it again and again took a tenth of the time
    changes: dict[int, int] = {}
    refused = size = 0
    started = time.monotonic()
    with bars(files=True) as progress:
        task = progress.add_task("files", total=len(paths))
        say = progress.console.print if progress.console.is_terminal else None
        for path, outcome in accept_many(many, paths):
            progress.advance(task)
            word = word_of(outcome)
            if isinstance(outcome, Published):
                size += outcome.size
                changes[outcome.subdir_id] = max(changes.get(outcome.subdir_id, 0), outcome.change)
            else:
                refused += 1
            # the console's formatting costs more than the file
            if say:
                say(f"{path.name}: {word}", highlight=False, markup=False, soft_wrap=True)
            else:
                print(f"{path.name}: {word}")
    for subdir_id, change in changes.items():
        app.publisher.wait_flat(subdir_id, change, seconds=FLAT_SECONDS)
    seconds = time.monotonic() - started
    print(f"{len(paths) - refused} uploaded ({size / 1e6:.1f} MB in {seconds:.1f} s), {refused} refused")
    return refused


def word_of(outcome: Published | Exception) -> str:
    if isinstance(outcome, Published):
        noted = notes.worth_knowing(outcome.warnings, outcome.unmet, outcome.hides)
        word = "published" if outcome.created else "already there"
        return f"{word} in {outcome.channel}/{outcome.subdir}{with_notes(noted)}"
    if isinstance(outcome, OSError):
        return f"refused: it cannot be read: {outcome.strerror}"
    return f"refused: {outcome.detail if isinstance(outcome, FairwayError) else outcome}"


def with_notes(noted: list[str]) -> str:
    return "".join(f"; note: {one}" for one in noted)


def packages_of(paths: list[Path]) -> list[Path]:
    """The files meant: those named, and every package in the folders named. Raises: SetupError: a folder has none."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(
            file for file in path.rglob("*") if file.name.endswith((".conda", ".tar.bz2")) and file.is_file()
        )
        if not inside:
            raise SetupError(f"There is no .conda and no .tar.bz2 file in the folder {path}.")
        found += inside
    return found


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
