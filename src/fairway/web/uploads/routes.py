"""How uploads are refused, wherever that happens: in the handler, or before it, as when the database cannot say whose
key it is.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute

from fairway.errors import FairwayError
from fairway.web.deps import app_of
from fairway.web.errors import plain, problem, unreadable
from fairway.web.uploads import intake

UPLOADING = ("PUT", "POST")

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


async def answer(request: Request, *, handle: Handle, refusal: Callable[..., Response]) -> Response:
    """What `handle` answers, or its refusal in the words of the dialect, counted."""
    try:
        response = await handle(request)
    except (FairwayError, RequestValidationError) as caught:
        error = unreadable(caught) if isinstance(caught, RequestValidationError) else caught
        outcome = error.code
        await intake.drain(request)
        response = refusal(error, realm=app_of(request).settings.url)
    else:
        outcome = "accepted"
    if request.method in UPLOADING:
        request.app.state.metrics.uploads.labels(outcome).inc()
    return response


class ProblemRoute(APIRoute):
    """Refuses in problem+json, once the body was read on for a while, so that the client gets to read the answer."""

    refusal = staticmethod(problem)

    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()

        return partial(answer, handle=handle, refusal=self.refusal)


class PlainRoute(ProblemRoute):
    """Refuses in one sentence of plain text: what the client dialects show to people."""

    refusal = staticmethod(plain)
