"""What went wrong, as a page that says what to do; for browsers. Programs get RFC 9457.

Nobody can tell a page that is hidden from one that is not there: both are answered here, with the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response

from fairway.errors import FairwayError
from fairway.web.deps import here
from fairway.web.errors import again_in, headers_for, problem, status_of
from fairway.web.pages.forms import introduce, visit_of
from fairway.web.pages.render import page

Link = tuple[str, str]  # text, and path behind the mount


@dataclass(frozen=True, slots=True)
class Words:
    """`text` is shown where the error's own sentence is for programs; none: that sentence is shown."""

    title: str
    text: str | None
    advice: str
    again: str | None = None  # what the link to the same page is called, where it helps to load it again


SIGN_IN = Words(
    "Sign in to see this",
    "Nothing is here for everybody. There may be something for people who are signed in.",
    "If you have an account, sign in. If not, ask somebody who administers this server.",
)
NOT_HERE = Words(
    "Nothing is here",
    "There is nothing at this address, or nothing that you may see.",
    "Check the address. If somebody sent it to you, ask them to invite you to the channel.",
)
WORDS: dict[int, Words] = {
    400: Words("That request cannot be read", None, "Go back and try again; if it happens again, it is our mistake."),
    401: SIGN_IN,
    403: Words(
        "You may not do this", None, "An owner of the channel, or an administrator of this server, can change that."
    ),
    404: NOT_HERE,
    405: Words("That is not done here", None, "Go back and use the buttons of the page."),
    409: Words("That is taken", None, "Go back and choose another."),
    413: Words("That is too large", None, "Send less at a time, or ask an administrator of this server for more room."),
    422: Words("That cannot be right", None, "Go back and correct it."),
    429: Words("Too often", None, "Wait that long; nothing is lost.", "Try again"),
    500: Words(
        "Something went wrong on this server",
        "It is not your mistake. What happened is in this server's log.",
        "Try again. If it stays so, tell an administrator the number below.",
        "Try again",
    ),
    503: Words("Not right now", None, "Try again in a moment; nothing is lost.", "Try again"),
    507: Words("The disk of this server is full", None, "Tell an administrator; nothing was stored."),
}
TOO_OLD = Words(
    "This form is too old",
    "It was made for another sign-in, or another site sent it. Nothing was changed.",
    "Load the page again, and fill it in once more.",
    "Load it again",
)
BY_CODE = {
    "form_too_old": TOO_OLD,
    "token_invalid": Words("That API key is no good", None, "Make a new one under your settings."),
}


def wanted(request: Request) -> bool:
    """Whether it is a browser that asks for a page."""
    place = visit_of(request).place
    return (place.paged or place.asked is not None) and "text/html" in request.headers.get("accept", "")


async def answer(request: Request, error: FairwayError, *, realm: str) -> Response:
    """For an error of ours."""
    if not wanted(request):
        return problem(error, realm=realm)
    status = status_of(error)
    headers = headers_for(status, realm) | again_in(error)
    return await mistake(request, status, error.code, error.detail, headers)


async def mistake(request: Request, status: int, code: str, sentence: str, headers: dict[str, str]) -> Response:
    words = BY_CODE.get(code) or WORDS.get(status) or WORDS[HTTPStatus.BAD_REQUEST]
    await know(request)
    made = page(
        request,
        "mistakes/mistake.html",
        status,
        status_code=int(status),
        words=words,
        sentence=words.text or sentence,
        links=links(request, status, words),
        number=visit_of(request).id if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None,
    )
    made.headers.update(headers)
    return made


async def know(request: Request) -> None:
    """Who asks, if that can be said: the page of a mistake must not fail by it."""
    if hasattr(request.state, "me"):
        return
    try:
        await introduce(request)
    except FairwayError:
        request.state.me = request.state.csrf = request.state.flash = None


def links(request: Request, status: int, words: Words) -> Sequence[Link]:
    """Where one may go from here, the best first."""
    found: list[Link] = []
    if words.again is not None:
        found.append((words.again, here(request)))
    if status == HTTPStatus.UNAUTHORIZED:
        found.append(("Sign in", f"/login?{urlencode({'next': here(request)})}"))
    return [*found, ("Go to the first page", "/")]
