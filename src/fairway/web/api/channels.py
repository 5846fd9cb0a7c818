"""Channels and their members."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from fairway.registry import access, channels, trash
from fairway.registry.access import Action
from fairway.registry.actor import Role, Visibility
from fairway.web.api.bodies import JsonRoute
from fairway.web.api.models import Channel, ChannelChange, Channels, Member, NewChannel, NewMember, RoleName, moment
from fairway.web.deps import App, Who, allow, limits_of

router = APIRouter(tags=["channels"], route_class=JsonRoute)

ChannelPath = Annotated[str, Path(max_length=200)]
Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str, Query(max_length=200)]


@router.get("/api/v1/channels")
def list_channels(app: App, actor: Who, limit: Limit = 100, cursor: Cursor = "") -> Channels:
    """The channels you may read, by name."""
    with app.database.read() as session:
        views = list(channels.list_channels(session, actor, after=cursor, limit=limit + 1))
    items = [Channel.of(view, app.settings.url) for view in views[:limit]]
    return Channels(items=items, cursor=items[-1].name if len(views) > limit else None)


@router.post("/api/v1/channels", status_code=201)
def create_channel(app: App, actor: Who, request: Request, body: NewChannel) -> Channel:
    """Make an empty channel. Clients can read it from now on, and find nothing in it."""
    access.require_known(actor)
    limits_of(request).channels.take(actor.user_id)
    with app.database.write() as session:
        view = channels.create_channel(
            session,
            actor,
            body.name,
            owner=body.owner,
            visibility=Visibility(body.visibility),
            description=body.description,
            now=app.now(),
        )
    return Channel.of(view, app.settings.url)


@router.get("/api/v1/channels/{channel}")
def show_channel(app: App, actor: Who, channel: ChannelPath) -> Channel:
    """One channel."""
    allow(app, actor, Action.READ, channel)
    with app.database.read() as session:
        return Channel.of(channels.show(session, actor, channel), app.settings.url)


@router.patch("/api/v1/channels/{channel}")
def change_channel(app: App, actor: Who, channel: ChannelPath, body: ChannelChange) -> Channel:
    """Change what is given; the rest stays."""
    allow(app, actor, Action.MANAGE, channel)
    change = channels.Change(
        visibility=None if body.visibility is None else Visibility(body.visibility),
        description=body.description,
        readme=body.readme,
        allow_v3=body.allow_v3,
        allow_overwrite=body.allow_overwrite,
    )
    with app.database.write() as session:
        view = channels.update_channel(session, actor, channel, change, now=app.now())
    return Channel.of(view, app.settings.url)


@router.delete("/api/v1/channels/{channel}", status_code=204)
def delete_channel(app: App, actor: Who, channel: ChannelPath) -> Response:
    """Take a channel away from everybody. For some days its owners can have it restored; then it is swept."""
    allow(app, actor, Action.MANAGE, channel)
    with app.database.write() as session:
        channels.delete_channel(session, actor, channel, now=app.now())
    return Response(status_code=204)


@router.post("/api/v1/channels/{channel}/restore")
def restore_channel(app: App, actor: Who, channel: ChannelPath) -> Channel:
    """Give a channel back that was deleted some days ago at most, as it was; for its owners and administrators."""
    access.require_known(actor)
    with app.database.write() as session:
        view = trash.restore_channel(session, actor, channel, now=app.now(), keep_ms=app.settings.keep_ms)
    return Channel.of(view, app.settings.url)


@router.get("/api/v1/channels/{channel}/members")
def list_members(app: App, actor: Who, channel: ChannelPath) -> list[Member]:
    """Who may do what in a channel; for its maintainers and owners."""
    allow(app, actor, Action.SEE_MEMBERS, channel)
    with app.database.read() as session:
        found = channels.list_members(session, actor, channel)
    return [Member(user=view.user, role=role_name(view.role), added_at=moment(view.added_at)) for view in found]


@router.put("/api/v1/channels/{channel}/members/{user}", status_code=204)
def set_member(app: App, actor: Who, channel: ChannelPath, user: ChannelPath, body: NewMember) -> Response:
    """Give a user a role in a channel."""
    allow(app, actor, Action.MANAGE, channel)
    with app.database.write() as session:
        channels.set_member(session, actor, channel, user, Role.of(body.role), now=app.now())
    return Response(status_code=204)


@router.delete("/api/v1/channels/{channel}/members/{user}", status_code=204)
def remove_member(app: App, actor: Who, channel: ChannelPath, user: ChannelPath) -> Response:
    """Take a user's role in a channel away."""
    allow(app, actor, Action.MANAGE, channel)
    with app.database.write() as session:
        channels.set_member(session, actor, channel, user, None, now=app.now())
    return Response(status_code=204)


def role_name(text: str) -> RoleName:
    return Role.of(text).text  # type: ignore[return-value]
