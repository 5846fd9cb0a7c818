"""What is known of one request, outermost: its id, its credential, its route. Pure ASGI.

The key in `/t/KEY/` is taken out of the path here, before anything could log it.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairway import errors, logs
from fairway.web import credentials
from fairway.web.errors import INTERNAL, headers_for, problem, problem_body

log = structlog.get_logger("fairway.http")

# Decoded once, a path must not hide another: no encoded slash, backslash, NUL or percent sign.
ENCODED = re.compile(rb"%(?:2f|5c|00|25)", re.IGNORECASE)
# Any other is counted as one: a label that strangers choose would grow without end.
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
REQUEST_ID = re.compile(rb"[A-Za-z0-9-]{8,64}")

SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
]
CSP_DATA = b"default-src 'none'; frame-ancestors 'none'; sandbox"
CSP_PAGE = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(slots=True)
class Visit:
    """One request. `token` is the credential as sent, never logged; `route` a template, never a real name."""

    id: str
    token: str | None
    token_in_path: bool
    route: str = "other"
    token_id: int | None = None
    page: bool = False
    started: float = field(default_factory=time.perf_counter)


class Metrics:
    """Counters of one process, labelled by route template: no channel or package name ever becomes a label."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "fairway_requests", "Requests answered", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "fairway_request_seconds",
            "Time to answer",
            ("route",),
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
        )
        self.uploads = Counter(
            "fairway_uploads",
            "Uploads and other requests to change files, by outcome or code",
            ("outcome",),
            registry=self.registry,
        )
        self.behind = Gauge("fairway_index_behind", "Subdirs whose index is not up to date", registry=self.registry)


class Visits:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, *, url: str, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self.line = logs.line()
        parts = urlsplit(url)
        self.mount = parts.path.rstrip("/")
        self.realm = url
        self.always = list(SECURITY_HEADERS)
        if parts.scheme == "https":
            self.always.append((b"strict-transport-security", b"max-age=31536000"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = scope["headers"]
        path, token = credentials.in_path(scope["path"], self.mount)
        in_path = token is not None
        # what a client says on purpose beats what its channel's address says
        visit = Visit(request_id(headers), credentials.in_headers(headers) or token, in_path)
        encoded = ENCODED.search(scope.get("raw_path") or b"") or "\x00" in path
        scope = {**scope, "path": path, "raw_path": path.encode(), "root_path": "", "visit": visit}
        answer = Answer(send, visit, self.always)
        logs.request_id.set(visit.id)  # a server runs each request in a context of its own
        try:
            if encoded:
                await self._refuse(scope, receive, answer)
            else:
                await self.app(scope, receive, answer)
        except errors.FairwayError as error:
            await problem(error, realm=self.realm)(scope, receive, answer)
        except Exception:
            log.exception("request.failed", route=visit.route)
            await self._failed(answer)
        finally:
            self._record(scope, visit, answer)

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

    def _record(self, scope: Scope, visit: Visit, answer: Answer) -> None:
        seconds = time.perf_counter() - visit.started
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.requests.labels(visit.route, method, str(answer.status)).inc()
        self.metrics.seconds.labels(visit.route).observe(seconds)
        self.line(
            "request",
            {
                "method": scope["method"],
                "path": scope["path"],
                "route": visit.route,
                "status": answer.status,
                "ms": round(seconds * 1000, 2),
                "sent": answer.sent,
                "token": visit.token_id,
            },
        )


class Answer:
    """The way out: adds what every answer carries, and remembers what was said."""

    def __init__(self, send: Send, visit: Visit, always: list[tuple[bytes, bytes]]) -> None:
        self._send, self._visit, self._always = send, visit, always
        self.status = 0
        self.sent = 0
        self._length = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            visit = self._visit
            # an address with a key in it, or one that leads to a signed address, is nobody else's business
            private = visit.token_in_path or 300 <= self.status < 400
            extra = [
                *self._always,
                (b"x-request-id", visit.id.encode()),
                (b"referrer-policy", b"no-referrer" if private else b"strict-origin-when-cross-origin"),
                (b"content-security-policy", CSP_PAGE if visit.page else CSP_DATA),
            ]
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
            self._length = next((int(value) for name, value in message["headers"] if name == b"content-length"), 0)
        elif message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
        elif message["type"] == "http.response.pathsend":
            self.sent = self._length
        await self._send(message)


def request_id(headers: list[tuple[bytes, bytes]]) -> str:
    """A proxy's request id, if it is one, so that its log and ours can be read together; else a new one."""
    for name, value in headers:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return value.decode()
    return secrets.token_hex(8)
