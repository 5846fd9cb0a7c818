"""Templates, and what every one of them may use. A page is made by `page`, and nowhere else."""

from __future__ import annotations

import gzip
import io
import secrets
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

from fairway.web import assets
from fairway.web.deps import app_of
from fairway.web.pages import drawing

TEMPLATES = Path(__file__).parent.parent / "templates"

Milliseconds = int
NARROW = "\N{NARROW NO-BREAK SPACE}"
LONGEST_LINK = 2048
WORTH_PACKING = 1024
# As many random bytes as Django's middleware adds: what is packed then says little about the secrets in it (BREACH).
PADDING = 100


def page(request: Request, template: str, status: int = 200, **values: object) -> HTMLResponse:
    """A page, or a part of one for htmx, made of `template`. Besides `values` it sees what `around` gives."""
    request.scope["visit"].page = True
    html = ENVIRONMENT.get_template(template).render(**(around(request) | values))
    headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
    content = html.encode()
    if len(content) >= WORTH_PACKING and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        content = packed(content)
    return HTMLResponse(content, status, headers)


def around(request: Request) -> dict[str, Any]:
    """What a page knows of its request. `me` and `csrf` are None for nobody; `flash` is (tone, text) or None."""
    app, state = app_of(request), request.state
    url = app.settings.url
    mount = urlsplit(url).path
    path = str(request.scope["path"])
    return {
        "url": url,
        "mount": mount,
        "path": path,
        "now": app.now(),
        "me": getattr(state, "me", None),
        "csrf": getattr(state, "csrf", None),
        "flash": getattr(state, "flash", None),
        "searched": request.query_params.get("q", "") if path == "/search" else "",
        "asset": partial(assets.address, mount),
    }


def packed(content: bytes) -> bytes:
    """In gzip, with a file name of random length, which readers skip."""
    out = io.BytesIO()
    name = "x" * (1 + secrets.randbelow(PADDING))
    with gzip.GzipFile(name, "wb", compresslevel=5, fileobj=out, mtime=0) as file:
        file.write(content)
    return out.getvalue()


# --- words and figures -----------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """12 345, grouped by thin spaces that do not break."""
    return f"{value:,}".replace(",", NARROW)


def in_bytes(value: float) -> str:
    """4.2 MB, in powers of a thousand, as disks and networks count."""
    if value < 1000:
        return f"{value:.0f}{NARROW}B"
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.1f}{NARROW}{unit}" if value < 9.95 else f"{number(round(value))}{NARROW}{unit}"


STEPS = ((60, "second"), (60, "minute"), (24, "hour"), (30.44, "day"), (12, "month"), (1e9, "year"))


def between(seconds: float) -> str:
    """`3 hours ago`, `in 2 days`."""
    if abs(seconds) < 45:
        return "just now" if seconds >= 0 else "in a moment"
    amount = abs(seconds)
    unit = ""
    for size, unit in STEPS:  # noqa: B007 - the last one is used
        if round(amount) < size:
            break
        amount /= size
    words = f"{round(amount)} {unit}{'' if round(amount) == 1 else 's'}"
    return f"{words} ago" if seconds > 0 else f"in {words}"


def ago(at: Milliseconds | None) -> Markup:
    """A time of our own or a stranger's, as how long it has been; its date in a hint. None is never."""
    if at is None:
        return Markup("never")
    try:
        moment = datetime.fromtimestamp(at / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return Markup("at an unknown time")  # packages may claim any number
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M UTC"), between(time.time() - at / 1000)
    )


def safe_link(address: str | None, text: str | None = None) -> Markup:
    """A link to an address that a stranger wrote, or the text alone where it is not plainly one of the web."""
    shown = text or address or ""
    if address is None or not of_the_web(address):
        return escape(shown)
    return Markup('<a href="{}" rel="nofollow noopener">{}</a>').format(address, shown)


def of_the_web(address: str) -> bool:
    """Whether it is http or https, with a host and without anything that only deceives: a user, controls, spaces."""
    if len(address) > LONGEST_LINK or not address.isprintable() or any(char in " \\\"'<>`" for char in address):
        return False
    try:
        parts = urlsplit(address)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False


def environment() -> jinja2.Environment:
    # autoescape whatever the file is called: package metadata is written by strangers
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = {"ago": ago, "bytes": in_bytes, "number": number, "safe_link": safe_link}
    made.filters.update(words)
    made.globals.update(words)
    shapes = (drawing.spark, drawing.columns, drawing.share, drawing.initials, drawing.tint)
    made.globals.update({shape.__name__: shape for shape in shapes})
    # the macros of components.html for every template, also for a part that is rendered alone: ui.button(...)
    made.globals["ui"] = made.get_template("components.html").module
    return made


ENVIRONMENT = environment()
