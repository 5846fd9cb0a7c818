"""The pages of a package; the first is in `installing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from fairway.registry import contents, dependencies, offered
from fairway.registry import packages as registry
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.registry.browse import FileView
from fairway.registry.dependencies import Dependencies, Requirement
from fairway.registry.listing import Head
from fairway.registry.packages import Event, Matrix, PackageHead
from fairway.registry.paging import CURSOR_MAX, Page
from fairway.web.deps import App, Visitor
from fairway.web.pages import links
from fairway.web.pages.channel import DAYS, dated, entered
from fairway.web.pages.forms import PageRoute
from fairway.web.pages.render import page

router = APIRouter(include_in_schema=False, route_class=PageRoute)

SHOWN = 50
OFFERED_SHOWN = 50
HAPPENED_SHOWN = 100
CHOICES = 400  # versions and files that a field offers
ABOUT_SHOWN = 40

Cursor = Annotated[str, Query(max_length=CURSOR_MAX)]
Short = Annotated[str, Query(max_length=300)]
PACKAGE = "/channels/{channel}/packages/{name}"

GROUPS = {
    "depends": ("Depends on", "Installed with it, in a version that fits, from the first channel that has it."),
    "virtual": ("Needs of the machine", "Virtual packages: what the machine has to be or have."),
    "constrains": ("Constrains", "Not installed with it; but if it is there, in a version that fits."),
}
EXPORTS = {
    "weak": "What is built with it (as host) will depend on these.",
    "strong": "What is built with it (as build or host) will depend on these.",
    "noarch": "What is built with it and runs anywhere will depend on these.",
    "weak_constrains": "What is built with it (as host) will be constrained by these.",
    "strong_constrains": "What is built with it (as build or host) will be constrained by these.",
}
NOT_HERE = {
    "contents": "The upstream's index does not say what is in its files, and this server does not open what it passes on.",
    "recipe": "The upstream's index does not say how its packages were made, and this server does not open what it passes on.",
}
WORDS = {
    "artifact.publish": "published",
    "artifact.replace": "replaced",
    "artifact.delete": "deleted",
    "artifact.undelete": "restored",
    "artifact.yank": "yanked",
    "artifact.unyank": "put back",
    "name.release": "released to the upstream",
}


@dataclass(frozen=True, slots=True)
class Group:
    """Some of what a version asks for, under one heading."""

    title: str
    about: str
    needs: Sequence[Requirement]
    left_out: int  # how many more there are
    needed: bool = False  # without these it cannot be installed


def opened(app: App, session: Session, actor: Actor, channel: str, name: str) -> tuple[Head, PackageHead]:
    """The channel and the package, for who may read them. Raises as access.require does, NotFound."""
    head = entered(app, session, actor, channel)
    return head, registry.show(session, head, name)


def framed(request: Request, head: Head, package: PackageHead) -> dict[str, Any]:
    """What every page of a package shows."""
    at = links.package(request, head.name, package.name)
    shown_files = package.files + (package.remote if theirs_too(head, package) else 0)
    tabs: list[tuple[str, str, str, int | None]] = [("overview", "Overview", at, None)]
    tabs += [
        (key, text, f"{at}/{key}", shown_files if key == "files" else None)
        for key, text in (
            ("versions", "Versions"),
            ("files", "Files"),
            ("dependencies", "Dependencies"),
            ("dependents", "Dependents"),
            ("contents", "Contents"),
            ("recipe", "Recipe and about"),
            ("statistics", "Statistics"),
            ("history", "History"),
        )
    ]
    beside = head.upstream if package.remote else None
    return {
        "head": head,
        "package": package,
        "at": at,
        "tabs": tabs,
        "shown_files": shown_files,
        "may_change": head.may(Action.YANK),
        # whose files are shown: the upstream's, unless names of ours hide them
        "theirs": beside if beside is not None and theirs_too(head, package) else None,
        "hidden": beside if beside is not None and not theirs_too(head, package) else None,
    }


def theirs_too(head: Head, package: PackageHead) -> bool:
    """Whether clients are shown what the upstream has of the name."""
    return bool(package.remote) and (not package.files or (head.upstream is not None and head.upstream.merge))


def known_versions(session: Session, head: Head, package: PackageHead) -> dict[str, str | None]:
    """Every version there is, the channel's own first, and why it is yanked, if every file of it is."""
    known = registry.versions(session, package)
    if theirs_too(head, package):
        for one in offered.files(session, head.id, package.name):
            known.setdefault(one.version, None)
    return known


def not_here(request: Request, head: Head, package: PackageHead, tab: str) -> Response | None:
    """The page in the place of a tab that a package without a file of ours cannot have; none if it has one."""
    if package.files or not package.remote:
        return None
    return page(request, "package/elsewhere.html", **framed(request, head, package), tab=tab, why=NOT_HERE[tab])


@router.get(f"{PACKAGE}/versions")
def versions(request: Request, app: App, actor: Visitor, channel: str, name: str, cursor: Cursor = "") -> Response:
    """Versions by platforms."""
    with app.database.read() as session:
        head, package = opened(app, session, actor, channel, name)
        found = registry.matrix(session, package, cursor=cursor, limit=SHOWN)
        theirs = offered.files(session, head.id, package.name) if theirs_too(head, package) else []
    more = Matrix(package.platforms, Page(offered.in_versions(theirs)[:CHOICES]))
    frame = framed(request, head, package)
    return page(
        request,
        "package/versions.html",
        **frame,
        rows=found.versions.items,
        matrix=drawn(found, frame["at"], package.version),
        offered=drawn(more, frame["at"], package.version),
        **links.turns(request, found.versions),
    )


def drawn(found: Matrix, at: str, newest: str) -> dict[str, Any]:
    """A matrix as the template takes it."""
    rows, cells = [], {}
    for row in found.versions.items:
        mark = None
        if row.version == newest:
            mark = ("newest", "good")
        elif row.yanked:
            mark = ("yanked", "warn")
        elif row.deleted:
            mark = ("deleted", "bad")
        href = f"{at}/files?{urlencode({'version': row.version})}"
        rows.append((row.version, href, mark))
        for subdir, cell in row.cells.items():
            parts = ((cell.files, ""), (cell.yanked, " yanked"), (cell.deleted, " deleted"))
            words = ", ".join(f"{count}{word}" for count, word in parts if count)
            there = f"{at}/files?{urlencode({'version': row.version, 'platform': subdir})}"
            cells[row.version, subdir] = (str(cell.files) if cell.files else words, there, words)
    return {"rows": rows, "columns": found.platforms, "cells": cells}


@router.get(f"{PACKAGE}/files")
def files(
    request: Request,
    app: App,
    actor: Visitor,
    channel: str,
    name: str,
    version: Short = "",
    platform: Short = "",
    cursor: Cursor = "",
    theirs: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """Every file, with its hashes; `theirs` is the page of those that come from the upstream."""
    with app.database.read() as session:
        head, package = opened(app, session, actor, channel, name)
        found = registry.files(
            session, package, version=version or None, subdir=platform or None, cursor=cursor, limit=SHOWN
        )
        known = list(known_versions(session, head, package))
        from_upstream = offered.files(session, head.id, package.name) if theirs_too(head, package) else []
    fitting = [one for one in from_upstream if version in {"", one.version} and platform in {"", one.subdir}]
    turn = min(theirs, max(1, -(-len(fitting) // OFFERED_SHOWN)))
    begin = (turn - 1) * OFFERED_SHOWN
    return page(
        request,
        "package/files.html",
        **framed(request, head, package),
        files=found.items,
        offered=fitting[begin : begin + OFFERED_SHOWN],
        offered_begin=begin,
        offered_count=len(fitting),
        offered_before=links.here(request, theirs=str(turn - 1)) if turn > 1 else None,
        offered_after=links.here(request, theirs=str(turn + 1)) if begin + OFFERED_SHOWN < len(fitting) else None,
        versions=known[:CHOICES],
        asked={"version": version, "platform": platform},
        **links.turns(request, found),
    )


@router.get(f"{PACKAGE}/dependencies")
def requirements(request: Request, app: App, actor: Visitor, channel: str, name: str, version: Short = "") -> Response:
    """What a version needs, and what of that is here."""
    with app.database.read() as session:
        head, package = opened(app, session, actor, channel, name)
        found = dependencies.dependencies(session, actor, head, package, version or None)
        known = list(known_versions(session, head, package))
    return page(
        request,
        "package/dependencies.html",
        **framed(request, head, package),
        found=found,
        groups=grouped(found),
        versions=known[:CHOICES],
    )


def grouped(found: Dependencies) -> list[Group]:
    every: Mapping[str, Sequence[Requirement]] = {
        "depends": found.depends,
        "virtual": found.virtual,
        "constrains": found.constrains,
    }
    left_out = found.left_out
    groups = [
        Group(*GROUPS[kind], needs, left_out.get(kind, 0), kind == "depends") for kind, needs in every.items() if needs
    ]
    for kind, needs in found.run_exports.items():
        title = f"Run exports, {kind.replace('_', ' ')}"
        about = EXPORTS.get(kind, "Given to what is built with it.")
        groups.append(Group(title, about, needs, left_out.get(kind, 0)))
    return groups


@router.get(f"{PACKAGE}/dependents")
def dependents(request: Request, app: App, actor: Visitor, channel: str, name: str, cursor: Cursor = "") -> Response:
    """The packages that depend on this one, in every channel the visitor may read."""
    with app.database.read() as session:
        head, package = opened(app, session, actor, channel, name)
        found = dependencies.dependents(session, actor, head, package.name, cursor=cursor, limit=SHOWN, now=app.now())
    return page(
        request,
        "package/dependents.html",
        **framed(request, head, package),
        dependents=found.items,
        **links.turns(request, found),
    )


@router.get(f"{PACKAGE}/contents")
def inside(
    request: Request,
    app: App,
    actor: Visitor,
    channel: str,
    name: str,
    file: Short = "",
    folder: Annotated[str, Query(max_length=4096)] = "",
    cursor: Cursor = "",
) -> Response:
    """What is in a file's archive, one folder at a time."""
    with app.database.read() as session:
        head, package = opened(app, session, actor, channel, name)
        if away := not_here(request, head, package, "contents"):
            return away
        known = registry.files(session, package, deleted=False, limit=CHOICES).items
        chosen = chosen_file(session, package, known, file)
        found = contents.contents(session, chosen, folder=folder, cursor=cursor)
    return page(
        request,
        "package/contents.html",
        **framed(request, head, package),
        contents=found,
        files=[f"{one.subdir}/{one.filename}" for one in known],
        place=f"{chosen.subdir}/{chosen.filename}",
        go=lambda folder: links.here(request, folder=folder, cursor=None),
        up=links.here(request, folder=found.folder.rpartition("/")[0], cursor=None),
        next=None if found.cursor is None else links.here(request, cursor=found.cursor),
    )


def chosen_file(session: Session, package: PackageHead, known: Sequence[FileView], wanted: str) -> FileView:
    """The file that is asked for, or the newest. Raises: NotFound."""
    if not wanted and known:
        return next((one for one in known if one.listed), known[0])
    subdir, _, filename = wanted.partition("/")
    for one in known:
        if (one.subdir, one.filename) == (subdir, filename):
            return one
    return registry.one_file(session, package, subdir, filename)


@router.get(f"{PACKAGE}/recipe")
def recipe(request: Request, app: App, actor: Visitor, channel: str, name: str, file: Short = "") -> Response:
    """How it was made, and what it says of itself."""
    with app.database.read() as session:
        head, package = opened(app, session, actor, channel, name)
        if away := not_here(request, head, package, "recipe"):
            return away
        known = registry.files(session, package, deleted=False, limit=CHOICES).items
        chosen = chosen_file(session, package, known, file)
        found = registry.about(session, chosen)
    about = [(key, said(value)) for key, value in sorted(found.about.items()) if value not in (None, "", [], {})]
    return page(
        request,
        "package/recipe.html",
        **framed(request, head, package),
        files=[f"{one.subdir}/{one.filename}" for one in known],
        place=f"{chosen.subdir}/{chosen.filename}",
        recipe=found.recipe,
        about=about[:ABOUT_SHOWN],
        licences=found.licences,
    )


def said(value: object) -> str:
    """A value of about.json, in words."""
    if isinstance(value, list):
        return ", ".join(said(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {said(one)}" for key, one in value.items())
    return str(value)


@router.get(f"{PACKAGE}/statistics")
def downloads(
    request: Request, app: App, actor: Visitor, channel: str, name: str, days: Annotated[int, Query(ge=1, le=365)] = 30
) -> Response:
    """Downloads by day, version and platform."""
    with app.database.read() as session:
        head, package = opened(app, session, actor, channel, name)
        found = registry.show_statistics(session, package, days=days, now=app.now())
    return page(
        request,
        "package/statistics.html",
        **framed(request, head, package),
        by_day=dated(found.first_day, found.days),
        by_version=[(one.version, one.downloads) for one in found.versions[:SHOWN]],
        by_platform=list(found.platforms.items()),
        days=days,
        choices=DAYS,
    )


@router.get(f"{PACKAGE}/history")
def history(request: Request, app: App, actor: Visitor, channel: str, name: str, cursor: Cursor = "") -> Response:
    """What was done to its files, and by whom."""
    with app.database.read() as session:
        head, package = opened(app, session, actor, channel, name)
        found = registry.history(session, package, cursor=cursor, limit=SHOWN)
        theirs = offered.history(session, head.id, package.name, limit=HAPPENED_SHOWN) if package.remote else []
    return page(
        request,
        "package/history.html",
        **framed(request, head, package),
        happened=theirs,
        events=[(event, words(event), str(event.details.get("reason") or "")) for event in found.items],
        **links.turns(request, found),
    )


def words(event: Event) -> str:
    return WORDS.get(event.action, event.action.partition(".")[2] or event.action)
