"""Fairway's own upload: one PUT of the bytes to where they will be. What `curl -T` does, and `fairway upload`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from fairway.conda.names import Filename, Subdir
from fairway.registry.publish import Offer
from fairway.web.api.models import Uploaded
from fairway.web.deps import App, Who
from fairway.web.uploads import intake
from fairway.web.uploads.routes import ProblemRoute

router = APIRouter(tags=["artifacts"], route_class=ProblemRoute)

BODY = {"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}
DOCUMENTED: dict[str, Any] = {
    "status_code": 201,
    "response_model": Uploaded,
    "responses": {200: {"model": Uploaded, "description": "The very same file was there already"}},
    "openapi_extra": BODY,
}


@router.put("/api/v1/channels/{channel}/artifacts/{filename}", **DOCUMENTED)
@router.put("/api/v1/channels/{channel}/artifacts/{subdir}/{filename}", **DOCUMENTED)
async def upload_artifact(
    request: Request,
    app: App,
    actor: Who,
    channel: str,
    filename: str,
    subdir: str | None = None,
    sha256: Annotated[
        str | None, Query(description="The file's sha256 in hex, checked if given", max_length=64)
    ] = None,
    force: Annotated[bool, Query(description="Replace a file of this name, where the channel allows it")] = False,
) -> JSONResponse:
    """Upload a package: the body is the file, with a Content-Length or chunked. Without a subdir in the address, the
    package says where it belongs.

    Answers 201 once the package is stored and in the index (`indexed` is false if its shard could not be made, which the
    server tries again), and 200 if the very same file is there already, so that a retry is safe.
    """
    await run_sync(partial(intake.may_upload, app, actor, channel))
    name, place = Filename.parse(filename), None if subdir is None else Subdir.parse(subdir)
    intake.announced(request, app)
    with await run_sync(app.staging.open, app.settings.max_file_size) as staged:
        await intake.stage_raw(request, staged)
        offer = Offer(channel, name, subdir=place, sha256=sha256, force=force, same_is_fine=True)
        published = await intake.take(app, actor, staged, offer)
    return JSONResponse(intake.as_dict(published), 201 if published.created else 200)
