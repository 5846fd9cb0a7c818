"""The whole application: visits (outermost), then files for clients, then the router for everything else."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from urllib.parse import quote, urlsplit

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import fairway
from fairway import errors, tasks
from fairway.app import Fairway
from fairway.web import assets, health, openapi
from fairway.web.api import channels, packages, solve, upstreams
from fairway.web.cookies import Cookies
from fairway.web.deps import Elsewhere, own_path
from fairway.web.errors import INTERNAL, headers_for, problem_body, unreadable
from fairway.web.files import Files
from fairway.web.limits import Limits
from fairway.web.metrics import Metrics
from fairway.web.pages import (
    acts,
    admin,
    channel,
    entry,
    finding,
    home,
    installing,
    managing,
    membership,
    mine,
    mistakes,
    package,
    reference,
    relating,
    sending,
    styleguide,
    watching,
)
from fairway.web.pages.forms import see_other
from fairway.web.paths import What
from fairway.web.protection import Protection
from fairway.web.reply import Reply
from fairway.web.uploads import native, prefix
from fairway.web.visit import Answer, Visit, Visits

READING = ("GET", "HEAD")
# what answers programs, and what answers people; managing before what would take its addresses for channels
PROGRAMS = (native, prefix, channels, packages, solve, upstreams, health)
PEOPLE = (
    home,
    managing,
    relating,
    watching,
    membership,
    sending,
    acts,
    installing,
    package,
    channel,
    finding,
    styleguide,
    reference,
    entry,
    mine,
    admin,
)
INSIDE = ("health", "metrics")  # what operators ask, and no client
# Handlers wait for disks and locks in threads; more of them would only wait longer.
THREADS = 32
# How long a thread that computes keeps the event loop waiting; each of several uploads may do so in turn.
SWITCH_SECONDS = 0.0005


def create(app: Fairway, *, background: bool = True) -> ASGIApp:
    """The ASGI application of an open Fairway. With `background` its lifespan runs the publisher and the jobs."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        sys.setswitchinterval(SWITCH_SECONDS)
        if background:
            await anyio.to_thread.run_sync(
                app.start, tasks.handlers(app), tasks.RECURRING, tasks.slow(app), partial(tasks.build, app)
            )
            # what is loaded now stays: a full collection would look at all of it while every request waits
            gc.collect()
            gc.freeze()
        yield
        await anyio.to_thread.run_sync(app.close)

    metrics = Metrics()
    api = FastAPI(
        title="Fairway",
        version=fairway.__version__,
        description="Conda channels: what is in them, who may use them, and how packages get in.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        # with a slash more or less it would send on to an address that is made of the Host that was sent: anybody's choice
        redirect_slashes=False,
        lifespan=lifespan,
    )
    api.state.fairway, api.state.metrics = app, metrics
    api.state.cookies = Cookies(app.settings.url)
    api.state.limits = Limits(app.settings)
    api.state.readiness = health.Readiness(app)
    for module in (*PROGRAMS, *PEOPLE):
        api.include_router(module.router)
    api.include_router(entry.inside)
    assets.bundle()  # without it there are no pages: said now, not to the first who asks
    api.mount("/static", assets.Assets())
    add_error_handlers(api, app.settings.url)
    openapi.describe(api)
    url = app.settings.url
    protection = Protection(https=url.startswith("https:"))
    dispatch = Dispatch(api, Files(app, protection), url=url)

    async def refused(scope: Scope, receive: Receive, error: errors.FairwayError) -> Response:
        return await mistakes.answer(Request({**scope, "app": api}, receive), error, realm=url)

    return Visits(dispatch, url=url, protection=protection, metrics=metrics, refused=refused)


class Dispatch:
    """Who answers a path: the router what begins with a reserved name, the files everything else."""

    def __init__(self, router: ASGIApp, files: Files, *, url: str) -> None:
        self.router, self.files, self.mount = router, files, urlsplit(url).path

    def at_once(self, visit: Visit) -> Reply | None:
        asked = visit.place.asked
        if asked is None or visit.method not in READING or asked.what is What.NOTHING:
            return None
        return self.files.at_once(visit, asked)

    async def __call__(self, scope: Scope, receive: Receive, send: Answer) -> None:
        if scope["type"] != "http":
            await self.router(scope, receive, send)
            return
        visit: Visit = scope["visit"]
        asked, reading = visit.place.asked, visit.method in READING
        first, _, rest = visit.place.path.lstrip("/").partition("/")
        if visit.token_in_path and not reading:
            await not_here(scope, receive, send, "A key in the path can only read; send it as a header to write.")
        elif visit.method == "PUT" and (wanted := native.understand(visit.place.path, scope["query_string"])):
            visit.route = wanted.route
            answer = await native.put(Request({**scope, "app": self.router}, receive), wanted)
            await answer(scope, receive, send)
        elif visit.token_in_path and first in INSIDE:
            # a proxy that keeps /metrics inside does not look behind /t/x
            raise errors.NotFound
        elif visit.place.paged and reading and (rest or first) and visit.place.path.endswith("/"):
            # people add one; whatever else has one too many is not there
            where = self.mount.rstrip("/") + own_path(quote(visit.place.path.rstrip("/"), safe="/@:+~!$,="))
            answer = Response(
                status_code=HTTPStatus.SEE_OTHER, headers={"Location": where, "Cache-Control": "no-store"}
            )
            await answer(scope, receive, send)
        elif asked is None:
            if visit.method == "HEAD":
                scope, send = {**scope, "method": "GET"}, bodyless(send)  # type: ignore[assignment]
            await self.router(scope, receive, send)
            route = scope.get("route")
            visit.route = getattr(route, "path", "other")
        elif not reading:
            await not_here(scope, receive, send, "Files of a channel can only be read here; uploads go to /api/v1.")
        elif not rest and b"text/html" in visit.headers.get(b"accept", b""):
            visit.route = "channel page"
            where = f"{self.mount}/channels/{quote(first, safe='')}"
            answer = Response(status_code=HTTPStatus.SEE_OTHER, headers={"Location": where})
            await answer(scope, receive, send)
        else:
            await send.reply(await self.files.later(visit, asked, scope))


def bodyless(send: Send) -> Send:
    """The way out of an answer to HEAD: what a GET would say, without its body."""

    async def out(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return out


async def not_here(scope: Scope, receive: Receive, send: Send, detail: str) -> None:
    status = HTTPStatus.METHOD_NOT_ALLOWED
    headers = {"Allow": ", ".join(READING), "Cache-Control": "no-store"}
    body = problem_body(status, "method_not_allowed", detail)
    await Response(body, status, headers, media_type="application/problem+json")(scope, receive, send)


def add_error_handlers(api: FastAPI, realm: str) -> None:
    async def refused(request: Request, error: Exception) -> Response:
        if not isinstance(error, errors.FairwayError):
            raise error
        return await mistakes.answer(request, error, realm=realm)

    async def invalid(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        return await mistakes.answer(request, unreadable(error), realm=realm)

    def elsewhere(request: Request, error: Exception) -> Response:
        if not isinstance(error, Elsewhere):
            raise error
        return see_other(request, error.path)

    async def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = {404: "not_found", 405: "method_not_allowed"}.get(status, "request_invalid")
        sentences = {
            404: "There is nothing here, or nothing you may see.",
            405: "This address does not answer to that method.",
        }
        detail = sentences.get(status) or str(getattr(error, "detail", ""))
        headers = headers_for(status, realm) | dict(getattr(error, "headers", None) or {})
        if mistakes.wanted(request):
            return await mistakes.mistake(request, status, code, detail, headers)
        return Response(problem_body(status, code, detail), status, headers, media_type="application/problem+json")

    async def failed(request: Request, _: Exception) -> Response:
        # the exception goes on to Visits, which logs it
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        if mistakes.wanted(request):
            with suppress(Exception):  # what failed may be what pages are made with
                return await mistakes.mistake(request, status, "internal", INTERNAL, headers_for(status, realm))
        body = problem_body(status, "internal", INTERNAL)
        return Response(body, status, headers_for(status, realm), media_type="application/problem+json")

    api.add_exception_handler(Exception, failed)
    api.add_exception_handler(errors.FairwayError, refused)
    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(HTTPException, http)
    api.add_exception_handler(Elsewhere, elsewhere)
