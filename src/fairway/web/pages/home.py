"""The first page, and a page for each channel: what is here, and the lines to copy."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from fairway.registry import accounts, browse, channels
from fairway.registry.access import Action
from fairway.web.deps import App, Who, allow
from fairway.web.pages.forms import PageRoute
from fairway.web.pages.render import page

router = APIRouter(include_in_schema=False, route_class=PageRoute)

PACKAGES_SHOWN = 200


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
