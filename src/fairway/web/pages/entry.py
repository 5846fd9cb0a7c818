"""The way in: setting a new server up, signing in and out, making an account, giving the password again."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import Response

from fairway.app import Fairway
from fairway.errors import Invalid, NameTaken, NotAllowed, NotFound
from fairway.registry import accounts, invitations, passwords, sessions, setup
from fairway.registry.accounts import Credential, NewUser
from fairway.registry.actor import Actor
from fairway.registry.invitations import InvitationView
from fairway.web.deps import (
    HOME,
    App,
    SignedIn,
    Visitor,
    address_of,
    app_of,
    cookies_of,
    counted,
    limits_of,
    own_path,
)  # fmt: skip
from fairway.web.pages.forms import Form, OpenRoute, PageRoute, Sent, cookie_headers, see_other
from fairway.web.pages.render import page

router = APIRouter(include_in_schema=False, route_class=OpenRoute)
inside = APIRouter(include_in_schema=False, route_class=PageRoute)

KNOWN_SECONDS = 365 * 86_400
WRONG = "Name and password do not belong together."
FIELDS = {
    "name_invalid": "name", "email_invalid": "email", "full_name_invalid": "full_name", "password_invalid": "password",
    "setup_code_invalid": "code", "name_taken": "name",
}  # fmt: skip


# --- signing in and out ------------------------------------------------------------------------------------------------


@router.get("/login")
def login_page(request: Request, actor: Visitor, next: str = HOME) -> Response:  # noqa: A002 - as the address says it
    if actor.session_id is not None:
        return see_other(request, own_path(next))
    return login_form(request, Form.of(next=own_path(next)))


def login_form(request: Request, form: Form) -> Response:
    mode = app_of(request).settings.sign_up
    return page(request, "entry/login.html", form.status, form=form, may_sign_up=mode == "open")


@router.post("/login")
def login(request: Request, app: App, actor: Visitor, form: Sent) -> Response:
    """A new session, whatever cookie came along."""
    name, password = form.text("name"), form.value("password")
    credential = tried(request, app, name, password)
    if credential is not None:
        renewed = passwords.hashed(password) if passwords.outdated(credential.kept or "") else None
        sign_in = partial(accounts.sign_in, credential=credential, renewed=renewed)
        secret = start(request, app, actor, sign_in)
        if secret is not None:
            return entered(request, secret, renewed or credential.kept, own_path(form.value("next")))
    form.refuse("password", WRONG)
    return login_form(request, form)


def tried(request: Request, app: Fairway, name: str, password: str) -> Credential | None:
    """Somebody's, if that is their password; every wrong one is counted. Raises: RateLimited, Unavailable."""
    with app.database.read() as session:
        credential = accounts.credential(session, name)
    limits, who = limits_of(request).passwords, (name, counted(request), known_browser(request, credential))
    limits.take(*who)
    # without a connection: this takes long
    if passwords.matches(credential.kept, password):
        limits.right(*who)
        return credential
    user = None if credential.user is None else credential.user.name
    with app.database.write() as session:
        sessions.failed(session, user, address=address_of(request), now=app.now())
    return None


def known_browser(request: Request, credential: Credential) -> str | None:
    """What this browser shows, if somebody gave this very password in it before."""
    mark = cookies_of(request).read(cookies_of(request).known, cookie_headers(request)) or ""
    return mark if passwords.is_known(credential.kept, mark) else None


def start(request: Request, app: Fairway, actor: Actor, sign_in: accounts.SignIn) -> str | None:
    """Sign somebody in, in place of who was signed in with this browser; the secret."""
    agent = request.headers.get("user-agent", "")
    with app.database.write() as session:
        secret = sign_in(session, address=address_of(request), agent=agent, now=app.now())
        if secret is not None and actor.session_id is not None:
            sessions.end_quietly(session, actor)
    return secret


def entered(request: Request, secret: str, kept: str | None, path: str, note: str | None = None) -> Response:
    """On to a page, with the session's cookie; `kept` is the password's hash by now. The secret of forms is another one
    from now on.
    """
    jar = cookies_of(request)
    answer = see_other(request, path, note)
    answer.headers.append("Set-Cookie", jar.write(jar.session, secret, seconds=sessions.LIFE_MS // 1000))
    answer.headers.append("Set-Cookie", jar.drop(jar.form))
    if kept is not None:
        mark = passwords.browser_mark(kept)
        answer.headers.append("Set-Cookie", jar.write(jar.known, mark, seconds=KNOWN_SECONDS))
    return answer


@inside.post("/logout")
def logout(request: Request, app: App, actor: SignedIn) -> Response:
    with app.database.write() as session:
        sessions.sign_out(session, actor, now=app.now())
    jar = cookies_of(request)
    answer = see_other(request, HOME, "signed-out")
    answer.headers.append("Set-Cookie", jar.drop(jar.session))
    return answer


# --- giving the password again -----------------------------------------------------------------------------------------


@inside.get("/confirm")
def confirm_page(request: Request, actor: SignedIn, next: str = HOME) -> Response:  # noqa: A002
    return confirm_form(request, actor, Form.of(next=own_path(next)))


def confirm_form(request: Request, actor: Actor, form: Form) -> Response:
    return page(request, "entry/confirm.html", form.status, form=form, name=actor.name)


@inside.post("/confirm")
def confirm(request: Request, app: App, actor: SignedIn, form: Sent) -> Response:
    """Open what is dangerous for a while."""
    credential = tried(request, app, actor.name, form.value("password"))
    if credential is None:
        form.refuse("password", "That is not your password.")
        return confirm_form(request, actor, form)
    with app.database.write() as session:
        secret = sessions.confirm(session, actor, now=app.now())
    return entered(request, secret, credential.kept, own_path(form.value("next")))


# --- the first administrator -------------------------------------------------------------------------------------------


@router.get("/setup")
def setup_page(request: Request, app: App) -> Response:
    """Only while nobody has an account. Raises: NotFound."""
    with app.database.read() as session:
        if not setup.wanted(session):
            raise NotFound
    return page(request, "entry/setup.html", form=Form())


@router.post("/setup")
def set_up(request: Request, app: App, actor: Visitor, form: Sent) -> Response:
    """Make the first administrator, for who knows the code that the server printed. Raises: NotFound, RateLimited."""
    limits_of(request).passwords.take_code(counted(request))
    given = form.value("code")
    try:
        with app.database.read() as session:
            setup.check(session, given, now=app.now())
        details = filled_in(request, form)
        if details is not None:
            finish = partial(setup.finish, code=given, **details)
            secret = start(request, app, actor, accounts.first_time(finish))
            app.setup_code_file.unlink(missing_ok=True)
            return entered(request, secret or "", details["password_hash"], HOME)
    except (Invalid, NameTaken) as error:
        form.blame(error, FIELDS, otherwise="code")
    return page(request, "entry/setup.html", form.status, form=form)


def filled_in(request: Request, form: Form) -> NewUser | None:
    """Who somebody wants to be, with the password's hash; none if that cannot be, and then the form says why."""
    checks = {"name": accounts.checked_name, "email": accounts.checked_email, "full_name": accounts.checked_full_name}
    for name, check in checks.items():
        try:
            check(form.text(name))
        except Invalid as error:
            form.refuse(name, error.detail)
    password = form.value("password")
    try:
        passwords.check(password, words_of(request, form.text("name"), form.text("email"), form.text("full_name")))
    except Invalid as error:
        form.refuse("password", error.detail)
    if form.errors:
        return None
    return {
        "name": form.text("name"),
        "email": form.text("email"),
        "full_name": form.text("full_name"),
        "password_hash": passwords.hashed(password),
    }


def words_of(request: Request, *words: str) -> list[str]:
    """What somebody would try first who knows this server and this person."""
    return [*words, urlsplit(app_of(request).settings.url).hostname or ""]


# --- making an account -------------------------------------------------------------------------------------------------


@router.get("/signup")
def signup_page(request: Request, app: App, actor: Visitor, invitation: str = "") -> Response:
    if actor.session_id is not None:
        return see_other(request, HOME)
    asked, closed = may_sign_up(app, invitation)
    form = Form.of(invitation=invitation, email=asked.email if asked is not None else None)
    return signup_form(request, form, asked, closed)


def signup_form(request: Request, form: Form, asked: InvitationView | None, closed: str | None) -> Response:
    return page(request, "entry/signup.html", form.status, form=form, asked=asked, closed=closed)


def may_sign_up(app: Fairway, code: str) -> tuple[InvitationView | None, str | None]:
    """The invitation, if there is one, and a sentence for who may not."""
    try:
        with app.database.read() as session:
            found = invitations.may_sign_up(session, app.settings.sign_up, code or None, now=app.now())
        return found, None
    except (NotAllowed, NotFound) as error:
        return None, error.detail


@router.post("/signup")
def signup(request: Request, app: App, actor: Visitor, form: Sent) -> Response:
    """A new account, signed in; an invitation into a channel waits for its answer. Raises: RateLimited."""
    given = form.value("invitation")
    limits_of(request).accounts.take(counted(request))
    asked, closed = may_sign_up(app, given)
    if closed is not None:
        form.refuse("invitation", closed)
        return signup_form(request, form, asked, closed)
    try:
        details = filled_in(request, form)
        if details is not None:
            made = partial(invitations.sign_up, mode=app.settings.sign_up, code=given or None, **details)
            secret = start(request, app, actor, accounts.first_time(made))
            on = "/invitations" if asked is not None and asked.channel is not None else HOME
            return entered(request, secret or "", details["password_hash"], on)
    except (Invalid, NameTaken) as error:
        form.blame(error, FIELDS, otherwise="name")
    return signup_form(request, form, asked, closed)
