"""The first page, and a page for each channel: what is here, and the lines to copy."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import jinja2
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from fairway.registry import accounts, browse, channels
from fairway.registry.access import Action
from fairway.web.deps import App, Who, allow

router = APIRouter(include_in_schema=False)

# autoescape whatever the file is called: package metadata is written by strangers
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent.parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
PACKAGES_SHOWN = 200


def page(request: Request, template: str, **values: object) -> HTMLResponse:
    request.scope["visit"].page = True
    url = request.app.state.fairway.settings.url
    html = TEMPLATES.get_template(template).render(url=url, mount=urlsplit(url).path, **values)
    return HTMLResponse(html, headers={"Cache-Control": "no-store"})


@router.get("/")
def home(request: Request, app: App, actor: Who) -> HTMLResponse:
    """The channels one may read, or on an empty server how to begin."""
    with app.database.read() as session:
        found = list(channels.list_channels(session, actor, limit=200))
        empty = accounts.count_users(session) == 0
    return page(request, "home.html", channels=found, empty=empty)


@router.get("/channels/{channel}")
def channel_page(request: Request, app: App, actor: Who, channel: str) -> HTMLResponse:
    """A channel's packages, and how each client uses it."""
    allow(app, actor, Action.READ, channel)
    with app.database.read() as session:
        listed = browse.list_packages(session, actor, channel, after="", limit=PACKAGES_SHOWN)
        view = channels.show(session, actor, channel)
    return page(request, "channel.html", channel=view, packages=listed.items, more=listed.cursor is not None)
