"""Shards are rows

What was published before is let go of by the sweep, some days after; the publisher makes every shard anew from its
records, and until it has, a subdir's shard index answers "try again in a moment".

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# where 0001 kept them, as folders for the sweep; `%s` is the folder's name
OLD = """
    INSERT INTO retired (path, retired_at)
    SELECT 'index/' || s.channel_id || '/' || s.name || '/%s/', p.shards_at
    FROM subdirs s JOIN pointers p ON p.subdir_id = s.id
    WHERE true ON CONFLICT DO NOTHING
"""
FOLDERS = ("shards", "repodata_shards.msgpack.zst")


def upgrade() -> None:
    op.create_table(
        "shard_bytes",
        sa.Column("id", ID, nullable=False),
        sa.Column("subdir_id", ID, nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["subdir_id"], ["subdirs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("subdir_id", "sha256"),
    )
    retired = sa.text("retired_at IS NOT NULL")
    op.create_index(
        "ix_shard_bytes_retired_at", "shard_bytes", ["retired_at"], sqlite_where=retired, postgresql_where=retired
    )
    for folder in FOLDERS:
        op.execute(OLD % folder)
    op.add_column("shards", sa.Column("due", sa.Boolean(), nullable=False, server_default=sa.true()))
    due = sa.text("due")
    op.create_index("ix_shards_due", "shards", ["subdir_id"], sqlite_where=due, postgresql_where=due)
    op.execute("UPDATE shards SET sha256 = NULL")
    op.execute("UPDATE pointers SET shards_built = 0")
    op.drop_column("pointers", "shards")


def downgrade() -> None:
    op.add_column("pointers", sa.Column("shards", sa.LargeBinary(), nullable=True))
    # in 0001 a name is built anew when its change is above what was published
    op.execute("UPDATE pointers SET shards_built = 0")
    op.execute("UPDATE shards SET sha256 = NULL")
    for folder in FOLDERS:
        op.execute(f"DELETE FROM retired WHERE path LIKE 'index/%/{folder}/'")  # noqa: S608 - our own two names
    op.drop_index("ix_shards_due", table_name="shards")
    op.drop_column("shards", "due")
    op.drop_index("ix_shard_bytes_retired_at", table_name="shard_bytes")
    op.drop_table("shard_bytes")
