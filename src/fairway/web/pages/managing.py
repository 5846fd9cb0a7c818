"""A channel's settings: what it says of itself, who may see it, whose it is, and taking it away and bringing it back."""

from __future__ import annotations

import hashlib
from http import HTTPStatus

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from fastapi.responses import Response

from fairway.errors import Invalid, Malformed, NotFound
from fairway.registry import channels, listing, logos, trash
from fairway.registry.access import Action
from fairway.registry.actor import Actor, Visibility
from fairway.registry.channels import Change
from fairway.web.conditional import not_modified
from fairway.web.deps import App, SignedIn, Visitor, allow, app_of
from fairway.web.pages import markdown
from fairway.web.pages.channel import entered, framed
from fairway.web.pages.forms import TOKEN_FIELD, Form, PageRoute, Sent, StreamRoute, require_token, see_other, visit_of
from fairway.web.pages.gates import Manager, SureManager
from fairway.web.pages.render import page
from fairway.web.uploads import intake
from fairway.web.uploads.multipart import Part, Parts, keep

router = APIRouter(include_in_schema=False, route_class=PageRoute)
streams = APIRouter(include_in_schema=False, route_class=StreamRoute)
pictures = APIRouter(include_in_schema=False)

DAY_MS = 86_400_000
FIELD_MAX = 1_024
LOGO_PARTS = 4
LOGO_SECONDS = 300
HEIRS_SHOWN = 500
FIELDS = {"description_invalid": "description", "readme_invalid": "readme"}

VISIBILITIES = (
    (
        Visibility.PRIVATE,
        "Private",
        "Only its members, who send an API key or are signed in. Nobody else learns that it exists.",
        "lock",
    ),
    (
        Visibility.INTERNAL,
        "Internal",
        "Everybody with an account on this server, who sends a key or is signed in. Members alone upload.",
        "people",
    ),
    (
        Visibility.PUBLIC,
        "Public",
        "Everybody who reaches this server, without a key. It is listed on the first page and found by search.",
        "globe",
    ),
)
VISIBILITY_NAMES = frozenset(key.value for key, *_ in VISIBILITIES)
CHANGES = {
    (Visibility.PRIVATE, Visibility.INTERNAL): "Everybody with an account here sees all of it from then on, old versions too.",
    (Visibility.PRIVATE, Visibility.PUBLIC): "Everybody sees all of it from then on, old versions too, and may copy it: "
    "what was copied cannot be taken back.",
    (Visibility.INTERNAL, Visibility.PUBLIC): "Everybody sees all of it from then on, old versions too, and may copy it: "
    "what was copied cannot be taken back.",
    (Visibility.INTERNAL, Visibility.PRIVATE): "Who is no member sees it no more, and their installs fail from then on.",
    (Visibility.PUBLIC, Visibility.INTERNAL): "Installs without an API key fail from then on: also those of build jobs and "
    "machines that have never needed one.",
    (Visibility.PUBLIC, Visibility.PRIVATE): "Who is no member sees it no more, and installs without a member's key fail "
    "from then on. What was copied stays copied.",
}  # fmt: skip
"""What happens to others, by what a channel was and what it will be."""


# --- general ---------------------------------------------------------------------------------------------------------


@router.get("/channels/{channel}/settings")
def general(request: Request, actor: Manager, channel: str) -> Response:
    return show_general(request, actor, channel, Form())


@router.post("/channels/{channel}/settings")
def change(request: Request, app: App, actor: Manager, channel: str, form: Sent) -> Response:
    """Keep what was filled in; or show only what the README would look like."""
    if form.ticked("preview"):
        return show_general(request, actor, channel, form, preview=form.lines("readme"))
    wanted = Change(
        description=form.lines("description"),
        readme=form.lines("readme"),
        allow_v3=form.ticked("allow_v3"),
        allow_overwrite=form.ticked("allow_overwrite"),
    )
    try:
        with app.database.write() as session:
            channels.update_channel(session, actor, channel, wanted, now=app.now())
    except Invalid as error:
        form.blame(error, FIELDS, otherwise="description")
        return show_general(request, actor, channel, form)
    return see_other(request, f"/channels/{channel}/settings", "saved")


def show_general(request: Request, actor: Actor, channel: str, sent: Form, *, preview: str | None = None) -> Response:
    """`sent` without fields: the page shows what is kept."""
    app = app_of(request)
    with app.database.read() as session:
        head = entered(app, session, actor, channel, Action.MANAGE)
        readme = "" if sent.fields else channels.readme_of(session, head.id)
    kept = Form.of(
        description=head.description,
        readme=readme,
        allow_v3="1" if head.allow_v3 else None,
        allow_overwrite="1" if head.allow_overwrite else None,
    )
    return page(
        request,
        "managing/general.html",
        sent.status,
        **framed(request, head),
        form=sent if sent.fields else Form(kept.fields, sent.errors),
        preview=None if preview is None else markdown.render(preview),
    )


# --- the picture -----------------------------------------------------------------------------------------------------


@streams.post("/channels/{channel}/settings/logo")
async def change_logo(request: Request, actor: Manager, channel: str) -> Response:
    """Give the channel a picture, encoded anew, or take it away."""
    try:
        data = await sent_picture(request)
    except Invalid as error:
        await intake.drain(request)
        return await run_sync(refuse_logo, request, actor, channel, error)
    return await run_sync(keep_logo, request, actor, channel, data)


def keep_logo(request: Request, actor: Actor, channel: str, data: bytes | None) -> Response:
    app = app_of(request)
    try:
        logo = None if data is None else logos.encoded(data)
    except Invalid as error:
        return refuse_logo(request, actor, channel, error)
    with app.database.write() as session:
        channels.set_logo(session, actor, channel, logo, now=app.now())
    return see_other(request, f"/channels/{channel}/settings", "saved")


def refuse_logo(request: Request, actor: Actor, channel: str, error: Invalid) -> Response:
    return show_general(request, actor, channel, Form(errors={"file": error.detail}))


async def sent_picture(request: Request) -> bytes | None:
    """What a form holds, of which little is read; none: the picture is to go. Raises: Malformed, Invalid, NotAllowed."""
    fields: dict[str, bytearray] = {}
    into, most = bytearray(), FIELD_MAX
    parts = Parts(request.headers.get("content-type", ""), most=LOGO_PARTS)
    async for event in parts.events(request):
        if isinstance(event, Part):
            into = fields.setdefault(event.field[:FIELD_MAX], bytearray())
            most = logos.BYTES_MAX if event.field == "file" else FIELD_MAX
            if event.field == "file":
                require_token(request, fields.get(TOKEN_FIELD, b"").decode("latin-1"))
        elif event is not None:
            if most == logos.BYTES_MAX and len(into) + len(event) > most:
                raise logos.refused(f"has more than {most >> 20} MiB")
            keep(into, event, most=most)
    require_token(request, fields.get(TOKEN_FIELD, b"").decode("latin-1"))
    parts.require_end()
    if "remove" in fields:
        return None
    if not fields.get("file"):
        raise Invalid("Choose a picture first.", code="logo_invalid")
    return bytes(fields["file"])


@pictures.get("/channels/{channel}/logo")
def logo(request: Request, app: App, actor: Visitor, channel: str) -> Response:
    """The channel's picture, for who may see the channel. Raises: NotFound: it has none."""
    allow(app, actor, Action.READ, channel)
    with app.database.read() as session:
        head = listing.enter(session, actor, channel)
        data = channels.logo_of(session, head.id) if head.has_logo else None
    if data is None:
        raise NotFound
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    visit = visit_of(request)
    shared = head.visibility is Visibility.PUBLIC and not visit.token_in_path
    kept = f"public, max-age={LOGO_SECONDS}" if shared else "private, no-cache"
    headers = {"ETag": etag, "Cache-Control": kept, "Vary": "Authorization, X-API-Key, Cookie"}
    if not_modified(visit.headers, etag.encode(), None):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(data, headers=headers, media_type="image/png")


# --- who may see it --------------------------------------------------------------------------------------------------


@router.get("/channels/{channel}/settings/visibility")
def visibility_page(request: Request, actor: SureManager, channel: str) -> Response:
    return show_visibility(request, actor, channel, Form())


@router.post("/channels/{channel}/settings/visibility")
def change_visibility(request: Request, app: App, actor: SureManager, channel: str, form: Sent) -> Response:
    wanted = form.value("visibility")
    if wanted not in VISIBILITY_NAMES:
        form.refuse("visibility", "Choose who can see it.")
    require_typed(form, "typed", channel)
    if form.errors:
        return show_visibility(request, actor, channel, form)
    with app.database.write() as session:
        channels.update_channel(session, actor, channel, Change(visibility=Visibility(wanted)), now=app.now())
    return see_other(request, f"/channels/{channel}/settings/visibility", "saved")


def show_visibility(request: Request, actor: Actor, channel: str, form: Form) -> Response:
    app = app_of(request)
    with app.database.read() as session:
        head = entered(app, session, actor, channel, Action.MANAGE)
    now = head.visibility
    options = [
        (key, title, text if key == now else f"{text} {CHANGES[now, key]}", icon)
        for key, title, text, icon in VISIBILITIES
    ]
    return page(
        request,
        "managing/visibility.html",
        form.status,
        **framed(request, head),
        form=form,
        options=options,
        chosen=form.value("visibility", now),
    )


def require_typed(form: Form, field: str, expected: str) -> None:
    """Whoever does this has to have looked at what it is done to."""
    if form.text(field) != expected:
        form.refuse(field, f"Type {expected} to confirm.")


# --- whose it is, and taking it away ---------------------------------------------------------------------------------


@router.get("/channels/{channel}/settings/danger")
def danger_page(request: Request, actor: SureManager, channel: str) -> Response:
    return show_danger(request, actor, channel, Form())


@router.post("/channels/{channel}/settings/danger")
def danger(request: Request, actor: SureManager, channel: str, form: Sent) -> Response:
    """Give the channel to another member, or delete it: whichever button was pressed, for a name that was typed."""
    act = form.value("act")
    if act not in {"transfer", "delete"}:
        raise Malformed("Choose what is to be done.")
    require_typed(form, f"typed_{act}", channel)
    if act == "transfer" and not form.text("user"):
        form.refuse("user", "Choose who gets it.")
    if not form.errors:
        try:
            return (
                transfer(request, actor, channel, form.text("user"))
                if act == "transfer"
                else delete(request, actor, channel)
            )
        except Invalid as error:
            form.refuse("user", error.detail)
    return show_danger(request, actor, channel, form)


def transfer(request: Request, actor: Actor, channel: str, user: str) -> Response:
    app = app_of(request)
    with app.database.write() as session:
        channels.transfer(session, actor, channel, user, now=app.now())
    return see_other(request, f"/channels/{channel}", "transferred")


def delete(request: Request, actor: Actor, channel: str) -> Response:
    app = app_of(request)
    with app.database.write() as session:
        channels.delete_channel(session, actor, channel, now=app.now())
    return see_other(request, "/channels/trash", "deleted")


def show_danger(request: Request, actor: Actor, channel: str, form: Form) -> Response:
    app = app_of(request)
    with app.database.read() as session:
        head = entered(app, session, actor, channel, Action.MANAGE)
        members = channels.members_of(session, head.id, limit=HEIRS_SHOWN)
    heirs = [(member.user, f"{member.user} ({member.role})") for member in members if member.user != actor.name]
    return page(
        request,
        "managing/danger.html",
        form.status,
        **framed(request, head),
        form=form,
        heirs=heirs,
        days=app.settings.keep_days,
    )


# --- what was deleted ------------------------------------------------------------------------------------------------


@router.get("/channels/trash")
def trash_page(request: Request, app: App, actor: SignedIn) -> Response:
    """Deleted channels that one may bring back."""
    now, keep_ms = app.now(), app.settings.keep_days * DAY_MS
    with app.database.read() as session:
        found = trash.channels(session, actor, now=now, keep_ms=keep_ms)
    return page(request, "managing/trash.html", channels=found, days=app.settings.keep_days)


@router.post("/channels/trash")
def restore(request: Request, app: App, actor: SignedIn, form: Sent) -> Response:
    """Raises: NotFound: none that this person could bring back."""
    name = form.text("channel")
    with app.database.write() as session:
        trash.restore_channel(session, actor, name, now=app.now(), keep_ms=app.settings.keep_days * DAY_MS)
    app.publisher.poke()
    return see_other(request, f"/channels/{name}", "restored")


router.include_router(streams)
router.include_router(pictures)
