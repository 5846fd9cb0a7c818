"""What somebody has here: who they are, their password, browsers and keys, and what they are asked to join."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from fairway.app import Fairway
from fairway.errors import Invalid, NameTaken, NotFound
from fairway.registry import accounts, channels, invitations, passwords, sessions, tokens
from fairway.registry.actor import Actor, Scope
from fairway.registry.tokens import TokenView
from fairway.settings import command_name
from fairway.web.deps import App, Confirmed, SignedIn, Visitor, here, limits_of
from fairway.web.pages.entry import entered, tried, words_of
from fairway.web.pages.forms import Form, PageRoute, Sent, see_other
from fairway.web.pages.render import page

router = APIRouter(include_in_schema=False, route_class=PageRoute)

SHOWN = 50
DAYS = (7, 30, 90, 365)
USUAL_DAYS = 90
DAY_MS = 86_400_000
EXPIRY = [*((f"{days}d", f"{days} days") for days in DAYS), ("never", "Never")]
SCOPES = [
    ("read", "Read", "Install from the channels you may read. For a colleague's machine, or a job that only installs.", "download"),
    ("upload", "Upload", "Also upload, delete and yank files where your role allows it. For a job that publishes.", "upload"),
    ("admin", "Everything", "All that you may do, also making channels and changing members. For scripts of your own.", "shield"),
]  # fmt: skip
FIELDS = {
    "email_invalid": "email", "full_name_invalid": "full_name", "name_taken": "email", "password_invalid": "password",
    "name_invalid": "name", "expiry_invalid": "expires",
}  # fmt: skip

Id = Annotated[int, Path(ge=1, le=1 << 62)]
After = Annotated[int | None, Query(ge=1, le=1 << 62)]


# --- profile -----------------------------------------------------------------------------------------------------------


@router.get("/settings")
def profile_page(request: Request, app: App, actor: SignedIn) -> Response:
    with app.database.read() as session:
        user = accounts.user_named(session, actor.name)
    return page(request, "mine/profile.html", form=Form.of(full_name=user.full_name, email=user.email))


@router.post("/settings")
def change_profile(request: Request, app: App, actor: SignedIn, form: Sent) -> Response:
    """Who somebody is. Trying addresses tells which have accounts, so it is limited. Raises: RateLimited."""
    limits_of(request).accounts.take(actor.user_id)
    try:
        with app.database.write() as session:
            accounts.update_profile(
                session, actor, full_name=form.text("full_name"), email=form.text("email"), now=app.now()
            )
        return see_other(request, "/settings", "saved")
    except (Invalid, NameTaken) as error:
        form.blame(error, FIELDS, otherwise="email")
    return page(request, "mine/profile.html", form.status, form=form)


@router.get("/settings/password")
def password_page(request: Request, actor: SignedIn) -> Response:
    return page(request, "mine/password.html", form=Form(), name=actor.name)


@router.post("/settings/password")
def change_password(request: Request, app: App, actor: SignedIn, form: Sent) -> Response:
    """A new one, for who knows the one before; every other browser is signed out by it, also one that has this one's
    cookie. Raises: RateLimited.
    """
    password = form.value("password")
    if tried(request, app, actor.name, form.value("current")) is None:
        form.refuse("current", "That is not your password.")
    with app.database.read() as session:
        user = accounts.user_named(session, actor.name)
    try:
        passwords.check(password, words_of(request, user.name, user.email, user.full_name))
    except Invalid as error:
        form.refuse("password", error.detail)
    if form.errors:
        return page(request, "mine/password.html", form.status, form=form, name=actor.name)
    password_hash = passwords.hashed(password)
    with app.database.write() as session:
        accounts.set_password(session, actor, actor.name, password_hash, now=app.now())
        secret = sessions.confirm(session, actor, now=app.now())
    return entered(request, secret, password_hash, "/settings/password", "password-changed")


# --- browsers ----------------------------------------------------------------------------------------------------------


@router.get("/settings/sessions")
def sessions_page(request: Request, app: App, actor: SignedIn, after: After = None) -> Response:
    with app.database.read() as session:
        found = sessions.list_sessions(session, actor.user_id, now=app.now(), after=after, limit=SHOWN + 1)
    shown = [(one, browser(one.agent)) for one in found[:SHOWN]]
    return page(request, "mine/sessions.html", sessions=shown, mine=actor.session_id, more=more(request, found))


@router.post("/settings/sessions/{session_id}/end")
def end_session(request: Request, app: App, actor: SignedIn, session_id: Id) -> Response:
    """Raises: NotFound: not one's own."""
    with app.database.write() as session:
        sessions.end(session, actor, session_id, now=app.now())
    return see_other(request, "/settings/sessions", "session-ended")


@router.post("/settings/sessions/end-others")
def end_other_sessions(request: Request, app: App, actor: SignedIn) -> Response:
    with app.database.write() as session:
        sessions.end_all(session, actor, actor.user_id or 0, now=app.now(), but=actor.session_id)
    return see_other(request, "/settings/sessions", "sessions-ended")


BROWSERS = (
    ("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("FxiOS/", "Firefox"), ("CriOS/", "Chrome"),
    ("Chromium/", "Chromium"), ("Chrome/", "Chrome"), ("Safari/", "Safari"), ("curl/", "curl"),
)  # fmt: skip
SYSTEMS = (
    ("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("Windows", "Windows"), ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip


def browser(agent: str) -> str:
    """What a browser calls itself, in two words. Whoever sent it may lie; it is only for its owner to know it again."""
    name = next((name for mark, name in BROWSERS if mark in agent), "Some browser")
    system = next((name for mark, name in SYSTEMS if mark in agent), None)
    return name if system is None else f"{name} on {system}"


# --- keys --------------------------------------------------------------------------------------------------------------


@router.get("/settings/keys")
def keys_page(request: Request, app: App, actor: SignedIn, after: After = None) -> Response:
    """The keys that work."""
    with app.database.read() as session:
        found = tokens.list_tokens(session, actor.name, alive_at=app.now(), before=after, limit=SHOWN + 1)
    return page(request, "mine/keys.html", keys=found[:SHOWN], more=more(request, found), soon=app.now() + 7 * DAY_MS)


@router.get("/settings/keys/new")
def new_key_page(request: Request, app: App, actor: Confirmed, channel: str = "", scope: str = "read") -> Response:
    form = Form.of(expires=f"{USUAL_DAYS}d", scope=scope, reach="some" if channel else "all", others=channel)
    return new_key_form(request, app, actor, form)


def new_key_form(request: Request, app: Fairway, actor: Actor, form: Form) -> Response:
    with app.database.read() as session:
        mine = channels.names_of_member(session, actor, limit=SHOWN)
    return page(
        request,
        "mine/new_key.html",
        form.status,
        form=form,
        scopes=SCOPES,
        expiry=EXPIRY,
        channels=mine,
        chosen=set(form.every("channel")),
    )


@router.post("/settings/keys/new")
def make_key(request: Request, app: App, actor: Confirmed, form: Sent) -> Response:
    """The page of this answer is the only place where the key is ever shown."""
    wanted = chosen_channels(form)
    scope, expires = form.value("scope"), form.value("expires")
    if scope not in {key for key, *_ in SCOPES}:
        form.refuse("scope", "Choose what the key may do.")
    if expires not in dict(EXPIRY):
        form.refuse("expires", "Choose when the key ends.")
    if form.value("reach") == "some" and not wanted:
        form.refuse("others", "Choose at least one channel, or all of them.")
    if form.errors:
        return new_key_form(request, app, actor, form)
    secret = None
    try:
        with app.database.write() as session:
            secret = tokens.create_token(
                session,
                actor,
                user=actor.name,
                name=form.text("name"),
                scope=Scope.of(scope),
                channels=wanted,
                lives_ms=tokens.lifetime(expires),
                now=app.now(),
            )
    except Invalid as error:
        form.blame(error, FIELDS, otherwise="name")
    except NotFound:
        form.refuse("others", "One of these channels is not there, or you may not see it.")
    if secret is None:
        return new_key_form(request, app, actor, form)
    lines = ready_made(app.settings.url, secret, scope, wanted[0] if wanted else "CHANNEL")
    return page(request, "mine/made_key.html", name=form.text("name"), secret=secret, commands=lines)


def chosen_channels(form: Form) -> list[str]:
    if form.value("reach") != "some":
        return []
    typed = [name for name in re.split(r"[\s,]+", form.value("others").lower()) if name]
    return list(dict.fromkeys([*form.every("channel"), *typed]))


def ready_made(url: str, secret: str, scope: str, channel: str) -> list[tuple[str, str, str | None]]:
    """What to type with the key, for each client: tab, lines, and what else is to know. See docs/how-to/use-a-channel.md."""
    scheme, _, rest = url.partition("://")
    in_path = f"{scheme}://{rest.partition('/')[0]}/t/{secret}{''.join(rest.partition('/')[1:])}"
    uploads = [
        ("fairway", f"export FAIRWAY_TOKEN={secret}\n{command_name()} upload {channel} PACKAGE.conda --server {url}", None),
        ("rattler-build", f"rattler-build upload prefix --url {url} --channel {channel} --api-key {secret} PACKAGE.conda", None),
        ("pixi upload", f"pixi upload prefix --url {url} --channel {channel} --api-key {secret} PACKAGE.conda", None),
        ("curl -T", f'curl -T PACKAGE.conda -H "Authorization: Bearer {secret}" {url}/api/v1/channels/{channel}/artifacts/', None),
    ]  # fmt: skip
    reads = [
        ("pixi", f"pixi auth login {url} --token {secret}\npixi workspace channel add {url}/{channel}",
         "Stored for this host; rattler-build and py-rattler find it too."),
        ("rattler-build", f"rattler-build auth login {url} --token {secret}", "pixi and py-rattler find it too."),
        ("conda", f"conda install -c {in_path}/{channel} PACKAGE",
         "conda hides the key in what it prints; your shell's history does not. The address goes into ~/.condarc as well."),
        ("micromamba", f"micromamba auth login {url} --bearer {secret}\nmicromamba install -c {url}/{channel} PACKAGE", None),
        ("curl", f'curl -H "Authorization: Bearer {secret}" {url}/{channel}/noarch/repodata.json', None),
    ]  # fmt: skip
    if scope == "read":
        return reads
    return [*uploads, *(line for line in reads if line[0] != "rattler-build")]


@router.get("/settings/keys/{token_id}/revoke")
def revoke_page(request: Request, app: App, actor: SignedIn, token_id: Id) -> Response:
    """Ask first: whatever uses the key stops working. Raises: NotFound: not one's own."""
    return page(request, "mine/revoke_key.html", key=own_key(app, actor, token_id))


def own_key(app: Fairway, actor: Actor, token_id: int) -> TokenView:
    with app.database.read() as session:
        for view in tokens.list_tokens(session, actor.name, only=token_id, alive_at=app.now()):
            return view
    raise NotFound


@router.post("/settings/keys/{token_id}/revoke")
def revoke_key(request: Request, app: App, actor: SignedIn, token_id: Id) -> Response:
    with app.database.write() as session:
        tokens.revoke_token(session, actor, token_id, now=app.now())
    return see_other(request, "/settings/keys", "key-revoked")


# --- invitations -------------------------------------------------------------------------------------------------------


@router.get("/invitations")
def invitations_page(request: Request, app: App, actor: SignedIn) -> Response:
    with app.database.read() as session:
        found = invitations.list_mine(session, actor, now=app.now())
    return page(request, "mine/invitations.html", invitations=found)


@router.get("/invitations/{code}")
def invitation_page(request: Request, app: App, actor: Visitor, code: str) -> Response:
    """What a link leads to, for whoever holds it. Raises: NotFound."""
    with app.database.read() as session:
        found = invitations.with_code(session, code, now=app.now())
    return page(
        request,
        "mine/invitation.html",
        invitation=found,
        code=code,
        signed_in=actor.session_id is not None,
        login=f"/login?{urlencode({'next': here(request)})}",
        signup=f"/signup?{urlencode({'invitation': code})}",
    )


@router.post("/invitations/{which}/accept")
def accept(request: Request, app: App, actor: SignedIn, which: str) -> Response:
    """`which` is the number of one of one's own, or the code of a link. Raises: NotFound, Invalid."""
    with app.database.write() as session:
        channel = invitations.accept(session, actor, now=app.now(), **understood(which))
    return see_other(request, f"/channels/{channel}", "joined")


@router.post("/invitations/{which}/decline")
def decline(request: Request, app: App, actor: SignedIn, which: str) -> Response:
    """Raises: NotFound."""
    with app.database.write() as session:
        invitations.decline(session, actor, now=app.now(), **understood(which))
    return see_other(request, "/invitations", "declined")


def understood(which: str) -> invitations.Which:
    if which.isascii() and which.isdecimal() and len(which) <= 18:
        return {"invitation_id": int(which)}
    return {"code": which}


def more(request: Request, found: list[TokenView] | list[sessions.SessionView]) -> str | None:
    """The address of the next page, if there is one."""
    return None if len(found) <= SHOWN else f"{request.scope['path']}?{urlencode({'after': found[SHOWN - 1].id})}"
