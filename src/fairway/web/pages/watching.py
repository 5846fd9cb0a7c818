"""A channel's upstream in its settings: which it is, how it is served, how the last look at it went."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from fairway.errors import Invalid, RemoteError
from fairway.registry import upstreams
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.registry.upstreams import Settings, UpstreamView
from fairway.web import attaching
from fairway.web.attaching import Secret
from fairway.web.deps import App, app_of
from fairway.web.pages.channel import entered, framed
from fairway.web.pages.forms import Form, PageRoute, Sent, see_other
from fairway.web.pages.gates import Manager
from fairway.web.pages.managing import require_typed
from fairway.web.pages.render import page

router = APIRouter(include_in_schema=False, route_class=PageRoute)

PAGE = "/channels/{channel}/settings/upstream"
TIMES = {
    300: "5 minutes",
    900: "15 minutes",
    1_800: "30 minutes",
    3_600: "hour",
    21_600: "6 hours",
    86_400: "day",
    604_800: "week",
}
KINDS = (
    ("bearer", "Key, as Authorization: Bearer"),
    ("header", "Key, as X-API-Key"),
    ("path", "Key in the address, as /t/KEY/"),
    ("basic", "User name and password"),
)
KEEP, FORGET = "", "none"


@router.get(PAGE)
def settings(request: Request, actor: Manager, channel: str) -> Response:
    return show_settings(request, actor, channel, Form())


@router.post(PAGE)
def change(request: Request, app: App, actor: Manager, channel: str, form: Sent) -> Response:
    """Serve what was filled in, or a preset by its button."""
    with app.database.read() as session:
        before = upstreams.show(session, actor, channel)
    try:
        wanted, secret = asked(form, channel, before)
        if form.errors:
            return show_settings(request, actor, channel, form)
        # names are looked up: before the transaction, which others wait for
        chosen = attaching.settings(app, wanted, secret)
    except (Invalid, RemoteError) as error:
        form.blame(error, {"credential_invalid": "secret"}, otherwise="url")
        return show_settings(request, actor, channel, Form(errors=form.errors) if form.value("preset") else form)
    with app.database.write() as session:
        upstreams.attach(session, actor, channel, chosen, forget=form.value("credential") == FORGET, now=app.now())
    app.publisher.poke()
    return see_other(request, f"/channels/{channel}/settings/upstream", "saved")


def asked(form: Form, channel: str, before: UpstreamView | None) -> tuple[Settings, Secret | None]:
    """What was filled in; what is wrong with it is said in the form."""
    if form.value("preset"):
        return Settings(form.value("preset")), None
    if not form.text("url"):
        form.refuse("url", "Give the upstream's address.")
    merge = form.ticked("merge")
    if merge and not (before is not None and before.merge):
        require_typed(form, "typed_merge", channel)
    kind, secret = form.value("credential"), None
    if kind not in {KEEP, FORGET}:
        secret = Secret(kind, form.value("secret").strip(), form.text("user"))
        if not secret.secret:
            form.refuse("secret", "Give the key or the password.")
    platforms = form.text("platforms").replace(",", " ").split()
    wanted = Settings(
        url=form.text("url"),
        mode="mirror" if before is not None and before.mode == "mirror" else "proxy",
        every=form.number("every") or upstreams.EVERY_SECONDS,
        merge=merge,
        keep=form.ticked("keep"),
        subdirs=tuple(platforms) or None,
        wanted=before.wanted if before is not None else None,
    )
    return wanted, secret


@router.post(PAGE + "/refresh")
def refresh(request: Request, app: App, actor: Manager, channel: str) -> Response:
    """Have it looked at now."""
    with app.database.write() as session:
        upstreams.refresh_soon(session, actor, channel, now=app.now())
    return see_other(request, f"/channels/{channel}/settings/upstream", "started")


@router.post(PAGE + "/remove")
def remove(request: Request, app: App, actor: Manager, channel: str, form: Sent) -> Response:
    """Serve only what is the channel's own again."""
    require_typed(form, "typed_remove", channel)
    if form.errors:
        return show_settings(request, actor, channel, Form(errors=form.errors))
    with app.database.write() as session:
        upstreams.detach(session, actor, channel, now=app.now())
    app.publisher.poke()
    return see_other(request, f"/channels/{channel}/settings/upstream", "saved")


def show_settings(request: Request, actor: Actor, channel: str, sent: Form) -> Response:
    """`sent` without fields: the page shows what is kept."""
    app = app_of(request)
    with app.database.read() as session:
        head = entered(app, session, actor, channel, Action.MANAGE)
        view = None if head.upstream is None else upstreams.show_of(session, head.id)
    every = upstreams.EVERY_SECONDS if view is None else view.every
    kept = Form.of(
        url=None if view is None else view.url,
        every=str(every),
        merge="1" if view is not None and view.merge else None,
        keep="1" if view is None or view.keep else None,
        platforms=None if view is None or view.subdirs is None else " ".join(view.subdirs),
    )
    times = TIMES if every in TIMES else dict(sorted((TIMES | {every: f"{every} seconds"}).items()))
    held = view is not None and view.has_credential
    kinds = [(KEEP, "Keep the one there is" if held else "None"), *KINDS]
    return page(
        request,
        "managing/upstream.html",
        sent.status,
        **framed(request, head),
        upstream=view,
        # until the job has said when the next look is, one is under way or about to begin
        busy=view is not None and (view.progress is not None or view.next_at <= app.now()),
        form=sent if sent.fields else Form(kept.fields, sent.errors),
        presets=upstreams.PRESETS,
        times=[(str(seconds), f"Every {text}") for seconds, text in times.items()],
        kinds=[*kinds, (FORGET, "Remove it")] if held else kinds,
    )
