"""What pages need

Sessions of browsers, invitations, yanked files, texts and pictures of channels; and what listings show of packages,
counted once here and kept up to date from then on.

Revision: 0003
"""

import re
from collections import defaultdict

import orjson
import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
BATCH = 2_000
NEEDED = re.compile(r"\s*(?:[a-z0-9_./-]+::)?(?!__)([a-z0-9_][a-z0-9_.-]*)", re.ASCII | re.IGNORECASE)
# the bits of `packages.places`, as they were numbered when this was written
SUBDIRS = """
    noarch android-32 android-64 android-aarch64 android-armv7a emscripten-wasm32 emscripten-wasm64 freebsd-32 freebsd-64
    freebsd-arm64 freebsd-ppc64 freebsd-ppc64le ios-arm64 iossimulator-64 iossimulator-arm64 linux-32 linux-64
    linux-aarch64 linux-armv6l linux-armv7l linux-loongarch64 linux-ppc linux-ppc64 linux-ppc64le linux-riscv32
    linux-riscv64 linux-s390x osx-64 osx-arm64 wasi-wasm32 win-32 win-64 win-arm64 zos-z
""".split()  # noqa: SIM905 - a list of a hundred quotes would be longer


def upgrade() -> None:
    op.add_column("users", sa.Column("full_name", sa.String(), nullable=False, server_default=""))
    op.add_column("channels", sa.Column("readme", sa.String(), nullable=False, server_default=""))
    op.add_column("channels", sa.Column("logo", sa.LargeBinary(), nullable=True))
    op.add_column("channels", sa.Column("updated_at", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("packages", sa.Column("places", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("packages", sa.Column("downloads", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("artifacts", sa.Column("yanked_at", sa.BigInteger(), nullable=True))
    op.add_column("artifacts", sa.Column("yank_reason", sa.String(), nullable=True))
    people()
    counts()
    fill_counts()
    fill_places()
    fill_needs()
    op.create_index("ix_packages_updated", "packages", ["channel_id", "updated_at"])
    op.create_index("ix_packages_downloads", "packages", ["channel_id", "downloads"])


def people() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_table(
        "setup_codes",
        sa.Column("id", ID, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "invitations",
        sa.Column("id", ID, nullable=False),
        sa.Column("channel_id", ID, nullable=True),
        sa.Column("role", sa.String(), nullable=True),
        sa.Column("user_id", ID, nullable=True),
        sa.Column("email", NAME, nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("invited_by", ID, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("answer", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["channel_id"], ["channels.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["invited_by"], ["users.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_invitations_channel_id", "invitations", ["channel_id"])
    op.create_index("ix_invitations_user_id", "invitations", ["user_id"])


def counts() -> None:
    for name, owner in (("package_days", "package"), ("channel_days", "channel")):
        op.create_table(
            name,
            sa.Column(f"{owner}_id", ID, nullable=False),
            sa.Column("day", sa.BigInteger(), nullable=False, autoincrement=False),
            sa.Column("count", sa.BigInteger(), nullable=False),
            sa.ForeignKeyConstraint([f"{owner}_id"], [f"{owner}s.id"], ondelete="CASCADE"),
            sa.PrimaryKeyConstraint(f"{owner}_id", "day"),
        )
    op.create_table(
        "needs",
        sa.Column("package_id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("package_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_needs_name", "needs", ["name", "package_id"])


def fill_counts() -> None:
    for owner in ("package", "channel"):
        op.execute(
            f"INSERT INTO {owner}_days ({owner}_id, day, count) "  # noqa: S608 - our own two names
            f"SELECT a.{owner}_id, d.day, SUM(d.count) FROM downloads d JOIN artifacts a ON a.id = d.artifact_id "
            f"GROUP BY a.{owner}_id, d.day"
        )
    op.execute(
        "UPDATE packages SET downloads = "
        "COALESCE((SELECT SUM(p.count) FROM package_days p WHERE p.package_id = packages.id), 0)"
    )
    op.execute(
        "UPDATE channels SET updated_at = "
        "COALESCE((SELECT MAX(p.updated_at) FROM packages p WHERE p.channel_id = channels.id), created_at)"
    )


def fill_places() -> None:
    numbers = {name: number for number, name in enumerate(SUBDIRS)}
    found = op.get_bind().execute(
        sa.text(
            "SELECT DISTINCT a.package_id, s.name FROM artifacts a JOIN subdirs s ON s.id = a.subdir_id "
            "WHERE a.deleted_at IS NULL"
        )
    )
    places: dict[int, int] = defaultdict(int)
    for package_id, subdir in found:
        places[package_id] |= 1 << numbers[subdir]
    each("UPDATE packages SET places = :places WHERE id = :id", [{"id": i, "places": p} for i, p in places.items()])


def fill_needs() -> None:
    """The names in the `depends` of each package's newest version, some packages at a time."""
    bind = op.get_bind()
    newest = sa.text(
        "SELECT p.id, r.record FROM packages p "
        "JOIN artifacts a ON a.package_id = p.id AND a.version_key = p.version_key AND a.deleted_at IS NULL "
        "JOIN records r ON r.subdir_id = a.subdir_id AND r.section = a.section AND r.name = a.name "
        "AND r.filename = a.filename WHERE p.id > :after AND p.id <= :until"
    )
    last = bind.scalar(sa.text("SELECT COALESCE(MAX(id), 0) FROM packages"))
    for after in range(0, last, BATCH):
        needs = {
            (package_id, name)
            for package_id, record in bind.execute(newest, {"after": after, "until": after + BATCH})
            for name in names_of(orjson.loads(record).get("depends", ()))
        }
        each(
            "INSERT INTO needs (package_id, name) VALUES (:id, :name)", [{"id": i, "name": n} for i, n in sorted(needs)]
        )


def names_of(depends: list[str]) -> set[str]:
    """What match specs begin with, behind a channel perhaps; no virtual packages, which are in no channel."""
    found = (NEEDED.match(spec) for spec in depends if isinstance(spec, str))
    return {match[1].lower() for match in found if match}


def each(statement: str, rows: list[dict[str, object]]) -> None:
    for begin in range(0, len(rows), BATCH):
        op.get_bind().execute(sa.text(statement), rows[begin : begin + BATCH])


def downgrade() -> None:
    for name in ("ix_packages_updated", "ix_packages_downloads"):
        op.drop_index(name, table_name="packages")
    for table in ("needs", "channel_days", "package_days", "invitations", "setup_codes", "sessions"):
        op.drop_table(table)
    for table, columns in (
        ("artifacts", ("yank_reason", "yanked_at")),
        ("packages", ("downloads", "places")),
        ("channels", ("updated_at", "logo", "readme")),
        ("users", ("full_name",)),
    ):
        for column in columns:
            op.drop_column(table, column)
