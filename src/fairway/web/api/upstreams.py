"""The channel elsewhere that a channel serves as well."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from fairway.conda.choice import Choice, check_platforms
from fairway.errors import NotFound
from fairway.registry import conflicts, estimating, reserved
from fairway.registry import upstreams as registry
from fairway.registry.access import Action
from fairway.web import attaching
from fairway.web.api.bodies import JsonRoute
from fairway.web.api.channels import ChannelPath
from fairway.web.api.models import (
    ChangedFile,
    ChangedFileName,
    KeptName,
    NewUpstream,
    ReleasedName,
    Strict,
    Upstream,
    Wanted,
)
from fairway.web.attaching import Secret
from fairway.web.deps import App, Who, allow, limits_of, may_have_looked

router = APIRouter(tags=["channels"], route_class=JsonRoute)


class NewEstimate(Strict):
    """What a mirror is to hold, as in `NewUpstream`. `wanted` null: everything; `platforms` null: whatever the upstream has."""

    platforms: list[Annotated[str, Field(max_length=32)]] | None = None
    wanted: Wanted | None = None


class EstimatedPlatform(BaseModel):
    name: str
    packages: int
    records: int
    size: int

    @classmethod
    def of(cls, share: estimating.Share) -> EstimatedPlatform:
        return cls(name=share.subdir, packages=share.names, records=share.records, size=share.size)


class Estimate(BaseModel):
    """How much a mirror would hold: `records`, each of which stands for a file, and the bytes of these files in `size`.

    `extent` says what it was made of: `whole`, the index as it was read here last; `part`, as much of it as was read so far or
    could be looked at in the time, so that there is more; `unread`, nothing, since the index was not read yet as the settings are now; `chosen`, nothing,
    since only what the mirror's own choice wants is known here.
    """

    extent: Literal["whole", "part", "unread", "chosen"]
    records: int
    size: int
    platforms: list[EstimatedPlatform]

    @classmethod
    def of(cls, found: estimating.Estimate) -> Estimate:
        shares = [EstimatedPlatform.of(share) for share in found.shares]
        return cls(extent=found.extent.value, records=found.records, size=found.size, platforms=shares)


@router.get("/api/v1/channels/{channel}/upstream")
def show_upstream(app: App, actor: Who, channel: ChannelPath) -> Upstream:
    """The upstream of a channel, and how the last look at it went; 404 if it has none. No credential is ever shown."""
    allow(app, actor, Action.READ, channel)
    with app.database.read() as session:
        view = registry.show(session, actor, channel)
    if view is None:
        raise NotFound(f"The channel {channel} has no upstream.")
    return Upstream.of(view)


@router.put("/api/v1/channels/{channel}/upstream")
def set_upstream(request: Request, app: App, actor: Who, channel: ChannelPath, body: NewUpstream) -> Upstream:
    """Let a channel serve an upstream as well, or change how; it is read at once, in the background. With another
    address, what was of the first goes.
    """
    allow(app, actor, Action.MANAGE, channel)
    may_have_looked(request, actor)
    given = body.credential
    chosen = attaching.settings(
        app,
        registry.Settings(
            url=body.url,
            mode=body.mode,
            every=body.every,
            merge=body.merge,
            keep=body.keep,
            subdirs=None if body.platforms is None else tuple(body.platforms),
            wanted=None if body.wanted is None else body.wanted.model_dump(exclude_defaults=True) or None,
        ),
        None if given is None else Secret(given.kind, given.secret, given.user),
    )
    forget = given is None and "credential" in body.model_fields_set
    with app.database.write() as session:
        view = registry.attach(session, actor, channel, chosen, forget=forget, site=app.settings.url, now=app.now())
    app.publisher.poke()
    return Upstream.of(view)


@router.delete("/api/v1/channels/{channel}/upstream", status_code=204)
def remove_upstream(app: App, actor: Who, channel: ChannelPath) -> Response:
    """Let a channel serve only what is its own again. What was fetched of the upstream goes with it."""
    allow(app, actor, Action.MANAGE, channel)
    with app.database.write() as session:
        registry.detach(session, actor, channel, now=app.now())
    app.publisher.poke()
    return Response(status_code=204)


@router.post("/api/v1/channels/{channel}/upstream/refresh", status_code=202)
def refresh_upstream(app: App, actor: Who, channel: ChannelPath) -> Upstream:
    """Have the upstream looked at now, in the background; for maintainers and owners. 202 too while it is looked at
    already, and 429 for some seconds after that.
    """
    allow(app, actor, Action.REINDEX, channel)
    with app.database.write() as session:
        return Upstream.of(registry.refresh_soon(session, actor, channel, now=app.now()))


@router.post("/api/v1/channels/{channel}/upstream/estimate")
def estimate_mirror(request: Request, app: App, actor: Who, channel: ChannelPath, body: NewEstimate) -> Estimate:
    """Say how much a mirror of the channel's upstream would hold, out of the index that was read here; nothing is saved or
    fetched, and the upstream is not asked. 404 if the channel has no upstream.
    """
    allow(app, actor, Action.MANAGE, channel)
    limits_of(request).estimates.take(actor.user_id)
    check_platforms(body.platforms or ())
    choice = Choice() if body.wanted is None else Choice.parse(body.wanted.model_dump(exclude_defaults=True))
    with app.database.read() as session:
        view = registry.show(session, actor, channel)
        if view is None:
            raise NotFound(f"The channel {channel} has no upstream.")
        return Estimate.of(estimating.estimate(session, view.channel_id, view.url, choice, body.platforms))


@router.get("/api/v1/channels/{channel}/upstream/conflicts")
def list_conflicts(app: App, actor: Who, channel: ChannelPath) -> list[ChangedFile]:
    """The files of which the upstream says another hash than at first, a thousand at most; the first is served."""
    allow(app, actor, Action.MANAGE, channel)
    with app.database.read() as session:
        return [ChangedFile.of(one) for one in conflicts.found(session, actor, channel)]


@router.post("/api/v1/channels/{channel}/upstream/accept", status_code=202)
def accept_conflict(request: Request, app: App, actor: Who, channel: ChannelPath, body: ChangedFileName) -> ChangedFile:
    """Take what the upstream says of a file now for right: ours goes, and the new one is in the index after the next look,
    which begins at once.
    """
    allow(app, actor, Action.MANAGE, channel)
    may_have_looked(request, actor)
    with app.database.write() as session:
        found = conflicts.accept(session, actor, channel, body.subdir, body.filename, now=app.now())
    app.publisher.poke()
    return ChangedFile.of(found)


@router.get("/api/v1/channels/{channel}/upstream/reserved")
def list_reserved(app: App, actor: Who, channel: ChannelPath) -> list[KeptName]:
    """The names that stay the channel's although all their files are deleted, a thousand at most: nothing that the upstream
    has of them is served. For maintainers and owners. None where there is no upstream, or names are merged.
    """
    allow(app, actor, Action.RELEASE, channel)
    with app.database.read() as session:
        return [KeptName.of(one) for one in reserved.names(session, actor, channel)]


@router.post("/api/v1/channels/{channel}/upstream/release")
def release_name(app: App, actor: Who, channel: ChannelPath, body: ReleasedName) -> KeptName:
    """Let such a name be the upstream's. From then on whatever the upstream has of it, now or later, is served here: whoever
    can publish there can put a package of this name onto machines that still ask for yours (dependency confusion).
    """
    allow(app, actor, Action.RELEASE, channel)
    with app.database.write() as session:
        found = reserved.release(session, actor, channel, body.name, now=app.now())
    app.publisher.poke()
    return KeptName.of(found)
