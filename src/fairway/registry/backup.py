"""A whole Fairway in one file, and back, whichever database and store it had and will have.

A backup is a tar: a manifest, the rows of each table as msgpack, and the package files. Rows are read in one snapshot
first and files afterwards: files are immutable and swept only days after they were let go, so every file the rows name
is still there. The index is not in it; it is built anew from the rows, to the same bytes. What we made of an upstream's
records is: it cannot be built of anything else, and says when each file was first seen.

It holds password hashes and the hashes of API keys, no secret in clear; the file is for its owner's eyes all the same.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import orjson
from sqlalchemy import Table, TextClause, delete, exists, func, insert, select, text, union, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fairway.blobs import keys
from fairway.blobs.staging import StagingArea
from fairway.blobs.store import BlobStore
from fairway.db.engine import Database
from fairway.db.models import (
    Artifact,
    Base,
    BrowserSession,
    Channel,
    Copy,
    Fetch,
    Job,
    Pointer,
    SetupCode,
    Shard,
    ShardBytes,
    Subdir,
    Upstream,
    UpstreamName,
    User,
    Want,
)
from fairway.errors import BlobMissing, SetupError
from fairway.queue import jobs
from fairway.registry import sweep, upstreams

MANIFEST = "fairway-backup.json"
FORMAT = 1
ROWS_AT_ONCE = 500
ROWS, FILES = "rows/", "files/"
# The index is not restored: it is published anew. What channels want, the database counts while rows come in. A server
# makes its jobs itself, and nothing is being fetched. And nobody is signed in afterwards, who may have signed out since.
LEFT_OUT = frozenset(table.__tablename__ for table in (Job, Pointer, BrowserSession, SetupCode, Want, Fetch))

# the shards that are made of an upstream's records
THEIRS = exists().where(UpstreamName.subdir_id == ShardBytes.subdir_id, UpstreamName.sha256 == ShardBytes.sha256)


@dataclass(frozen=True, slots=True)
class Counted:
    rows: int
    files: int
    size: int
    lost: tuple[str, ...] = ()  # files that are in a channel and not in the backup: the store has not got their bytes


def backup(database: Database, blobs: BlobStore, target: Path, *, schema: str, now: int) -> Counted:
    """Write everything to `target`, which must not exist. Safe beside a running server.

    A file whose bytes are missing or damaged is left out, and counts as `lost` if it is in a channel: one of them must not
    make every backup impossible.

    Raises: SetupError: the file exists or cannot be written.
    """
    part = target.with_name(target.name + ".part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise SetupError(
            f"The backup {target} is being written by somebody, or was cut off: choose another name, or remove {part.name} "
            "if nobody is."
        ) from None
    except OSError as error:
        raise SetupError(f"The backup {target} cannot be written: {error.strerror}.") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            if target.exists():  # asked when the other name is ours, so that nobody else can come in between
                raise SetupError(f"The backup {target} exists already; choose another name.")
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                rows, wanted = _write_rows(database, archive, schema=schema, now=now)
                written = {sha256 for sha256, size in wanted.items() if _write_file(archive, file, blobs, sha256, size)}
            file.flush()
            os.fsync(file.fileno())
        part.rename(target)
        _sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)
    lost = _files_of(database, wanted.keys() - written)
    return Counted(rows, len(written), sum(wanted[sha256] for sha256 in written), lost)


def _sync_folder(folder: Path) -> None:
    """A name survives a power cut when its folder has."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # network file systems that know no such thing
            raise
    finally:
        os.close(descriptor)


def _write_rows(database: Database, archive: tarfile.TarFile, *, schema: str, now: int) -> tuple[int, dict[str, int]]:
    """Every table, from one snapshot; the number of rows, and the files they need as `{sha256: size}`."""
    counts: dict[str, int] = {}
    with database.read() as session:
        if session.get_bind().dialect.name == "postgresql":
            from fairway.db.postgres import take_time  # noqa: PLC0415 - psycopg is installed only where it is used

            take_time(session.connection())  # a table is copied into the archive between two statements
        ours = select(Artifact.sha256, Artifact.size).where(Artifact.purged_at.is_(None))
        fetched = select(Copy.sha256, Copy.size).where(Copy.fetched_at.is_not(None))
        wanted: dict[str, int] = dict(session.execute(union(ours, fetched)).tuples().all())
        for table in tables():
            with tempfile.TemporaryFile() as sheet:
                counts[str(table.name)] = _write_table(session, table, sheet)
                _add(archive, ROWS + table.name, sheet, sheet.tell())
    manifest = {"format": FORMAT, "schema": schema, "created_at": now, "rows": counts, "files": len(wanted)}
    body = orjson.dumps(manifest)
    _add(archive, MANIFEST, io.BytesIO(body), len(body))
    return sum(counts.values()), wanted


def _write_table(session: Session, table: Table, sheet: IO[bytes]) -> int:
    encoder, count = msgspec.msgpack.Encoder(), 0
    query = select(table).order_by(*table.primary_key.columns)
    if table.name == ShardBytes.__tablename__:
        query = query.where(THEIRS)
    for row in session.execute(query.execution_options(yield_per=ROWS_AT_ONCE, stream_results=True)):
        body = encoder.encode(tuple(row))
        sheet.write(len(body).to_bytes(4, "big") + body)
        count += 1
    return count


def _write_file(archive: tarfile.TarFile, file: IO[bytes], blobs: BlobStore, sha256: str, size: int) -> bool:
    """Add a file to the archive; false, and nothing is added, if its bytes are not those that were published."""
    begin = archive.offset
    try:
        body = Joined(blobs.stream(keys.package(sha256)))
        _add(archive, FILES + sha256, body, size)
    except (BlobMissing, Short):
        whole = False
    else:
        whole = body.sha256.hexdigest() == sha256
    if not whole:
        # a restore refuses a damaged file, and with it all others
        file.seek(begin)
        file.truncate()
        archive.offset = begin
    return whole


def _files_of(database: Database, hashes: Iterable[str]) -> tuple[str, ...]:
    """The files in channels that are made of these bytes."""
    ours = (
        select(Channel.name, Subdir.name, Artifact.filename)
        .join(Subdir, Subdir.id == Artifact.subdir_id)
        .join(Channel, Channel.id == Artifact.channel_id)
        .where(Artifact.deleted_at.is_(None), Artifact.purged_at.is_(None), Channel.deleted_at.is_(None))
    )
    fetched = (
        select(Channel.name, Subdir.name, Copy.filename)
        .join(Subdir, Subdir.id == Copy.subdir_id)
        .join(Channel, Channel.id == Subdir.channel_id)
        .where(Copy.fetched_at.is_not(None), Channel.deleted_at.is_(None))
    )
    found: list[str] = []
    for batch in sweep.batched(hashes):
        query = union(ours.where(Artifact.sha256.in_(batch)), fetched.where(Copy.sha256.in_(batch)))
        with database.read() as session:
            found += ["/".join(row) for row in session.execute(query)]
    return tuple(sorted(found))


def restore(
    database: Database,
    blobs: BlobStore,
    staging: StagingArea,
    source: Path,
    *,
    schema: str,
    say: Callable[[str], None] = lambda _: None,
) -> Counted:
    """Bring a backup into an empty Fairway. Files come first, rows in one transaction at the end, so an interrupted
    restore leaves nothing but files that the next one overwrites.

    Raises: SetupError: this is no backup, one of another schema, or there is something here already.
    """
    with database.read() as session:
        _check_empty(session)
    try:
        with tarfile.open(source, mode="r:") as archive:
            _check_manifest(archive, schema)
            there: set[str] = set()
            size = 0
            for member in archive:
                if member.name.startswith(FILES) and (data := archive.extractfile(member)) is not None:
                    _restore_file(blobs, staging, member.name.removeprefix(FILES), data)
                    there.add(member.name.removeprefix(FILES))
                    size += member.size
                    if len(there) % 1000 == 0:
                        say(f"{len(there)} files")
            rows = _restore_rows(database, archive, there)
    except (tarfile.TarError, OSError, KeyError, msgspec.MsgspecError, orjson.JSONDecodeError) as error:
        raise SetupError(f"{source} is not a whole backup of Fairway: {error}.") from None
    except IntegrityError as error:
        reason = str(error.orig).partition("\n")[0]
        raise SetupError(f"The rows of {source} do not fit together, so nothing was restored: {reason}.") from None
    return Counted(rows, len(there), size)


def _check_empty(session: Session) -> None:
    for table in (User, Channel):
        if session.scalar(select(func.count()).select_from(table)):
            raise SetupError("A backup is restored into an empty Fairway; this one has accounts or channels already.")


def _check_manifest(archive: tarfile.TarFile, schema: str) -> None:
    found = archive.extractfile(MANIFEST)
    manifest = orjson.loads(found.read()) if found else {}
    if manifest.get("format") != FORMAT or manifest.get("schema") != schema:
        raise SetupError(
            f"The backup is of schema {manifest.get('schema')}, and this version of Fairway has {schema}: restore it with "
            "the version that made it, then upgrade."
        )


def _restore_file(blobs: BlobStore, staging: StagingArea, sha256: str, data: IO[bytes]) -> None:
    with staging.open(1 << 62) as staged:
        while chunk := data.read(1 << 20):
            staged.write(chunk)
        if staged.finish().sha256 != sha256:
            raise SetupError(f"The file {sha256} in the backup is damaged.")
        blobs.put_file(keys.package(sha256), staged.path)


def _restore_rows(database: Database, archive: tarfile.TarFile, there: set[str]) -> int:
    total = 0
    with database.write() as session:
        _check_empty(session)
        for table in reversed(tables()):
            # without accounts and channels these are traces of what was here once, and their numbers are in the way
            session.execute(delete(table))
        for table in tables():
            sheet = archive.extractfile(ROWS + table.name)
            if sheet is None:
                raise KeyError(table.name)
            names = [column.name for column in table.columns]
            batch: list[dict[str, Any]] = []
            for row in _rows_of(sheet):
                batch.append(dict(zip(names, row, strict=True)))
                total += 1
                if len(batch) == ROWS_AT_ONCE:
                    session.execute(insert(table), batch)
                    batch = []
            if batch:
                session.execute(insert(table), batch)
            if not database.is_sqlite and "id" in names:
                session.execute(next_id(table.name))
        session.execute(update(Shard).values(sha256=None, due=True))
        _restore_upstreams(session, there)
    return total


def _restore_upstreams(session: Session, there: set[str]) -> None:
    """Have upstreams looked at as before, and what is lacking of their files fetched again."""
    session.execute(update(Upstream).values(progress=None))
    for channel_id, next_at in session.execute(select(Upstream.channel_id, Upstream.next_at)):
        jobs.enqueue(session, upstreams.REFRESH, key=str(channel_id), run_at=next_at)
    fetched = set(session.scalars(select(Copy.sha256).where(Copy.fetched_at.is_not(None)).distinct()))
    for some in sweep.batched(fetched - there):
        session.execute(update(Copy).where(Copy.sha256.in_(some)).values(fetched_at=None))


def next_id(table: str) -> TextClause:
    """Let PostgreSQL go on counting behind the ids that were restored; `table` is one of our own names."""
    return text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), coalesce(max(id), 1)) FROM {table}")  # noqa: S608


def _rows_of(sheet: IO[bytes]) -> Iterator[tuple[Any, ...]]:
    decoder = msgspec.msgpack.Decoder()
    while head := sheet.read(4):
        yield tuple(decoder.decode(sheet.read(int.from_bytes(head, "big"))))


def tables() -> list[Table]:
    """What a backup holds, in an order in which rows can be inserted."""
    return [table for table in Base.metadata.sorted_tables if table.name not in LEFT_OUT]


def _add(archive: tarfile.TarFile, name: str, data: Any, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    if hasattr(data, "seek"):
        data.seek(0)
    archive.addfile(member, data)


class Short(Exception):
    """There are fewer bytes than there should be."""


class Joined:
    """Chunks as the file object that tarfile reads from, and their hash."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        data, self._rest = self._rest[:size], self._rest[size:]
        if len(data) < size:
            raise Short
        self.sha256.update(data)
        return data
