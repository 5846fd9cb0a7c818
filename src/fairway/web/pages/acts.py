"""What can be done to files: yank them, delete them, and take either back. Each page asks, and the form on it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from fairway.errors import Invalid, NotFound, QuotaExceeded
from fairway.registry import browse, packages, reserved, trash, withdraw
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.registry.browse import FileView
from fairway.registry.paging import CURSOR_MAX
from fairway.web.deps import App, actor_of, allow, app_of, confirmed, signed_in
from fairway.web.pages import links
from fairway.web.pages.channel import entered, framed
from fairway.web.pages.forms import Form, PageRoute, Sent, see_other
from fairway.web.pages.gates import Maintainer, SureReleaser
from fairway.web.pages.render import page

router = APIRouter(include_in_schema=False, route_class=PageRoute)

DAY_MS = 86_400_000
SHOWN = 50
FILES_MAX = 1_000  # of a version
FILE = "/channels/{channel}/packages/{name}/files/{subdir}/{filename}/{act}"
NAME = "/channels/{channel}/packages/{name}/release"
VERSION = "/channels/{channel}/packages/{name}/versions/{version}/{act}"


@dataclass(frozen=True, slots=True)
class Act:
    """An act on files: what it takes, whether the password has to be given again, and what the next page says."""

    action: Action
    note: str
    lately: bool = False


ON_FILES = {
    "yank": Act(Action.YANK, "yanked"),
    "unyank": Act(Action.YANK, "unyanked"),
    "delete": Act(Action.DELETE, "deleted", lately=True),
    "undelete": Act(Action.DELETE, "restored"),
}
ON_VERSIONS = {name: ON_FILES[name] for name in ("yank", "unyank")}


@dataclass(frozen=True, slots=True)
class File:
    """The file that an address names."""

    channel: str
    name: str
    subdir: str
    filename: str


@dataclass(frozen=True, slots=True)
class Version:
    """The version that an address names."""

    channel: str
    name: str
    version: str


def entitled(request: Request, channel: str, act: str) -> Actor:
    """Who is signed in and may do this. Raises as access.require does; NotFound: no such act; Elsewhere."""
    acts = ON_VERSIONS if "version" in request.path_params else ON_FILES
    if act not in acts:  # whatever the channel
        raise NotFound
    allow(app_of(request), actor_of(request), acts[act].action, channel)
    return confirmed(request) if acts[act].lately else signed_in(request)


Entitled = Annotated[Actor, Depends(entitled)]
OfFile = Annotated[File, Depends()]
OfVersion = Annotated[Version, Depends()]


# --- one file --------------------------------------------------------------------------------------------------------


@router.get(FILE)
def ask(request: Request, actor: Entitled, file: OfFile, act: str) -> Response:
    """Raises: NotFound: there is no such file, or there is nothing of this to be done to it."""
    return show(request, actor, file, act, None)


@router.post(FILE)
def do(request: Request, app: App, actor: Entitled, file: OfFile, act: str, form: Sent) -> Response:
    """Raises: NotFound: as above."""
    place = (actor, file.channel, file.subdir, file.filename)
    now, keep_ms = app.now(), app.settings.keep_days * DAY_MS
    try:
        with app.database.write() as session:
            if act == "yank":
                withdraw.yank(session, *place, form.text("reason"), now=now)
            elif act == "unyank":
                withdraw.unyank(session, *place, now=now)
            elif act == "delete":
                withdraw.delete(session, *place, now=now)
            else:
                withdraw.undelete(session, *place, now=now, keep_ms=keep_ms)
    except (Invalid, QuotaExceeded) as error:
        form.refuse("reason", error.detail)
        return show(request, actor, file, act, form)
    app.publisher.poke()
    # of a package that lost its last file there is no page
    back = trash_of(file.channel) if act == "delete" else files_of(file.channel, file.name)
    return see_other(request, back, ON_FILES[act].note)


def show(request: Request, actor: Actor, file: File, act: str, form: Form | None) -> Response:
    app = app_of(request)
    with app.database.read() as session:
        head = entered(app, session, actor, file.channel, ON_FILES[act].action)
        found = browse.one_file(session, actor, file.channel, file.subdir, file.filename)
    if found.name != file.name or not fits(found, act):
        raise NotFound
    form = form or Form.of(reason=found.yank_reason)
    return page(
        request,
        "acts/file.html",
        form.status,
        **framed(request, head),
        form=form,
        act=act,
        file=found,
        days=app.settings.keep_days,
        until=(found.deleted_at or 0) + app.settings.keep_days * DAY_MS,
        back=links.package(request, file.channel, file.name) + "/files",
    )


def fits(file: FileView, act: str) -> bool:
    """Whether there is something of this to be done to a file."""
    if act == "undelete":
        return file.deleted_at is not None
    return file.deleted_at is None and (act != "unyank" or file.yanked_at is not None)


# --- a whole version -------------------------------------------------------------------------------------------------


@router.get(VERSION)
def ask_version(request: Request, actor: Entitled, version: OfVersion, act: str) -> Response:
    """Raises: NotFound: no files of it, or nothing of this to be done to them."""
    return show_version(request, actor, version, act, None)


@router.post(VERSION)
def do_version(request: Request, app: App, actor: Entitled, version: OfVersion, act: str, form: Sent) -> Response:
    """Raises: NotFound: as above."""
    place, now = (actor, version.channel, version.name, version.version), app.now()
    try:
        with app.database.write() as session:
            if act == "yank":
                withdraw.yank_version(session, *place, form.text("reason"), now=now)
            else:
                withdraw.unyank_version(session, *place, now=now)
    except Invalid as error:
        form.refuse("reason", error.detail)
        return show_version(request, actor, version, act, form)
    app.publisher.poke()
    return see_other(request, files_of(version.channel, version.name), ON_VERSIONS[act].note)


def show_version(request: Request, actor: Actor, version: Version, act: str, form: Form | None) -> Response:
    app = app_of(request)
    with app.database.read() as session:
        head = entered(app, session, actor, version.channel, ON_VERSIONS[act].action)
        package = packages.show(session, head, version.name)
        files = packages.files(session, package, version=version.version, deleted=False, limit=FILES_MAX)
    found = [file for file in files.items if fits(file, act)]
    if not found:
        raise NotFound
    form = form or Form.of(reason=next((file.yank_reason for file in found if file.yank_reason), None))
    return page(
        request,
        "acts/version.html",
        form.status,
        **framed(request, head),
        form=form,
        act=act,
        name=version.name,
        version=version.version,
        files=found,
        back=links.package(request, version.channel, version.name) + "/files",
    )


# --- a name that is kept from the upstream ---------------------------------------------------------------------------


@router.get(NAME)
def ask_release(request: Request, app: App, actor: SureReleaser, channel: str, name: str) -> Response:
    """Raises: NotFound: it is not kept."""
    with app.database.read() as session:
        head = entered(app, session, actor, channel, Action.RELEASE)
        kept = reserved.one(session, head.id, name)
    if kept is None:
        raise NotFound
    return page(request, "acts/release.html", **framed(request, head), kept=kept, risk=reserved.RISK)


@router.post(NAME)
def release(request: Request, app: App, actor: SureReleaser, channel: str, name: str) -> Response:
    """Raises: NotFound: as above."""
    with app.database.write() as session:
        kept = reserved.release(session, actor, channel, name, now=app.now())
    app.publisher.poke()
    shown = f"/channels/{quote(channel)}/packages/{quote(name)}"
    return see_other(request, shown if kept.records else trash_of(channel), "released")


# --- what was deleted ------------------------------------------------------------------------------------------------


@router.get("/channels/{channel}/trash")
def deleted(
    request: Request,
    app: App,
    actor: Maintainer,
    channel: str,
    cursor: Annotated[str, Query(max_length=CURSOR_MAX)] = "",
) -> Response:
    """The deleted files of a channel that may come back."""
    keep_ms = app.settings.keep_days * DAY_MS
    with app.database.read() as session:
        head = entered(app, session, actor, channel, Action.DELETE)
        found = trash.files(session, head, cursor=cursor, limit=SHOWN, now=app.now(), keep_ms=keep_ms)
        kept = reserved.names(session, actor, channel) if head.may(Action.RELEASE) else []
    return page(
        request,
        "acts/deleted.html",
        **framed(request, head),
        files=found.items,
        kept=kept,
        days=app.settings.keep_days,
        keep_ms=keep_ms,
        **links.turns(request, found),
    )


def files_of(channel: str, name: str) -> str:
    return f"/channels/{quote(channel)}/packages/{quote(name)}/files"


def trash_of(channel: str) -> str:
    return f"/channels/{quote(channel)}/trash"
