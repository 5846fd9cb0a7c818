"""What handlers ask of a request."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from fairway.app import Fairway
from fairway.errors import TokenInvalid
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.web.limits import Limits, caller
from fairway.web.visit import Visit


def app_of(request: Request) -> Fairway:
    return cast("Fairway", request.app.state.fairway)


def actor_of(request: Request) -> Actor:
    """Who is asking. Runs in a worker thread, since it may have to look into the database."""
    return who_asks(request, rows=True)


def who_asks(request: Request, *, rows: bool) -> Actor:
    """Who is asking. Raises: Miss: without `rows`, if that is not at hand.

    A bad key that only wants to read is refused here, also where anybody may read: whoever sends a key to the API means
    to be somebody. What writes says so itself, in the words of its dialect.
    """
    app = app_of(request)
    visit: Visit = request.scope["visit"]
    actor = app.lookup.view().actor(visit.token, rows=rows)
    if actor.invalid and request.method == "GET":
        raise TokenInvalid
    if actor.token_id is not None:
        visit.token_id = actor.token_id
        app.counts.used(actor.token_id, now=app.now())
    return actor


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
    limits, client = limits_of(request), request.client
    limits.searches.take(
        caller("" if client is None else client.host, request.headers.getlist("x-forwarded-for"), limits.trusted)
    )


App = Annotated[Fairway, Depends(app_of)]
Who = Annotated[Actor, Depends(actor_of)]
