"""The first page: where to look, my channels, everybody's channels, what is new."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from fairway.registry import accounts, listing
from fairway.registry.listing import Sort, Which
from fairway.registry.paging import CURSOR_MAX
from fairway.web.deps import App, Visitor
from fairway.web.pages import links
from fairway.web.pages.forms import PageRoute
from fairway.web.pages.render import page

router = APIRouter(include_in_schema=False, route_class=PageRoute)

MINE_SHOWN = 60
SHOWN = 24
RECENT = 10

Cursor = Annotated[str, Query(max_length=CURSOR_MAX)]


@router.get("/")
def home(request: Request, app: App, actor: Visitor, cursor: Cursor = "") -> Response:
    """The channels one may read, or on an empty server how to begin."""
    now = app.now()
    with app.database.read() as session:
        mine = listing.cards(session, actor, Which.MINE, sort=Sort.UPDATED, limit=MINE_SHOWN, now=now)
        others = listing.cards(session, actor, Which.OTHERS, sort=Sort.UPDATED, cursor=cursor, limit=SHOWN, now=now)
        recent = listing.recently(session, actor, limit=RECENT)
        empty = not (mine.items or others.items) and accounts.count_users(session) == 0
    return page(
        request,
        "home/home.html",
        mine=mine.items,
        others=others.items,
        recent=recent,
        empty=empty,
        **links.turns(request, others),
    )
