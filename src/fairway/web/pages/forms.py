"""Pages that change something: who may send a form, how it is read, and where it leads.

Before anything of a body is read it is known who sends it, and that one of our own pages does. A form holds a token that
is made of a secret only that browser has: the session's, or for who is not signed in a random cookie's. Another site can
make a browser send a form, with its cookies even, but it can neither read that token nor hide where the form comes from.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, cast
from urllib.parse import parse_qsl, urlsplit

from anyio.to_thread import run_sync
from fastapi import Depends, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from fairway.errors import AuthRequired, FairwayError, Malformed, NotAllowed, TokenInvalid, TooLarge
from fairway.registry.lookup import Miss
from fairway.registry.tokens import Known, base62
from fairway.web.cookies import Cookies
from fairway.web.deps import app_of, cookies_of
from fairway.web.visit import Visit

READING = ("GET", "HEAD")
LARGEST, STRANGERS_LARGEST = 256 << 10, 64 << 10
FIELDS_MAX = 1_000
WHOLE_SECONDS = 30.0
FORM_TYPE = "application/x-www-form-urlencoded"
TOKEN_HEADER, TOKEN_FIELD = "x-csrf-token", "csrf"
TOKEN_LENGTH = 43
NOTE_SECONDS = 60

NOTES: dict[str, tuple[str, str]] = {
    "signed-in": ("good", "You are signed in."),
    "signed-out": ("good", "You are signed out."),
    "saved": ("good", "Saved."),
    "created": ("good", "Created."),
    "deleted": ("good", "Deleted."),
    "restored": ("good", "Restored."),
    "password-changed": ("good", "Your password is changed, and every other browser is signed out."),
    "session-ended": ("good", "That browser is signed out."),
    "sessions-ended": ("good", "Every other browser is signed out."),
    "key-revoked": ("good", "The key is revoked. Whoever uses it is refused from now on."),
    "joined": ("good", "You are a member now."),
    "declined": ("info", "You declined the invitation."),
    "invited": ("good", "The invitation is made."),
    "withdrawn": ("good", "The invitation is withdrawn."),
    "member-changed": ("good", "The role is changed."),
    "member-removed": ("good", "They are no member any more."),
    "left": ("info", "You are no member of that channel any more."),
    "transferred": ("good", "The channel has a new owner."),
    "yanked": ("good", "Yanked: no solver picks it any more, and lock files still get it."),
    "unyanked": ("good", "It is back in the index."),
    "released": ("good", "Released: what the upstream has of that name is served from now on."),
    "uploaded": ("good", "Uploaded, and in the index."),
    "suspended": ("good", "They are kept out from now on."),
    "resumed": ("good", "They can sign in again."),
    "started": ("good", "Started."),
    "under-way": ("info", "It is being looked at already."),
}
"""What the page after a form may say. The cookie holds the code, so that nobody can have a page say anything else."""

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class MeView:
    """Who is signed in, as every page shows it. `invitations` is how many wait for an answer."""

    name: str
    full_name: str
    is_admin: bool
    invitations: int


class PageRoute(APIRoute):
    """Knows who asks (`request.state.me`) before a page is made; a form comes to its handler as `Form`."""

    strangers = False  # whether who is not signed in may send its forms
    reads = True  # whether the body is a form that is read whole

    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()

        async def judged(request: Request) -> Response:
            fresh = None
            await introduce(request)
            if self.strangers and request.state.csrf is None:
                fresh = secrets.token_urlsafe(24)
                request.state.csrf = token_of(fresh)
            if request.method not in READING:
                require_own_page(request)
                require_sender(request, strangers=self.strangers, known=fresh is None)
                if self.reads:
                    request.state.form = Form.parse(await whole(request))
                    require_token(request, request.state.form.value(TOKEN_FIELD))
            answer = await handle(request)
            take_leave(request, answer, fresh)
            return answer

        return judged


class OpenRoute(PageRoute):
    """Of pages whose forms are for who is not signed in."""

    strangers = True


class StreamRoute(PageRoute):
    """Of pages whose handlers read the body themselves. Unless the token came as a header, they call `require_token` with
    the one they find in the body before they do anything.
    """

    reads = False


@dataclass(slots=True)
class Form:
    """What was filled in, and what is wrong with it, by field. Made for every page with a form: one that nobody has sent
    holds what its fields begin with.
    """

    fields: Mapping[str, list[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, body: bytes) -> Form:
        """Raises: Malformed."""
        try:
            pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
        except ValueError:
            raise Malformed("The form cannot be read.") from None
        fields: dict[str, list[str]] = {}
        for name, value in pairs:
            if "\x00" in value:
                raise Malformed("The form holds a character that no text has.")
            fields.setdefault(name, []).append(value)
        return cls(fields)

    @classmethod
    def of(cls, **values: str | None) -> Form:
        """What a form begins with."""
        return cls({name: [value] for name, value in values.items() if value is not None})

    def value(self, name: str, default: str = "") -> str:
        """As it was sent: for passwords, and to show it again."""
        return self.fields.get(name, [default])[0]

    def text(self, name: str) -> str:
        return self.value(name).strip()

    def lines(self, name: str) -> str:
        """Of several lines, which browsers end as HTTP does."""
        return self.value(name).replace("\r\n", "\n").strip()

    def every(self, name: str) -> list[str]:
        return list(self.fields.get(name, []))

    def ticked(self, name: str) -> bool:
        return name in self.fields

    def number(self, name: str) -> int | None:
        text = self.text(name)
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None

    def empty(self, name: str) -> None:
        """Show a field without what was sent in it."""
        if name in self.fields:
            self.fields[name][0] = ""

    def refuse(self, name: str, sentence: str) -> None:
        """What is wrong with a field; the first that is said of it stays."""
        self.errors.setdefault(name, sentence)

    def blame(self, error: FairwayError, fields: Mapping[str, str], *, otherwise: str) -> None:
        """The same for an error: beside the field that `fields` has for its code."""
        self.refuse(fields.get(error.code, otherwise), error.detail)

    def error(self, name: str) -> str | None:
        return self.errors.get(name)

    @property
    def status(self) -> HTTPStatus:
        """Of the page that shows it."""
        return HTTPStatus.UNPROCESSABLE_ENTITY if self.errors else HTTPStatus.OK


def sent_form(request: Request) -> Form:
    return cast("Form", request.state.form)


Sent = Annotated[Form, Depends(sent_form)]


# --- who asks --------------------------------------------------------------------------------------------------------


async def introduce(request: Request) -> None:
    """Find out who asks, for the page's frame: `state.me`, `state.csrf` and `state.flash`, each none if there is none.

    Raises: TokenInvalid: a key that is no good. Unavailable.
    """
    try:
        _introduce(request, rows=False)
    except Miss:
        await run_sync(partial(_introduce, request, rows=True))


def _introduce(request: Request, *, rows: bool) -> None:
    app, visit, state = app_of(request), visit_of(request), request.state
    view = app.lookup.view()
    known: Known = view.known(visit.token, rows=rows)
    if known.actor.invalid:
        raise TokenInvalid
    actor, jar, sent = known.actor, cookies_of(request), cookie_headers(request)
    state.me, secret = None, jar.read(jar.form, sent)
    if actor.session_id is not None:
        person = view.person(actor, rows=rows)
        state.me = MeView(actor.name, person.full_name, actor.is_admin, person.invitations)
        secret = visit.token
    state.csrf = token_of(secret) if secret else None
    state.flash = NOTES.get(jar.read(jar.note, sent) or "")


def visit_of(request: Request) -> Visit:
    return cast("Visit", request.scope["visit"])


def cookie_headers(request: Request) -> list[bytes]:
    return [value for name, value in request.scope["headers"] if name == b"cookie"]


def take_leave(request: Request, answer: Response, fresh: str | None) -> None:
    """Give a browser the secret of its forms, and take the note back that was shown."""
    jar = cookies_of(request)
    if fresh is not None:
        answer.headers.append("Set-Cookie", jar.write(jar.form, fresh))
    shown = getattr(request.state, "flash", None) is not None and "hx-request" not in request.headers
    if shown and request.method in READING and answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
        answer.headers.append("Set-Cookie", jar.drop(jar.note))


# --- whose form it is ------------------------------------------------------------------------------------------------


def require_own_page(request: Request) -> None:
    """Pass for what one of our own pages sent. Browsers say which site did; whatever does not say is no browser, or one
    too old to be protected. Raises: NotAllowed.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin", "")
    if site is not None:
        own = site == "same-origin"
    else:
        # told to some other than https or localhost, where browsers leave that header out
        address = urlsplit(app_of(request).settings.url)
        own = origin == f"{address.scheme}://{address.netloc}" or (
            origin.partition("://")[2] == request.headers.get("host", "-")
        )
    if not own:
        raise too_old()


def require_sender(request: Request, *, strangers: bool, known: bool) -> None:
    """Pass for who may send a form, as far as can be said before it is read. Raises: AuthRequired, NotAllowed."""
    if not strangers and request.state.me is None:
        raise AuthRequired
    if not known or request.state.csrf is None:
        raise too_old()


def require_token(request: Request, given: str) -> None:
    """Pass if the page that sent this was made for this very browser. Raises: NotAllowed."""
    given = request.headers.get(TOKEN_HEADER) or given
    if not hmac.compare_digest(given.encode(), (request.state.csrf or "-").encode()):
        raise too_old()


def token_of(secret: str) -> str:
    """What a form holds: derived, so that it needs no row, and of no use to find the secret with."""
    number = int.from_bytes(hashlib.sha256(f"csrf:{secret}".encode()).digest())
    return base62(number, TOKEN_LENGTH)


def too_old() -> NotAllowed:
    return NotAllowed("This form is too old, or another site sent it. Load the page again.", code="form_too_old")


async def whole(request: Request) -> bytes:
    """The body of a form. Raises: TooLarge, Malformed."""
    largest = LARGEST if request.state.me is not None else STRANGERS_LARGEST
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
        raise Malformed("That is no form.")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 12 or int(announced) > largest):
        raise too_large(largest)
    body = bytearray()
    try:
        # in all, not for each piece: a byte now and then would keep the connection too
        async with asyncio.timeout(WHOLE_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > largest:
                    raise too_large(largest)
    except TimeoutError:
        raise Malformed(
            f"The form was not here within {WHOLE_SECONDS:.0f} seconds; it was given up.", code="upload_timeout"
        ) from None
    except ClientDisconnect:
        raise Malformed("The connection ended before the form did.", code="body_length") from None
    return bytes(body)


def too_large(largest: int) -> TooLarge:
    return TooLarge(f"The form is larger than {largest >> 10} KiB.")


# --- and then --------------------------------------------------------------------------------------------------------


def see_other(request: Request, path: str, note: str | None = None) -> Response:
    """Go on to a page of ours, which says the note. `path` begins behind the mount."""
    jar: Cookies = cookies_of(request)
    mount = urlsplit(app_of(request).settings.url).path.rstrip("/")
    answer = Response(status_code=HTTPStatus.SEE_OTHER, headers={"Location": mount + path, "Cache-Control": "no-store"})
    if note is not None:
        _ = NOTES[note]
        answer.headers.append("Set-Cookie", jar.write(jar.note, note, seconds=NOTE_SECONDS))
    return answer
