"""The pages of a channel: its packages, its README, its downloads; and the page that makes one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from fairway.conda.names import ChannelName
from fairway.errors import Invalid, NameTaken, RemoteError
from fairway.registry import access, channels, listing, oversight, statistics, upstreams
from fairway.registry.access import Action
from fairway.registry.actor import Actor, Visibility
from fairway.registry.listing import Head, Sort
from fairway.registry.paging import CURSOR_MAX
from fairway.web import attaching
from fairway.web.deps import App, SignedIn, Visitor, allow, limits_of, may_search, signed_in
from fairway.web.pages import clients, links, markdown
from fairway.web.pages.forms import Form, PageRoute, Sent, see_other
from fairway.web.pages.render import page

router = APIRouter(include_in_schema=False, route_class=PageRoute)

SHOWN = 50
SORTS = ((Sort.NAME, "By name"), (Sort.UPDATED, "Latest first"), (Sort.DOWNLOADS, "Most downloaded"))
DAYS = (30, 90, 365)
TOP = 20
VISIBILITIES = (
    (Visibility.PRIVATE, "Private", "Only its members, with an API key. Nobody else learns that it exists.", "lock"),
    (Visibility.INTERNAL, "Internal", "Everybody with an account on this server.", "people"),
    (Visibility.PUBLIC, "Public", "Everybody, without a key.", "globe"),
)

Cursor = Annotated[str, Query(max_length=CURSOR_MAX)]
Short = Annotated[str, Query(max_length=128)]


# --- making one ------------------------------------------------------------------------------------------------------


@router.get("/channels/new", dependencies=[Depends(signed_in)])
def new(request: Request) -> Response:
    """Ask for what a channel begins with."""
    return show_new(request, Form.of(visibility=Visibility.PRIVATE))


def show_new(request: Request, form: Form) -> Response:
    if attaching.may_hold_secret(form.text("address")):
        form.empty("address")
    offered = [("", "None"), *((one.name, f"{one.name}: {one.title}") for one in upstreams.PRESETS)]
    return page(request, "channel/new.html", form.status, form=form, visibilities=VISIBILITIES, upstreams=offered)


@router.post("/channels/new")
def create(request: Request, app: App, actor: SignedIn, form: Sent) -> Response:
    """Make it, and go there: an empty channel's page says how it is filled."""
    limits_of(request).channels.take(actor.user_id)
    chosen = form.value("visibility", Visibility.PRIVATE)
    if chosen not in {str(one) for one in Visibility}:
        form.refuse("visibility", "Choose who can see it.")
        return show_new(request, form)
    upstream = None
    if wanted := form.text("address") or form.value("upstream"):
        try:
            upstream = attaching.settings(app, upstreams.Settings(wanted))
        except (Invalid, RemoteError) as error:
            form.refuse("address" if form.text("address") else "upstream", error.detail)
            return show_new(request, form)
    try:
        with app.database.write() as session:
            made = channels.create_channel(
                session,
                actor,
                form.text("name"),
                visibility=Visibility(chosen),
                description=form.text("description"),
                now=app.now(),
            )
            if upstream is not None:
                session.flush()  # whose channel it is has to be a row before it is asked
                upstreams.attach(session, actor, made.name, upstream, site=app.settings.url, now=app.now())
    except (Invalid, NameTaken) as error:
        form.blame(error, {"description_invalid": "description", "upstream_invalid": "address"}, otherwise="name")
        return show_new(request, form)
    return see_other(request, f"/channels/{made.name}", "created")


@router.get("/channels/new/name", dependencies=[Depends(signed_in), Depends(may_search)])
def check_name(request: Request, app: App, actor: SignedIn, name: Short = "") -> Response:
    """Whether a channel could be called that, as far as one may see. That a hidden one has the name only making it tells:
    that may be tried a few times an hour, and this with every key that is typed.
    """
    problem = None
    name = name.strip()
    if name:
        try:
            with app.database.read() as session:
                wanted = ChannelName.parse(name)
                if access.readable(session, actor, wanted):
                    channels.require_free(session, wanted)
        except (Invalid, NameTaken) as error:
            problem = error.detail
    return page(request, "channel/name.html", name=name, problem=problem)


# --- its pages -------------------------------------------------------------------------------------------------------


@router.get("/channels/{channel}")
def packages(
    request: Request,
    app: App,
    actor: Visitor,
    channel: str,
    q: Short = "",
    platform: Short = "",
    sort: Sort = Sort.NAME,
    cursor: Cursor = "",
) -> Response:
    """A channel's packages, and how each client uses it."""
    allow(app, actor, Action.READ, channel)
    with app.database.read() as session:
        head = listing.enter(session, actor, channel)
        platforms = listing.subdirs(session, head)
        found = listing.packages(
            session, head, text=q, platform=platform or None, sort=sort, cursor=cursor, limit=SHOWN, now=app.now()
        )
        owners = oversight.owners_of(session, [head.id]).get(head.id, ())
    address = f"{app.settings.url}/{head.name}"
    return page(
        request,
        "channel/packages.html",
        **framed(request, head, owners),
        platforms=platforms,
        packages=found.items,
        asked={"q": q, "platform": platform, "sort": sort},
        sorts=SORTS,
        use=clients.use_channel([address], private=head.visibility is not Visibility.PUBLIC),
        fill=clients.fill(app.settings.url, head.name),
        **links.turns(request, found),
    )


@router.get("/channels/{channel}/readme")
def readme(request: Request, app: App, actor: Visitor, channel: str) -> Response:
    """What its owners say of it."""
    with app.database.read() as session:
        head = entered(app, session, actor, channel)
        text = channels.readme_of(session, head.id)
    return page(request, "channel/readme.html", **framed(request, head), readme=markdown.render(text) if text else "")


@router.get("/channels/{channel}/statistics")
def downloads(
    request: Request, app: App, actor: Visitor, channel: str, days: Annotated[int, Query(ge=1, le=365)] = 30
) -> Response:
    """Downloads by day, and what was downloaded most."""
    with app.database.read() as session:
        head = entered(app, session, actor, channel)
        shown = statistics.of_channel(session, head.id, days=days, most=TOP, now=app.now())
    return page(
        request,
        "channel/statistics.html",
        **framed(request, head),
        by_day=dated(shown.first_day, shown.days),
        top=shown.packages,
        days=days,
        choices=DAYS,
    )


def entered(app: App, session: Session, actor: Actor, channel: str, action: Action = Action.READ) -> Head:
    """The channel, for who may do this to it; raises as access.require does. Whoever may not learns nothing from how
    long that takes.
    """
    allow(app, actor, action, channel)
    return listing.enter(session, actor, channel, action)


def framed(request: Request, head: Head, owners: Sequence[str] = ()) -> dict[str, Any]:
    """What every page of a channel shows."""
    at = links.channel(request, head.name)
    tabs: list[tuple[str, str, str, int | None]] = [
        ("packages", "Packages", at, head.packages),
        ("readme", "README", f"{at}/readme", None),
        ("related", "Related channels", f"{at}/related", None),
        ("statistics", "Statistics", f"{at}/statistics", None),
    ]
    if head.role is not None or head.may(Action.SEE_MEMBERS):
        tabs.append(("members", "Members", f"{at}/members", None))
    if head.may(Action.MANAGE):
        tabs.append(("settings", "Settings", f"{at}/settings", None))
    elif head.may(Action.DELETE):
        tabs.append(("settings", "Deleted files", f"{at}/trash", None))
    may = {action.name.lower(): head.may(action) for action in Action}
    return {"head": head, "tabs": tabs, "may": may, "owners": owners}


def dated(first: int, counts: tuple[int, ...]) -> list[tuple[str, int]]:
    """Counts of days since 1970, each with its date."""
    return [(statistics.date_of(first + n), count) for n, count in enumerate(counts)]
