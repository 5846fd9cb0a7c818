"""The first page of a package: what it is, how it is installed, and which channels that takes.

To look at a page starts no solver, whoever looks: what is not at hand is asked for by a script or by who follows a link,
at an address of its own that waits, and what one caller may have solved is limited. The answer is about what its asker
may read, as everything in `registry.solving`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from fairway.conda import version as versions
from fairway.conda.names import NOARCH
from fairway.errors import NotFound, RateLimited, Unavailable
from fairway.registry import dependencies, listing, relating, reserved, solving, virtual
from fairway.registry.access import Action
from fairway.registry.actor import Actor, Visibility
from fairway.registry.packages import PackageHead
from fairway.registry.solving import Asked, Needed, NeededChannel
from fairway.registry.virtual import System
from fairway.web.deps import App, Visitor, counted, limits_of
from fairway.web.pages import clients, markdown
from fairway.web.pages.channel import entered
from fairway.web.pages.channel import framed as framed_channel
from fairway.web.pages.clients import Line
from fairway.web.pages.forms import PageRoute
from fairway.web.pages.package import CHOICES, PACKAGE, Short, framed, known_versions, opened
from fairway.web.pages.render import page

router = APIRouter(include_in_schema=False, route_class=PageRoute)

NEEDS_SHOWN = 24
SHARED_SHOWN = 6
COMMON = ("linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64")
"""What is offered for a package that runs anywhere."""

LINKS = {
    "home": "Homepage",
    "documentation": "Documentation",
    "source": "Source",
    "doc_source": "Source of the documentation",
    "source_archive": "Source archive",
}


class Trait(NamedTuple):
    """Something of a machine that packages may depend on. `usual` is what is taken if nobody says."""

    name: str
    label: str
    platforms: tuple[str, ...]
    usual: str


TRAITS = (
    Trait("glibc", "glibc", ("linux",), virtual.GLIBC),
    Trait("linux", "Linux", ("linux",), virtual.LINUX),
    Trait("osx", "macOS", ("osx",), virtual.OSX),
    Trait("cuda", "CUDA", ("linux", "win"), virtual.NONE),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody wants to install, and on what; empty is the newest version, and what is usual."""

    version: str
    platform: str
    glibc: str
    linux: str
    osx: str
    cuda: str

    @property
    def query(self) -> str:
        return urlencode({key: value for key, value in asdict(self).items() if value})

    def system(self, package: PackageHead) -> System:
        """Raises: Malformed."""
        return virtual.system(
            self.platform or solving.usual(package.platforms).platform,
            glibc=self.glibc or None,
            linux=self.linux or None,
            osx=self.osx or None,
            cuda=self.cuda or None,
        )


def chosen(
    version: Short = "", platform: Short = "", glibc: Short = "", linux: Short = "", osx: Short = "", cuda: Short = ""
) -> Choice:
    return Choice(version, platform, glibc, linux, osx, cuda)


Chosen = Annotated[Choice, Depends(chosen)]


@dataclass(frozen=True, slots=True)
class Answer:
    """Which channels a package needs, as far as that is known. `state`: it is found; nobody has asked yet, so that the page
    does; it is not asked now, for the reason that `said` gives; or it is not asked at all.

    `channels` are those of the commands: without an answer the related ones. `counts` says how many packages come from
    each, `closed` which are not for everybody.
    """

    state: Literal["found", "asking", "refused", "none"]
    found: Needed | None
    channels: Sequence[NeededChannel]
    commands: Sequence[Line]
    at: str
    said: str = ""

    @property
    def counts(self) -> Mapping[str, int]:
        return Counter(one.channel for one in self.found.packages) if self.found else {}

    @property
    def closed(self) -> list[str]:
        return [one.name for one in self.channels if one.visibility is not Visibility.PUBLIC]

    @property
    def strangers(self) -> list[str]:
        """Channels that only happen to have what is needed."""
        return [one.name for one in self.channels if not one.related]

    @property
    def spoken(self) -> str:
        """For those who hear the page: what has come in."""
        if self.found is None:
            return self.said
        if not self.found.solvable:
            return f"{self.found.name} cannot be installed on {self.found.platform}."
        return f"Needed channels: {', '.join(one.name for one in self.channels)}."

    @property
    def sized(self) -> bool:
        """Whether every package says how large it is."""
        return self.found is not None and all(one.size is not None for one in self.found.packages)


@router.get(PACKAGE)
def overview(request: Request, app: App, actor: Visitor, channel: str, name: str, choice: Chosen) -> Response:
    """What it is, and how it is installed. Of a name that is kept from the upstream, who may release it sees why there is
    nothing.
    """
    try:
        return shown(request, app, actor, channel, name, choice, wait=False)
    except NotFound:
        with app.database.read() as session:
            head = entered(app, session, actor, channel)
            kept = reserved.one(session, head.id, name) if head.may(Action.RELEASE) else None
        if kept is None:
            raise
    return page(request, "package/kept.html", **framed_channel(request, head), kept=kept)


@router.get(f"{PACKAGE}/needed")
def needed(request: Request, app: App, actor: Visitor, channel: str, name: str, choice: Chosen) -> Response:
    """The same page, with the channels it needs found out."""
    return shown(request, app, actor, channel, name, choice, wait=True)


def shown(request: Request, app: App, actor: Actor, channel: str, name: str, choice: Choice, *, wait: bool) -> Response:
    with app.database.read() as session:
        head, package = opened(app, session, actor, channel, name)
        recent = listing.package_days(session, [package.id], now=app.now())[package.id]
        known = known_versions(session, head, package)
        if choice.version and choice.version not in known:
            raise NotFound(f"There is no version {choice.version[:80]} of {name} in {channel}.")
        placed = relating.order(session, head.id)
        needs = []
        if not choice.version:
            needs = dependencies.needed(session, actor, package, placed, limit=NEEDS_SHOWN + 1)
        related = solving.readable(session, actor, placed)
        asked = Asked(
            channel_id=head.id,
            name=package.name,
            version=versions.parse(choice.version) if choice.version else None,
            system=choice.system(package),
            related=tuple(related),
        )
        yanked = known.get(choice.version)
        found = None
        asks = bool(package.version) and yanked is None  # what is yanked is in no index
        if asks:
            found = app.solving.at_hand(session, actor, head.name, asked, related)
    said = ""
    if asks and wait and found is None:
        found, said = find_out(request, app, actor, head.name, asked)
    frame = framed(request, head, package)
    return page(
        request,
        "package/overview.html",
        **frame,
        recent=recent,
        choice=choice,
        versions=[one for one, reason in known.items() if one == choice.version or reason is None][:CHOICES],
        yanked=yanked,
        platforms=platforms_of(package, asked.system.platform),
        platform=asked.system.platform,
        **machine(asked.system.platform, choice),
        answer=answered(app, asked, list(related.values()), found, said, asks=asks, at=frame["at"], choice=choice),
        shared_shown=SHARED_SHOWN,
        needs=needs[:NEEDS_SHOWN],
        more_needs=len(needs) > NEEDS_SHOWN,
        description=markdown.render(package.description) if package.description else "",
        references=[(LINKS[key], address) for key, address in package.links.items() if key in LINKS],
    )


def find_out(request: Request, app: App, actor: Actor, channel: str, asked: Asked) -> tuple[Needed | None, str]:
    """The answer, waited for; or why there is none now."""
    try:
        limits_of(request).solves.take(counted(request))
        return app.solving.which(actor, channel, asked.name, asked.system, asked.version), ""
    except RateLimited as error:
        return None, (
            "You have asked very often in the last minute which channels packages need. "
            f"You can ask again in {error.seconds} second{'' if error.seconds == 1 else 's'}."
        )
    except Unavailable as error:
        return None, error.detail


def answered(
    app: App,
    asked: Asked,
    related: list[NeededChannel],
    found: Needed | None,
    said: str,
    *,
    asks: bool,
    at: str,
    choice: Choice,
) -> Answer:
    state: Literal["found", "asking", "refused", "none"] = "none"
    if found is not None:
        state = "found"
    elif said:
        state = "refused"
    elif asks:
        state = "asking"
    channels = related if found is None or not found.channels else list(found.channels)
    version = choice.version and (found.version if found is not None and found.solvable else choice.version)
    lines = clients.install(
        asked.name,
        version or None,
        [f"{app.settings.url}/{one.name}" for one in channels],
        private=any(one.visibility is not Visibility.PUBLIC for one in channels),
        of=f"{app.settings.url}/{found.channel}" if found is not None and found.hidden_by is not None else None,
    )
    query = choice.query
    return Answer(state, found, channels, lines, f"{at}/needed{'?' if query else ''}{query}", said)


def platforms_of(package: PackageHead, platform: str) -> list[str]:
    """Those that can be chosen."""
    found = {one for one in package.platforms if one != NOARCH} | {platform}
    return sorted(found | set(COMMON) if NOARCH in package.platforms else found)


def machine(platform: str, choice: Choice) -> dict[str, Any]:
    """What can be said of a machine of that platform, what was said, and all of it in words."""
    kind = platform.partition("-")[0]
    traits = [one for one in TRAITS if kind in one.platforms]
    given = {one.name: getattr(choice, one.name) for one in traits}
    words = []
    for one in traits:
        value = given[one.name] or one.usual
        words.append(f"no {one.label}" if value == virtual.NONE else f"{one.label} {value}")
    return {"traits": traits, "given": given, "machine": ", ".join(words)}
