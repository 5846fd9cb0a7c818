"""The dialect of prefix.dev: what pixi, rattler-build and py-rattler-build speak.

Clients show the body of a refusal as it is and stop at 400, 401, 403, 404, 409, 413 and 422; everything else they send
again. 409 on a name that exists, whatever its bytes, is what makes their `--skip-existing` work.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from fairway.conda.names import Filename
from fairway.errors import Malformed
from fairway.registry import channels, withdraw
from fairway.registry.access import Action
from fairway.registry.publish import Offer
from fairway.web.api.models import Uploaded
from fairway.web.deps import App, Who, allow
from fairway.web.uploads import intake
from fairway.web.uploads.multipart import Form
from fairway.web.uploads.routes import PlainRoute

router = APIRouter(tags=["prefix.dev dialect"], route_class=PlainRoute)

FORM = {
    "requestBody": {
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "properties": {"file": {"type": "string"}}}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        }
    }
}


@router.post("/api/v1/upload/{channel:path}", status_code=201, response_model=Uploaded, openapi_extra=FORM)
async def upload_prefix(
    request: Request,
    app: App,
    channel: str,
    force: Annotated[bool, Query(description="Replace a file of this name, where the channel allows it")] = False,
) -> Response:
    """Upload a package: a form with the part `file`, or the raw file with the headers X-File-Name and X-File-SHA256."""
    actor, staged = await intake.admit(request, channel)
    with staged:
        intake.announced(request, app)
        body = intake.Buffered(staged)
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            form = Form(request.headers["content-type"], body)
            await form.read(request)
            headers = form.file or {}
            attestation = bytes(form.fields["attestation"]) if "attestation" in form.fields else None
            name = headers.get("x-file-name") or headers.get("filename")
        else:
            headers, attestation = dict(request.headers), None
            name = headers.get("x-file-name")
            filename = parse_name(name)  # before the body is read
            await intake.stage_raw(request, body)
        filename = parse_name(name)
        sha256 = headers.get("x-file-sha256") or request.headers.get("x-file-sha256")
        offer = Offer(channel, filename, sha256=sha256, attestation=attestation, force=force)
        published = await intake.take(app, actor, staged, body, offer)
    return JSONResponse(intake.as_dict(published), 201)


def parse_name(text: str | None) -> Filename:
    if not text:
        raise Malformed("The file's name is missing: send it as X-File-Name.", code="filename_invalid")
    return Filename.parse(text)


@router.delete("/api/v1/delete/{channel}/{subdir}/{filename}", response_class=PlainTextResponse)
def delete_prefix(app: App, actor: Who, channel: str, subdir: str, filename: str) -> Response:
    """Take a file out of the index; it stays downloadable for some days."""
    allow(app, actor, Action.DELETE, channel)
    with app.database.write() as session:
        withdraw.delete(session, actor, channel, subdir, filename, now=app.now())
    app.publisher.poke()
    return PlainTextResponse(f"{subdir}/{filename} is deleted from {channel}.\n")


@router.post("/api/v1/reindex/{channel}", status_code=202, response_class=PlainTextResponse)
@router.post("/api/v1/reindex/{channel}/{subdir}", status_code=202, response_class=PlainTextResponse)
def reindex_prefix(app: App, actor: Who, channel: str, subdir: str | None = None) -> Response:
    """Build a channel's index anew. Nobody needs it after an upload; it does no harm either."""
    allow(app, actor, Action.REINDEX, channel)
    with app.database.write() as session:
        channels.reindex(session, actor, channel, subdir, now=app.now())
    app.publisher.poke()
    return PlainTextResponse(f"{channel} is being reindexed.\n", 202)
