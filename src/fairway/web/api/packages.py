"""Packages, files and search."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from fairway.registry import browse, search, withdraw
from fairway.registry.access import Action
from fairway.web.api.bodies import JsonRoute
from fairway.web.api.channels import ChannelPath, Cursor, Limit
from fairway.web.api.models import File, Hit, Hits, Package, PackageFiles, Packages, Yank
from fairway.web.deps import App, Who, allow, may_search

router = APIRouter(tags=["packages"], route_class=JsonRoute)


@router.get("/api/v1/channels/{channel}/packages")
def list_packages(app: App, actor: Who, channel: ChannelPath, limit: Limit = 100, cursor: Cursor = "") -> Packages:
    """A channel's packages, by name."""
    allow(app, actor, Action.READ, channel)
    with app.database.read() as session:
        page = browse.list_packages(session, actor, channel, after=cursor, limit=limit)
    return Packages(items=[Package.of(view) for view in page.items], cursor=page.cursor)


@router.get("/api/v1/channels/{channel}/packages/{name}")
def show_package(app: App, actor: Who, channel: ChannelPath, name: ChannelPath) -> PackageFiles:
    """A package and all its files, newest version first."""
    allow(app, actor, Action.READ, channel)
    with app.database.read() as session:
        package, files = browse.package_files(session, actor, channel, name)
    return PackageFiles(package=Package.of(package), files=[File.of(view) for view in files])


@router.get("/api/v1/channels/{channel}/artifacts/{subdir}/{filename}")
def show_artifact(app: App, actor: Who, channel: ChannelPath, subdir: str, filename: str) -> File:
    """What is known of one file. Its bytes are at /{channel}/{subdir}/{filename}."""
    allow(app, actor, Action.READ, channel)
    with app.database.read() as session:
        return File.of(browse.one_file(session, actor, channel, subdir, filename))


@router.delete("/api/v1/channels/{channel}/artifacts/{subdir}/{filename}", status_code=204)
def delete_artifact(app: App, actor: Who, channel: ChannelPath, subdir: str, filename: str) -> Response:
    """Take a file out of the index; it stays downloadable for some days, because lock files name it."""
    allow(app, actor, Action.DELETE, channel)
    with app.database.write() as session:
        withdraw.delete(session, actor, channel, subdir, filename, now=app.now())
    app.publisher.poke()
    return Response(status_code=204)


@router.post("/api/v1/channels/{channel}/artifacts/{subdir}/{filename}/restore", status_code=204)
def restore_artifact(app: App, actor: Who, channel: ChannelPath, subdir: str, filename: str) -> Response:
    """Put a file back that was deleted some days ago at most."""
    allow(app, actor, Action.DELETE, channel)
    with app.database.write() as session:
        withdraw.undelete(session, actor, channel, subdir, filename, now=app.now(), keep_ms=app.settings.keep_ms)
    app.publisher.poke()
    return Response(status_code=204)


@router.put("/api/v1/channels/{channel}/artifacts/{subdir}/{filename}/yank", status_code=204)
def yank_artifact(app: App, actor: Who, channel: ChannelPath, subdir: str, filename: str, body: Yank) -> Response:
    """Take a file out of the index for a reason, and keep it for those who name it: clients do not choose it any more,
    lock files that have it work on. Of a file that is yanked already, change the reason.
    """
    allow(app, actor, Action.YANK, channel)
    with app.database.write() as session:
        withdraw.yank(session, actor, channel, subdir, filename, body.reason, now=app.now())
    app.publisher.poke()
    return Response(status_code=204)


@router.delete("/api/v1/channels/{channel}/artifacts/{subdir}/{filename}/yank", status_code=204)
def unyank_artifact(app: App, actor: Who, channel: ChannelPath, subdir: str, filename: str) -> Response:
    """Put a yanked file back into the index, with the record it had."""
    allow(app, actor, Action.YANK, channel)
    with app.database.write() as session:
        withdraw.unyank(session, actor, channel, subdir, filename, now=app.now())
    app.publisher.poke()
    return Response(status_code=204)


@router.put("/api/v1/channels/{channel}/packages/{name}/versions/{version}/yank", status_code=204)
def yank_version(app: App, actor: Who, channel: ChannelPath, name: str, version: str, body: Yank) -> Response:
    """Yank every file of a version."""
    allow(app, actor, Action.YANK, channel)
    with app.database.write() as session:
        withdraw.yank_version(session, actor, channel, name, version, body.reason, now=app.now())
    app.publisher.poke()
    return Response(status_code=204)


@router.delete("/api/v1/channels/{channel}/packages/{name}/versions/{version}/yank", status_code=204)
def unyank_version(app: App, actor: Who, channel: ChannelPath, name: str, version: str) -> Response:
    """Put every yanked file of a version back into the index."""
    allow(app, actor, Action.YANK, channel)
    with app.database.write() as session:
        withdraw.unyank_version(session, actor, channel, name, version, now=app.now())
    app.publisher.poke()
    return Response(status_code=204)


@router.get("/api/v1/search", dependencies=[Depends(may_search)])
def find_packages(
    app: App,
    actor: Who,
    q: Annotated[str, Query(max_length=100, description="What to look for, in names and summaries")],
    channel: Annotated[str | None, Query(max_length=200, description="Only in this channel")] = None,
    platform: Annotated[str | None, Query(max_length=32, description="Only what installs there")] = None,
    license: Annotated[  # noqa: A002 - the name of the field everywhere else
        str | None, Query(max_length=100, description="Only what has this in its licence")
    ] = None,
    since: Annotated[datetime | None, Query(description="Only what was published since")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
    cursor: Annotated[str, Query(max_length=20)] = "",
) -> Hits:
    """Search every channel you may read: exact names first, then names that begin so, then words, then any part, then
    names that are spelt nearly so, then summaries; among equals what is not an upstream's, then the most downloaded first.
    """
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    filters = search.Filters(channel, platform, license, None if since is None else int(since.timestamp() * 1000))
    with app.database.read() as session:
        hits, following = search.search(session, actor, q, filters, limit=limit, cursor=cursor)
    return Hits(items=[Hit.of(hit) for hit in hits], cursor=following)
