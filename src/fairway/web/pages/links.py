"""Addresses of our own pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from fastapi import Request

from fairway.registry.paging import Page
from fairway.web.deps import app_of


def mount_of(request: Request) -> str:
    return urlsplit(app_of(request).settings.url).path.rstrip("/")


def channel(request: Request, name: str) -> str:
    return f"{mount_of(request)}/channels/{quote(name, safe='')}"


def package(request: Request, channel_name: str, name: str) -> str:
    return f"{channel(request, channel_name)}/packages/{quote(name, safe='')}"


def here(request: Request, **changed: str | None) -> str:
    """This page with another query: what is none or empty is left out."""
    query = {key: value for key, value in request.query_params.items() if value} | changed
    kept = {key: value for key, value in query.items() if value}
    path = quote(request.scope["path"], safe="/")
    return f"{mount_of(request)}{path}{'?' if kept else ''}{urlencode(kept)}"


def turns(request: Request, page: Page[Any]) -> dict[str, Any]:
    """Where the pages before and behind one of a listing are, as templates call them."""
    return {
        "previous": None if page.previous is None else here(request, cursor=page.previous),
        "next": None if page.cursor is None else here(request, cursor=page.cursor),
    }
