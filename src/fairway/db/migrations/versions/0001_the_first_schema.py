"""The first schema

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", ID, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("token_id", sa.BigInteger(), nullable=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("channel_id", sa.BigInteger(), nullable=True),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)
    op.create_index(op.f("ix_audit_channel_id"), "audit", ["channel_id"], unique=False)
    op.create_table(
        "channels",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("visibility", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("allow_v3", sa.Boolean(), nullable=False),
        sa.Column("allow_overwrite", sa.Boolean(), nullable=False),
        sa.Column("quota", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("artifacts", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("run_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("kind", "key"),
    )
    op.create_index("ix_jobs_due", "jobs", ["run_at"], unique=False)
    op.create_table(
        "retired",
        sa.Column("path", NAME, nullable=False),
        sa.Column("retired_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("path"),
    )
    op.create_index(op.f("ix_retired_retired_at"), "retired", ["retired_at"], unique=False)
    op.create_table(
        "users",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("email", NAME, nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("suspended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "members",
        sa.Column("channel_id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["channel_id"], ["channels.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("channel_id", "user_id"),
    )
    op.create_index(op.f("ix_members_user_id"), "members", ["user_id"], unique=False)
    op.create_table(
        "packages",
        sa.Column("id", ID, nullable=False),
        sa.Column("channel_id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("live", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("version_key", sa.LargeBinary(), nullable=False),
        sa.Column("summary", sa.String(), nullable=False),
        sa.Column("licence", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["channel_id"], ["channels.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("channel_id", "name"),
    )
    op.create_table(
        "subdirs",
        sa.Column("id", ID, nullable=False),
        sa.Column("channel_id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["channel_id"], ["channels.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("channel_id", "name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "tokens",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("bound", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index(op.f("ix_tokens_user_id"), "tokens", ["user_id"], unique=False)
    op.create_table(
        "artifacts",
        sa.Column("id", ID, nullable=False),
        sa.Column("channel_id", ID, nullable=False),
        sa.Column("subdir_id", ID, nullable=False),
        sa.Column("package_id", ID, nullable=False),
        sa.Column("filename", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("version_key", sa.LargeBinary(), nullable=False),
        sa.Column("build", sa.String(), nullable=False),
        sa.Column("build_number", sa.BigInteger(), nullable=False),
        sa.Column("section", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("md5", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("indexed_at", sa.BigInteger(), nullable=False),
        sa.Column("uploaded_by", ID, nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("purged_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["channel_id"], ["channels.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["subdir_id"], ["subdirs.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["uploaded_by"], ["users.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("subdir_id", "filename"),
    )
    op.create_index(op.f("ix_artifacts_channel_id"), "artifacts", ["channel_id"], unique=False)
    op.create_index("ix_artifacts_package", "artifacts", ["package_id", "version_key"], unique=False)
    op.create_index("ix_artifacts_sha256", "artifacts", ["sha256"], unique=False)
    op.create_table(
        "pointers",
        sa.Column("subdir_id", ID, nullable=False),
        sa.Column("shards_built", sa.BigInteger(), nullable=False),
        sa.Column("flat_built", sa.BigInteger(), nullable=False),
        sa.Column("shards", sa.LargeBinary(), nullable=True),
        sa.Column("flat", sa.LargeBinary(), nullable=True),
        sa.Column("shards_at", sa.BigInteger(), nullable=False),
        sa.Column("flat_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["subdir_id"], ["subdirs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("subdir_id"),
    )
    op.create_table(
        "records",
        sa.Column("subdir_id", ID, nullable=False),
        sa.Column("section", sa.Integer(), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("filename", NAME, nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("run_exports", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["subdir_id"], ["subdirs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("subdir_id", "section", "name", "filename"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "shards",
        sa.Column("subdir_id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["subdir_id"], ["subdirs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("subdir_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_shards_changed", "shards", ["subdir_id", "changed"], unique=False)
    op.create_table(
        "token_channels",
        sa.Column("token_id", ID, nullable=False),
        sa.Column("channel_id", ID, nullable=False),
        sa.ForeignKeyConstraint(["channel_id"], ["channels.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token_id", "channel_id"),
    )
    op.create_table(
        "attestations",
        sa.Column("artifact_id", ID, nullable=False),
        sa.Column("sidecar", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("artifact_id"),
    )
    op.create_table(
        "details",
        sa.Column("artifact_id", ID, nullable=False),
        sa.Column("about", sa.LargeBinary(), nullable=False),
        sa.Column("paths", sa.LargeBinary(), nullable=False),
        sa.Column("licences", sa.LargeBinary(), nullable=False),
        sa.Column("recipe", sa.String(), nullable=True),
        sa.Column("warnings", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("artifact_id"),
    )
    op.create_table(
        "downloads",
        sa.Column("artifact_id", ID, nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("artifact_id", "day"),
    )


def downgrade() -> None:
    op.drop_table("downloads")
    op.drop_table("details")
    op.drop_table("attestations")
    op.drop_table("token_channels")
    op.drop_index("ix_shards_changed", table_name="shards")
    op.drop_table("shards")
    op.drop_table("records")
    op.drop_table("pointers")
    op.drop_index("ix_artifacts_sha256", table_name="artifacts")
    op.drop_index("ix_artifacts_package", table_name="artifacts")
    op.drop_index(op.f("ix_artifacts_channel_id"), table_name="artifacts")
    op.drop_table("artifacts")
    op.drop_index(op.f("ix_tokens_user_id"), table_name="tokens")
    op.drop_table("tokens")
    op.drop_table("subdirs")
    op.drop_table("packages")
    op.drop_index(op.f("ix_members_user_id"), table_name="members")
    op.drop_table("members")
    op.drop_table("users")
    op.drop_index(op.f("ix_retired_retired_at"), table_name="retired")
    op.drop_table("retired")
    op.drop_index("ix_jobs_due", table_name="jobs")
    op.drop_table("jobs")
    op.drop_table("channels")
    op.drop_index(op.f("ix_audit_channel_id"), table_name="audit")
    op.drop_index(op.f("ix_audit_at"), table_name="audit")
    op.drop_table("audit")
