"""Yanking and searching

Records of files that left the index and may come back; what an archive holds; which package a line of the audit is
about; indexes for what files take in all; and an index of the words of packages, each database's own: FTS5 with trigrams on SQLite, pg_trgm on PostgreSQL
(without it where the extension may not be created: names are still found by their beginning, all else slower).

Revision: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

OUT = "purged_at IS NULL AND (deleted_at IS NOT NULL OR yanked_at IS NOT NULL)"
# detail=column: half the size; whoever asks looks at what was found, so positions are not needed
WORDS = """
    CREATE VIRTUAL TABLE package_words
    USING fts5(name, summary, content='packages', content_rowid='id', tokenize='trigram', detail=column)
"""
# `IS NOT`: every upload sets the summary, nearly always to what it was
TRIGGERS = {
    "package_words_insert": """
        AFTER INSERT ON packages BEGIN
            INSERT INTO package_words (rowid, name, summary) VALUES (new.id, new.name, new.summary);
        END
    """,
    "package_words_delete": """
        AFTER DELETE ON packages BEGIN
            INSERT INTO package_words (package_words, rowid, name, summary)
            VALUES ('delete', old.id, old.name, old.summary);
        END
    """,
    "package_words_update": """
        AFTER UPDATE OF id, name, summary ON packages
        WHEN old.summary IS NOT new.summary OR old.name IS NOT new.name OR old.id IS NOT new.id BEGIN
            INSERT INTO package_words (package_words, rowid, name, summary)
            VALUES ('delete', old.id, old.name, old.summary);
            INSERT INTO package_words (rowid, name, summary) VALUES (new.id, new.name, new.summary);
        END
    """,
}
# A package's row changes with every upload, and each change waits in a list that whoever searches reads through.
TRIGRAMS = """
    CREATE INDEX {0} ON packages USING gin ({1} gin_trgm_ops) WITH (gin_pending_list_limit = 256)
"""
INDEXES = {"ix_packages_name_trigrams": "name", "ix_packages_summary_trigrams": "lower(summary)"}


def upgrade() -> None:
    op.add_column("channels", sa.Column("packages", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("details", sa.Column("listing", sa.LargeBinary(), nullable=True))
    op.add_column("audit", sa.Column("package_id", sa.BigInteger(), nullable=True))
    op.create_table(
        "withheld",
        sa.Column("artifact_id", ID, nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("run_exports", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("artifact_id"),
    )
    op.execute(
        "UPDATE channels SET packages = "
        "(SELECT COUNT(*) FROM packages p WHERE p.channel_id = channels.id AND p.live > 0)"
    )
    fill_audit()
    mine = sa.text("package_id IS NOT NULL")
    op.create_index("ix_audit_package_id", "audit", ["package_id"], sqlite_where=mine, postgresql_where=mine)
    op.create_index("ix_packages_name", "packages", ["name"])
    kept, out = sa.text("purged_at IS NULL"), sa.text(OUT)
    op.drop_index("ix_artifacts_sha256", table_name="artifacts")
    op.create_index("ix_artifacts_sha256", "artifacts", ["sha256", "size"], sqlite_where=kept, postgresql_where=kept)
    op.create_index(
        "ix_artifacts_out", "artifacts", ["deleted_at", "yanked_at", "size"], sqlite_where=out, postgresql_where=out
    )
    op.create_index("ix_packages_most", "packages", ["downloads"])
    if op.get_bind().dialect.name == "sqlite":
        op.execute(WORDS)
        op.execute("INSERT INTO package_words (package_words) VALUES ('rebuild')")
        for name, body in TRIGGERS.items():
            op.execute(f"CREATE TRIGGER {name} {body}")
    elif may_have_trigrams():
        for name, column in INDEXES.items():
            op.execute(TRIGRAMS.format(name, column))


def fill_audit() -> None:
    """A line about a file has `subdir/filename` for its subject."""
    slash = "instr(audit.subject, '/')"
    if op.get_bind().dialect.name != "sqlite":
        slash = "strpos(audit.subject, '/')"
    op.execute(
        "UPDATE audit SET package_id = (SELECT a.package_id FROM subdirs s JOIN artifacts a ON a.subdir_id = s.id "  # noqa: S608 - our own two words
        f"WHERE s.channel_id = audit.channel_id AND s.name = substr(audit.subject, 1, {slash} - 1) "
        f"AND a.filename = substr(audit.subject, {slash} + 1)) WHERE action LIKE 'artifact.%' AND {slash} > 1"
    )


def may_have_trigrams() -> bool:
    bind = op.get_bind()
    try:
        with bind.begin_nested():
            bind.execute(sa.text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
    except sa.exc.DBAPIError:
        return False
    return True


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for name in TRIGGERS:
            op.execute(f"DROP TRIGGER {name}")
        op.execute("DROP TABLE package_words")
    else:
        for name in INDEXES:
            op.execute(f"DROP INDEX IF EXISTS {name}")
    # a file that is yanked is not in the index; back there it counts as deleted, and in no total
    yanked = "deleted_at IS NULL AND yanked_at IS NOT NULL"
    op.execute(
        "UPDATE channels SET "  # noqa: S608 - our own words
        f"artifacts = artifacts - (SELECT COUNT(*) FROM artifacts a WHERE a.channel_id = channels.id AND {yanked}), "
        f"size = size - (SELECT COALESCE(SUM(a.size), 0) FROM artifacts a WHERE a.channel_id = channels.id AND {yanked}) "
        f"WHERE id IN (SELECT channel_id FROM artifacts WHERE {yanked})"
    )
    op.execute(
        "UPDATE packages SET "  # noqa: S608 - our own words
        f"live = live - (SELECT COUNT(*) FROM artifacts a WHERE a.package_id = packages.id AND {yanked}) "
        f"WHERE id IN (SELECT package_id FROM artifacts WHERE {yanked})"
    )
    op.execute(f"UPDATE artifacts SET deleted_at = yanked_at WHERE {yanked}")  # noqa: S608 - our own words
    op.drop_index("ix_artifacts_out", table_name="artifacts")
    op.drop_index("ix_artifacts_sha256", table_name="artifacts")
    op.create_index("ix_artifacts_sha256", "artifacts", ["sha256"])
    op.drop_index("ix_packages_most", table_name="packages")
    op.drop_index("ix_packages_name", table_name="packages")
    op.drop_index("ix_audit_package_id", table_name="audit")
    op.drop_table("withheld")
    op.drop_column("audit", "package_id")
    op.drop_column("details", "listing")
    op.drop_column("channels", "packages")
