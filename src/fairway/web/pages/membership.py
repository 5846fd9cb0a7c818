"""Who is in a channel: its members and their roles, who is invited, and leaving."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from fairway.errors import Invalid, NotFound
from fairway.registry import channels, invitations, listing
from fairway.registry.access import Action
from fairway.registry.actor import Actor, Role
from fairway.registry.channels import MemberView
from fairway.registry.listing import Head
from fairway.web.deps import App, app_of, limits_of
from fairway.web.pages.channel import entered, framed
from fairway.web.pages.forms import Form, PageRoute, Sent, see_other
from fairway.web.pages.gates import Manager, Reader, SureManager
from fairway.web.pages.render import page

router = APIRouter(include_in_schema=False, route_class=PageRoute)

SHOWN = 100
ROLES = (
    ("viewer", "Viewer", "Reads it, also when it is private."),
    ("uploader", "Uploader", "Also uploads packages."),
    ("maintainer", "Maintainer", "Also yanks and deletes files, replaces them where the channel allows it, and sees the members."),
    ("owner", "Owner", "Also changes settings and members, and may delete the channel."),
)  # fmt: skip
YOURS = {
    "viewer": "you may read it.",
    "uploader": "you may read it and upload.",
    "maintainer": "you may upload, yank, delete and replace files.",
    "owner": "you may do everything to it.",
}
ROLE_CARDS = [(key, title, text, None) for key, title, text in ROLES]
ROLE_NAMES = frozenset(key for key, _, _ in ROLES)

Id = Annotated[int, Path(ge=1, le=1 << 62)]
After = Annotated[str, Query(max_length=64)]


@router.get("/channels/{channel}/members")
def members_page(request: Request, app: App, actor: Reader, channel: str, after: After = "") -> Response:
    """The members, for who may see them; a member who may not is told what they are, and how to leave.

    Raises: NotAllowed: no member.
    """
    with app.database.read() as session:
        head = entered(app, session, actor, channel)
        seen = head.may(Action.SEE_MEMBERS)
        if not seen and head.role is None:
            listing.enter(session, actor, channel, Action.SEE_MEMBERS)
        found = channels.members_of(session, head.id, after=after, limit=SHOWN + 1) if seen else []
        asked = []
        if head.may(Action.MANAGE):
            asked = invitations.list_of_channel(session, actor, channel, now=app.now())
    return page(
        request,
        "managing/members.html",
        **framed(request, head),
        members=found[:SHOWN],
        following=found[SHOWN - 1].user if len(found) > SHOWN else None,
        invited=asked,
        roles={key: text for key, _, text in ROLES},
        yours=YOURS,
    )


# --- inviting --------------------------------------------------------------------------------------------------------


@router.get("/channels/{channel}/invite")
def invite_page(request: Request, actor: SureManager, channel: str) -> Response:
    return show_invite(request, actor, channel, Form.of(role="viewer"))


@router.post("/channels/{channel}/invite")
def invite(request: Request, app: App, actor: SureManager, channel: str, form: Sent) -> Response:
    """Ask somebody in. The page of this answer is the only place that ever shows the link. Raises: RateLimited."""
    who, role = form.text("who"), form.value("role")
    if not who:
        form.refuse("who", "Say whom to invite.")
    if role not in ROLE_NAMES:
        form.refuse("role", "Choose what they may do.")
    if form.errors:
        return show_invite(request, actor, channel, form)
    limits_of(request).invitations.take(actor.user_id)
    try:
        with app.database.write() as session:
            sent = invitations.invite(session, actor, channel, who, Role.of(role), now=app.now())
    except (Invalid, NotFound) as error:
        form.refuse("who", error.detail)
        return show_invite(request, actor, channel, form)
    if sent.code is None:
        return see_other(request, f"/channels/{channel}/members", "invited")
    link = f"{app.settings.url}/invitations/{sent.code}"
    with app.database.read() as session:
        head = entered(app, session, actor, channel, Action.MANAGE)
    return page(request, "managing/invited.html", **framed(request, head), invitation=sent.invitation, link=link)


def show_invite(request: Request, actor: Actor, channel: str, form: Form) -> Response:
    app = app_of(request)
    with app.database.read() as session:
        head = entered(app, session, actor, channel, Action.MANAGE)
    return page(request, "managing/invite.html", form.status, **framed(request, head), form=form, roles=ROLE_CARDS)


@router.post("/channels/{channel}/invitations/{invitation_id}/withdraw")
def withdraw(request: Request, app: App, actor: Manager, channel: str, invitation_id: Id) -> Response:
    """Raises: NotFound: it is another channel's, or was answered."""
    with app.database.write() as session:
        invitations.withdraw(session, actor, invitation_id, now=app.now(), channel=channel)
    return see_other(request, f"/channels/{channel}/members", "withdrawn")


# --- roles -----------------------------------------------------------------------------------------------------------


@router.get("/channels/{channel}/members/{user}")
def member_page(request: Request, actor: SureManager, channel: str, user: str) -> Response:
    return show_member(request, actor, channel, user, None)


@router.post("/channels/{channel}/members/{user}")
def change_member(request: Request, app: App, actor: SureManager, channel: str, user: str, form: Sent) -> Response:
    """Give a member another role, or put them out. Who is no member has to be invited. Raises: NotFound."""
    act, chosen = form.value("act"), form.value("role")
    if act != "remove" and chosen not in ROLE_NAMES:
        form.refuse("role", "Choose what they may do.")
        return show_member(request, actor, channel, user, form)
    role = None if act == "remove" else Role.of(chosen)
    try:
        with app.database.write() as session:
            member_of(session, entered(app, session, actor, channel, Action.MANAGE), user)
            channels.set_member(session, actor, channel, user, role, now=app.now())
    except Invalid as error:
        form.refuse("role", error.detail)
        return show_member(request, actor, channel, user, form)
    if user == actor.name and role is not Role.OWNER and not actor.is_admin:
        return see_other(request, "/", "member-changed" if role else "left")
    return see_other(request, f"/channels/{channel}/members", "member-changed" if role else "member-removed")


def show_member(request: Request, actor: Actor, channel: str, user: str, form: Form | None) -> Response:
    app = app_of(request)
    with app.database.read() as session:
        head = entered(app, session, actor, channel, Action.MANAGE)
        member = member_of(session, head, user)
    form = form or Form.of(role=member.role)
    return page(
        request,
        "managing/member.html",
        form.status,
        **framed(request, head),
        form=form,
        member=member,
        roles=ROLE_CARDS,
    )


def member_of(session: Session, head: Head, user: str) -> MemberView:
    """Raises: NotFound: no member."""
    for member in channels.members_of(session, head.id, only=user):
        return member
    raise NotFound(f"{user} is no member of {head.name}.")


# --- leaving ---------------------------------------------------------------------------------------------------------


@router.get("/channels/{channel}/leave")
def leave_page(request: Request, actor: Reader, channel: str) -> Response:
    return show_leave(request, actor, channel, Form())


@router.post("/channels/{channel}/leave")
def leave(request: Request, app: App, actor: Reader, channel: str, form: Sent) -> Response:
    try:
        with app.database.write() as session:
            channels.leave(session, actor, channel, now=app.now())
    except Invalid as error:
        form.refuse("leave", error.detail)
        return show_leave(request, actor, channel, form)
    return see_other(request, "/", "left")


def show_leave(request: Request, actor: Actor, channel: str, form: Form) -> Response:
    """Raises: NotFound: no member."""
    app = app_of(request)
    with app.database.read() as session:
        head = entered(app, session, actor, channel)
    if head.role is None:
        raise NotFound(f"You are no member of {channel}.")
    return page(request, "managing/leave.html", form.status, **framed(request, head), form=form)
