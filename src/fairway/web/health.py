"""Is it running, can it work, and how is it doing."""

from __future__ import annotations

import asyncio

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from fairway.app import Fairway
from fairway.errors import FairwayError
from fairway.registry import flat, index, upstreams
from fairway.web.api.models import Health
from fairway.web.deps import App

READY_SECONDS = 5.0
SILENT = f"It has not answered for {READY_SECONDS:.0f} seconds."


class Readiness:
    """Asks the database and the store. One question to each at a time, however many want to know: one that hangs holds
    a thread, and none of those that answer requests.
    """

    def __init__(self, app: Fairway) -> None:
        self._checks = {"database": app.database.ping, "storage": app.blobs.check}
        self._asked: dict[str, asyncio.Task[str]] = {}
        self._limiter: CapacityLimiter | None = None

    async def states(self) -> dict[str, str]:
        """`ok`, or a sentence on what is wrong, of each part."""
        for name in self._checks:
            if name not in self._asked:
                self._asked[name] = asyncio.ensure_future(self._ask(name))
        asked = dict(self._asked)
        await asyncio.wait(asked.values(), timeout=READY_SECONDS)
        return {name: task.result() if task.done() else SILENT for name, task in asked.items()}

    async def _ask(self, name: str) -> str:
        self._limiter = self._limiter or CapacityLimiter(len(self._checks))
        try:
            return await run_sync(state, self._checks[name], limiter=self._limiter, abandon_on_cancel=True)
        finally:
            del self._asked[name]


router = APIRouter(tags=["operation"])


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers. Restart it when this fails."""
    return {"status": "ok"}


@router.get("/health/ready", response_model=Health, responses={503: {"model": Health, "description": "One does not"}})
async def ready(request: Request) -> JSONResponse:
    """The database and the store answer too. Send no traffic here while this is 503."""
    parts = await request.app.state.readiness.states()
    good = all(value == "ok" for value in parts.values())
    headers = {"Cache-Control": "no-store"}
    return JSONResponse({"status": "ok" if good else "unavailable", **parts}, 200 if good else 503, headers)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request, app: App) -> Response:
    """Counters for Prometheus. Labels are route templates, and numbers of channels that have an upstream: no name of a
    channel, package or person is in them.
    """
    request.app.state.metrics.behind.set(behind(app))
    request.app.state.metrics.upstreams.seen = of_upstreams(app)
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def behind(app: Fairway) -> int:
    try:
        with app.database.read() as session:
            return len(set(index.behind(session)) | set(flat.behind(session)))
    except FairwayError:
        return -1


def of_upstreams(app: Fairway) -> list[tuple[int, float, int]]:
    """Each channel with an upstream: its number, how many seconds old what is served is, and how many looks have failed."""
    now = app.now()
    try:
        with app.database.read() as session:
            return [(channel, (now - since) / 1_000, failures) for channel, since, failures in upstreams.ages(session)]
    except FairwayError:
        return []


def state(check: object) -> str:
    try:
        check()  # type: ignore[operator]
    except FairwayError as error:
        return error.detail
    return "ok"
