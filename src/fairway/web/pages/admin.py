"""What administrators look at and change. Whoever is none gets the page for what is not there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

from fairway import settings as settings_module
from fairway.app import Fairway
from fairway.errors import Invalid, NotFound
from fairway.registry import administer, channels, invitations, oversight, trash
from fairway.registry.actor import Actor
from fairway.registry.paging import CURSOR_MAX
from fairway.settings import Settings
from fairway.tasks import DAY_MS
from fairway.web.deps import App, SignedIn, confirmed, limits_of
from fairway.web.pages.forms import Form, PageRoute, Sent, see_other
from fairway.web.pages.render import page

SHOWN = 50
LARGEST = 15
LATEST = 12
MEGABYTE = 1_000_000
SPANS = (("", "Always"), ("1", "Last day"), ("7", "Last 7 days"), ("30", "Last 30 days"), ("90", "Last 90 days"))
STATES = (("", "Everybody"), ("active", "Active"), ("suspended", "Suspended"), ("admin", "Administrators"))
# The first halves of what the audit calls acts.
ACTS = (
    ("", "Everything"), ("artifact", "Files"), ("channel", "Channels"), ("member", "Members"), ("invitation", "Invitations"),
    ("user", "Users"), ("token", "API keys"), ("session", "Sign-ins"), ("job", "Jobs"),
)  # fmt: skip

Text = Annotated[str, Query(max_length=200)]
Cursor = Annotated[str, Query(max_length=CURSOR_MAX)]


def administrator(actor: SignedIn) -> Actor:
    """Raises: NotFound: nobody else learns what is here."""
    if not actor.is_admin:
        raise NotFound
    return actor


def acting(request: Request, _: Annotated[Actor, Depends(administrator)]) -> Actor:
    """The same, who gave the password lately: for what takes rights from somebody, or gives them."""
    return confirmed(request)


Admin = Annotated[Actor, Depends(administrator)]
Acting = Annotated[Actor, Depends(acting)]

router = APIRouter(prefix="/admin", include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk the data folder is on, in bytes."""

    total: int
    free: int


def disk_of(app: Fairway) -> Disk | None:
    try:
        usage = shutil.disk_usage(app.settings.data)
    except OSError:
        return None
    return Disk(usage.total, usage.free)


def to(path: str, **asked: str | bool) -> str:
    """An address behind the mount, without what is not asked for."""
    given = {name: "yes" if value is True else value for name, value in asked.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


# --- at a glance -------------------------------------------------------------------------------------------------------


@router.get("")
def overview(request: Request, app: App, actor: Admin) -> Response:
    with app.database.read() as session:
        totals = oversight.totals(session, actor)
        jobs = oversight.jobs(session, actor, now=app.now())
        latest = oversight.audit(session, actor, limit=LATEST)
    failed = [job for job in jobs if job.state is oversight.State.FAILED]
    return page(
        request, "admin/overview.html", totals=totals, jobs=jobs, failed=failed, lines=latest.items, disk=disk_of(app)
    )


# --- people ------------------------------------------------------------------------------------------------------------


@router.get("/users")
def users(request: Request, app: App, actor: Admin, q: Text = "", state: Text = "", cursor: Cursor = "") -> Response:
    with app.database.read() as session:
        found = oversight.users(session, actor, text=q, state=state, cursor=cursor, limit=SHOWN)
    return page(
        request,
        "admin/users.html",
        users=found.items,
        q=q,
        state=state,
        states=STATES,
        previous=found.previous and to("/admin/users", q=q, state=state, cursor=found.previous),
        following=found.cursor and to("/admin/users", q=q, state=state, cursor=found.cursor),
    )


@dataclass(frozen=True, slots=True)
class Act:
    """What is done to somebody: the question, what will happen, and what the button says."""

    question: str
    text: str
    button: str
    kind: str
    note: str


UserAct = Literal["suspend", "resume", "promote", "demote"]
USER_ACTS: dict[UserAct, Act] = {
    "suspend": Act(
        "Suspend {name}?",
        "Every browser is signed out and every API key refused, at once. What they uploaded and own stays as it is.",
        "Suspend",
        "danger",
        "suspended",
    ),
    "resume": Act(
        "Let {name} in again?",
        "They can sign in with their password, and the API keys that have not ended work again.",
        "Let in again",
        "primary",
        "resumed",
    ),
    "promote": Act(
        "Make {name} an administrator?",
        "Administrators see every channel, also private ones, and may change everything on this server.",
        "Make administrator",
        "primary",
        "saved",
    ),
    "demote": Act(
        "Take administration from {name}?",
        "They keep their account and their channels, and see no more than their roles allow.",
        "Take it away",
        "danger",
        "saved",
    ),
}


@router.get("/users/{user}/{act}")
def ask_user_act(request: Request, app: App, actor: Acting, user: str, act: UserAct) -> Response:
    with app.database.read() as session:
        found = oversight.user(session, actor, user)
    return user_act_form(request, found, act, Form())


def user_act_form(request: Request, user: oversight.UserRow, act: UserAct, form: Form) -> Response:
    return page(request, "admin/user_act.html", form.status, user=user, act=act, words=USER_ACTS[act], form=form)


@router.post("/users/{user}/{act}")
def do_user_act(request: Request, app: App, actor: Acting, user: str, act: UserAct) -> Response:
    try:
        with app.database.write() as session:
            if act == "suspend":
                administer.suspend(session, actor, user, now=app.now())
            elif act == "resume":
                administer.resume(session, actor, user, now=app.now())
            else:
                administer.set_admin(session, actor, user, is_admin=act == "promote", now=app.now())
    except Invalid as refused:
        form = Form()
        form.refuse("act", refused.detail)
        with app.database.read() as session:
            found = oversight.user(session, actor, user)
        return user_act_form(request, found, act, form)
    return see_other(request, to("/admin/users", q=user), USER_ACTS[act].note)


# --- people to come ----------------------------------------------------------------------------------------------------


@router.get("/invitations")
def asked_in(request: Request, app: App, actor: Admin) -> Response:
    """Who may make an account here and has not yet. The links themselves are kept nowhere."""
    with app.database.read() as session:
        found = invitations.list_of_server(session, actor, now=app.now())
    return page(request, "admin/invitations.html", invited=found, mode=app.settings.sign_up)


@router.get("/invitations/new")
def ask_whom(request: Request, app: App, _: Acting) -> Response:
    return page(request, "admin/invite.html", form=Form(), mode=app.settings.sign_up)


@router.post("/invitations/new")
def ask_in(request: Request, app: App, actor: Acting, form: Sent) -> Response:
    """Make the link. The page of this answer is the only place that ever shows it. Raises: RateLimited."""
    limits_of(request).invitations.take(actor.user_id)
    try:
        with app.database.write() as session:
            sent = invitations.invite_to_server(session, actor, form.text("email"), now=app.now())
    except Invalid as refused:
        form.refuse("email", refused.detail)
        return page(request, "admin/invite.html", form.status, form=form, mode=app.settings.sign_up)
    link = f"{app.settings.url}/invitations/{sent.code}"
    return page(request, "admin/invited.html", invitation=sent.invitation, link=link)


@router.post("/invitations/{invitation_id}/withdraw")
def withdraw(
    request: Request, app: App, actor: Admin, invitation_id: Annotated[int, Path(ge=1, le=1 << 62)]
) -> Response:
    """Raises: NotFound: it is a channel's, was answered, or is over."""
    with app.database.write() as session:
        invitations.withdraw(session, actor, invitation_id, now=app.now())
    return see_other(request, "/admin/invitations", "withdrawn")


# --- channels ----------------------------------------------------------------------------------------------------------


@router.get("/channels")
def all_channels(
    request: Request, app: App, actor: Admin, q: Text = "", sort: Text = "", cursor: Cursor = ""
) -> Response:
    with app.database.read() as session:
        found = oversight.channels(
            session, actor, text=q, by_size=sort == "size", cursor=cursor, limit=SHOWN, now=app.now()
        )
    return page(
        request,
        "admin/channels.html",
        channels=found.items,
        q=q,
        sort=sort,
        previous=found.previous and to("/admin/channels", q=q, sort=sort, cursor=found.previous),
        following=found.cursor and to("/admin/channels", q=q, sort=sort, cursor=found.cursor),
    )


@router.get("/channels/{channel}/quota")
def ask_quota(request: Request, app: App, actor: Admin, channel: str) -> Response:
    with app.database.read() as session:
        found = channels.show(session, actor, channel)
    form = Form.of(quota=None if found.quota is None else f"{found.quota / MEGABYTE:g}")
    return page(request, "admin/quota.html", channel=found, form=form)


@router.post("/channels/{channel}/quota")
def set_quota(request: Request, app: App, actor: Admin, channel: str, form: Sent) -> Response:
    """Bound a channel, or with nothing in the field let it be."""
    try:
        quota = round(float(form.text("quota")) * MEGABYTE) if form.text("quota") else None
    except (ValueError, OverflowError):
        quota = -1
    if quota is not None and not 0 <= quota < 1 << 60:
        form.refuse("quota", "Say a number of megabytes, such as 500, or leave it empty for no bound.")
    with app.database.read() as session:
        found = channels.show(session, actor, channel)
    if form.errors:
        return page(request, "admin/quota.html", form.status, channel=found, form=form)
    with app.database.write() as session:
        channels.set_quota(session, actor, channel, quota, now=app.now())
    return see_other(request, to("/admin/channels", q=channel), "saved")


@router.get("/trash")
def deleted_channels(request: Request, app: App, actor: Admin) -> Response:
    keep_ms = app.settings.keep_ms
    with app.database.read() as session:
        found = trash.channels(session, actor, now=app.now(), keep_ms=keep_ms)
    return page(request, "admin/trash.html", channels=found, days=app.settings.keep_days)


@router.post("/trash/{channel}/restore")
def restore_channel(request: Request, app: App, actor: Admin, channel: str) -> Response:
    with app.database.write() as session:
        trash.restore_channel(session, actor, channel, now=app.now(), keep_ms=app.settings.keep_ms)
    return see_other(request, f"/channels/{quote(channel)}", "restored")


# --- room --------------------------------------------------------------------------------------------------------------


@router.get("/storage")
def storage(request: Request, app: App, actor: Admin) -> Response:
    """What takes how much room."""
    with app.database.read() as session:
        used = oversight.storage(session, actor)
        largest = oversight.largest_channels(session, actor, limit=LARGEST)
        owners = oversight.largest_owners(session, actor, limit=LARGEST)
        copies = oversight.largest_copies(session, actor, limit=LARGEST)
    return page(
        request,
        "admin/storage.html",
        used=used,
        copies=copies,
        channels=largest,
        owners=owners,
        disk=disk_of(app),
        place=settings_module.shown("storage_url", app.settings.storage),
        reserve=app.settings.disk_reserve,
        days=app.settings.keep_days,
    )


# --- work --------------------------------------------------------------------------------------------------------------


@router.get("/jobs")
def jobs(request: Request, app: App, actor: Admin) -> Response:
    with app.database.read() as session:
        found = oversight.jobs(session, actor, now=app.now())
    tones = {oversight.State.WAITING: "neutral", oversight.State.RUNNING: "accent", oversight.State.FAILED: "bad"}
    return page(request, "admin/jobs.html", jobs=found, tones=tones)


@router.post("/jobs/{job_id}/retry")
def retry(request: Request, app: App, actor: Admin, job_id: Annotated[int, Path(ge=1, le=1 << 62)]) -> Response:
    """Have it done by the next worker that looks, within half a minute."""
    with app.database.write() as session:
        administer.retry(session, actor, job_id, now=app.now())
    return see_other(request, "/admin/jobs", "started")


# --- what was done -----------------------------------------------------------------------------------------------------


@router.get("/audit")
def audit(
    request: Request,
    app: App,
    actor: Admin,
    by: Text = "",
    action: Text = "",
    channel: Text = "",
    days: Annotated[str, Query(max_length=4, pattern=r"^\d*$")] = "",
    cursor: Cursor = "",
) -> Response:
    since = app.now() - int(days) * DAY_MS if days else None
    with app.database.read() as session:
        found = oversight.audit(
            session, actor, by=by, action=action, channel=channel, since=since, cursor=cursor, limit=SHOWN
        )
    asked = {"by": by, "action": action, "channel": channel, "days": days}
    return page(
        request,
        "admin/audit.html",
        lines=found.items,
        asked=asked,
        acts=ACTS if action in dict(ACTS) else (*ACTS, (action, action)),
        spans=SPANS if days in dict(SPANS) else (*SPANS, (days, f"Last {days} days")),
        filtered=any(asked.values()),
        previous=found.previous and to("/admin/audit", **asked, cursor=found.previous),
        following=found.cursor and to("/admin/audit", **asked, cursor=found.cursor),
    )


# --- settings ----------------------------------------------------------------------------------------------------------


@router.get("/settings")
def settings(request: Request, app: App, _: Admin) -> Response:
    """Every setting, and where its value came from. Passwords in addresses are masked."""
    rows = [
        (
            name,
            settings_module.shown(name, getattr(app.settings, name)),
            app.origins[name],
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]
    return page(request, "admin/settings.html", rows=rows)
