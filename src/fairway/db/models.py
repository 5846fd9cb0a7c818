"""The schema. Times are integers: milliseconds since 1970 in UTC. Sizes are bytes. Hashes are lower-case hex.

The index is a level, not an event (docs/decisions/0003): `Subdir.changed` counts what happened, `Pointer.*_built` how
far the published index has come. Equal means clean; a publisher may die at any moment and the next one sees what is
left to do. Shards are rows, written in the transaction that changes their records (docs/decisions/0022).
"""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    UniqueConstraint,
    false,
    or_,
    text,
    true,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column

from fairway.db.elsewhere import Copy, Fetch, Relation, Upstream, UpstreamName, UpstreamSubdir, Want
from fairway.db.table import NUMBERS_ONCE, Base
from fairway.db.types import Id, Json, Name

__all__ = ["Base", "Copy", "Fetch", "Relation", "Upstream", "UpstreamName", "UpstreamSubdir", "Want"]


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    email: Mapped[str] = mapped_column(Name, unique=True)
    full_name: Mapped[str] = mapped_column(default="", server_default="")
    password_hash: Mapped[str | None]
    is_admin: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[int]
    suspended_at: Mapped[int | None]


class Token(Base):
    """An API key. Only the SHA-256 of the key is kept: it is 190 random bits, so a fast hash is enough."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    digest: Mapped[bytes] = mapped_column(unique=True)
    scope: Mapped[str]
    bound: Mapped[bool] = mapped_column(default=False)  # True: only for the channels in token_channels
    created_at: Mapped[int]
    expires_at: Mapped[int | None]
    last_used_at: Mapped[int | None]
    revoked_at: Mapped[int | None]


class TokenChannel(Base):
    __tablename__ = "token_channels"

    token_id: Mapped[int] = mapped_column(ForeignKey("tokens.id", ondelete="CASCADE"), primary_key=True)
    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"), primary_key=True)


class BrowserSession(Base):
    """Somebody signed in with a browser. Only the SHA-256 of the cookie is kept, as of an API key."""

    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    digest: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[int]
    seen_at: Mapped[int]  # written now and then: reads must not become writes
    expires_at: Mapped[int]  # whatever is done until then
    confirmed_at: Mapped[int]  # when the password was last given
    address: Mapped[str]
    agent: Mapped[str]


class SetupCode(Base):
    """The one-time code that makes the first administrator. At most one row."""

    __tablename__ = "setup_codes"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    digest: Mapped[bytes]
    expires_at: Mapped[int]


class Invitation(Base):
    """Somebody is asked into a channel, or with no channel onto this server. Answered ones stay for the record."""

    __tablename__ = "invitations"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    channel_id: Mapped[int | None] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"), index=True)
    role: Mapped[str | None]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    email: Mapped[str | None] = mapped_column(Name)
    digest: Mapped[bytes] = mapped_column(unique=True)  # of the code in the link, for who has no account yet
    invited_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[int]
    expires_at: Mapped[int]
    answered_at: Mapped[int | None]
    answer: Mapped[str | None]  # accepted, declined, withdrawn


class Channel(Base):
    __tablename__ = "channels"
    __table_args__ = NUMBERS_ONCE

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    visibility: Mapped[str]
    description: Mapped[str] = mapped_column(default="")
    readme: Mapped[str] = mapped_column(default="", server_default="", deferred=True)  # Markdown
    logo: Mapped[bytes | None] = mapped_column(deferred=True)  # a small PNG that we encoded
    allow_v3: Mapped[bool] = mapped_column(default=True)
    allow_overwrite: Mapped[bool] = mapped_column(default=False)
    quota: Mapped[int | None]
    created_at: Mapped[int]
    updated_at: Mapped[int] = mapped_column(default=0, server_default="0")  # when its files last changed
    deleted_at: Mapped[int | None]
    packages: Mapped[int] = mapped_column(default=0, server_default="0")  # those with live files
    artifacts: Mapped[int] = mapped_column(default=0)  # live files, yanked ones among them
    size: Mapped[int] = mapped_column(default=0)  # bytes of the live files


class Member(Base):
    __tablename__ = "members"

    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    role: Mapped[str]
    added_at: Mapped[int]


class Subdir(Base):
    __tablename__ = "subdirs"
    __table_args__ = (UniqueConstraint("channel_id", "name"), NUMBERS_ONCE)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Name)
    changed: Mapped[int] = mapped_column(default=0)
    upstream: Mapped[bool] = mapped_column(default=False, server_default=false())  # it has names of an upstream


class Pointer(Base):
    """What is published of a subdir now. Its own table, so that who publishes flat documents and who uploads never wait
    for one row. `flat` maps a document's name to `[sha256, size]` of the object that holds it.
    """

    __tablename__ = "pointers"

    subdir_id: Mapped[int] = mapped_column(ForeignKey("subdirs.id", ondelete="CASCADE"), primary_key=True)
    shards_built: Mapped[int] = mapped_column(default=0)  # 0: some name has never had its shard, so there is no index
    flat_built: Mapped[int] = mapped_column(default=0)
    flat: Mapped[Any] = mapped_column(Json, nullable=True)
    shards_at: Mapped[int] = mapped_column(default=0)
    flat_at: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[int] = mapped_column(default=0)  # a background publisher works on it; readers may build anyway


class Shard(Base):
    """One package name in one subdir: the shard it has now (none: no visible record), and the change that made it.

    `due` asks the background for a new one: nearly never, since a change makes its shards itself.
    """

    __tablename__ = "shards"
    __table_args__ = (
        Index("ix_shards_changed", "subdir_id", "changed"),
        Index("ix_shards_due", "subdir_id", sqlite_where=text("due"), postgresql_where=text("due")),
        {"sqlite_with_rowid": False},
    )

    subdir_id: Mapped[int] = mapped_column(ForeignKey("subdirs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Name, primary_key=True)
    changed: Mapped[int]
    due: Mapped[bool] = mapped_column(default=False, server_default=true())  # who does not say, asks
    sha256: Mapped[bytes | None]


class ShardBytes(Base):
    """The bytes of a shard. A superseded one stays for some days: a client may hold an index that names it."""

    __tablename__ = "shard_bytes"
    __table_args__ = (
        UniqueConstraint("subdir_id", "sha256"),
        Index(
            "ix_shard_bytes_retired_at",
            "retired_at",
            sqlite_where=text("retired_at IS NOT NULL"),
            postgresql_where=text("retired_at IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    subdir_id: Mapped[int] = mapped_column(ForeignKey("subdirs.id", ondelete="CASCADE"))
    sha256: Mapped[bytes]
    retired_at: Mapped[int | None]
    data: Mapped[bytes]


class Record(Base):
    """A visible record, as the bytes that go into repodata.json. The primary key is the order of publication: one
    range of it is a subdir's flat index, a smaller one a package's shard, so that neither is ever sorted.
    """

    __tablename__ = "records"
    __table_args__ = ({"sqlite_with_rowid": False},)

    subdir_id: Mapped[int] = mapped_column(ForeignKey("subdirs.id", ondelete="CASCADE"), primary_key=True)
    section: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(Name, primary_key=True)
    filename: Mapped[str] = mapped_column(Name, primary_key=True)
    record: Mapped[bytes]
    run_exports: Mapped[bytes | None]  # JSON bytes; none: the package has none


class Withheld(Base):
    """The record of a file that is not in the index and may come back: one that was yanked, or deleted some days ago."""

    __tablename__ = "withheld"

    artifact_id: Mapped[int] = mapped_column(ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True)
    record: Mapped[bytes]
    run_exports: Mapped[bytes | None]


OWN = text("live > 0")


class Package(Base):
    """`updated_at` is when a file of it was last published. Its words are searched: migration 0004 keeps an index of
    name and summary that is no table here.
    """

    __tablename__ = "packages"
    __table_args__ = (
        UniqueConstraint("channel_id", "name"),
        Index("ix_packages_updated", "channel_id", "updated_at"),
        # beside one, because an upstream may have a hundred thousand that change at any moment
        Index("ix_packages_own", "channel_id", "updated_at", sqlite_where=OWN, postgresql_where=OWN),
        Index("ix_packages_downloads", "channel_id", "downloads"),
        Index("ix_packages_name", "name"),
        Index("ix_packages_most", "downloads"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Name)
    created_at: Mapped[int]
    updated_at: Mapped[int]
    live: Mapped[int] = mapped_column(default=0)  # live files, yanked ones among them
    # records of an upstream, those that files of ours hide among them; none of a reserved name
    remote: Mapped[int] = mapped_column(default=0, server_default="0")
    # The last file of ours is gone, and the name stays ours. Until then it says nothing.
    reserved: Mapped[bool] = mapped_column(default=False, server_default=false())
    places: Mapped[int] = mapped_column(
        default=0, server_default="0"
    )  # subdirs of the files in the index, one bit each
    downloads: Mapped[int] = mapped_column(default=0, server_default="0")  # ever
    # Facts of the newest version in the index, by conda's order, for listings; no version if every file is yanked
    version: Mapped[str] = mapped_column(default="")
    version_key: Mapped[bytes] = mapped_column(default=b"")
    summary: Mapped[str] = mapped_column(default="")
    licence: Mapped[str] = mapped_column(default="")

    @hybrid_property
    def shown(self) -> bool:
        """Whether there is anything of it: files of ours, or records of an upstream."""
        return self.live > 0 or self.remote > 0

    @shown.inplace.expression
    @classmethod
    def _shown(cls) -> ColumnElement[bool]:
        return or_(cls.live > 0, cls.remote > 0)


class Need(Base):
    """A package whose newest version depends on the package of this name."""

    __tablename__ = "needs"
    __table_args__ = (Index("ix_needs_name", "name", "package_id"), {"sqlite_with_rowid": False})

    package_id: Mapped[int] = mapped_column(ForeignKey("packages.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Name, primary_key=True)


# files that still have their bytes, and are not in the index
OUT = text("purged_at IS NULL AND (deleted_at IS NOT NULL OR yanked_at IS NOT NULL)")


class Artifact(Base):
    """A file that was published. The row outlives the file: a name never comes back with other bytes by accident."""

    __tablename__ = "artifacts"
    __table_args__ = (
        UniqueConstraint("subdir_id", "filename"),
        Index("ix_artifacts_package", "package_id", "version_key"),
        # with the size, so that what all of them take can be said without looking at the files
        Index(
            "ix_artifacts_sha256",
            "sha256",
            "size",
            sqlite_where=text("purged_at IS NULL"),
            postgresql_where=text("purged_at IS NULL"),
        ),
        Index("ix_artifacts_out", "deleted_at", "yanked_at", "size", sqlite_where=OUT, postgresql_where=OUT),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"), index=True)
    subdir_id: Mapped[int] = mapped_column(ForeignKey("subdirs.id", ondelete="CASCADE"))
    package_id: Mapped[int] = mapped_column(ForeignKey("packages.id", ondelete="CASCADE"))
    filename: Mapped[str] = mapped_column(Name)
    name: Mapped[str] = mapped_column(Name)
    version: Mapped[str]
    version_key: Mapped[bytes]
    build: Mapped[str]
    build_number: Mapped[int]
    section: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str]
    md5: Mapped[str]
    size: Mapped[int]
    indexed_at: Mapped[int]  # the record's indexed_timestamp (CEP 47)
    uploaded_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    yanked_at: Mapped[int | None]  # taken out of the index, and still there for lock files
    yank_reason: Mapped[str | None]
    deleted_at: Mapped[int | None]
    purged_at: Mapped[int | None]  # the bytes are gone too


# how a file and its record in the index find each other
ITS_RECORD = (
    (Record.subdir_id == Artifact.subdir_id)
    & (Record.section == Artifact.section)
    & (Record.name == Artifact.name)
    & (Record.filename == Artifact.filename)
)


class Detail(Base):
    """What the pages show of a file and the index does not need; kept apart so that scanning artifacts stays cheap."""

    __tablename__ = "details"

    artifact_id: Mapped[int] = mapped_column(ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True)
    about: Mapped[Any] = mapped_column(Json)
    paths: Mapped[Any] = mapped_column(Json)
    licences: Mapped[Any] = mapped_column(Json)
    recipe: Mapped[str | None]
    warnings: Mapped[Any] = mapped_column(Json)
    # what is in the archive (`conda.listing`); last, so that who reads the others need not read it
    listing: Mapped[bytes | None]


class Attestation(Base):
    """The attestations of a file (CEP 50): the array as clients fetch it, and its sha256, which the record names."""

    __tablename__ = "attestations"

    artifact_id: Mapped[int] = mapped_column(ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True)
    sidecar: Mapped[bytes]
    sha256: Mapped[str]


class Download(Base):
    __tablename__ = "downloads"

    artifact_id: Mapped[int] = mapped_column(ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # days since 1970-01-01
    count: Mapped[int]


class PackageDay(Base):
    """Downloads of all files of a package on a day; `remote` of them were of an upstream's."""

    __tablename__ = "package_days"

    package_id: Mapped[int] = mapped_column(ForeignKey("packages.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    count: Mapped[int]
    remote: Mapped[int] = mapped_column(default=0, server_default="0")


class ChannelDay(Base):
    """Downloads of all files of a channel on a day; `remote` of them were of an upstream's."""

    __tablename__ = "channel_days"

    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    count: Mapped[int]
    remote: Mapped[int] = mapped_column(default=0, server_default="0")


class Retired(Base):
    """An object nothing refers to any more. Only what is listed here is ever swept, and only after its time."""

    __tablename__ = "retired"

    path: Mapped[str] = mapped_column(Name, primary_key=True)
    retired_at: Mapped[int] = mapped_column(index=True)


class Audit(Base):
    __tablename__ = "audit"
    __table_args__ = (
        Index(
            "ix_audit_package_id",
            "package_id",
            sqlite_where=text("package_id IS NOT NULL"),
            postgresql_where=text("package_id IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    at: Mapped[int] = mapped_column(index=True)
    actor: Mapped[str]  # a user's name, or "console" for the command line on the server itself
    user_id: Mapped[int | None]
    token_id: Mapped[int | None]
    action: Mapped[str]
    channel_id: Mapped[int | None] = mapped_column(index=True)
    subject: Mapped[str]
    details: Mapped[Any] = mapped_column(Json)
    package_id: Mapped[int | None]  # whose file it was done to


class Job(Base):
    """Work for later. At most one waiting job for a kind and key: a second one would do the same."""

    __tablename__ = "jobs"
    __table_args__ = (UniqueConstraint("kind", "key"), Index("ix_jobs_due", "run_at"))

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(Name)
    key: Mapped[str] = mapped_column(Name)
    run_at: Mapped[int]
    lease_until: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]
