"""The least an ASGI application can do under the same server: `python -m bench.floor PORT FOLDER`.

POST and PUT read the body and say its length; GET answers a file's bytes from memory, or by pathsend above 1 MB.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server

KEPT: dict[str, bytes] = {}
JSON = [(b"content-type", b"application/json"), (b"content-length", b"16")]


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    if scope["method"] != "GET":
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 201, "headers": JSON})
        await send({"type": "http.response.body", "body": b'{"size":%-7d}' % (size % 10_000_000)})
        return
    path = Path(sys.argv[2]) / scope["path"].lstrip("/")
    body = KEPT.get(scope["path"])
    if body is None and path.stat().st_size < 1_000_000:
        body = KEPT[scope["path"]] = path.read_bytes()
    size = path.stat().st_size if body is None else len(body)
    head = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % size)]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    if body is None:
        await send({"type": "http.response.pathsend", "path": str(path)})
    else:
        await send({"type": "http.response.body", "body": body})


async def serve(port: int) -> None:
    server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False, websockets=False)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    await server.serve()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1])))
