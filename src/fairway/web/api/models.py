"""The bodies of the JSON API. Times are ISO 8601 in UTC, sizes bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fairway.registry import search
from fairway.registry.browse import FileView, PackageView
from fairway.registry.channels import ChannelView

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


class Yank(Strict):
    reason: Annotated[str, Field(max_length=500, description="One line that people read where the file was")]


class NewMember(Strict):
    role: RoleName


class Member(BaseModel):
    user: str
    role: RoleName
    added_at: datetime


class Channel(BaseModel):
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

    @classmethod
    def of(cls, view: ChannelView, base: str) -> Channel:
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
        )


class Channels(BaseModel):
    items: list[Channel]
    cursor: str | None = None


class Package(BaseModel):
    name: str
    version: str
    summary: str
    license: str
    files: int
    updated_at: datetime

    @classmethod
    def of(cls, view: PackageView) -> Package:
        return cls(
            name=view.name,
            version=view.version,
            summary=view.summary,
            license=view.licence,
            files=view.files,
            updated_at=moment(view.updated_at),
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
    the name.
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
        )


class Hits(BaseModel):
    items: list[Hit]
    cursor: str | None = None


class Uploaded(BaseModel):
    """`created` is false where the very same file was there already; `indexed` if its record can be found by now.
    `warnings` are codes of what was odd and accepted.
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
