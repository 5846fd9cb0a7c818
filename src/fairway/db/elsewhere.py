"""The part of the schema that is about other channels: upstreams, what was read and fetched of them, relations, and what packages
want of any of them.

Times are ms since 1970, sizes bytes, as in `db.models`, which has these tables too.
"""

from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from fairway.db.table import Base
from fairway.db.types import Id, Json, Name


class Relation(Base):
    """Where a channel stands among others (CEP 42): `base_id` goes before it, and it goes before `overrides_id`."""

    __tablename__ = "relations"

    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"), primary_key=True)
    base_id: Mapped[int | None] = mapped_column(ForeignKey("channels.id", ondelete="SET NULL"), index=True)
    overrides_id: Mapped[int | None] = mapped_column(ForeignKey("channels.id", ondelete="SET NULL"), index=True)


class Want(Base):
    """A name that packages of a channel depend on: how many of them, and whether the channel has it in its index. Kept by
    triggers on `packages` and `needs` (migration 0006).
    """

    __tablename__ = "wants"
    __table_args__ = (
        Index(
            "ix_wants_missing", "channel_id", "name", sqlite_where=text("here = 0"), postgresql_where=text("NOT here")
        ),
        Index("ix_wants_name", "name", "channel_id", sqlite_where=text("here = 0"), postgresql_where=text("NOT here")),
        {"sqlite_with_rowid": False},
    )

    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Name, primary_key=True)
    packages: Mapped[int]
    here: Mapped[bool]


class Upstream(Base):
    """A channel elsewhere whose packages a channel of ours serves as well. `progress` is for people to read, of a refresh
    that is under way: `{phase, subdir, done, total, bytes}`.
    """

    __tablename__ = "upstreams"

    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"), primary_key=True)
    url: Mapped[str]  # with no slash at its end, and no credential in it
    mode: Mapped[str]  # proxy, mirror
    credential: Mapped[bytes | None]  # sealed (registry.sealing)
    merge: Mapped[bool] = mapped_column(default=False)  # names of ours hide nothing; the highest version wins
    keep: Mapped[bool] = mapped_column(default=True)  # files that were fetched and have gone there stay to be had here
    every: Mapped[int]  # seconds from one refresh to the next
    subdirs: Mapped[Any] = mapped_column(Json, nullable=True)  # none: whatever it has
    wanted: Mapped[Any] = mapped_column(Json, nullable=True)  # of a mirror: which records; none: all
    created_at: Mapped[int]
    checked_at: Mapped[int] = mapped_column(default=0)  # when a refresh last ended, well or not
    good_at: Mapped[int] = mapped_column(default=0)  # when one last ended well: what we serve is of then
    next_at: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)  # in a row
    error: Mapped[str | None]
    progress: Mapped[Any] = mapped_column(Json, nullable=True)


class UpstreamSubdir(Base):
    """What a subdir of ours has from its upstream. `validators` are those of the documents it was read from."""

    __tablename__ = "upstream_subdirs"

    subdir_id: Mapped[int] = mapped_column(ForeignKey("subdirs.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str]  # shards, zst, json
    validators: Mapped[Any] = mapped_column(Json)
    base_url: Mapped[str]  # where its files are; ends with a slash
    records: Mapped[int]
    size: Mapped[int]  # bytes of the files of its records
    dropped: Mapped[int] = mapped_column(default=0)  # records that were left out, since nothing could be done with them
    checked_at: Mapped[int]
    good_at: Mapped[int]
    error: Mapped[str | None]


class UpstreamName(Base):
    """A package name in one subdir of an upstream: the shard we made of its records, shown or hidden, and the hash by
    which we see that they changed (the upstream's own of its shard, or ours of the records).
    """

    __tablename__ = "upstream_names"
    __table_args__ = ({"sqlite_with_rowid": False},)

    subdir_id: Mapped[int] = mapped_column(ForeignKey("subdirs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Name, primary_key=True)
    source: Mapped[bytes]
    sha256: Mapped[bytes]  # of the bytes in `shard_bytes`, which are never retired while they are named here
    records: Mapped[int]
    size: Mapped[int]  # bytes of the files
    urls: Mapped[Any] = mapped_column(Json, nullable=True)  # of files that are not under the subdir's `base_url`
    exports: Mapped[bytes | None]  # JSON: {file name: run exports}; none: its records say, or nothing is known
    pending: Mapped[bool] = mapped_column(default=True)  # not shown yet: its refresh is under way, or was broken off


class Copy(Base):
    """A file of an upstream that was fetched, or has gone there. Its first hash is its hash: `claimed` is another that
    the upstream says now.
    """

    __tablename__ = "copies"
    __table_args__ = (UniqueConstraint("subdir_id", "filename"), Index("ix_copies_sha256", "sha256"))

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    subdir_id: Mapped[int] = mapped_column(ForeignKey("subdirs.id", ondelete="CASCADE"))
    filename: Mapped[str] = mapped_column(Name)
    name: Mapped[str] = mapped_column(Name)
    sha256: Mapped[str]
    md5: Mapped[str]  # "" if the upstream does not say
    size: Mapped[int]
    indexed_at: Mapped[int]
    fetched_at: Mapped[int | None]
    gone_at: Mapped[int | None]
    claimed: Mapped[str | None]


class Fetch(Base):
    """A file of an upstream that some process brings right now, or has brought a moment ago (`registry.fetches`). The
    subdir may be gone: a row ends with its fetch, and those of killed processes are swept.
    """

    __tablename__ = "fetches"
    __table_args__ = ({"sqlite_with_rowid": False},)

    subdir_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    filename: Mapped[str] = mapped_column(Name, primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]  # of this fetch alone; also the name of its staged file
    machine: Mapped[str]  # where that file can be read while it grows; "" if nobody knows
    lease_until: Mapped[int]
    ended: Mapped[bool]
    error: Mapped[Any] = mapped_column(Json, nullable=True)  # {kind, code, detail, seconds}; none: it is here
