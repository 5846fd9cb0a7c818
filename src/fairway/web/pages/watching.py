"""A channel's upstream in its settings: which it is, how it is served, how the last look at it went."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from fairway.conda.choice import Choice
from fairway.errors import FairwayError, Invalid, RateLimited, RemoteError
from fairway.registry import conflicts, estimating, upstreams
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.registry.estimating import Estimate
from fairway.registry.upstreams import Settings, UpstreamView
from fairway.web import attaching
from fairway.web.attaching import Secret
from fairway.web.deps import App, app_of, limits_of, may_have_looked
from fairway.web.errors import status_of
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
MODES = (
    ("proxy", "Proxy", "The whole upstream is in the index; a file is fetched when somebody first wants it.", "globe"),
    ("mirror", "Mirror", "Files are fetched ahead: all of them, or those you choose below.", "download"),
)
KEEP, FORGET = "", "none"
CONFLICTS_SHOWN = 50
CHOICE_SHOWN = 6
BETWEEN = re.compile(r"[\s,;]+")


@router.get(PAGE)
def settings(request: Request, actor: Manager, channel: str) -> Response:
    return show_settings(request, actor, channel, Form())


@router.post(PAGE)
def change(request: Request, app: App, actor: Manager, channel: str, form: Sent) -> Response:
    """Serve what was filled in, or a preset by its button."""
    may_have_looked(request, actor)
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
    try:
        with app.database.write() as session:
            forget = form.value("credential") == FORGET
            upstreams.attach(session, actor, channel, chosen, forget=forget, site=app.settings.url, now=app.now())
    except Invalid as error:
        form.refuse("url", error.detail)
        return show_settings(request, actor, channel, form)
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
    mirror = form.value("mode") == "mirror"
    wanted = Settings(
        url=form.text("url"),
        mode="mirror" if mirror else "proxy",
        every=form.number("every") or upstreams.EVERY_SECONDS,
        merge=merge,
        keep=form.ticked("keep"),
        subdirs=platforms_in(form),
        wanted=wanted_in(form) or None if mirror else None,
    )
    return wanted, secret


def platforms_in(form: Form) -> tuple[str, ...] | None:
    return tuple(BETWEEN.split(form.text("platforms"))) if form.text("platforms") else None


def wanted_in(form: Form) -> dict[str, Any]:
    """What a mirror is to hold, as `Choice.parse` takes it; what is wrong with it is said in the form."""
    wanted: dict[str, Any] = {
        "names": [name.lower() for name in BETWEEN.split(form.text("names")) if name],
        "specs": [line.strip() for line in form.lines("specs").split("\n") if line.strip()],
        "licences": [line.strip() for line in re.split(r"[\n,]", form.lines("licences")) if line.strip()],
        "newest": form.number("newest"),
        "closure": form.ticked("closure"),
    }
    if form.text("newest") and not wanted["newest"]:
        form.refuse("newest", "Give a number from 1 on, or nothing for all of them.")
    wanted = {what: value for what, value in wanted.items() if value}
    try:
        Choice.parse(wanted)
    except Invalid as error:
        form.refuse("specs" if "match spec" in error.detail else "names", error.detail)
    return wanted


@router.post(PAGE + "/estimate")
def estimate(request: Request, app: App, actor: Manager, channel: str, form: Sent) -> Response:
    """Say what a mirror of what was filled in would hold, and keep nothing."""
    limits_of(request).estimates.take(actor.user_id)
    preset = next((one for one in upstreams.PRESETS if one.name == form.text("url")), None)
    url = (form.text("url") if preset is None else preset.url).rstrip("/")
    wanted = wanted_in(form)
    found = None
    if not form.errors:
        with app.database.read() as session:
            head = entered(app, session, actor, channel, Action.MANAGE)
            found = estimating.estimate(session, head.id, url, Choice.parse(wanted), platforms_in(form))
    return show_settings(request, actor, channel, form, estimate=found)


@router.post(PAGE + "/refresh")
def refresh(request: Request, app: App, actor: Manager, channel: str) -> Response:
    """Have it looked at now."""
    try:
        with app.database.write() as session:
            view = upstreams.refresh_soon(session, actor, channel, now=app.now())
    except RateLimited as error:
        return show_settings(request, actor, channel, Form(errors={"look": error.detail}), status=error)
    return see_other(
        request, f"/channels/{channel}/settings/upstream", "started" if view.progress is None else "under-way"
    )


@router.post(PAGE + "/accept")
def accept(request: Request, app: App, actor: Manager, channel: str, form: Sent) -> Response:
    """Believe the hash that the upstream says of a file now."""
    may_have_looked(request, actor)
    with app.database.write() as session:
        conflicts.accept(session, actor, channel, form.text("subdir"), form.text("filename"), now=app.now())
    app.publisher.poke()
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


def show_settings(
    request: Request,
    actor: Actor,
    channel: str,
    sent: Form,
    *,
    estimate: Estimate | None = None,
    status: FairwayError | None = None,
) -> Response:
    """`sent` without fields: the page shows what is kept. `status` is the error that the page answers with."""
    app = app_of(request)
    if attaching.may_hold_secret(sent.text("url")):
        sent.empty("url")
    with app.database.read() as session:
        head = entered(app, session, actor, channel, Action.MANAGE)
        view = None if head.upstream is None else upstreams.show_of(session, head.id)
        changed = conflicts.found(session, actor, channel, limit=CONFLICTS_SHOWN) if view and view.conflicts else ()
    every = upstreams.EVERY_SECONDS if view is None else view.every
    kept = Form.of(
        url=None if view is None else view.url,
        every=str(every),
        merge="1" if view is not None and view.merge else None,
        keep="1" if view is None or view.keep else None,
        platforms=None if view is None or view.subdirs is None else " ".join(view.subdirs),
        mode="proxy" if view is None else view.mode,
        **chosen_before({} if view is None or view.wanted is None else view.wanted),
    )
    times = TIMES if every in TIMES else dict(sorted((TIMES | {every: f"{every} seconds"}).items()))
    held = view is not None and view.has_credential
    kinds = [(KEEP, "Keep the one there is" if held else "None"), *KINDS]
    return page(
        request,
        "managing/upstream.html",
        sent.status if status is None else status_of(status),
        **framed(request, head),
        upstream=view,
        # until the job has said when the next look is, one is under way or about to begin
        busy=view is not None and (view.progress is not None or view.next_at <= app.now()),
        form=sent if sent.fields else Form(kept.fields, sent.errors),
        presets=upstreams.PRESETS,
        modes=MODES,
        estimate=estimate,
        choice=None if view is None or not view.wanted else in_words(view.wanted),
        conflicts=changed,
        times=[(str(seconds), f"Every {text}") for seconds, text in times.items()],
        kinds=[*kinds, (FORGET, "Remove it")] if held else kinds,
    )


def chosen_before(wanted: Mapping[str, Any]) -> dict[str, str | None]:
    """What the fields of a mirror begin with."""
    return {
        "names": " ".join(wanted.get("names", ())),
        "specs": "\n".join(wanted.get("specs", ())),
        "licences": "\n".join(wanted.get("licences", ())),
        "newest": str(wanted["newest"]) if wanted.get("newest") else None,
        "closure": "1" if wanted.get("closure") else None,
    }


def in_words(wanted: Mapping[str, Any]) -> str:
    """What a mirror holds, in a line."""
    parts = [
        shortened(wanted.get(kind, ()), word) for kind, word in (("names", ""), ("specs", ""), ("licences", "under "))
    ]
    if newest := wanted.get("newest"):
        parts.append("the newest version of each" if newest == 1 else f"the newest {newest} versions of each")
    if wanted.get("closure"):
        parts.append("and what these need")
    return "; ".join(part for part in parts if part)


def shortened(texts: Sequence[str], before: str) -> str:
    more = f" and {len(texts) - CHOICE_SHOWN} more" if len(texts) > CHOICE_SHOWN else ""
    return before + ", ".join(texts[:CHOICE_SHOWN]) + more if texts else ""
