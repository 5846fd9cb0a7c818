"""Names that stay ours

A name of which the last file of ours was deleted is not the upstream's, until somebody releases it.

Revision: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

OURS = "EXISTS (SELECT 1 FROM artifacts a WHERE a.package_id = packages.id)"
RECORDS = (
    "SELECT sum(u.records) FROM upstream_names u JOIN subdirs s ON s.id = u.subdir_id "
    "WHERE s.channel_id = packages.channel_id AND u.name = packages.name"
)
# the shards of names of which the upstream has something that was kept from clients
KEPT = (
    "SELECT 1 FROM subdirs s JOIN packages p ON p.channel_id = s.channel_id "
    "WHERE s.id = shards.subdir_id AND p.name = shards.name AND p.reserved AND p.live = 0 AND p.remote > 0"
)


def upgrade() -> None:
    """What clients are shown of an upstream now they are shown on: an upgrade takes no package away."""
    op.add_column("packages", sa.Column("reserved", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute(f"UPDATE packages SET reserved = true WHERE live = 0 AND remote = 0 AND {OURS}")  # noqa: S608 - our own words


def downgrade() -> None:
    """An older server knows of no such names: it shows what the upstream has of them, with the shards that it makes at its
    start, and lists that right after `fairway fsck --repair`.
    """
    op.execute(f"UPDATE packages SET remote = coalesce(({RECORDS}), 0) WHERE reserved AND live = 0")  # noqa: S608 - as above
    op.execute(f"UPDATE shards SET due = true WHERE EXISTS ({KEPT})")  # noqa: S608 - as above
    op.execute(
        "UPDATE channels SET packages = (SELECT count(*) FROM packages p WHERE p.channel_id = channels.id "
        "AND (p.live > 0 OR p.remote > 0)) "
        "WHERE id IN (SELECT channel_id FROM packages WHERE reserved AND live = 0)"
    )
    op.drop_column("packages", "reserved")
