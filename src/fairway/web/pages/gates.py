"""Who gets to a page that changes a channel: somebody who is signed in and may do that.

Whether they may comes first, because nobody may learn from where they are sent whether there is such a channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.web.deps import actor_of, allow, app_of, confirmed, signed_in


def may(action: Action, *, lately: bool = False) -> Callable[[Request, str], Actor]:
    """Who is signed in and may do this to the channel of the address; `lately`: who gave the password a short while ago.

    The function it makes raises as access.require does, and Elsewhere: to sign in, or to give the password again.
    """

    def judge(request: Request, channel: str) -> Actor:
        allow(app_of(request), actor_of(request), action, channel)
        return confirmed(request) if lately else signed_in(request)

    return judge


Reader = Annotated[Actor, Depends(may(Action.READ))]
Uploader = Annotated[Actor, Depends(may(Action.UPLOAD))]
Maintainer = Annotated[Actor, Depends(may(Action.DELETE))]
SureReleaser = Annotated[Actor, Depends(may(Action.RELEASE, lately=True))]
Manager = Annotated[Actor, Depends(may(Action.MANAGE))]
SureManager = Annotated[Actor, Depends(may(Action.MANAGE, lately=True))]
