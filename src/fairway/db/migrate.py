"""Bring a database to the schema this version needs, or say why not.

Alembic is loaded only when there is something to migrate: every command asks, and nearly every time nothing is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import column as named
from sqlalchemy import inspect, select, table, text
from sqlalchemy.engine import Connection

from fairway.db.engine import Database, translated
from fairway.errors import SetupError

if TYPE_CHECKING:
    from alembic.config import Config

# The revision this version of Fairway needs; a test holds it to the newest migration.
HEAD = "0009"
# Any number that only Fairway's migrations take on this PostgreSQL: two servers starting at once take turns.
ADVISORY_LOCK = 0x46616972776179
VERSIONS = table("alembic_version", named("version_num"))


def config_for(connection: Connection | None) -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def known() -> set[str]:
    """The revisions this version of Fairway has."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    return {script.revision for script in ScriptDirectory.from_config(config_for(None)).walk_revisions()}


def current(database: Database) -> str | None:
    """The revision the database is at; none for an empty one."""
    with translated(), database.reader.connect() as connection:
        return revision_of(connection)


def revision_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSIONS.name):
        return None
    revision: str | None = connection.scalar(select(VERSIONS.c.version_num))
    return revision


def upgrade(database: Database, revision: str = HEAD) -> None:
    """Run what is missing, in one transaction.

    Raises:
        SetupError: the database was written by a newer Fairway, whose schema this one does not know.
    """
    if current(database) == revision:
        return
    from alembic import command  # noqa: PLC0415

    with translated(), database.writer.begin() as connection:
        if not database.is_sqlite:
            from fairway.db.postgres import take_time  # noqa: PLC0415 - psycopg is installed only where it is used

            take_time(connection)  # minutes, on many rows; and whoever starts meanwhile waits for it
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        # looked at again under the lock: another one that starts may have just made the schema
        at = revision_of(connection)
        if at == revision:
            return
        if at is None:
            check_empty(connection)
        elif at not in known():
            raise SetupError(
                f"The database is at schema {at}, which this version of Fairway does not know: it was used by a newer "
                "version, or by another program. Install that version, or restore a backup made with this one."
            )
        command.upgrade(config_for(connection), revision)


def require_current(database: Database) -> None:
    """For what must not change the schema under a running server. Raises: SetupError: it is another schema."""
    at = current(database)
    if at == HEAD:
        return
    if at not in known():
        raise SetupError(
            f"The database is at schema {at} and this version of Fairway has {HEAD}: it was used by a newer version, so use "
            "the commands of that version."
        )
    raise SetupError(
        f"The database is at schema {at} and this version of Fairway has {HEAD}: start the server of this version, which "
        "migrates it."
    )


def check_empty(connection: Connection) -> None:
    """Raises: SetupError: the tables of something else are in the database."""
    tables = set(inspect(connection).get_table_names()) - {VERSIONS.name}
    if tables:
        raise SetupError(
            f"The database holds tables that are not Fairway's, such as {min(tables)}: give Fairway a database of its own."
        )


def downgrade(database: Database, revision: str) -> None:
    """Step back to `revision`; "base" is an empty database."""
    from alembic import command  # noqa: PLC0415

    with translated(), database.writer.begin() as connection:
        command.downgrade(config_for(connection), revision)
