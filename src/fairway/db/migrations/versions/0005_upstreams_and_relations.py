"""Upstreams and relations

Channels elsewhere whose packages channels of ours serve, what was read of them and which of their files are here; and
which channel stands before or after which.

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
RELATIONS = ("base_id", "overrides_id")


def upgrade() -> None:
    op.create_table(
        "relations",
        sa.Column("channel_id", ID, nullable=False),
        sa.Column("base_id", ID, nullable=True),
        sa.Column("overrides_id", ID, nullable=True),
        sa.ForeignKeyConstraint(["channel_id"], ["channels.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["base_id"], ["channels.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["overrides_id"], ["channels.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("channel_id"),
    )
    for column in RELATIONS:
        op.create_index(f"ix_relations_{column}", "relations", [column])
    op.add_column("subdirs", sa.Column("upstream", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("packages", sa.Column("remote", sa.BigInteger(), nullable=False, server_default="0"))
    ours = sa.text("live > 0")
    op.create_index(
        "ix_packages_own", "packages", ["channel_id", "updated_at"], sqlite_where=ours, postgresql_where=ours
    )
    op.create_table(
        "upstreams",
        sa.Column("channel_id", ID, nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("credential", sa.LargeBinary(), nullable=True),
        sa.Column("merge", sa.Boolean(), nullable=False),
        sa.Column("keep", sa.Boolean(), nullable=False),
        sa.Column("every", sa.BigInteger(), nullable=False),
        sa.Column("subdirs", sa.LargeBinary(), nullable=True),
        sa.Column("wanted", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.Column("good_at", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("progress", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["channel_id"], ["channels.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("channel_id"),
    )
    op.create_table(
        "upstream_subdirs",
        sa.Column("subdir_id", ID, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("validators", sa.LargeBinary(), nullable=False),
        sa.Column("base_url", sa.String(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.Column("good_at", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["subdir_id"], ["subdirs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("subdir_id"),
    )
    op.create_table(
        "upstream_names",
        sa.Column("subdir_id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("source", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("urls", sa.LargeBinary(), nullable=True),
        sa.Column("exports", sa.LargeBinary(), nullable=True),
        sa.Column("pending", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["subdir_id"], ["subdirs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("subdir_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "copies",
        sa.Column("id", ID, nullable=False),
        sa.Column("subdir_id", ID, nullable=False),
        sa.Column("filename", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("md5", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("indexed_at", sa.BigInteger(), nullable=False),
        sa.Column("fetched_at", sa.BigInteger(), nullable=True),
        sa.Column("gone_at", sa.BigInteger(), nullable=True),
        sa.Column("claimed", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["subdir_id"], ["subdirs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("subdir_id", "filename"),
    )
    op.create_index("ix_copies_sha256", "copies", ["sha256"])


def downgrade() -> None:
    # names that only an upstream had are in no other table that stays, but among the packages and the shards
    theirs = "SELECT 1 FROM upstream_names u WHERE u.subdir_id = shards.subdir_id AND u.name = shards.name"
    op.execute(f"UPDATE shards SET due = true WHERE EXISTS ({theirs})")  # noqa: S608 - our own words
    # files of ours that were deleted may come back
    ours = "SELECT 1 FROM artifacts a WHERE a.package_id = packages.id"
    op.execute(f"DELETE FROM packages WHERE remote > 0 AND live = 0 AND NOT EXISTS ({ours})")  # noqa: S608 - as above
    unlisted = sa.text(
        "UPDATE packages SET version = '', version_key = :none, licence = '' WHERE remote > 0 AND live = 0"
    )
    op.execute(unlisted.bindparams(sa.bindparam("none", b"", sa.LargeBinary())))
    for name in ("copies", "upstream_names", "upstream_subdirs", "upstreams", "relations"):
        op.drop_table(name)
    op.drop_index("ix_packages_own", "packages")
    op.drop_column("packages", "remote")
    op.drop_column("subdirs", "upstream")
