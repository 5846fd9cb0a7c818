"""Which channels a package needs, asked of a solver."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from fairway.registry import virtual
from fairway.registry.access import Action
from fairway.registry.actor import Visibility
from fairway.registry.solving import USUAL, Needed
from fairway.web.api.bodies import JsonRoute
from fairway.web.api.channels import ChannelPath
from fairway.web.api.models import VisibilityName
from fairway.web.deps import App, Who, allow, counted, limits_of
from fairway.web.pages import clients

router = APIRouter(tags=["packages"], route_class=JsonRoute)


class SolvedChannel(BaseModel):
    """`related`: it is the package's own, or this says that it builds on it or goes before it. Others only happen to have
    what is needed: look at them before you trust them.
    """

    name: str
    url: str
    visibility: VisibilityName
    related: bool


class SolvedPackage(BaseModel):
    name: str
    version: str
    build: str
    channel: str
    subdir: str
    filename: str
    size: int | None


class Command(BaseModel):
    client: Literal["pixi", "conda", "mamba", "micromamba"]
    text: str
    note: str | None


class Solution(BaseModel):
    """If it is `solvable`, `channels` is the smallest list that does, in the order of their priority: a name comes from the
    first that has it. `packages` is what is then installed, and `commands` the lines to copy. `version` is what is
    installed; if the `newest` cannot be, `reason` says why. `smallest` is false where not every smaller list could be
    tried. `shared` are packages that several of the channels have, so that their order matters. `hidden_by` is a channel
    that comes first and has a package of this name too, which clients take unless they are told the channel.

    If it is not, `reason` says why in a sentence and `explanation` in the solver's words, and `unmet` are dependencies that
    no channel has which you may read. `decided` is false where time ran out.
    """

    channel: str
    name: str
    platform: str
    solvable: bool
    decided: bool
    version: str
    newest: str
    channels: list[SolvedChannel]
    packages: list[SolvedPackage]
    size: int
    commands: list[Command]
    smallest: bool
    shared: list[str]
    hidden_by: str | None
    unmet: list[str]
    reason: str
    explanation: str

    @classmethod
    def of(cls, found: Needed, base: str, version: str | None) -> Solution:
        channels = [
            SolvedChannel(name=one.name, url=f"{base}/{one.name}", visibility=one.visibility.value, related=one.related)
            for one in found.channels
        ]
        return cls(
            channel=found.channel,
            name=found.name,
            platform=found.platform,
            solvable=found.solvable,
            decided=found.decided,
            version=found.version,
            newest=found.newest,
            channels=channels,
            packages=[
                SolvedPackage(
                    name=one.name,
                    version=one.version,
                    build=one.build,
                    channel=one.channel,
                    subdir=one.subdir,
                    filename=one.filename,
                    size=one.size,
                )
                for one in found.packages
            ],
            size=found.size,
            commands=commands(found, [one.url for one in channels], version),
            smallest=found.smallest,
            shared=list(found.shared),
            hidden_by=found.hidden_by,
            unmet=list(found.unmet),
            reason=found.reason,
            explanation=found.explanation,
        )


def commands(found: Needed, urls: list[str], version: str | None) -> list[Command]:
    """How each client installs it, from all the channels it needs."""
    if not urls:
        return []
    private = any(one.visibility is not Visibility.PUBLIC for one in found.channels)
    named = {one.name: url for one, url in zip(found.channels, urls, strict=True)}
    of = None if found.hidden_by is None else named[found.channel]
    lines = clients.install(found.name, version and found.version, urls, private=private, of=of)
    return [Command(client=line.client, text=line.text, note=line.note) for line in lines]  # type: ignore[arg-type]


@router.get("/api/v1/channels/{channel}/packages/{name}/solve")
def which_channels(
    app: App,
    actor: Who,
    request: Request,
    channel: ChannelPath,
    name: ChannelPath,
    platform: Annotated[
        str | None, Query(max_length=32, description="What it is to run on; by default linux-64, if there is one")
    ] = None,
    version: Annotated[str | None, Query(max_length=64, description="Of the package; the newest by default")] = None,
    glibc: Annotated[
        str | None, Query(max_length=32, description=f"Of Linux, `none` for another C library; default {virtual.GLIBC}")
    ] = None,
    linux: Annotated[str | None, Query(max_length=32, description=f"Of the kernel; default {virtual.LINUX}")] = None,
    osx: Annotated[str | None, Query(max_length=32, description=f"Of macOS; default {virtual.OSX}")] = None,
    cuda: Annotated[str | None, Query(max_length=32, description="Of the driver; none by default")] = None,
) -> Solution:
    """Which channels a package needs to be installed, found out by a real solve over the channels you may read: the
    smallest list in the right order, the lines to copy for each client, or why there is none.
    """
    allow(app, actor, Action.READ, channel)
    system = None
    if any(one is not None for one in (platform, glibc, linux, osx, cuda)):
        system = virtual.system(platform or USUAL, glibc=glibc, linux=linux, osx=osx, cuda=cuda)
    found = app.solving.known(actor, channel, name, system, version)
    if found is None:
        limits_of(request).solves.take(counted(request))
        found = app.solving.which(actor, channel, name, system, version)
    return Solution.of(found, app.settings.url, version)
