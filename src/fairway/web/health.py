"""Is it running, can it work, and how is it doing."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from fairway.app import Fairway
from fairway.errors import FairwayError
from fairway.registry import flat, index
from fairway.web.api.models import Health
from fairway.web.deps import App

router = APIRouter(tags=["operation"])


@router.get("/health/live")
def live() -> dict[str, str]:
    """The process answers. Restart it when this fails."""
    return {"status": "ok"}


@router.get("/health/ready", response_model=Health, responses={503: {"model": Health, "description": "One does not"}})
def ready(app: App) -> JSONResponse:
    """The database and the store answer too. Send no traffic here while this is 503."""
    parts = {"database": state(app.database.ping), "storage": state(app.blobs.check)}
    good = all(value == "ok" for value in parts.values())
    headers = {"Cache-Control": "no-store"}
    return JSONResponse({"status": "ok" if good else "unavailable", **parts}, 200 if good else 503, headers)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request, app: App) -> Response:
    """Counters for Prometheus. Labels are route templates: no name of a channel, package or person is in them."""
    request.app.state.metrics.behind.set(behind(app))
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def behind(app: Fairway) -> int:
    try:
        with app.database.read() as session:
            return len(set(index.behind(session)) | set(flat.behind(session)))
    except FairwayError:
        return -1


def state(check: object) -> str:
    try:
        check()  # type: ignore[operator]
    except FairwayError as error:
        return error.detail
    return "ok"
