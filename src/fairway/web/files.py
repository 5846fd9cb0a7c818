"""What conda clients fetch, thousands of times: index documents, shards, packages. In front of the router, raw ASGI.

Every request passes the same gate before anything else is looked at, so a channel that may not be read answers alike
whatever is asked of it. Answers come from memory, from the kernel (pathsend), by redirect to the object store, or are
streamed; none of them is compressed again, since that would break ranges, lengths and strong ETags.

Who may have what, and the headers that say so, are kept as long as the database's stamp: `at_once` answers from that
and from memory, in the event loop. Whatever has to wait for rows, bytes or a build goes through `later`, which makes
the same decisions with the same functions.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from http import HTTPStatus

import anyio
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.types import Scope

from fairway.app import Fairway
from fairway.blobs import keys
from fairway.blobs.hot import LARGEST, Hot
from fairway.blobs.keys import Key
from fairway.conda.names import KNOWN_SUBDIRS
from fairway.errors import BlobMissing, FairwayError, NotFound, Unavailable
from fairway.registry import access, browse, index
from fairway.registry.access import Action, Gate
from fairway.registry.actor import Visibility
from fairway.registry.lookup import File, Miss, Shelf, View
from fairway.registry.tokens import Known
from fairway.web import passing
from fairway.web.channeldata import ChannelData
from fairway.web.conditional import Slice, Unsatisfiable, asked_slice, http_date, not_modified
from fairway.web.fetching import Fetching
from fairway.web.found import (
    Decided,
    Found,
    being_built,
    caching,
    channeldata,
    empty,
    partly,
    shard_index,
    small,
    theirs,
)
from fairway.web.paths import SIDECAR, Asked, What
from fairway.web.protection import Headers, Protection
from fairway.web.reply import Reply
from fairway.web.visit import Visit

NO_NOTICES = b'{"notices":[]}'
# where a key may be, so that nobody is answered with what a bad one was told
VARY = b"Authorization, X-API-Key"
# What is for everybody is the same whoever is signed in, and shared caches may keep one answer for all browsers. What is not
# must be gone from a browser's own cache with the session it was seen with.
VARY_PERSONAL = VARY + b", Cookie"
FLAT_WAIT_SECONDS = 2.0  # a reader of repodata.json waits this long for a build that is under way
PRESIGN_SECONDS = 120
THREADS = 32
READ_CHUNK = 1 << 20


class Files:
    """The read side of one Fairway."""

    def __init__(self, app: Fairway, protection: Protection) -> None:
        self.app, self.protection = app, protection
        self.hot = Hot()
        self.fetching, self.shards = Fetching(self.hot), Fetching(self.hot)
        # a disk or a store that hangs holds these, and none of those that the API answers with
        self._threads = CapacityLimiter(THREADS)
        self._turn: View | None = None
        self.channeldata = ChannelData(lambda one: app.lookup.view().level(one, rows=True), self._channeldata)
        self._flat_waits: dict[int, asyncio.Task[bool]] = {}

    def at_once(self, visit: Visit, asked: Asked) -> Reply | None:
        """The answer to a GET or HEAD, if all of it is at hand. What is refused is refused by `later`."""
        visit.route = asked.what.value
        view = self._view()
        decided: Decided | None = view.derived.get((visit.place, visit.token))
        now = self.app.now()
        if decided is None or (decided.expires_at is not None and decided.expires_at <= now):
            try:
                known, gate, found = self._look(view, visit, asked, rows=False)
            except (Miss, FairwayError):
                return None
            if found is None:
                return None
            decided = self._decide(visit, known, gate, found)
            # nobody will ask for another again, and what is made is bounded elsewhere: strangers must not fill the memory
            if visit.place.lasting and asked.what is not What.CHANNELDATA:
                view.derived[visit.place, visit.token] = decided
        reply = self._reply(visit, decided)
        if reply is not None and decided.actor.user_id is not None:
            visit.token_id = decided.actor.token_id
            self.app.counts.used(decided.actor, now=now)
        return reply

    def _view(self) -> View:
        """What is known now. Asking for the stamp gives the interpreter's lock away, and getting it back takes longer
        than answering; so one turn of the event loop asks once. Nobody is answered from before they asked: whoever
        stands before `_end_turn` in the loop's queue was there before the stamp was read.
        """
        if self._turn is None:
            asyncio.get_running_loop().call_soon(self._end_turn)  # first, for the reason above
            self._turn = self.app.lookup.view()
        return self._turn

    def _end_turn(self) -> None:
        self._turn = None

    async def later(self, visit: Visit, asked: Asked, scope: Scope) -> Reply:
        """The answer to a GET or HEAD. Raises what access.require raises, NotFound, Unavailable."""
        visit.route = asked.what.value
        view = self._view()
        try:
            known, gate, found = self._look(view, visit, asked, rows=False)
        except Miss:
            known, gate, found = await run_sync(partial(self._look, view, visit, asked, rows=True))
        if found is None:
            found = await self._slow(view, asked, gate)
        if known.actor.user_id is not None:
            visit.token_id = known.actor.token_id
            self.app.counts.used(known.actor, now=self.app.now())
        decided = self._decide(visit, known, gate, found)
        reply = self._reply(visit, decided)
        if reply is None and asked.what is What.SHARD:  # it was at hand a moment ago
            decided = self._decide(visit, known, gate, await self._slow(view, asked, gate))
            reply = self._reply(visit, decided)
        return reply or await self._fetched(visit, decided, scope)

    def _look(self, view: View, visit: Visit, asked: Asked, *, rows: bool) -> tuple[Known, Gate, Found | None]:
        """The gate, and what is behind it. Raises what access.require raises; nothing of the channel has been looked at
        before. Then as `_find`.
        """
        gate = view.gate(asked.channel, rows=rows)
        known = view.reader(visit.token, gate, rows=rows)
        role = view.role(known.actor, access.NO_CHANNEL if gate is None else gate.id, rows=rows)
        try:
            access.require(known.actor, Action.READ, gate, role)
        except FairwayError:
            if self.app.lookup.away:
                # a refusal from memory would tell which hidden names somebody asked for before
                raise Unavailable("The database does not answer. Try again in a moment.") from None
            raise
        if gate is None:  # require has raised already; this tells the type checker
            raise NotFound
        return known, gate, self._find(view, asked, gate, rows=rows)

    def _find(self, view: View, asked: Asked, gate: Gate, *, rows: bool) -> Found | None:
        """What is asked for; none if it has to be waited for or made. Raises: NotFound, Miss."""
        match asked.what:
            case What.PACKAGE:
                file = view.file(gate.id, asked.subdir, asked.name, rows=rows)
                # one of ours that was deleted gives way to the upstream's, whose record clients see again
                ours = file is not None and not file.deleted
                offer = None if ours else view.copy(gate.id, asked.subdir, asked.name, rows=rows)
                return self._package(file, gate, asked) if offer is None else theirs(offer)
            case What.SHARD:
                if asked.subdir not in KNOWN_SUBDIRS:
                    raise NotFound(f"There is no subdir {asked.subdir[:40]} in {gate.name}.")
                key = keys.shard(gate.id, asked.subdir, asked.name)
                body = self.hot.get(key.path)
                return None if body is None else Found(asked.name, len(body), key.media_type, True, key=key)
            case What.DOCUMENT:
                return self._document(view, asked, gate, rows=rows)
            case What.SIDECAR:
                return self._sidecar(view, asked, gate, rows=rows)
            case What.NOTICES:
                return small(NO_NOTICES, keys.JSON)
            case What.CHANNELDATA:
                made = self.channeldata.kept(gate.id, view.level(gate.id, rows=rows))
                return None if made is None else channeldata(made)
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

    def _sidecar(self, view: View, asked: Asked, gate: Gate, *, rows: bool) -> Found:
        """CEP 50: `.sigs` is what is known now, `.sigs.<sha256>` never changes."""
        match = SIDECAR.fullmatch(asked.name)
        file = view.file(gate.id, asked.subdir, match[1], rows=rows) if match else None
        body = None if file is None else view.sidecar(file.artifact_id, rows=rows)
        if match is None or body is None:
            raise NotFound(f"There are no attestations {asked.subdir}/{asked.name} in {gate.name}.")
        found = small(body, keys.JSON)
        if match[2] is None:
            return replace(found, ask_always=True)
        if match[2] != found.sha256:
            raise NotFound(f"There are no attestations {asked.subdir}/{asked.name} in {gate.name}.")
        return replace(found, immutable=True)

    def _document(self, view: View, asked: Asked, gate: Gate, *, rows: bool) -> Found | None:
        if asked.subdir not in KNOWN_SUBDIRS:
            raise NotFound(f"There is no subdir {asked.subdir[:40]} in {gate.name}.")
        shelf = view.shelf(gate.id, asked.subdir, rows=rows)
        if asked.name == index.SHARD_INDEX:
            return self._shard_index(view, asked, gate, shelf, rows=rows)
        if shelf is not None and shelf.flat_built < shelf.changed:
            return None  # wait for the build: a client without shards sees an upload as soon as one with
        return self._published(view, asked, gate, shelf, rows=rows)

    def _shard_index(self, view: View, asked: Asked, gate: Gate, shelf: Shelf | None, *, rows: bool) -> Found | None:
        """None if it has to be made. Raises: Unavailable, Miss."""
        if shelf is None:
            return small(empty(asked.subdir, view.relations(gate.id, rows=rows))[asked.name], keys.BINARY)
        if not shelf.shards_built:
            raise being_built()
        made = self.app.shard_indexes.kept(shelf.subdir_id, shelf.changed)
        return None if made is None else shard_index(made, shelf)

    def _published(self, view: View, asked: Asked, gate: Gate, shelf: Shelf | None, *, rows: bool) -> Found:
        document = None if shelf is None else shelf.documents.get(asked.name)
        if shelf is not None and document is None and shelf.shards_built:
            raise being_built()
        if shelf is None or document is None:
            relations = view.relations(gate.id, rows=rows)
            return small(empty(asked.subdir, relations)[asked.name], keys.MEDIA_TYPES[asked.name])
        sha256, size = document
        key = keys.document(gate.id, asked.subdir, asked.name, sha256)
        return Found(sha256, size, key.media_type, False, shelf.flat_at, key=key)

    async def _slow(self, view: View, asked: Asked, gate: Gate) -> Found:
        """What `_find` could not answer at once."""
        if asked.what is What.SHARD:
            key = keys.shard(gate.id, asked.subdir, asked.name)
            try:
                body = await self.shards.get(key.path, partial(self._shard, gate.id, asked))
            except BlobMissing:
                raise NotFound(f"There is no such shard in {gate.name}.") from None
            return Found(asked.name, len(body), keys.BINARY, True, body=body)
        if asked.what is What.CHANNELDATA:
            level = await run_sync(partial(view.level, gate.id, rows=True))
            return channeldata(await self.channeldata.get(gate.id, level))
        shelf = await run_sync(partial(view.shelf, gate.id, asked.subdir, rows=True))
        if shelf is not None and asked.name == index.SHARD_INDEX:
            made = await run_sync(self.app.shard_indexes.make, shelf.subdir_id)
            if made is None:
                raise being_built()
            return shard_index(made, shelf)
        if shelf is not None:
            await self._flat(shelf)
            view = self._view()
            shelf = await run_sync(partial(view.shelf, gate.id, asked.subdir, rows=True))
        return await run_sync(partial(self._published, view, asked, gate, shelf, rows=True))

    def _shard(self, channel_id: int, asked: Asked) -> bytes:
        body = index.shard_bytes(self.app.database, channel_id, asked.subdir, asked.name)
        if body is None:
            raise BlobMissing
        return body

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

    def _channeldata(self, channel_id: int) -> bytes:
        with self.app.database.read() as session:
            return browse.channel_data(session, channel_id)

    def _decide(self, visit: Visit, known: Known, gate: Gate, found: Found) -> Decided:
        public = gate.visibility is Visibility.PUBLIC and not visit.token_in_path
        etag = f'"{found.sha256}"'.encode()
        base = [
            (b"etag", etag),
            (b"cache-control", caching(found, self.app.settings.index_max_age, public=public).encode()),
            (b"vary", VARY if gate.visibility is Visibility.PUBLIC else VARY_PERSONAL),
            (b"accept-ranges", b"bytes"),
            *self.protection.headers(quiet=visit.token_in_path, shared=public),
        ]
        if found.modified:
            base.append((b"last-modified", http_date(found.modified).encode()))
        if known.actor.invalid:
            # clients attach a stored key to every request of a host: a bad one must not break public reads, but be seen
            base.append((b"fairway-credential", b"invalid"))
        typed = [*base, (b"content-type", found.media_type.encode())]
        whole = [*typed, (b"content-length", b"%d" % found.size)]
        return Decided(found, known.actor, known.expires_at, etag, base, typed, whole)

    def _reply(self, visit: Visit, decided: Decided) -> Reply | None:
        """The answer; none if bytes are needed that are not in memory."""
        found, headers = decided.found, visit.headers
        if not_modified(headers, decided.etag, found.modified):
            return Reply(HTTPStatus.NOT_MODIFIED, decided.unchanged)
        if visit.method == "HEAD":
            return Reply(HTTPStatus.OK, decided.whole)
        body = found.body
        if body is None and found.key is not None:
            body = self.hot.get(found.key.path)
        if body is None:
            return None
        return self._of_body(visit, decided, body)

    def _of_body(self, visit: Visit, decided: Decided, body: bytes) -> Reply:
        if b"range" not in visit.headers:
            return self._sent(HTTPStatus.OK, decided.whole, body)
        try:
            part = asked_slice(visit.headers, len(body), decided.etag)
        except Unsatisfiable:
            return self._beyond(visit, decided)
        if part is None:
            return self._sent(HTTPStatus.OK, decided.whole, body)
        piece = body[part.start : part.start + part.length]
        return self._sent(HTTPStatus.PARTIAL_CONTENT, partly(decided, part), piece)

    def _sent(self, status: int, head: Headers, body: bytes) -> Reply:
        if len(body) <= LARGEST:
            return Reply(status, head, body)
        # the server copies what it is given: piece by piece, or each of many slow readers would hold all of it
        pieces = (body[begin : begin + READ_CHUNK] for begin in range(0, len(body), READ_CHUNK))
        return Reply(status, head, chunks=pieces, threads=self._threads)

    def _beyond(self, visit: Visit, decided: Decided) -> Reply:
        # never kept: a cache that took it for the file itself would answer everybody with it, for a year
        head = [
            (b"content-range", b"bytes */%d" % decided.found.size),
            (b"cache-control", b"no-store"),
            (b"accept-ranges", b"bytes"),
            (b"content-length", b"0"),
            *self.protection.headers(quiet=visit.token_in_path),
        ]
        return Reply(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, head)

    async def _fetched(self, visit: Visit, decided: Decided, scope: Scope) -> Reply:
        """The answer to a GET whose bytes are in the store."""
        found = decided.found
        if found.key is None:
            raise BlobMissing
        if not found.is_package and found.size <= LARGEST:
            body = await self.fetching.get(found.key.path, partial(self.app.blobs.get, found.key))
            return self._of_body(visit, decided, body)
        try:
            part = asked_slice(visit.headers, found.size, decided.etag)
        except Unsatisfiable:
            return self._beyond(visit, decided)
        if found.artifact_id is not None and (part is None or part.start == 0):
            self.app.counts.download(found.artifact_id, now=self.app.now())
        if found.offer is not None:
            if part is None or part.start == 0:
                self.app.counts.copied(found.offer.channel_id, found.offer.name, now=self.app.now())
            if found.offer.url is not None:
                head = decided.whole if part is None else partly(decided, part)
                passed = await passing.reply(self.app, found.offer, head, part)
                if passed is not None:
                    return passed
        sends_files = part is None and "http.response.pathsend" in scope.get("extensions", {})
        fetch = partial(
            self._open, decided, found.key, part, sends_files=sends_files, redirects=not visit.token_in_path
        )
        return await run_sync(fetch, limiter=self._threads)

    def _open(self, decided: Decided, key: Key, part: Slice | None, *, sends_files: bool, redirects: bool) -> Reply:
        """A large answer. Runs in a thread: a disk may be slow."""
        blobs, found = self.app.blobs, decided.found
        path = blobs.local_path(key)
        # no redirect for a key in the path: clients would tell the store that path in their Referer
        if path is None and found.is_package and redirects:
            url = blobs.presign(key, PRESIGN_SECONDS, media_type=found.media_type)
            if url is not None:
                return self._redirect(url)
        status = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
        head = decided.whole if part is None else partly(decided, part)
        if path is not None and sends_files:
            stat = blobs.stat(key)
            if stat is None or stat.size != found.size:
                raise BlobMissing
            return Reply(status, head, path=path, size=found.size)
        begin, length = (0, found.size) if part is None else (part.start, part.length)
        return Reply(status, head, chunks=blobs.stream(key, begin, length, READ_CHUNK), threads=self._threads)

    def _redirect(self, url: str) -> Reply:
        """To the object store, for two minutes. Nothing may keep this answer: it is a key to the file."""
        head = [
            (b"location", url.encode()),
            (b"cache-control", b"no-store"),
            (b"content-length", b"0"),
            *self.protection.headers(quiet=True),
        ]
        return Reply(HTTPStatus.TEMPORARY_REDIRECT, head)
