"""Upstreams that are channels of this very server: one may serve another, and none itself in the end.

In a circle each has what the other has of it: what one of them merges, or releases the name of, would come back from the
other whenever it is deleted. A circle through another server, or through another name of this one, is not seen here.
"""

from __future__ import annotations

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from fairway.db.models import Channel, Upstream
from fairway.errors import Invalid, RemoteRefused
from fairway.registry import access
from fairway.registry.actor import Actor
from fairway.remote.addresses import USUAL_PORTS, Location

LOCK = text("LOCK TABLE upstreams IN SHARE ROW EXCLUSIVE MODE")


def require_none(session: Session, actor: Actor, channel: str, url: str, *, site: str) -> None:
    """Pass if a channel may have this upstream. `site` is where this server is, "" if that is not known.

    Raises: Invalid: a channel here that the actor may not read, or that serves this one.
    """
    first = name = own(url, site)
    if first is None:
        return
    if not access.readable(session, actor, first):
        raise Invalid(f"There is no channel {first[:80]} here that you may read.", code="upstream_invalid")
    if session.get_bind().dialect.name == "postgresql":
        # one at a time: of two changes that are a circle together each would be right alone
        session.execute(LOCK)
    passed: set[str] = set()
    while name is not None and name not in passed:
        if name == channel:
            # which channels are in between is not said: they may be hidden
            between = "" if first == channel else f": {first} serves {channel}, so that what is deleted would come back"
            other = "itself" if first == channel else first
            raise Invalid(f"{channel} cannot have {other} for an upstream{between}.", code="upstream_invalid")
        passed.add(name)
        query = select(Upstream.url).join(Channel, Channel.id == Upstream.channel_id)
        next_url = session.scalar(query.where(Channel.name == name, Channel.deleted_at.is_(None)))
        name = None if next_url is None else own(next_url, site)


def own(url: str, site: str) -> str | None:
    """The channel of this server that an address is of; none if it is elsewhere."""
    try:
        at, here = Location.parse(url), Location.parse(site)
    except RemoteRefused:  # where this server is cannot be said as a name that others could ask
        return None
    usual = {at.port, here.port} <= set(USUAL_PORTS.values())
    mount = here.path.rstrip("/") + "/"
    if at.host != here.host or not (at.port == here.port or usual) or not at.path.startswith(mount):
        return None
    parts = at.path.removeprefix(mount).split("/")
    return parts[1] if parts[0] == "get" and len(parts) > 1 else parts[0]
