"""What is known of one request, outermost: its id, its credential, its route. Pure ASGI.

The key in `/t/KEY/` is taken out of the path here, before anything could log it. What is at hand (`Inner.at_once`) is
sent from here without passing anything else: the layers in between would cost more than the answer.
"""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit

import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from fairway import errors, logs
from fairway.web import credentials
from fairway.web.cookies import Cookies
from fairway.web.errors import INTERNAL, headers_for, problem, problem_body
from fairway.web.metrics import Metrics
from fairway.web.paths import Place, place
from fairway.web.protection import Protection
from fairway.web.reply import Reply

log = structlog.get_logger("fairway.http")

READING = ("GET", "HEAD")
REQUEST_ID = re.compile(rb"[A-Za-z0-9-]{8,64}")


class Visit:
    """One request. `token` is the credential, never logged; `route` a template, never a real name; `headers`
    are the request's, the first where one was sent twice.
    """

    __slots__ = ("headers", "id", "method", "page", "place", "route", "started", "token", "token_id")

    def __init__(self, scope: Scope, mount: str, cookies: Cookies) -> None:
        self.started = time.perf_counter()
        sent = scope["headers"]
        headers: dict[bytes, bytes] = dict(sent)
        if len(headers) != len(sent):
            headers = dict(reversed(list(sent)))
        self.headers = headers
        self.method: str = scope["method"]
        path: str = scope["path"]
        self.place: Place = place(path, scope.get("raw_path") or path.encode(), mount)
        # what a client says on purpose beats what its channel's address says
        self.token = credentials.in_headers(headers) or self.place.token
        if self.token is None and b"cookie" in headers and self.takes_cookies:
            self.token = cookies.session_in(sent)
        self.id = request_id(headers)
        self.route = "other"
        self.token_id: int | None = None
        self.page = False

    @property
    def takes_cookies(self) -> bool:
        """Whether a session counts here: for pages, and for reading a channel's files."""
        return self.place.paged if self.place.asked is None else self.method in READING

    @property
    def token_in_path(self) -> bool:
        return self.place.token is not None


Refused = Callable[[Scope, Receive, errors.FairwayError], Awaitable[Response]]


class Inner(Protocol):
    """What answers visits."""

    def at_once(self, visit: Visit) -> Reply | None:
        """The answer, if it is at hand and nobody has to be waited for."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Any) -> None: ...


class Visits:
    """The outermost layer of the application. `refused` makes the answer for an error of ours."""

    def __init__(self, app: Inner, *, url: str, protection: Protection, metrics: Metrics, refused: Refused) -> None:
        self.app, self.protection, self.metrics, self.refused = app, protection, metrics, refused
        self.line = logs.line()
        self.mount = urlsplit(url).path.rstrip("/")
        self.cookies = Cookies(url)
        self.realm = url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = Visit(scope, self.mount, self.cookies)
        reply = None
        if not visit.place.hiding:
            try:
                reply = self.app.at_once(visit)
            except Exception:
                log.exception("request.at_once", request_id=visit.id)
        if reply is None:
            await self._slowly(scope, receive, send, visit)
            return
        try:
            await reply.send(send, visit.id)
        finally:
            self._record(visit, reply.status, reply.sent)

    async def _slowly(self, scope: Scope, receive: Receive, send: Send, visit: Visit) -> None:
        path = visit.place.path
        # the state is this request's own: a server may hand the same one to all of them
        scope = {**scope, "path": path, "raw_path": path.encode(), "root_path": "", "visit": visit, "state": {}}
        answer = Answer(send, visit, self.protection)
        logs.request_id.set(visit.id)  # a server runs each request in a context of its own
        try:
            if visit.place.hiding:
                await self._refuse(scope, receive, answer)
            else:
                await self.app(scope, receive, answer)
        except errors.FairwayError as error:
            await (await self.refused(scope, receive, error))(scope, receive, answer)
        except Exception:
            log.exception("request.failed", route=visit.route)
            await self._failed(answer)
        finally:
            self._record(visit, answer.status, answer.sent)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = errors.Malformed(
            "The path holds an encoded slash, backslash, percent sign or NUL, which no name here has.",
            code="path_encoding",
        )
        await problem(error, realm=self.realm)(scope, receive, send)

    async def _failed(self, answer: Answer) -> None:
        if answer.status:
            return  # the answer is under way: cutting it off is all that is left
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        body = problem_body(status, "internal", INTERNAL)
        headers = headers_for(status, self.realm) | {"Content-Type": "application/problem+json"}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await answer({"type": "http.response.start", "status": int(status), "headers": raw})
        await answer({"type": "http.response.body", "body": body})

    def _record(self, visit: Visit, status: int, sent: int) -> None:
        seconds = time.perf_counter() - visit.started
        self.metrics.requests.seen(visit.route, visit.method, status, seconds)
        self.line(
            "request",
            {
                "method": visit.method,
                "path": visit.place.shown,
                "route": visit.route,
                "status": status,
                "ms": round(seconds * 1000, 2),
                "sent": sent,
                "token": visit.token_id,
                "request_id": visit.id,
            },
        )


class Answer:
    """The way out: adds what every answer carries (`Reply` has it already), and remembers what was said."""

    def __init__(self, send: Send, visit: Visit, protection: Protection) -> None:
        self._send, self._visit, self._protection = send, visit, protection
        self.status = 0
        self.sent = 0

    async def reply(self, reply: Reply) -> None:
        self.status = reply.status
        try:
            await reply.send(self._send, self._visit.id)
        finally:
            self.sent = reply.sent

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            visit = self._visit
            # an address with a key in it, or one that leads to a signed address, is nobody else's business
            quiet = visit.token_in_path or 300 <= self.status < 400
            extra = self._protection.headers(page=visit.page, quiet=quiet)
            headers = [*message.get("headers", ()), *extra, (b"x-request-id", visit.id.encode())]
            if all(name != b"cache-control" for name, _ in headers):
                # a cache may keep what does not say so, and give what one may see to another who asks for the same
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
        await self._send(message)


# Unique is enough for an id; asking the kernel for randomness each time is not free.
_ids = itertools.count()
_process = secrets.token_hex(4)


def request_id(headers: dict[bytes, bytes]) -> str:
    """A proxy's request id, if it is one, so that its log and ours can be read together; else a new one."""
    value = headers.get(b"x-request-id")
    if value is not None and REQUEST_ID.fullmatch(value):
        return value.decode()
    return f"{_process}{next(_ids) & 0xFFFFFFFF:08x}"
