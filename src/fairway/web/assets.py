"""Scripts, styles, fonts and pictures: where the pages find them, and how they are sent."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from fairway.errors import SetupError

STATIC = Path(__file__).parent / "static"
DIST = STATIC / "dist"
# What a browser may take packed, by the name it says; the bundle has it beside the file, smallest first.
PACKED = (("br", ".br"), ("gzip", ".gz"))
FOR_EVER = "public, max-age=31536000, immutable"


@cache
def bundle(dist: Path = DIST) -> dict[str, str]:
    """The files of the bundle, by the names they have in frontend/, without their folder.

    Raises:
        SetupError: it was not built.
    """
    try:
        manifest = json.loads((dist / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SetupError(
            "The scripts and styles of the pages were not built: run './dev setup', or install Fairway from its wheel."
        ) from None
    return {Path(name).name: entry["file"] for name, entry in manifest.items()}


def address(mount: str, name: str) -> str:
    """Where a file of static/ is, or what the bundle made of `name`, under its hashed name."""
    found = bundle().get(name)
    return f"{mount}/static/{name}" if found is None else f"{mount}/static/dist/{found}"


class Assets(StaticFiles):
    """What the bundle named after its content is kept for ever. Of the rest a browser asks again each time (the answer is
    a 304), so that an upgrade is seen at once.
    """

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        path = str(full_path)
        accepted = next((value for name, value in scope["headers"] if name == b"accept-encoding"), b"").decode(
            "latin-1"
        )
        offered = {part.partition(";")[0].strip() for part in accepted.split(",")}
        for name, ending in PACKED:
            if name in offered and Path(path + ending).is_file():
                packed = path + ending
                answer = super().file_response(packed, Path(packed).stat(), scope, status_code)
                answer.headers["Content-Encoding"] = name
                break
        else:
            answer = super().file_response(path, stat_result, scope, status_code)
        answer.headers["Vary"] = "Accept-Encoding"
        hashed = Path(path).parent == DIST / "assets"
        answer.headers["Cache-Control"] = FOR_EVER if hashed else "no-cache"
        return answer
