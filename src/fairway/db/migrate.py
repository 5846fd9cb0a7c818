"""Bring a database to the schema this version needs, or say why not."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import Connection

from fairway.db.engine import Database, translated
from fairway.errors import SetupError

# Any number that only Fairway's migrations take on this PostgreSQL: two servers starting at once take turns.
ADVISORY_LOCK = 0x46616972776179


def config_for(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The revision this version of Fairway needs."""
    found = ScriptDirectory.from_config(config_for(None)).get_current_head()
    if found is None:
        raise SetupError("This installation of Fairway lacks its migrations; install it again.")
    return found


def current(database: Database) -> str | None:
    """The revision the database is at; none for an empty one."""
    with translated(), database.reader.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(database: Database, revision: str = "head") -> None:
    """Run what is missing, in one transaction.

    Raises:
        SetupError: the database was written by a newer Fairway, whose schema this one does not know.
    """
    at = current(database)
    known = {script.revision for script in ScriptDirectory.from_config(config_for(None)).walk_revisions()}
    if at is not None and at not in known:
        raise SetupError(
            f"The database is at schema {at}, which this version of Fairway does not know: it was used by a newer "
            "version. Install that version, or restore a backup made with this one."
        )
    if at == head() and revision == "head":
        return
    with translated(), database.writer.begin() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        command.upgrade(config_for(connection), revision)


def downgrade(database: Database, revision: str) -> None:
    """Step back to `revision`; "base" is an empty database."""
    with translated(), database.writer.begin() as connection:
        command.downgrade(config_for(connection), revision)
