"""`fairway fsck`, `reindex`, `sweep`, `doctor` and `config show`."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from fairway import __version__
from fairway import settings as settings_module
from fairway.app import Fairway
from fairway.blobs import keys
from fairway.cli.context import Column, DataOption, JsonOption, listing, opened
from fairway.db import migrate
from fairway.errors import FairwayError
from fairway.registry import backup as registry_backup
from fairway.registry import channels, holding, index, sealing, tally
from fairway.registry import fsck as registry_fsck
from fairway.registry import search as registry_search
from fairway.registry import sweep as registry_sweep
from fairway.registry.actor import CONSOLE
from fairway.settings import Settings

config = typer.Typer(help="The server's settings.", no_args_is_help=True)

REBUILD_SECONDS = 3_600.0


def fsck(
    deep: Annotated[bool, typer.Option("--deep", help="Read every file and compare its sha256")] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Count anew what is counted wrongly, let go of damaged parts of upstreams, and build the index of broken channels anew",
        ),
    ] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Compare rows, files and index. Repairs nothing unless asked; exit status 1 if something is broken."""
    with opened(data) as app:
        found = list(registry_fsck.check(app.database, app.blobs, deep=deep))
        if repair and any(finding.harm == "error" for finding in found):
            mend(app, found, deep=deep)
            found = list(registry_fsck.check(app.database, app.blobs, deep=deep))
    columns = (
        Column("harm", lambda finding: finding.harm),
        Column("where", lambda finding: finding.where),
        Column("what", lambda finding: finding.what),
    )
    if found or as_json:
        listing(found, columns, as_json=as_json)
    else:
        print("Rows, files and index agree.")
    raise typer.Exit(1 if any(finding.harm == "error" for finding in found) else 0)


def mend(app: Fairway, found: Sequence[registry_fsck.Finding], *, deep: bool) -> None:
    """Let go of what is damaged of upstreams, count anew, and build the index of channels anew where neither was enough."""
    mended = let_go(app, deep=deep) | recount(app)
    broken = {
        finding.where.split("/")[0]
        for finding in found
        if finding.harm == "error" and (finding.where, finding.what) not in mended
    }
    with app.database.read() as session:
        names = [channel.name for channel in channels.list_channels(session, CONSOLE)]
    for name in names:
        if name in broken:
            rebuild(app, name, None)


def let_go(app: Fairway, *, deep: bool) -> set[tuple[str, str]]:
    """Forget what is damaged of upstreams, so that it comes anew; where and what needs no new index."""
    damages = list(holding.damages(app.database, app.blobs, deep=deep))
    for damage in damages:
        with app.database.write() as session:
            holding.let_go(session, damage, now=app.now())
    return {(damage.where, damage.what) for damage in damages if damage.kind in {"copy", "retired"}}


def recount(app: Fairway) -> set[tuple[str, str]]:
    """Mend what is counted wrongly; where and what that was."""
    with app.database.read() as session:
        drifts = list(tally.drifted(session))
    wrong: dict[int, set[int]] = {}
    for drift in drifts:
        mine = wrong.setdefault(drift.channel_id, set())
        if drift.package_id is not None:
            mine.add(drift.package_id)
    for channel_id, package_ids in wrong.items():
        # some at a time: nobody publishes to the channel meanwhile
        for some in list(registry_sweep.batched(package_ids)) or [[]]:
            with app.database.write() as session:
                tally.recount(session, channel_id, some, now=app.now())
    return {(drift.where, drift.what) for drift in drifts}


def reindex(
    channel: Annotated[str, typer.Argument(help="The channel's name")],
    subdir: Annotated[str | None, typer.Argument(help="Only this subdir")] = None,
    data: DataOption = None,
) -> None:
    """Build a channel's index anew from its rows. An unchanged channel gets the same bytes."""
    with opened(data) as app:
        rebuilt = rebuild(app, channel, subdir)
    print(f"Reindexed {rebuilt} subdir{'' if rebuilt == 1 else 's'} of {channel}.")


def rebuild(app: Fairway, channel: str, subdir: str | None) -> int:
    with app.database.write() as session:
        changes = channels.reindex(session, CONSOLE, channel, subdir, now=app.now())
    for subdir_id, change in changes.items():
        for name in index.rebuild(app.database, subdir_id, now=app.now()):
            print(f"The shard of {name} could not be made; the log says why.", file=sys.stderr)
        app.publisher.wait_flat(subdir_id, change, seconds=REBUILD_SECONDS)
    return len(changes)


def sweep(
    unknown: Annotated[
        bool,
        typer.Option("--unknown", help="Also let go of stored objects that nothing refers to, as a crash leaves them"),
    ] = False,
    data: DataOption = None,
) -> None:
    """Throw away what was deleted or superseded long enough ago. The server does this by itself every hour."""
    with opened(data) as app:
        if unknown:
            found = registry_sweep.retire_unknown(app.database, app.blobs, now=app.now())
            print(
                f"{len(found)} objects ({sum(entry.size for entry in found)} bytes) that nothing refers to will be swept in "
                f"{app.settings.keep_days} days."
            )
        swept = registry_sweep.sweep(app.database, app.blobs, now=app.now(), keep_ms=app.settings.keep_ms)
    print(f"Swept {swept.channels} channels, {swept.files} files, {swept.objects} objects.")
    if swept.failed:
        print(f"The store did not delete {swept.failed} objects; they are tried again in a day.", file=sys.stderr)


def backup(
    file: Annotated[Path, typer.Argument(help="Where to write it; must not exist")], data: DataOption = None
) -> None:
    """Write everything into one file. Safe while the server runs. Exit status 1 if the store has lost a file: all others
    are in it.
    """
    with opened(data) as app:
        done = registry_backup.backup(app.database, app.blobs, file, schema=migrate.HEAD, now=app.now())
        with app.database.read() as session:
            sealed, _ = sealing.state(session, app.keyring)
    print(f"Backed up {done.rows} rows and {done.files} files ({done.size / 1e6:.1f} MB) to {file}.")
    if sealed:
        print(
            f"Not in it, on purpose: {app.keyring.path}, without which {upstreams(sealed)} must be entered again. Keep a copy."
        )
    for lost in done.lost:
        print(f"Not in the backup, because its bytes are missing or damaged: {lost}", file=sys.stderr)
    raise typer.Exit(1 if done.lost else 0)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that 'fairway backup' wrote")], data: DataOption = None
) -> None:
    """Bring a backup into an empty Fairway, on whichever database and store it is set up with."""
    with opened(data) as app:
        done = registry_backup.restore(
            app.database,
            app.blobs,
            app.staging,
            file,
            schema=migrate.HEAD,
            say=lambda text: print(text, file=sys.stderr),
        )
        app.publisher.catch_up()
        with app.database.read() as session:
            _, closed = sealing.state(session, app.keyring)
    print(f"Restored {done.rows} rows and {done.files} files ({done.size / 1e6:.1f} MB), and built the index.")
    if closed:
        print(
            f"{app.keyring.path} does not open {upstreams(closed)}: bring that file too, or enter them again.",
            file=sys.stderr,
        )


@config.command("show")
def show_config(
    as_json: JsonOption = False,
    data: DataOption = None,
    path: Annotated[Path | None, typer.Option("--config", help="Settings file")] = None,
) -> None:
    """Show every setting, its value, and where the value came from."""
    loaded = settings_module.load({"data": data, "config": path})
    rows = [
        (name, settings_module.shown(name, getattr(loaded.settings, name)), loaded.origins[name], field.description)
        for name, field in Settings.model_fields.items()
    ]
    columns = (
        Column("setting", lambda row: row[0]),
        Column("value", lambda row: row[1]),
        Column("from", lambda row: row[2]),
        Column("meaning", lambda row: row[3]),
    )
    listing(rows, columns, as_json=as_json)


def doctor(data: DataOption = None) -> None:
    """Check what Fairway needs from this machine; exit status 1 if something is missing."""
    print(f"Fairway {__version__}, Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}")
    bad = 0
    with opened(data) as app:
        for name, check in checks(app):
            try:
                said = check()
            except FairwayError as error:
                bad += 1
                print(f"  bad   {name}: {error.detail}")
            else:
                print(f"  good  {name}: {said}")
    raise typer.Exit(1 if bad else 0)


def checks(app: Fairway) -> list[tuple[str, Callable[[], str]]]:
    return [
        ("database", lambda: database_state(app)),
        ("search", lambda: search_state(app)),
        ("storage", lambda: storage_state(app)),
        ("room", lambda: room_state(app)),
        ("reading packages", lambda: reading_state(app)),
        ("secrets", lambda: secrets_state(app)),
        ("address", lambda: app.settings.url),
    ]


def database_state(app: Fairway) -> str:
    app.database.ping()
    return f"{app.database.url.get_backend_name()} at schema {migrate.current(app.database)}"


def search_state(app: Fairway) -> str:
    with app.database.read() as session:
        if registry_search.has_index(session):
            return "an index of all words"
    return (
        "without an index of words: PostgreSQL's extension pg_trgm was not allowed, so that search looks at every package. "
        "An administrator of the database can mend that: docs/how-to/run-a-server.md"
    )


def storage_state(app: Fairway) -> str:
    """Write, read and delete an object, as an upload and a sweep would."""
    app.blobs.check()
    body = b"fairway doctor"
    key = keys.document(1, None, "channeldata.json", hashlib.sha256(body).hexdigest())
    app.blobs.put(key, body)
    if app.blobs.get(key) != body:
        raise FairwayError("What was stored is not what came back.")
    app.blobs.delete(key)
    return f"{app.settings.storage} takes, returns and deletes objects"


def room_state(app: Fairway) -> str:
    usage = shutil.disk_usage(app.settings.data)
    if usage.free < app.settings.max_file_size:
        raise FairwayError(
            f"{usage.free} bytes are free, less than one upload may have ({app.settings.max_file_size})."
        )
    return f"{usage.free / 1e9:.1f} GB free for the data folder"


def secrets_state(app: Fairway) -> str:
    with app.database.read() as session:
        sealed, closed = sealing.state(session, app.keyring)
    if closed:
        raise FairwayError(
            f"{app.keyring.path} does not open {upstreams(closed)}: bring back the file that did, or enter them again."
        )
    return f"{app.keyring.path} opens {upstreams(sealed)}; no backup holds it" if sealed else "none are stored"


def upstreams(count: int) -> str:
    return "the credential of an upstream" if count == 1 else f"the credentials of {count} upstreams"


def reading_state(app: Fairway) -> str:
    """Have a child process refuse a file that is no package: that it answers is the proof."""
    from fairway.conda.names import Filename  # noqa: PLC0415
    from fairway.errors import PackageRefused  # noqa: PLC0415

    with tempfile.NamedTemporaryFile(suffix=".conda") as file:
        file.write(b"no package")
        file.flush()
        try:
            app.reader.read(Path(file.name), Filename.parse("probe-1-0.conda"), subdir=None, now_ms=app.now())
        except PackageRefused:
            return f"{app.settings.reading_processes} child processes, within their limits"
    raise FairwayError("The child process accepted a file that is no package.")
