"""Whose downloads

How many of a day's downloads were of files of an upstream: these have no row for each file, so that nobody could count
the days anew without knowing.

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

DAYS = ("package_days", "channel_days")


def upgrade() -> None:
    for table in DAYS:
        op.add_column(table, sa.Column("remote", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    # an older version counts the days of files alone
    op.execute(
        "UPDATE packages SET downloads = downloads - (SELECT coalesce(sum(d.remote), 0) FROM package_days d "
        "WHERE d.package_id = packages.id) WHERE id IN (SELECT package_id FROM package_days WHERE remote > 0)"
    )
    for table in DAYS:
        op.execute(f"UPDATE {table} SET count = count - remote WHERE remote > 0")  # noqa: S608 - our own words
        op.execute(f"DELETE FROM {table} WHERE count <= 0")  # noqa: S608 - our own words
        op.drop_column(table, "remote")
