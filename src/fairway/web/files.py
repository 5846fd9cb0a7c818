"""What conda clients fetch, thousands of times: index documents, shards, packages. In front of the router, raw ASGI.

Every request passes the same gate before anything else is looked at, so a channel that may not be read answers alike
whatever is asked of it. Answers come from memory, from the kernel (pathsend), by redirect to the object store, or are
streamed; none of them is compressed again, since that would break ranges, lengths and strong ETags.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any

import anyio
from anyio.to_thread import run_sync
from starlette.types import Receive, Scope, Send

from fairway.app import Fairway
from fairway.blobs import keys
from fairway.blobs.keys import Key
from fairway.conda.names import KNOWN_SUBDIRS
from fairway.errors import BlobMissing, Malformed, NotFound, Unavailable
from fairway.registry import access, browse, index
from fairway.registry.access import Action, Gate
from fairway.registry.actor import Actor, Visibility
from fairway.registry.lookup import File, Miss, Shelf
from fairway.web.conditional import Slice, Unsatisfiable, asked_slice, http_date, not_modified
from fairway.web.visit import Visit

CHANNELDATA, NOTICES = "channeldata.json", "notices.json"
NO_NOTICES = b'{"notices":[]}'
PACKAGE_SUFFIXES = (".conda", ".tar.bz2")
SHARD = re.compile(r"([0-9a-f]{64})\.msgpack\.zst", re.ASCII)
SIDECAR = re.compile(r"(.+(?:\.conda|\.tar\.bz2))\.sigs(?:\.([0-9a-f]{64}))?", re.ASCII)
DOCUMENTS = frozenset((index.SHARD_INDEX, *index.FLAT))

FOREVER = "max-age=31536000, immutable"
FLAT_WAIT_SECONDS = 2.0  # a reader of repodata.json waits this long for a build that is under way
PRESIGN_SECONDS = 120
HOT_BYTES = 64 << 20
HOT_ITEM = 4 << 20
READ_CHUNK = 1 << 20
CHANNELS_KEPT = 100


class What(Enum):
    DOCUMENT = "index"
    SHARD = "shard"
    PACKAGE = "package"
    SIDECAR = "attestations"
    CHANNELDATA = "channeldata"
    NOTICES = "notices"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Asked:
    """A path, understood: `name` is a document's name, a shard's hash or a file name."""

    what: What
    channel: str
    subdir: str = ""
    name: str = ""


@lru_cache(maxsize=4096)
def understand(path: str) -> Asked:
    """What a path under the root asks for. It does not say whether it is there."""
    parts = path.strip("/").split("/")
    if parts[0] == "get" and len(parts) > 1:  # quetz served its channels there
        parts = parts[1:]
    channel, rest = parts[0], parts[1:]
    if rest[:2] == ["label", "main"]:  # anaconda.org's name for the channel itself
        rest = rest[2:]
    match rest:
        case ["channeldata.json"]:
            return Asked(What.CHANNELDATA, channel)
        case ["notices.json"]:
            return Asked(What.NOTICES, channel)
        case [subdir, name] if name in DOCUMENTS:
            return Asked(What.DOCUMENT, channel, subdir, name)
        case [subdir, name] if name.endswith(PACKAGE_SUFFIXES):
            return Asked(What.PACKAGE, channel, subdir, name)
        case [subdir, name] if SIDECAR.fullmatch(name):
            return Asked(What.SIDECAR, channel, subdir, name)
        case [subdir, "shards", name] if match := SHARD.fullmatch(name):
            return Asked(What.SHARD, channel, subdir, match[1])
    return Asked(What.NOTHING, channel)


@dataclass(frozen=True, slots=True)
class Found:
    """What will be answered, before its bytes are touched. Sizes in bytes, times in ms."""

    sha256: str
    size: int
    media_type: str
    immutable: bool
    modified: int | None = None
    body: bytes | None = None
    key: Key | None = None
    artifact_id: int | None = None
    ask_always: bool = False


class Hot:
    """Small objects that were asked for lately, under their key: what is in here can never be stale."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def get(self, path: str) -> bytes | None:
        data = self._items.get(path)
        if data is not None:
            self._items.move_to_end(path)
        return data

    def put(self, path: str, data: bytes) -> None:
        if len(data) > HOT_ITEM or path in self._items:
            return
        self._items[path] = data
        self._size += len(data)
        while self._size > HOT_BYTES:
            _, gone = self._items.popitem(last=False)
            self._size -= len(gone)


class Files:
    """The read side of one Fairway."""

    def __init__(self, app: Fairway) -> None:
        self.app = app
        self.hot = Hot()
        self._channeldata: dict[int, tuple[int, Found]] = {}
        self._flat_waits: dict[int, asyncio.Task[bool]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        visit: Visit = scope["visit"]
        asked = understand(scope["path"])
        visit.route = asked.what.value
        headers = dict(scope["headers"])
        try:
            actor, gate = self._admit(visit, asked, rows=False)
            found = self._find(asked, gate, rows=False)
        except Miss:
            actor, gate = await run_sync(partial(self._admit, visit, asked, rows=True))
            found = await run_sync(partial(self._find, asked, gate, rows=True))
        if found is None:
            found = await self._slow(asked, gate)
        if actor.token_id is not None:
            visit.token_id = actor.token_id
            self.app.counts.used(actor.token_id, now=self.app.now())
        head = self._headers(found, gate, actor, visit)
        await self._answer(scope, send, found, head, headers)

    def _admit(self, visit: Visit, asked: Asked, *, rows: bool) -> tuple[Actor, Gate]:
        """The gate. Raises what access.require raises; nothing of the channel has been looked at before."""
        lookup = self.app.lookup
        actor = lookup.actor(visit.token, rows=rows)
        gate = lookup.gate(asked.channel, rows=rows)
        role = None if gate is None else lookup.role(actor, gate.id, rows=rows)
        access.require(actor, Action.READ, gate, role)
        if gate is None:  # require has raised already; this tells the type checker
            raise NotFound
        return actor, gate

    def _find(self, asked: Asked, gate: Gate, *, rows: bool) -> Found | None:
        """What is asked for; none if it has to be waited for or made. Raises: NotFound, Miss."""
        match asked.what:
            case What.PACKAGE:
                file = self.app.lookup.file(gate.id, asked.subdir, asked.name, rows=rows)
                return self._package(file, gate, asked)
            case What.SHARD:
                if asked.subdir not in KNOWN_SUBDIRS:
                    raise NotFound(f"There is no subdir {asked.subdir[:40]} in {gate.name}.")
                key = keys.shard(gate.id, asked.subdir, asked.name)
                body = self.hot.get(key.path)
                return None if body is None else Found(asked.name, len(body), key.media_type, True, body=body, key=key)
            case What.DOCUMENT:
                return self._document(asked, gate, rows=rows)
            case What.SIDECAR:
                return self._sidecar(asked, gate, rows=rows)
            case What.NOTICES:
                return small(NO_NOTICES, keys.JSON)
            case What.CHANNELDATA:
                kept = self._channeldata.get(gate.id)
                if kept is not None and kept[0] == self.app.lookup.level(gate.id, rows=rows):
                    return kept[1]
                return None
        raise NotFound(f"There is no such file in {gate.name}.")

    def _package(self, file: File | None, gate: Gate, asked: Asked) -> Found:
        if file is None:
            raise NotFound(f"There is no file {asked.subdir}/{asked.name} in {gate.name}.")
        key = keys.package(file.sha256)
        # where files may be replaced, a name does not stand for its bytes for ever
        lasting = not gate.allow_overwrite
        return Found(
            file.sha256, file.size, key.media_type, lasting, file.indexed_at, key=key, artifact_id=file.artifact_id
        )

    def _sidecar(self, asked: Asked, gate: Gate, *, rows: bool) -> Found:
        """CEP 50: `.sigs` is what is known now, `.sigs.<sha256>` never changes."""
        match = SIDECAR.fullmatch(asked.name)
        file = self.app.lookup.file(gate.id, asked.subdir, match[1], rows=rows) if match else None
        body = None if file is None else self.app.lookup.sidecar(file.artifact_id, rows=rows)
        if match is None or body is None:
            raise NotFound(f"There are no attestations {asked.subdir}/{asked.name} in {gate.name}.")
        found = small(body, keys.JSON)
        if match[2] is None:
            return replace(found, ask_always=True)
        if match[2] != found.sha256:
            raise NotFound(f"There are no attestations {asked.subdir}/{asked.name} in {gate.name}.")
        return replace(found, immutable=True)

    def _document(self, asked: Asked, gate: Gate, *, rows: bool) -> Found | None:
        if asked.subdir not in KNOWN_SUBDIRS:
            raise NotFound(f"There is no subdir {asked.subdir[:40]} in {gate.name}.")
        shelf = self.app.lookup.shelf(gate.id, asked.subdir, rows=rows)
        if shelf is not None and asked.name != index.SHARD_INDEX and shelf.flat_built < shelf.changed:
            return None  # wait for the build: a client without shards sees an upload as soon as one with
        return self._published(asked, gate, shelf)

    def _published(self, asked: Asked, gate: Gate, shelf: Shelf | None) -> Found:
        document = None if shelf is None else shelf.documents.get(asked.name)
        if shelf is not None and document is None and shelf.shards_built:
            # something was acknowledged already: an empty index would hand its names to the next channel
            raise Unavailable("The index of this subdir is being built for the first time; try again in a moment.")
        if shelf is None or document is None:
            return small(empty(asked.subdir)[asked.name], keys.MEDIA_TYPES[asked.name])
        sha256, size = document
        key = keys.document(gate.id, asked.subdir, asked.name, sha256)
        modified = shelf.shards_at if asked.name == index.SHARD_INDEX else shelf.flat_at
        return Found(sha256, size, key.media_type, False, modified, body=self.hot.get(key.path), key=key)

    async def _slow(self, asked: Asked, gate: Gate) -> Found:
        """What `_find` could not answer at once."""
        if asked.what is What.SHARD:
            key = keys.shard(gate.id, asked.subdir, asked.name)
            try:
                body = await run_sync(self.app.blobs.get, key)
            except BlobMissing:
                raise NotFound(f"There is no such shard in {gate.name}.") from None
            self.hot.put(key.path, body)
            return Found(asked.name, len(body), key.media_type, True, body=body, key=key)
        if asked.what is What.CHANNELDATA:
            return await run_sync(self._make_channeldata, gate.id)
        shelf = await run_sync(partial(self.app.lookup.shelf, gate.id, asked.subdir, rows=True))
        if shelf is not None:
            await self._flat(shelf)
            shelf = await run_sync(partial(self.app.lookup.shelf, gate.id, asked.subdir, rows=True))
        return self._published(asked, gate, shelf)

    async def _flat(self, shelf: Shelf) -> None:
        """Wait, but not long, for the flat documents. All readers of a subdir share one thread."""
        task = self._flat_waits.get(shelf.subdir_id)
        if task is None:
            wait = partial(self.app.publisher.wait_flat, shelf.subdir_id, shelf.changed, seconds=FLAT_WAIT_SECONDS)
            task = asyncio.ensure_future(run_sync(wait))
            self._flat_waits[shelf.subdir_id] = task
            task.add_done_callback(lambda _: self._flat_waits.pop(shelf.subdir_id, None))
        with anyio.move_on_after(FLAT_WAIT_SECONDS):
            await asyncio.shield(task)

    def _make_channeldata(self, channel_id: int) -> Found:
        level = self.app.lookup.level(channel_id, rows=True)
        with self.app.database.read() as session:
            body = browse.channel_data(session, channel_id)
        found = Found(hashlib.sha256(body).hexdigest(), len(body), keys.JSON, False, body=body)
        if len(self._channeldata) > CHANNELS_KEPT:
            self._channeldata.clear()
        self._channeldata[channel_id] = (level, found)
        return found

    def _headers(self, found: Found, gate: Gate, actor: Actor, visit: Visit) -> list[tuple[bytes, bytes]]:
        public = gate.visibility is Visibility.PUBLIC and not visit.token_in_path
        if found.immutable:
            cache = f"{'public' if public else 'private'}, {FOREVER}"
        elif public and not found.ask_always:
            cache = f"public, max-age={self.app.settings.index_max_age}"
        else:
            # micromamba looks only for max-age; everybody else takes no-cache as "ask again"
            cache = f"{'public' if public else 'private'}, no-cache, max-age=0"
        head = [
            (b"etag", f'"{found.sha256}"'.encode()),
            (b"cache-control", cache.encode()),
            (b"vary", b"Authorization"),
            (b"accept-ranges", b"bytes"),
            (b"content-type", found.media_type.encode()),
        ]
        if found.modified:
            head.append((b"last-modified", http_date(found.modified).encode()))
        if actor.invalid:
            # clients attach a stored key to every request of a host: a bad one must not break public reads, but be seen
            head.append((b"fairway-credential", b"invalid"))
        return head

    async def _answer(
        self, scope: Scope, send: Send, found: Found, head: list[tuple[bytes, bytes]], headers: dict[bytes, bytes]
    ) -> None:
        etag = f'"{found.sha256}"'
        get = scope["method"] == "GET"
        if not_modified(headers, etag, found.modified):
            await start(send, HTTPStatus.NOT_MODIFIED, [item for item in head if item[0] != b"content-type"])
            return
        part: Slice | None = None
        if get:
            try:
                part = asked_slice(headers, found.size, etag)
            except Unsatisfiable:
                # never kept: a cache that took it for the file itself would answer everybody with it, for a year
                refusal = [
                    (b"content-range", b"bytes */%d" % found.size),
                    (b"cache-control", b"no-store"),
                    (b"accept-ranges", b"bytes"),
                    (b"content-length", b"0"),
                ]
                await start(send, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, refusal)
                return
            if found.artifact_id is not None and (part is None or part.start == 0):
                self.app.counts.download(found.artifact_id, now=self.app.now())
        if get and found.artifact_id is not None and not scope["visit"].token_in_path:
            url = await self._presigned(found)
            if url is not None:
                await redirect(send, url)
                return
        status = HTTPStatus.OK
        if part is not None:
            status = HTTPStatus.PARTIAL_CONTENT
            last = part.start + part.length - 1
            head.append((b"content-range", b"bytes %d-%d/%d" % (part.start, last, found.size)))
        head.append((b"content-length", b"%d" % (found.size if part is None else part.length)))
        if not get:
            await start(send, status, head)
            return
        await self._send_body(scope, send, status, head, found, part)

    async def _presigned(self, found: Found) -> str | None:
        """Where the object store itself serves the file. Not for a key in the path: clients would tell the store that
        path in their Referer.
        """
        if found.key is None or self.app.blobs.local_path(found.key) is not None:
            return None
        sign = partial(self.app.blobs.presign, found.key, PRESIGN_SECONDS, media_type=found.media_type)
        return await run_sync(sign)

    async def _send_body(
        self,
        scope: Scope,
        send: Send,
        status: HTTPStatus,
        head: list[tuple[bytes, bytes]],
        found: Found,
        part: Slice | None,
    ) -> None:
        body = found.body
        if body is None and found.key is not None and found.size <= HOT_ITEM and found.artifact_id is None:
            body = await run_sync(self.app.blobs.get, found.key)
            self.hot.put(found.key.path, body)
        if body is not None:
            await start(send, status, head, body if part is None else body[part.start : part.start + part.length])
            return
        if found.key is None:
            raise Malformed
        path = self.app.blobs.local_path(found.key)
        if path is not None and part is None and "http.response.pathsend" in scope.get("extensions", {}):
            size = await run_sync(self._size_of, found.key)
            if size != found.size:
                raise BlobMissing
            await send({"type": "http.response.start", "status": int(status), "headers": head})
            await send({"type": "http.response.pathsend", "path": str(path)})
            return
        begin, length = (0, found.size) if part is None else (part.start, part.length)
        chunks = await run_sync(partial(self.app.blobs.stream, found.key, begin, length, READ_CHUNK))
        await stream(send, status, head, chunks)

    def _size_of(self, key: Key) -> int:
        stat = self.app.blobs.stat(key)
        return -1 if stat is None else stat.size


@lru_cache(maxsize=512)
def small(body: bytes, media_type: str) -> Found:
    """One of the few bodies that are the same for every channel."""
    return Found(hashlib.sha256(body).hexdigest(), len(body), media_type, False, body=body)


@lru_cache(maxsize=128)
def empty(subdir: str) -> dict[str, bytes]:
    return index.empty_documents(subdir)


async def start(send: Send, status: HTTPStatus, head: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
    await send({"type": "http.response.start", "status": int(status), "headers": head})
    await send({"type": "http.response.body", "body": body})


async def redirect(send: Send, url: str) -> None:
    """To the object store, for two minutes. Nothing may keep this answer: it is a key to the file."""
    head = [
        (b"location", url.encode()),
        (b"cache-control", b"no-store"),
        (b"content-length", b"0"),
    ]
    await start(send, HTTPStatus.TEMPORARY_REDIRECT, head)


async def stream(send: Send, status: HTTPStatus, head: list[tuple[bytes, bytes]], chunks: Iterator[bytes]) -> None:
    await send({"type": "http.response.start", "status": int(status), "headers": head})
    end: Any = object()
    try:
        while (chunk := await run_sync(next, chunks, end)) is not end:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            await run_sync(close)
    await send({"type": "http.response.body", "body": b""})
