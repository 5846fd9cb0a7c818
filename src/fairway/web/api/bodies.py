"""What is sent to change something, in JSON: read only from somebody with a key, and neither without end nor for ever.

The framework reads a whole body before it asks who sent it. Nobody needs a key to send one, so that would let anybody
fill the memory, or keep a connection for as long as they like.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from anyio.to_thread import run_sync
from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Message

from fairway.errors import Malformed, TooLarge
from fairway.registry import access
from fairway.registry.actor import INVALID, NOBODY
from fairway.web.credentials import BAD
from fairway.web.deps import actor_of

READING = ("GET", "HEAD")
LARGEST = 1 << 20
WHOLE_SECONDS = 30.0

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class JsonRoute(APIRoute):
    """Before the framework does anything for a request that writes: who sends it is known, and its body is here."""

    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()

        async def judged(request: Request) -> Response:
            if request.method in READING:
                return await handle(request)
            await require_known(request)
            return await handle(request if self.body_field is None else replayed(request, await whole(request)))

        return judged


async def require_known(request: Request) -> None:
    """Pass for somebody with a good key. Raises: AuthRequired, TokenInvalid, Unavailable.

    Who sent no key, or what can be none, is refused without a thread: they are few, and strangers many.
    """
    token: str | None = request.scope["visit"].token
    if token is None:
        access.require_known(NOBODY)
    elif token == BAD:
        access.require_known(INVALID)
    else:
        access.require_known(await run_sync(actor_of, request))


async def whole(request: Request) -> bytes:
    """The body. Raises: TooLarge, Malformed."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 12 or int(announced) > LARGEST):
        raise too_large()
    body = bytearray()
    try:
        # in all, not for each piece: a byte now and then would keep the connection too
        async with asyncio.timeout(WHOLE_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST:
                    raise too_large()
    except TimeoutError:
        raise Malformed(
            f"The body was not here within {WHOLE_SECONDS:.0f} seconds; it was given up.", code="upload_timeout"
        ) from None
    except ClientDisconnect:
        raise Malformed("The connection ended before the body did.", code="body_length") from None
    return bytes(body)


def too_large() -> TooLarge:
    return TooLarge(f"The body is larger than {LARGEST} bytes, which is the limit for JSON.")


def replayed(request: Request, body: bytes) -> Request:
    """The request with a body that was read already."""
    left = [body]

    async def receive() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await request.receive()

    return Request(request.scope, receive)
