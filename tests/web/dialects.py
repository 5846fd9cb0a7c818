"""The three ways to send a file, as the bytes that clients send, and how each says no."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

DIALECTS = ("put", "multipart", "raw")
BOUNDARY = "fairway-test-boundary"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Refusal:
    """`sentence` is what a person gets to read."""

    status: int
    code: str
    sentence: str


def request(
    dialect: str,
    channel: str,
    package: tuple[str, bytes],
    key: str | None,
    *,
    sha256: str | None = None,
    subdir: str | None = None,
    **params: str,
) -> Request:
    """An upload. `sha256` is what the client announces; only a PUT can say a subdir."""
    filename, data = package
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    if dialect == "put":
        if sha256 is not None:
            params["sha256"] = sha256
        place = filename if subdir is None else f"{subdir}/{filename}"
        return Request("PUT", f"/api/v1/channels/{channel}/artifacts/{place}{query(params)}", headers, data)
    assert subdir is None, "the dialect of prefix.dev has no place for a subdir"
    about = {"X-File-Name": filename} | ({} if sha256 is None else {"X-File-SHA256": sha256})
    if dialect == "raw":
        headers |= about | {"Content-Type": "application/octet-stream"}
    else:
        headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
        data = form(filename, data, about)
    return Request("POST", f"/api/v1/upload/{channel}{query(params)}", headers, data)


def query(params: Mapping[str, str]) -> str:
    return f"?{urlencode(params)}" if params else ""


def form(filename: str, data: bytes, headers: Mapping[str, str]) -> bytes:
    """A form as rattler sends it."""
    head = [
        f"--{BOUNDARY}",
        f'Content-Disposition: form-data; name="file"; filename="{filename}"',
        "Content-Type: application/octet-stream",
        f"Content-Length: {len(data)}",
        *(f"{name.lower()}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*head, "", ""]).encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def refusal(dialect: str, status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Read a refusal in the form its dialect promises."""
    text = body.decode()
    if dialect == "put":
        assert headers["content-type"] == "application/problem+json", (status, headers["content-type"], text)
        said = json.loads(text)
        assert set(said) == {"code", "title", "status", "detail", "message"}
        assert said["status"] == status
        assert said["detail"] == said["message"]
        code, sentence = said["code"], said["detail"]
    else:
        assert headers["content-type"].startswith("text/plain"), (status, headers["content-type"], text)
        code, sentence = headers["fairway-error"], text.removesuffix("\n")
    assert "\n" not in sentence
    assert sentence.endswith((".", "?", "'"))
    assert 10 < len(sentence) <= 500  # clients cut at 512
    assert headers["cache-control"] == "no-store"
    assert ("retry-after" in headers) is (status in {503, 507})
    return Refusal(status, code, sentence)


async def ask_slowly(
    app: Any, asked: Request, pieces: list[dict[str, Any]], *, drop: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """Call an ASGI application with a client that sends these messages and then nothing more, for ever; or `drop` each
    second, if there is one.
    """
    path, _, query = asked.path.partition("?")
    headers = [(name.lower().encode(), value.encode()) for name, value in asked.headers.items()]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": asked.method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if pieces:
            return pieces.pop(0)
        if drop:
            await asyncio.sleep(1)
            return {"type": "http.request", "body": drop, "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    said = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], said, b"".join(message.get("body", b"") for message in sent[1:])
