"""Fairway's own upload: one PUT of the bytes to where they will be. What `curl -T` does, and `fairway upload`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from fairway.blobs.keys import JSON
from fairway.conda.names import Filename, Subdir
from fairway.registry.publish import Offer
from fairway.web.api.models import Uploaded
from fairway.web.deps import app_of
from fairway.web.errors import problem
from fairway.web.uploads import intake
from fairway.web.uploads.routes import ProblemRoute, answer

router = APIRouter(tags=["artifacts"], route_class=ProblemRoute)

BODY = {"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}
DOCUMENTED: dict[str, Any] = {
    "status_code": 201,
    "response_model": Uploaded,
    "responses": {200: {"model": Uploaded, "description": "The very same file was there already"}},
    "openapi_extra": BODY,
}


WITHOUT_SUBDIR = "/api/v1/channels/{channel}/artifacts/{filename}"
WITH_SUBDIR = "/api/v1/channels/{channel}/artifacts/{subdir}/{filename}"
ADDRESS = re.compile(r"/api/v1/channels/([^/]+)/artifacts/(?:([^/]+)/)?([^/]+)")
QUERY = re.compile(rb"(?:sha256=([0-9A-Fa-f]{64}))?")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an upload's address says."""

    channel: str
    filename: str
    subdir: str | None = None
    sha256: str | None = None
    force: bool = False

    @property
    def route(self) -> str:
        return WITHOUT_SUBDIR if self.subdir is None else WITH_SUBDIR


def understand(path: str, query: bytes) -> Wanted | None:
    """What an address asks for, if it is one that nearly everybody sends; the rest is for the router to judge."""
    address, parameters = ADDRESS.fullmatch(path), QUERY.fullmatch(query)
    if address is None or parameters is None:
        return None
    sha256 = None if parameters[1] is None else parameters[1].decode()
    return Wanted(address[1], address[3], address[2], sha256)


async def put(request: Request, wanted: Wanted) -> Response:
    """The upload of one file, refused in words of its own; from in front of the router, which costs as much as it."""
    return await answer(request, handle=partial(_put, wanted=wanted), refusal=problem)


async def _put(request: Request, *, wanted: Wanted) -> Response:
    app = app_of(request)
    actor, staged = await intake.admit(request, wanted.channel)
    with staged:
        name = Filename.parse(wanted.filename)
        place = None if wanted.subdir is None else Subdir.parse(wanted.subdir)
        intake.announced(request, app)
        body = intake.Buffered(staged)
        await intake.stage_raw(request, body)
        offer = Offer(wanted.channel, name, subdir=place, sha256=wanted.sha256, force=wanted.force, same_is_fine=True)
        published = await intake.take(app, actor, staged, body, offer)
    return Response(orjson.dumps(intake.as_dict(published)), 201 if published.created else 200, media_type=JSON)


@router.put(WITHOUT_SUBDIR, **DOCUMENTED)
@router.put(WITH_SUBDIR, **DOCUMENTED)
async def upload_artifact(
    request: Request,
    channel: str,
    filename: str,
    subdir: str | None = None,
    sha256: Annotated[
        str | None, Query(description="The file's sha256 in hex, checked if given", max_length=64)
    ] = None,
    force: Annotated[bool, Query(description="Replace a file of this name, where the channel allows it")] = False,
) -> Response:
    """Upload a package: the body is the file, with a Content-Length or chunked. Without a subdir in the address, the
    package says where it belongs.

    Answers 201 once the package is stored and in the index (`indexed` is false if its shard could not be made, which the
    server tries again), and 200 if the very same file is there already, so that a retry is safe.
    """
    return await _put(request, wanted=Wanted(channel, filename, subdir, sha256, force))
