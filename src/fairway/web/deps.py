"""What handlers ask of a request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, cast
from urllib.parse import quote, urlencode, urlsplit

from fastapi import Depends, Request
from starlette.routing import Match

from fairway.app import Fairway
from fairway.errors import TokenInvalid
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.registry.sessions import CONFIRMED_MS
from fairway.registry.tokens import Known
from fairway.web.cookies import Cookies
from fairway.web.limits import Limits, Network, caller, peer
from fairway.web.visit import Visit

HOME = "/"
LONGEST_PATH = 1_000
# Decoded, it would be another path than the one that was looked at.
ENCODED = re.compile(r"%(?:2f|5c|00|25|0[0-9a-f]|1[0-9a-f]|7f)", re.IGNORECASE)


class Elsewhere(Exception):
    """The page is another one: `path` begins behind the mount."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def app_of(request: Request) -> Fairway:
    return cast("Fairway", request.app.state.fairway)


def cookies_of(request: Request) -> Cookies:
    return cast("Cookies", request.app.state.cookies)


def actor_of(request: Request) -> Actor:
    """Who is asking. Runs in a worker thread, since it may have to look into the database."""
    return who_asks(request, rows=True)


def who_asks(request: Request, *, rows: bool) -> Actor:
    """Who is asking. Raises: Miss: without `rows`, if that is not at hand.

    A bad key that only wants to read is refused here, also where anybody may read: whoever sends a key to the API means
    to be somebody. What writes says so itself, in the words of its dialect.
    """
    return known(request, rows=rows).actor


def known(request: Request, *, rows: bool) -> Known:
    app = app_of(request)
    visit: Visit = request.scope["visit"]
    found = app.lookup.view().known(visit.token, rows=rows)
    if found.actor.invalid and request.method == "GET":
        raise TokenInvalid
    if found.actor.user_id is not None:
        visit.token_id = found.actor.token_id
        app.counts.used(found.actor, now=app.now())
    return found


def signed_in(request: Request) -> Actor:
    """Somebody who is signed in with a browser; a key does not do. Raises: Elsewhere: to sign in first."""
    actor = who_asks(request, rows=True)
    if actor.session_id is None:
        raise Elsewhere(f"/login?{urlencode({'next': here(request)})}")
    return actor


def confirmed(request: Request) -> Actor:
    """The same, who gave the password lately: for what somebody at an unlocked machine must not do. Raises: Elsewhere: to
    give it again.
    """
    actor = signed_in(request)
    if app_of(request).now() >= known(request, rows=True).confirmed_at + CONFIRMED_MS:
        raise Elsewhere(f"/confirm?{urlencode({'next': here(request)})}")
    return actor


def here(request: Request) -> str:
    """The page that is asked for, to come back to: behind the mount, and without a key. For a form that was sent to an
    address at which there is no page, the page it stood on.
    """
    if request.method not in {"GET", "HEAD"} and not is_page(request):
        return before(request)
    path = quote(request.scope["path"], safe="/@:+~!$,=")
    query = request.scope["query_string"].decode("latin-1")
    return own_path(f"{path}?{query}" if query and request.method == "GET" else path)


def is_page(request: Request) -> bool:
    """Whether there is something to get at the address that is asked."""
    scope = {**request.scope, "method": "GET"}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


def before(request: Request) -> str:
    """The page of this site that somebody comes from, as the browser says; else the first page."""
    try:
        said = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return HOME
    if said.netloc != request.headers.get("host"):
        return HOME
    mount = urlsplit(app_of(request).settings.url).path.rstrip("/")
    path = said.path.removeprefix(mount)
    return own_path(f"{path}?{said.query}" if said.query else path)


def own_path(text: str) -> str:
    """A path of this site that was handed to us to go on to; the first page for whatever else it is. Browsers take a
    backslash for a slash, leave out tabs and line ends, and go to another host for two slashes.
    """
    if not 1 <= len(text) <= LONGEST_PATH or not text.isascii() or not text.isprintable():
        return HOME
    if text[0] != "/" or text[1:2] == "/" or any(one in text for one in ' \\"<>`{}|^') or ENCODED.search(text):
        return HOME
    try:
        parts = urlsplit(text)
    except ValueError:
        return HOME
    inside = parts.path[1:].split("/")
    if parts.scheme or parts.netloc or any(one in {"", ".", ".."} for one in inside[:-1]) or inside[-1] in {".", ".."}:
        return HOME
    if inside[0] == "t":  # a key stands there
        return HOME
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def allow(app: Fairway, actor: Actor, action: Action, channel: str) -> None:
    """Pass if this may be done to the channel, before a row of it is read or locked. What does it asks again, in its own
    transaction; this one is there so that a refusal costs nothing and takes as long whether there is such a channel or
    not. Raises: as access.require does; Unavailable.
    """
    app.lookup.view().require(actor, action, channel)


def limits_of(request: Request) -> Limits:
    return cast("Limits", request.app.state.limits)


def may_search(request: Request) -> None:
    """Raises: RateLimited."""
    limits_of(request).searches.take(counted(request))


def may_have_looked(request: Request, actor: Actor) -> None:
    """Count a change after which an upstream is asked anew; who runs this server may as they like. Raises: RateLimited."""
    if not actor.is_admin:
        limits_of(request).settings.take(actor.user_id)


def counted(request: Request) -> str:
    """Whom limits count: an address, or what one customer has of IPv6."""
    return caller(*_way(request))


def address_of(request: Request) -> str:
    """Where the request comes from, for people to read."""
    return str(peer(*_way(request)) or "unknown")


def _way(request: Request) -> tuple[str, list[str], Sequence[Network]]:
    client = request.client
    trusted = limits_of(request).trusted
    return "" if client is None else client.host, request.headers.getlist("x-forwarded-for"), trusted


App = Annotated[Fairway, Depends(app_of)]
Who = Annotated[Actor, Depends(actor_of)]
Visitor = Who
SignedIn = Annotated[Actor, Depends(signed_in)]
Confirmed = Annotated[Actor, Depends(confirmed)]
