"""Another server's conda channel: what a subdir of it has, read from shards (CEP 16) where it has them, else from
repodata.json.zst, else from repodata.json.

Nothing is kept here. A `Reading` names every package with a hash by which a change is seen, and brings the records of
those that are asked for. Raises `RemoteError` for what the network does, `Invalid` for what cannot be read.
"""

from __future__ import annotations

import enum
import mmap
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

import msgspec

from fairway.conda import foreign
from fairway.conda.foreign import About, Written
from fairway.errors import Invalid, RemoteError, RemoteMissing, RemoteWrong
from fairway.remote.client import Client, Validators, Wish
from fairway.remote.credentials import Credential

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

INDEX_LIMIT, SHARD_LIMIT = (
    128 << 20,
    16 << 20,
)  # bytes over the wire; of shards, as many are in memory as are asked for at once
UNPACKED_LIMIT = 512 << 20  # of a shard index
SHARD_UNPACKED = 2 * foreign.MAX_SHARD
FLAT_LIMIT = 3 << 30  # of a repodata.json: today's largest is 0.4 GB
FLAT_SECONDS = 1_800.0
PIECE = 1 << 20
WINDOW_LOG = 27  # what `zstd --ultra -22 --long=27` needs; more would be memory that its sender chooses
AT_ONCE = 24

SHARD_INDEX, FLAT_ZST, FLAT_JSON = "repodata_shards.msgpack.zst", "repodata.json.zst", "repodata.json"
CHANNEL_DATA, CHANNEL_DATA_LIMIT, CHANNEL_DATA_SECONDS = "channeldata.json", 64 << 20, 120.0
EXPORTS_ZST, EXPORTS_JSON = "run_exports.json.zst", "run_exports.json"


class Kind(enum.StrEnum):
    SHARDS = "shards"
    ZST = "zst"
    JSON = "json"


DOCUMENTS = {Kind.SHARDS: SHARD_INDEX, Kind.ZST: FLAT_ZST, Kind.JSON: FLAT_JSON}

# What a server said of each document, to ask later whether it has changed: `{document: validators}`
Known = Mapping[str, Validators]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a subdir has now. `sources` maps each name to a hash that changes with its records; `fetch` brings the
    records of some of them, in any order. `base_url` is where files are, with a slash at its end; `dropped` is what was
    left out already.
    """

    kind: Kind
    validators: Validators
    base_url: str
    sources: Mapping[str, bytes]
    fetch: Callable[[Sequence[str]], Iterator[tuple[str, list[Written]]]]
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Upstream:
    """A channel elsewhere. `url` has no slash at its end; `folder` is where large documents wait meanwhile. `over` says
    that nobody wants to know any more.
    """

    client: Client
    url: str
    credential: Credential | None
    folder: Path
    over: Callable[[], bool] | None = None

    def subdir(self, name: str) -> str:
        return f"{self.url}/{name}/"

    def look(self, stack: ExitStack, subdir: str, kind: Kind | None, known: Known) -> Reading | None:
        """What it has of a subdir; none if that has not changed since `known`, when `kind` was what it was read from.
        What is read stays until `stack` is closed. Raises: RemoteMissing: it has no such subdir; RemoteError, Invalid.
        """
        missing: RemoteMissing | None = None
        for each, document in DOCUMENTS.items():
            # a document that was not used last time is read, changed or not
            validators = known.get(document) if each is kind else None
            read = self._sharded if each is Kind.SHARDS else self._flat
            try:
                return read(stack, subdir, each, validators)
            except RemoteMissing as error:
                missing = error
        raise missing or RemoteMissing

    def exports(self, subdir: str, known: Known) -> tuple[dict[str, bytes], dict[str, Validators]] | None:
        """Each name's run exports (`foreign.exports`), and what to ask with next time; none if they have not changed, or
        if there are none.
        """
        for document in (EXPORTS_ZST, EXPORTS_JSON):
            with ExitStack() as stack:
                try:
                    got = self._document(stack, subdir, document, known.get(document))
                except RemoteMissing:
                    continue
                if got is None:
                    return None
                data, validators = got
                return foreign.exports(data), {document: validators}
        return None

    def about(self, known: Validators) -> tuple[dict[str, About], Validators] | None:
        """What its channeldata.json says of each package; none if that has not changed. Raises: RemoteMissing: it has none;
        RemoteError, Invalid.
        """
        got = self.client.document(
            f"{self.url}/{CHANNEL_DATA}",
            credential=self.credential,
            validators=known,
            limit=CHANNEL_DATA_LIMIT,
            seconds=CHANNEL_DATA_SECONDS,
            over=self.over,
        )
        return None if got is None else (foreign.channel_data(got.data), got.validators)

    # --- shards ----------------------------------------------------------------------------------------------------

    def _sharded(self, stack: ExitStack, subdir: str, kind: Kind, validators: Validators | None) -> Reading | None:
        del stack
        where = self.subdir(subdir)
        got = self.client.document(
            where + SHARD_INDEX, credential=self.credential, validators=validators, limit=INDEX_LIMIT, over=self.over
        )
        if got is None:
            return None
        index = foreign.shard_index(unpacked(got.data, SHARD_INDEX), subdir)
        shards = folder(where, index.shards_base_url)

        def fetch(names: Sequence[str]) -> Iterator[tuple[str, list[Written]]]:
            wishes = [
                Wish(f"{shards}{index.shards[name].hex()}.msgpack.zst", name, index.shards[name]) for name in names
            ]
            found = self.client.many(
                wishes, credential=self.credential, limit=SHARD_LIMIT, at_once=AT_ONCE, over=self.over
            )
            for wish, data in found:
                if isinstance(data, RemoteMissing):
                    # the index that names it is there: this is no platform that the upstream has not
                    raise RemoteWrong(data.detail, code=data.code)
                if isinstance(data, RemoteError):
                    raise data
                yield wish.key, foreign.shard(unpacked(data, f"shard of {wish.key}", SHARD_UNPACKED))

        return Reading(kind, got.validators, folder(where, index.base_url), index.shards, fetch, index.dropped)

    # --- flat ------------------------------------------------------------------------------------------------------

    def _flat(self, stack: ExitStack, subdir: str, kind: Kind, validators: Validators | None) -> Reading | None:
        got = self._document(stack, subdir, DOCUMENTS[kind], validators)
        if got is None:
            return None
        data, fresh = got
        flat = foreign.flat(data, subdir)
        sources = {name: foreign.digest(written) for name, written in flat.names.items()}

        def fetch(names: Sequence[str]) -> Iterator[tuple[str, list[Written]]]:
            for name in names:
                yield name, list(flat.names[name])

        return Reading(kind, fresh, folder(self.subdir(subdir), flat.base_url), sources, fetch, flat.dropped)

    def _document(
        self, stack: ExitStack, subdir: str, document: str, validators: Validators | None
    ) -> tuple[memoryview, Validators] | None:
        """A document by way of a file, so that its hundreds of megabytes need not stay in memory."""
        into: IO[bytes] = stack.enter_context(tempfile.TemporaryFile(dir=self.folder))  # noqa: SIM115 - the stack is one
        got = self.client.document(
            self.subdir(subdir) + document,
            credential=self.credential,
            validators=validators,
            limit=FLAT_LIMIT,
            seconds=FLAT_SECONDS,
            into=into,
            over=self.over,
        )
        if got is None:
            return None
        if document.endswith(".zst"):
            plain: IO[bytes] = stack.enter_context(tempfile.TemporaryFile(dir=self.folder))  # noqa: SIM115 - the stack is one
            unpack(into, plain, document)
            into = plain
        into.flush()
        if not into.seek(0, 2):
            raise Invalid(f"The upstream's {document} is empty.", code="upstream_invalid")
        # records point into it for as long as they are held, so it is let go, not closed
        return memoryview(mmap.mmap(into.fileno(), 0, access=mmap.ACCESS_READ)), got.validators


def folder(where: str, relative: str) -> str:
    """An address of an index, resolved, with the slash at its end that makes it a folder. Raises: Invalid."""
    try:
        address = urljoin(where, relative)
    except ValueError:
        raise Invalid(
            "The upstream's index says that its files are at an address that is none.", code="upstream_invalid"
        ) from None
    return address if address.endswith("/") else address + "/"


def unpacked(data: bytes, what: str, limit: int = UNPACKED_LIMIT) -> bytes:
    """One zstd frame, bounded. Raises: Invalid, code `upstream_invalid`."""
    reader = zstd.ZstdDecompressor(options=BOUNDED)
    try:
        plain = reader.decompress(data, limit)
    except zstd.ZstdError:
        raise broken(what) from None
    if not reader.eof:
        raise broken(what)
    return plain


def unpack(packed: IO[bytes], plain: IO[bytes], what: str) -> None:
    """All zstd frames of a file into another, bounded. Raises: Invalid, code `upstream_invalid`."""
    packed.seek(0)
    written = 0
    reader = zstd.ZstdDecompressor(options=BOUNDED)
    try:
        while True:
            data = b"" if not reader.needs_input else packed.read(PIECE)
            if reader.needs_input and not data:
                raise broken(what)
            while True:
                chunk = reader.decompress(data, PIECE)
                written += len(chunk)
                if written > FLAT_LIMIT:
                    raise Invalid(f"The upstream's {what} has more than {FLAT_LIMIT:,} bytes.", code="upstream_invalid")
                plain.write(chunk)
                if not reader.eof:
                    break
                data = reader.unused_data or packed.read(PIECE)
                if not data:
                    return
                reader = zstd.ZstdDecompressor(options=BOUNDED)  # some write a frame for each piece
    except zstd.ZstdError:
        raise broken(what) from None


BOUNDED: Any = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG}


def broken(what: str) -> Invalid:
    return Invalid(f"The upstream's {what} is damaged: it is not one whole zstd stream.", code="upstream_invalid")


def pack(known: Known) -> dict[str, dict[str, str]]:
    """Validators, to be kept as JSON."""
    return {document: msgspec.to_builtins(validators) for document, validators in known.items()}


def unpack_known(kept: Mapping[str, Any] | None) -> dict[str, Validators]:
    return {document: msgspec.convert(value, Validators) for document, value in (kept or {}).items()}
