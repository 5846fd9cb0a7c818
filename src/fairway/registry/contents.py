"""What is in a file's archive: one folder of it at a time, because there may be tens of thousands of entries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from fairway.conda import listing
from fairway.conda.infofiles import is_script
from fairway.db.models import Detail
from fairway.registry.browse import FileView

PAGE = 500


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, with all that is in it and below: `files`, their `size` in bytes, and whether one runs at install."""

    path: str
    name: str
    files: int
    size: int
    scripts: int


@dataclass(frozen=True, slots=True)
class Item:
    """A file or link. `size` in bytes, -1 if the package does not say; `script` if installers run it."""

    path: str
    name: str
    size: int
    is_link: bool
    script: bool


@dataclass(frozen=True, slots=True)
class Contents:
    """One folder of an archive. `files`, `size` and `scripts` are of the whole archive; `known` is false for files that
    were published before Fairway kept this; `cut` if the archive has more entries than are kept. `cursor` asks for more
    items of this folder; folders are all on its first page.
    """

    known: bool
    files: int
    size: int
    scripts: tuple[str, ...]
    folder: str
    folders: tuple[Folder, ...]
    items: tuple[Item, ...]
    cursor: str | None
    cut: bool


def contents(session: Session, file: FileView, *, folder: str = "", cursor: str = "", limit: int = PAGE) -> Contents:
    """A folder of what a file holds, "" for the topmost; one that is not there is empty. One statement."""
    row = session.execute(select(Detail.paths, Detail.listing).where(Detail.artifact_id == file.id)).one_or_none()
    summary = (row.paths if row else None) or {}
    entries = list(listing.entries(bytes(row.listing))) if row and row.listing else []
    inside = folder.strip("/") + "/" if folder.strip("/") else ""
    files, sizes, scripts = Counter[str](), Counter[str](), Counter[str]()
    items: list[Item] = []
    for entry in entries:
        if not entry.path.startswith(inside):
            continue
        first, slash, _ = entry.path[len(inside) :].partition("/")
        script = is_script(entry.path)
        if slash or entry.kind == "d":
            files[first] += entry.kind != "d"
            sizes[first] += max(entry.size, 0)
            scripts[first] += script
        else:
            items.append(Item(entry.path, first, entry.size, entry.kind == "s", script))
    begin = int(cursor) if cursor.isdecimal() and len(cursor) < 8 else 0
    folders = tuple(Folder(f"{inside}{name}", name, files[name], sizes[name], scripts[name]) for name in sorted(files))
    following = begin + limit
    return Contents(
        known=bool(entries) or not summary.get("files"),
        files=int(summary.get("files") or 0),
        size=int(summary.get("size") or 0),
        scripts=tuple(map(str, summary.get("scripts") or ())),
        folder=inside.rstrip("/"),
        folders=() if begin else folders,
        items=tuple(items[begin:following]),
        cursor=str(following) if len(items) > following else None,
        cut=bool(entries) and len(entries) < int(summary.get("files") or 0),
    )
