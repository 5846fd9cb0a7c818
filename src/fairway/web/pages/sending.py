"""Uploading with a browser: file by file with a bar each, or with a plain form of several.

Both stream, and end where every upload ends (`intake.take`): the same limits, refusals and sentences. A file that was
uploaded once is a success again, so a page that is loaded anew, which sends its form anew, does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from fairway.blobs.staging import StagedFile
from fairway.conda import notes
from fairway.conda.names import Filename
from fairway.errors import FairwayError, Malformed, StorageFull, TooLarge
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.registry.publish import Offer, Published
from fairway.web.deps import app_of
from fairway.web.errors import status_of
from fairway.web.pages import clients, links
from fairway.web.pages.channel import entered, framed
from fairway.web.pages.forms import READING, TOKEN_FIELD, Handle, StreamRoute, require_token
from fairway.web.pages.gates import Uploader
from fairway.web.pages.render import page
from fairway.web.uploads import intake
from fairway.web.uploads.multipart import Part, Parts, keep

FILES_MAX = 200
FIELD_MAX = 1_024
NAME_MAX = 1_000


class UploadRoute(StreamRoute):
    """Reads a refused body on for a while, so that the browser gets to read why."""

    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()

        async def heard(request: Request) -> Response:
            try:
                return await handle(request)
            except (FairwayError, RequestValidationError) as error:
                if request.method not in READING:
                    if isinstance(error, FairwayError):
                        count(request, error.code)
                    await intake.drain(request)
                raise

        return heard


router = APIRouter(include_in_schema=False, route_class=UploadRoute)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file: the facts that were found, or the error."""

    filename: str
    facts: dict[str, Any] | None = None
    error: FairwayError | None = None


@router.get("/channels/{channel}/upload")
def upload_page(request: Request, actor: Uploader, channel: str) -> Response:
    return show(request, actor, channel, [])


@router.post("/channels/{channel}/upload/file")
async def send_file(
    request: Request,
    channel: str,
    filename: Annotated[str, Query(max_length=NAME_MAX)],
    force: bool = False,
) -> Response:
    """One file as the whole body: what the page's script sends, with the form's token in a header."""
    require_token(request, "")
    app = app_of(request)
    actor, staged = await intake.admit(request, channel)
    with staged:
        name = Filename.parse(filename)
        intake.announced(request, app)
        body = intake.Buffered(staged)
        async for chunk in intake.chunks(request):
            body.write(chunk)
            await body.settle()
            app.counts.used(actor, now=app.now())  # a session must not go idle over it
        offer = Offer(channel, name, force=force, same_is_fine=True)
        published = await intake.take(app, actor, staged, body, offer)
    count(request, "accepted")
    status = HTTPStatus.CREATED if published.created else HTTPStatus.OK
    return JSONResponse(facts_of(request, published), status)


@router.post("/channels/{channel}/upload")
async def send_form(request: Request, channel: str) -> Response:
    """A form of files, without JavaScript: the page that answers says of each what became of it."""
    actor = await intake.entitle(request, channel)
    arriving = Arriving(request, channel)
    await arriving.read()
    shown = partial(show, request, actor, channel, arriving.outcomes, force=arriving.ticked)
    return await run_sync(shown)


def show(request: Request, actor: Actor, channel: str, outcomes: list[Outcome], *, force: bool = False) -> Response:
    app = app_of(request)
    with app.database.read() as session:
        head = entered(app, session, actor, channel, Action.UPLOAD)
    refused = [outcome.error for outcome in outcomes if outcome.error is not None]
    return page(
        request,
        "sending/upload.html",
        status_of(refused[0]) if refused else HTTPStatus.OK,
        **framed(request, head),
        outcomes=outcomes,
        force=force,
        may_force=head.allow_overwrite and head.may(Action.OVERWRITE),
        most=app.settings.max_file_size,
        fill=clients.fill(app.settings.url, head.name),
    )


def facts_of(request: Request, published: Published) -> dict[str, Any]:
    """What was found in a file, as frontend/src/upload.js and the page show it."""
    said = []
    if not published.created:
        said.append("The very same file was there already.")
    elif published.replaced:
        said.append("It replaced the file that had its name.")
    if not published.indexed:
        said.append("It will be in the index in a moment.")
    noted = notes.worth_knowing(published.warnings, published.unmet, published.hides)
    if noted:
        said.append(f"Worth knowing: {'; '.join(noted)}.")
    return {
        "filename": published.filename,
        "name": published.facts.name,
        "version": published.facts.version,
        "build": published.facts.build,
        "subdir": published.subdir,
        "size": published.size,
        "sha256": published.sha256,
        "href": links.package(request, published.channel, published.facts.name),
        "depends": list(published.facts.record.get("depends", ())),
        "note": " ".join(said) or None,
    }


def count(request: Request, outcome: str) -> None:
    request.app.state.metrics.uploads.labels(outcome).inc()


class Arriving:
    """A form on its way: the token first, and then its files, each published before the next is read."""

    def __init__(self, request: Request, channel: str) -> None:
        self.outcomes: list[Outcome] = []
        self._request, self._app, self._channel = request, app_of(request), channel
        self._fields: dict[str, bytearray] = {}
        self._text: bytearray | None = None  # the field that arrives
        self._file: StagedFile | None = None  # the file that arrives, and then what it is
        self._body: intake.Buffered | None = None
        self._actor: Actor | None = None
        self._offer: Offer | None = None
        self._name = ""
        self._skipped = 0

    @property
    def ticked(self) -> bool:
        return "force" in self._fields

    async def read(self) -> None:
        """Raises: NotAllowed: another site's form. Malformed, StorageFull: before anything of it was taken."""
        intake.require_room(self._app, intake.announced_size(self._request) or 0)
        parts = Parts(self._request.headers.get("content-type", ""), most=FILES_MAX)
        try:
            async for event in parts.events(self._request):
                if isinstance(event, Part):
                    await self._begin(event)
                elif event is None:
                    await self._end()
                else:
                    await self._more(event)
            parts.require_end()
        except (Malformed, TooLarge, StorageFull) as error:
            # what follows of the body cannot be told from what belongs to this file
            self._verify()
            self._refuse(error)
            await intake.drain(self._request)
        finally:
            self._close()
        self._verify()
        if not self.outcomes:
            self._refuse(Malformed("Choose at least one file."))

    def _verify(self) -> None:
        require_token(self._request, self._fields.get(TOKEN_FIELD, b"").decode("latin-1"))

    async def _begin(self, part: Part) -> None:
        self._text = None
        if part.field != "file":
            self._text = self._fields.setdefault(part.field[:FIELD_MAX], bytearray())
            return
        self._verify()
        self._name = (part.filename or "")[:NAME_MAX]
        if not self._name:
            return  # a field in which nothing was chosen
        try:
            self._actor, self._file = await intake.admit(self._request, self._channel)
            self._offer = Offer(self._channel, Filename.parse(self._name), force=self.ticked, same_is_fine=True)
        except FairwayError as error:
            self._refuse(error)
            self._close()
        else:
            self._body = intake.Buffered(self._file)

    async def _more(self, data: bytes) -> None:
        if self._text is not None:
            keep(self._text, data, most=FIELD_MAX)
        elif self._body is None or self._actor is None:
            self._skipped += len(data)
            if self._skipped > self._app.settings.max_file_size:
                raise TooLarge("The rest of the form was not read.")
        else:
            self._body.write(data)
            await self._body.settle()
            self._app.counts.used(self._actor, now=self._app.now())

    async def _end(self) -> None:
        if self._file is None or self._body is None or self._actor is None or self._offer is None:
            return
        try:
            published = await intake.take(self._app, self._actor, self._file, self._body, self._offer)
        except FairwayError as error:
            self._refuse(error)
        else:
            count(self._request, "accepted")
            self.outcomes.append(Outcome(self._name, facts_of(self._request, published)))
        finally:
            self._close()

    def _refuse(self, error: FairwayError) -> None:
        count(self._request, error.code)
        self.outcomes.append(Outcome(self._name, error=error))

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._body = self._actor = self._offer = None
