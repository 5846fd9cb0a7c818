"""Where a channel stands among others: the page that shows it, and the form in its settings that says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response

from fairway.errors import Invalid
from fairway.registry import channels, relating
from fairway.registry import relations as finding
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.registry.channels import Change
from fairway.registry.relations import Neighbour
from fairway.web.deps import App, Visitor, app_of
from fairway.web.pages import links
from fairway.web.pages.channel import SHOWN, Cursor, entered, framed
from fairway.web.pages.forms import Form, PageRoute, Sent, see_other
from fairway.web.pages.gates import Manager
from fairway.web.pages.render import page

DRAWN = 6
ABOVE = {"base": "goes before it", "overrides": "goes after it", "other": "not related"}
BELOW = {"base": "builds on it", "overrides": "goes before it", "other": "not related"}

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/channels/{channel}/related")
def related(request: Request, app: App, actor: Visitor, channel: str, cursor: Cursor = "") -> Response:
    """What the channel builds on, what builds on it, and what nobody has."""
    with app.database.read() as session:
        head = entered(app, session, actor, channel)
        found = finding.related(session, actor, head)
        unmet = finding.unmet(session, actor, head, cursor=cursor, limit=SHOWN)

    def boxes(neighbours: Sequence[Neighbour], words: Mapping[str, str]) -> list[tuple[str, str, str]]:
        return [
            (one.name, links.channel(request, one.name), f"{words[one.kind]}, {counted(one.met)}")
            for one in neighbours[:DRAWN]
        ]

    return page(
        request,
        "channel/related.html",
        **framed(request, head),
        found=found,
        unmet=unmet.items,
        above=boxes(found.builds_on, ABOVE),
        below=boxes(found.built_on_by, BELOW),
        **links.turns(request, unmet),
    )


def counted(met: int) -> str:
    return f"{met or 'no'} {'dependency' if met == 1 else 'dependencies'}"


@router.get("/channels/{channel}/settings/relations")
def relations(request: Request, actor: Manager, channel: str) -> Response:
    return show_relations(request, actor, channel, Form())


@router.post("/channels/{channel}/settings/relations")
def change_relations(request: Request, app: App, actor: Manager, channel: str, form: Sent) -> Response:
    """Keep which channels go before and after this one. A field that was left as it was shown says nothing: the channel
    it stands for may be one that this person is not shown now, such as one in the trash.
    """
    wanted = {kind: form.text(kind) for kind in relating.KINDS}
    said = {kind: None if form.every(f"{kind}-shown") == [name] else name for kind, name in wanted.items()}
    try:
        with app.database.write() as session:
            change = Change(base=said["base"], overrides=said["overrides"])
            channels.update_channel(session, actor, channel, change, now=app.now())
    except Invalid as error:
        named = [kind for kind, name in wanted.items() if name and name in error.detail.split()]
        form.refuse(named[0] if len(named) == 1 else "base" if wanted["base"] else "overrides", error.detail)
        return show_relations(request, actor, channel, form)
    app.publisher.poke()
    return see_other(request, f"/channels/{channel}/settings/relations", "saved")


def show_relations(request: Request, actor: Actor, channel: str, sent: Form) -> Response:
    app = app_of(request)
    with app.database.read() as session:
        head = entered(app, session, actor, channel, Action.MANAGE)
        said = relating.said(session, actor, head.id)
        placed = relating.order(session, head.id)
    kept = Form.of(**{kind: one.name for kind, one in said.items()})
    return page(
        request,
        "managing/relations.html",
        sent.status,
        **framed(request, head),
        form=sent if sent.fields else kept,
        shown={kind: sent.text(f"{kind}-shown") if sent.fields else kept.value(kind) for kind in relating.KINDS},
        idle=[one.name for one in said.values() if not one.in_effect],
        placed=placed,
    )
