"""The bodies of the JSON API. Times are ISO 8601 in UTC, sizes bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fairway.conda.repodata import NO_RELATIONS, Relations
from fairway.registry import search, upstreams
from fairway.registry.browse import FileView, PackageView
from fairway.registry.channels import ChannelView
from fairway.registry.conflicts import Conflict
from fairway.registry.reserved import Kept
from fairway.registry.upstreams import SubdirView, UpstreamView

VisibilityName = Literal["private", "internal", "public"]
RoleName = Literal["viewer", "uploader", "maintainer", "owner"]


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewChannel(Strict):
    name: Annotated[str, Field(max_length=200)]
    visibility: VisibilityName = "private"
    description: Annotated[str, Field(max_length=1_000)] = ""
    owner: Annotated[str | None, Field(max_length=64)] = None


class ChannelChange(Strict):
    visibility: VisibilityName | None = None
    description: Annotated[str | None, Field(max_length=1_000)] = None
    readme: Annotated[str | None, Field(max_length=65_536, description="Markdown")] = None
    allow_v3: bool | None = None
    allow_overwrite: bool | None = None
    base: Annotated[
        str | None,
        Field(max_length=200, description="The channel of this server that goes before it (CEP 42); null: none"),
    ] = None
    overrides: Annotated[str | None, Field(max_length=200, description="The one that goes after it; null: none")] = None

    def relation(self, kind: str) -> str | None:
        """A name, "" to take it away, None to leave it."""
        return (getattr(self, kind) or "") if kind in self.model_fields_set else None


class Yank(Strict):
    reason: Annotated[str, Field(max_length=500, description="One line that people read where the file was")]


class NewMember(Strict):
    role: RoleName


class NewCredential(Strict):
    """What the upstream's server wants to see. `basic` has a user too; `path` is a key that stands in the address."""

    kind: Literal["bearer", "basic", "header", "path"]
    secret: Annotated[str, Field(max_length=4_096)]
    user: Annotated[str, Field(max_length=256)] = ""


class Wanted(Strict):
    """Which records a mirror holds: names by patterns as of a shell (lib*), match specs, licences by patterns, only the newest
    versions of each; with `closure` also what all these need. A record is wanted if its name or a spec fits, and its licence.
    """

    names: list[str] = []
    specs: list[str] = []
    licences: list[str] = []
    newest: int | None = None
    closure: bool = False


class NewUpstream(Strict):
    """`wanted` null: everything. `platforms` null: whatever the upstream has. Without `credential`, that of the same address stays; null: none."""

    url: Annotated[str, Field(max_length=4_500, description="The channel's address, or the name of a preset")]
    mode: Literal["proxy", "mirror"] = "proxy"
    every: Annotated[int, Field(description="Seconds between two looks at it")] = upstreams.EVERY_SECONDS
    merge: Annotated[
        bool, Field(description="Let a higher version of the upstream win over a package of the channel's own")
    ] = False
    keep: Annotated[bool, Field(description="Serve fetched files on that the upstream has deleted")] = True
    platforms: list[Annotated[str, Field(max_length=32)]] | None = None
    wanted: Wanted | None = None
    credential: NewCredential | None = None


class ChangedFileName(Strict):
    subdir: Annotated[str, Field(max_length=32)]
    filename: Annotated[str, Field(max_length=300)]


class ChangedFile(BaseModel):
    """A file whose hash the upstream has changed: `sha256` is the first, `claimed` what it says now, `fetched` whether the
    first file is here.
    """

    subdir: str
    filename: str
    name: str
    sha256: str
    claimed: str
    fetched: bool

    @classmethod
    def of(cls, found: Conflict) -> ChangedFile:
        return cls(
            subdir=found.subdir,
            filename=found.filename,
            name=found.name,
            sha256=found.sha256,
            claimed=found.claimed,
            fetched=found.fetched,
        )


class ReleasedName(Strict):
    name: Annotated[str, Field(max_length=300)]


class KeptName(BaseModel):
    """A name that is kept from the upstream, which has `records` files of it; `deleted_at` is when the last file of the
    channel's own was deleted.
    """

    name: str
    records: int
    deleted_at: datetime

    @classmethod
    def of(cls, kept: Kept) -> KeptName:
        return cls(name=kept.name, records=kept.records, deleted_at=moment(kept.deleted_at))


class Progress(BaseModel):
    """Of a refresh that is under way: names of a platform, or in the phase `files` the files of a mirror, whose bytes so far are
    `size`.
    """

    phase: str
    platform: str
    done: int
    total: int
    size: int | None = None


class UpstreamPlatform(BaseModel):
    """`left_out` are records that clients could not use."""

    name: str
    read_from: str
    records: int
    size: int
    left_out: int
    checked_at: datetime
    good_at: datetime | None
    error: str | None

    @classmethod
    def of(cls, view: SubdirView) -> UpstreamPlatform:
        return cls(
            name=view.name,
            read_from=view.kind,
            records=view.records,
            size=view.size,
            left_out=view.dropped,
            checked_at=moment(view.checked_at),
            good_at=moment(view.good_at) if view.good_at else None,
            error=view.error,
        )


class Upstream(BaseModel):
    """The channel elsewhere that a channel serves as well. `good_at` is when it was as it is served now, `failures` how
    many looks in a row have failed since, `error` what the last one did. `conflicts` are files of which the upstream now
    claims another hash than it did at first, which is the one that is served.
    """

    url: str
    mode: str
    every: int
    merge: bool
    keep: bool
    platforms: list[str] | None
    wanted: Wanted | None
    has_credential: bool
    records: int
    kept_files: int
    kept_size: int
    conflicts: int
    checked_at: datetime | None
    good_at: datetime | None
    next_at: datetime
    failures: int
    error: str | None
    progress: Progress | None
    found: list[UpstreamPlatform]

    @classmethod
    def of(cls, view: UpstreamView) -> Upstream:
        told = view.progress
        return cls(
            url=view.url,
            mode=view.mode,
            every=view.every,
            merge=view.merge,
            keep=view.keep,
            platforms=None if view.subdirs is None else list(view.subdirs),
            wanted=None if view.wanted is None else Wanted(**view.wanted),
            has_credential=view.has_credential,
            records=view.records,
            kept_files=view.kept_files,
            kept_size=view.kept_bytes,
            conflicts=view.conflicts,
            checked_at=moment(view.checked_at) if view.checked_at else None,
            good_at=moment(view.good_at) if view.good_at else None,
            next_at=moment(view.next_at),
            failures=view.failures,
            error=view.error,
            progress=None
            if told is None
            else Progress(
                phase=told["phase"],
                platform=told["subdir"],
                done=told["done"],
                total=told["total"],
                size=told.get("bytes"),
            ),
            found=[UpstreamPlatform.of(place) for place in view.places],
        )


class Member(BaseModel):
    user: str
    role: RoleName
    added_at: datetime


class Channel(BaseModel):
    """`base` and `overrides` are the channels of this server that clients load before and after it (CEP 42)."""

    name: str
    url: str
    visibility: VisibilityName
    description: str
    allow_v3: bool
    allow_overwrite: bool
    packages: int
    artifacts: int
    size: int
    created_at: datetime
    updated_at: datetime
    base: str | None = None
    overrides: str | None = None

    @classmethod
    def of(cls, view: ChannelView, base: str, relations: Relations = NO_RELATIONS) -> Channel:
        return cls(
            name=view.name,
            url=f"{base}/{view.name}",
            visibility=view.visibility.value,
            description=view.description,
            allow_v3=view.allow_v3,
            allow_overwrite=view.allow_overwrite,
            packages=view.packages,
            artifacts=view.artifacts,
            size=view.size,
            created_at=moment(view.created_at),
            updated_at=moment(view.updated_at),
            base=relations.base,
            overrides=relations.overrides,
        )


class Channels(BaseModel):
    items: list[Channel]
    cursor: str | None = None


class Package(BaseModel):
    """`files` counts the channel's own; `upstream` is the name of what it comes from, if none of them are."""

    name: str
    version: str
    summary: str
    license: str
    files: int
    updated_at: datetime
    upstream: str | None

    @classmethod
    def of(cls, view: PackageView) -> Package:
        return cls(
            name=view.name,
            version=view.version,
            summary=view.summary,
            license=view.licence,
            files=view.files,
            updated_at=moment(view.updated_at),
            upstream=view.upstream,
        )


class Packages(BaseModel):
    items: list[Package]
    cursor: str | None = None


class File(BaseModel):
    subdir: str
    filename: str
    name: str
    version: str
    build: str
    build_number: int
    sha256: str
    md5: str
    size: int
    indexed_timestamp: int
    uploaded_by: str | None
    yanked: bool
    yank_reason: str | None
    deleted: bool
    downloads: int

    @classmethod
    def of(cls, view: FileView) -> File:
        return cls(
            subdir=view.subdir,
            filename=view.filename,
            name=view.name,
            version=view.version,
            build=view.build,
            build_number=view.build_number,
            sha256=view.sha256,
            md5=view.md5,
            size=view.size,
            indexed_timestamp=view.indexed_timestamp,
            uploaded_by=view.uploaded_by,
            yanked=view.yanked_at is not None,
            yank_reason=view.yank_reason,
            deleted=view.deleted_at is not None,
            downloads=view.downloads,
        )


class PackageFiles(BaseModel):
    package: Package
    files: list[File]


class Span(BaseModel):
    """Some characters of a text: from `begin`, counted from 0, to before `end`."""

    begin: int
    end: int


class Hit(BaseModel):
    """`version` is the newest that is not yanked, empty if all are. `match` says how it was found, and `spans` where in
    the name. `upstream` is the name of what it comes from, if no file of it is the channel's own.
    """

    channel: str
    visibility: VisibilityName
    name: str
    version: str
    summary: str
    license: str
    platforms: list[str]
    downloads: int
    updated_at: datetime
    match: Literal["exact", "prefix", "word", "part", "near", "summary"]
    spans: list[Span]
    upstream: str | None

    @classmethod
    def of(cls, hit: search.Hit) -> Hit:
        return cls(
            channel=hit.channel,
            visibility=hit.visibility.value,
            name=hit.name,
            version=hit.version,
            summary=hit.summary,
            license=hit.licence,
            platforms=list(hit.platforms),
            downloads=hit.downloads,
            updated_at=moment(hit.updated_at),
            match=hit.kind.name.lower(),  # type: ignore[arg-type]
            spans=[Span(begin=begin, end=end) for begin, end in hit.spans],
            upstream=hit.upstream,
        )


class Hits(BaseModel):
    items: list[Hit]
    cursor: str | None = None


class Uploaded(BaseModel):
    """`created` is false where the very same file was there already; `indexed` if its record can be found by now.
    `warnings` are codes of what was odd in it and accepted; `unmet` the first names that it depends on and that neither the channel
    has nor any that its relations lead to; `hides` is how many files of the same name the channel's upstream has, which nobody is
    shown now.
    """

    channel: str
    subdir: str
    filename: str
    sha256: str
    size: int
    indexed_timestamp: int
    created: bool
    replaced: bool
    indexed: bool
    warnings: list[str]
    unmet: list[str]
    hides: int


class Health(BaseModel):
    """`ok`, or what is wrong with it."""

    status: str
    database: str
    storage: str


class Problem(BaseModel):
    """RFC 9457, with a code from the closed list of docs/reference/errors.md."""

    code: str
    title: str
    status: int
    detail: str
    message: str
