"""Search, as a page and as the list below the search box of every page."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from fairway.conda.names import KNOWN_SUBDIRS
from fairway.registry import search
from fairway.registry.search import Filters, Hit
from fairway.web.deps import App, Visitor, may_search
from fairway.web.pages import links
from fairway.web.pages.forms import PageRoute
from fairway.web.pages.render import page

router = APIRouter(include_in_schema=False, route_class=PageRoute)

SHOWN = 25
QUICK = 7
DAY_MS = 86_400_000
UPDATED = (("7", "In the last week"), ("30", "In the last month"), ("365", "In the last year"))

Text = Annotated[str, Query(max_length=100)]
Short = Annotated[str, Query(max_length=128)]


@router.get("/search", dependencies=[Depends(may_search)])
def find(
    request: Request,
    app: App,
    actor: Visitor,
    q: Text = "",
    channel: Short = "",
    platform: Short = "",
    licence: Short = "",
    updated: Short = "",
    cursor: Short = "",
) -> Response:
    """Packages of every channel one may read."""
    days = int(updated) if updated in dict(UPDATED) else None
    wanted = Filters(
        channel=channel.strip() or None,
        platform=platform or None,
        licence=licence.strip() or None,
        since=None if days is None else app.now() - days * DAY_MS,
    )
    with app.database.read() as session:
        hits, following = search.search(session, actor, q, wanted, limit=SHOWN, cursor=cursor)
    return page(
        request,
        "finding/search.html",
        hits=hits,
        asked={
            "q": q.strip(),
            "channel": channel,
            "platform": platform,
            "licence": licence,
            "updated": updated,
        },
        filtered=bool(channel or platform or licence or updated),
        channels=sorted({hit.channel for hit in hits}),
        platforms=sorted(KNOWN_SUBDIRS),
        updated=UPDATED,
        next=None if following is None else links.here(request, cursor=following),
        previous=before(request, cursor),
    )


def before(request: Request, cursor: str) -> str | None:
    """The page before this one: results are counted from the best."""
    if not cursor.isdecimal() or int(cursor) == 0:
        return None
    at = max(int(cursor) - SHOWN, 0)
    return links.here(request, cursor=str(at) if at else None)


@router.get("/search/live", dependencies=[Depends(may_search)])
def hits(request: Request, app: App, actor: Visitor, q: Text = "") -> Response:
    """The best few, for the list that opens while somebody types."""
    found: list[Hit] = []
    following: str | None = None
    if q.strip():
        with app.database.read() as session:
            found, following = search.search(session, actor, q, limit=QUICK)
    values: dict[str, Any] = {"hits": found, "asked": {"q": q.strip()}, "more": following is not None}
    return page(request, "finding/hits.html", **values)
