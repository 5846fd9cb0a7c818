"""What channels want

For each channel the names that its packages depend on, and whether it has them itself: kept by triggers, so that whoever
writes packages and what they need has nothing to remember.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")

# A package is there when it has a newest version, that is one in the index.
HERE = "EXISTS (SELECT 1 FROM packages q WHERE q.channel_id = p.channel_id AND q.name = n.name AND q.version <> '')"
FILL = f"""
    INSERT INTO wants (channel_id, name, packages, here)
    SELECT p.channel_id, n.name, count(*), {HERE}
    FROM needs n JOIN packages p ON p.id = n.package_id GROUP BY p.channel_id, n.name
"""  # noqa: S608 - our own words

SQLITE = {
    "wants_more": """
        AFTER INSERT ON needs BEGIN
            INSERT INTO wants (channel_id, name, packages, here)
            SELECT p.channel_id, new.name, 1, EXISTS (
                SELECT 1 FROM packages q WHERE q.channel_id = p.channel_id AND q.name = new.name AND q.version <> '')
            FROM packages p WHERE p.id = new.package_id
            ON CONFLICT (channel_id, name) DO UPDATE SET packages = packages + 1;
        END
    """,
    "wants_fewer": """
        AFTER DELETE ON needs BEGIN
            UPDATE wants SET packages = packages - 1
            WHERE channel_id = (SELECT channel_id FROM packages WHERE id = old.package_id) AND name = old.name;
            DELETE FROM wants
            WHERE channel_id = (SELECT channel_id FROM packages WHERE id = old.package_id) AND name = old.name
            AND packages <= 0;
        END
    """,
    "wants_come": """
        AFTER INSERT ON packages WHEN new.version <> '' BEGIN
            UPDATE wants SET here = 1 WHERE channel_id = new.channel_id AND name = new.name;
        END
    """,
    "wants_change": """
        AFTER UPDATE OF version ON packages WHEN (old.version = '') <> (new.version = '') BEGIN
            UPDATE wants SET here = new.version <> '' WHERE channel_id = new.channel_id AND name = new.name;
        END
    """,
    # before: what a package needs is counted for its channel, which is known only while the package is there
    "wants_go": """
        BEFORE DELETE ON packages BEGIN
            DELETE FROM needs WHERE package_id = old.id;
            UPDATE wants SET here = 0 WHERE channel_id = old.channel_id AND name = old.name;
        END
    """,
}

# With each statement, not with each row: an upstream comes with hundreds of thousands. In order, as everybody locks.
POSTGRESQL = {
    "wants_more": (
        "AFTER INSERT ON needs REFERENCING NEW TABLE AS touched FOR EACH STATEMENT",
        f"""
            INSERT INTO wants (channel_id, name, packages, here)
            SELECT p.channel_id, n.name, count(*), {HERE}
            FROM touched n JOIN packages p ON p.id = n.package_id GROUP BY p.channel_id, n.name ORDER BY 1, 2
            ON CONFLICT (channel_id, name) DO UPDATE SET packages = wants.packages + excluded.packages;
            RETURN NULL;
        """,  # noqa: S608 - our own words
    ),
    "wants_fewer": (
        "AFTER DELETE ON needs REFERENCING OLD TABLE AS touched FOR EACH STATEMENT",
        """
            UPDATE wants w SET packages = w.packages - gone.times
            FROM (SELECT p.channel_id, n.name, count(*) AS times FROM touched n JOIN packages p ON p.id = n.package_id
                  GROUP BY p.channel_id, n.name) gone
            WHERE w.channel_id = gone.channel_id AND w.name = gone.name;
            DELETE FROM wants w USING touched n, packages p
            WHERE p.id = n.package_id AND w.channel_id = p.channel_id AND w.name = n.name AND w.packages <= 0;
            RETURN NULL;
        """,
    ),
    "wants_come": (
        "AFTER INSERT ON packages FOR EACH ROW WHEN (new.version <> '')",
        """
            UPDATE wants SET here = true WHERE channel_id = new.channel_id AND name = new.name AND NOT here;
            RETURN NULL;
        """,
    ),
    "wants_change": (
        "AFTER UPDATE OF version ON packages FOR EACH ROW WHEN ((old.version = '') <> (new.version = ''))",
        """
            UPDATE wants SET here = new.version <> '' WHERE channel_id = new.channel_id AND name = new.name;
            RETURN NULL;
        """,
    ),
    "wants_go": (
        "BEFORE DELETE ON packages FOR EACH ROW",
        """
            DELETE FROM needs WHERE package_id = old.id;
            UPDATE wants SET here = false WHERE channel_id = old.channel_id AND name = old.name AND here;
            RETURN old;
        """,
    ),
}


def upgrade() -> None:
    op.create_table(
        "wants",
        sa.Column("channel_id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("packages", sa.BigInteger(), nullable=False),
        sa.Column("here", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["channel_id"], ["channels.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("channel_id", "name"),
        sqlite_with_rowid=False,
    )
    # in each database's own words for it: SQLite uses an index of some rows only for the very same ones
    lacked, missing = sa.text("here = 0"), sa.text("NOT here")
    for name, columns in (("ix_wants_missing", ["channel_id", "name"]), ("ix_wants_name", ["name", "channel_id"])):
        op.create_index(name, "wants", columns, sqlite_where=lacked, postgresql_where=missing)
    op.execute(FILL)
    if op.get_bind().dialect.name == "sqlite":
        for name, body in SQLITE.items():
            op.execute(f"CREATE TRIGGER {name} {body}")
        return
    for name, (when, body) in POSTGRESQL.items():
        op.execute(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
        op.execute(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION {name}()")


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for name in SQLITE:
            op.execute(f"DROP TRIGGER {name}")
    else:
        for name in POSTGRESQL:
            op.execute(f"DROP FUNCTION {name}() CASCADE")
    op.drop_table("wants")
