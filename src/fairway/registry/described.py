"""What an upstream says of its packages, beside what their records do: their summaries, from its channeldata.json (CEP 38).

Not every channel has one, and nothing depends on it: whatever is wrong with it is left, and all else is served.
"""

from __future__ import annotations

import structlog
from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from fairway.conda.foreign import About
from fairway.db.engine import Database
from fairway.db.models import Package, Subdir, UpstreamSubdir
from fairway.errors import FairwayError, RemoteMissing
from fairway.registry.listed import SUMMARY_MAX
from fairway.remote import channel as remote
from fairway.remote.channel import CHANNEL_DATA
from fairway.remote.client import Validators

log = structlog.get_logger("fairway.refresh")

# That of conda-forge has 30 MB and is written anew with every package: half a day late is good enough for a summary.
EVERY_MS = 12 * 3_600_000
ROWS_AT_ONCE = 2_000
ONLY_THEIRS = (Package.live == 0, Package.remote > 0)


def bring(database: Database, upstream: remote.Upstream, channel_id: int, *, now: int) -> int:
    """Bring summaries to what the upstream says, if it was not asked lately; how many packages changed."""
    with database.read() as session:
        kept = known(session, channel_id)
    if kept is None:
        return 0
    place, before = kept
    if 0 <= now - before.at < EVERY_MS:
        return 0
    changed, fresh = 0, Validators(before.etag, before.modified, now)
    try:
        got = upstream.about(before)
        if got is not None:
            said, validators = got
            changed = write(database, channel_id, said)
            fresh = Validators(validators.etag, validators.modified, now)
    except RemoteMissing:
        fresh = Validators(at=now)
    except FairwayError as error:
        log.warning("upstream.described", channel=channel_id, error=error.detail)
        fresh = Validators(at=now)
    with database.write() as session:
        row = session.get(UpstreamSubdir, place, with_for_update=True)
        if row is not None:
            row.validators = {**row.validators, **remote.pack({CHANNEL_DATA: fresh})}
    return changed


def known(session: Session, channel_id: int) -> tuple[int, Validators] | None:
    """What the document was read with last, and the subdir with whose validators that is kept; none before the first."""
    query = (
        select(UpstreamSubdir.subdir_id, UpstreamSubdir.validators)
        .join(Subdir, Subdir.id == UpstreamSubdir.subdir_id)
        .where(Subdir.channel_id == channel_id)
        .order_by(Subdir.id)
        .limit(1)
    )
    row = session.execute(query).one_or_none()
    if row is None:
        return None
    return row.subdir_id, remote.unpack_known(row.validators).get(CHANNEL_DATA, Validators())


def write(database: Database, channel_id: int, said: dict[str, About]) -> int:
    """Packages of which nothing is ours get what is said of them; some at a time, because others wait to write."""
    with database.read() as session:
        theirs = select(Package.id, Package.name, Package.summary, Package.licence)
        rows = session.execute(theirs.where(Package.channel_id == channel_id, *ONLY_THEIRS)).all()
    changed = []
    for row in rows:
        about = said.get(row.name)
        if about is None:
            continue
        # a record's own licence is of that very version
        new = (about.summary[:SUMMARY_MAX], row.licence or about.licence[:SUMMARY_MAX])
        if new != (row.summary, row.licence):
            changed.append({"package_id": row.id, "about": new[0], "terms": new[1]})
    statement = (
        update(Package.__table__)  # type: ignore[arg-type]
        .where(Package.id == bindparam("package_id"), *ONLY_THEIRS)
        .values(summary=bindparam("about"), licence=bindparam("terms"))
    )
    for at in range(0, len(changed), ROWS_AT_ONCE):
        with database.write() as session:
            session.connection().execute(statement, changed[at : at + ROWS_AT_ONCE])
    return len(changed)
