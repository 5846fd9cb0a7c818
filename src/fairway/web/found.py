"""What will be answered to a client that fetches, before its bytes are touched."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from fairway.blobs import keys
from fairway.blobs.keys import Key
from fairway.conda.repodata import Relations
from fairway.errors import Unavailable
from fairway.registry import flat, index
from fairway.registry.actor import Actor
from fairway.registry.copies import Offer
from fairway.registry.index import ShardIndex
from fairway.registry.lookup import Shelf
from fairway.web.channeldata import Made
from fairway.web.conditional import Slice
from fairway.web.protection import Headers

FOREVER = "max-age=31536000, immutable"


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
    offer: Offer | None = None  # a file of an upstream

    @property
    def is_package(self) -> bool:
        return self.artifact_id is not None or self.offer is not None


@dataclass(frozen=True, slots=True)
class Decided:
    """Somebody may have this, with these headers: `unchanged` for 304, `base` for a part, `whole` for all of it."""

    found: Found
    actor: Actor
    expires_at: int | None
    etag: bytes
    unchanged: Headers
    base: Headers
    whole: Headers


def caching(found: Found, index_max_age: int, *, public: bool) -> str:
    whose = "public" if public else "private"
    if found.immutable:
        return f"{whose}, {FOREVER}"
    if public and not found.ask_always:
        return f"public, max-age={index_max_age}"
    # micromamba looks only for max-age; everybody else takes no-cache as "ask again"
    return f"{whose}, no-cache, max-age=0"


def partly(decided: Decided, part: Slice) -> Headers:
    last = part.start + part.length - 1
    return [
        *decided.base,
        (b"content-range", b"bytes %d-%d/%d" % (part.start, last, decided.found.size)),
        (b"content-length", b"%d" % part.length),
    ]


def theirs(offer: Offer) -> Found:
    key = keys.package(offer.sha256)
    return Found(offer.sha256, offer.size, key.media_type, True, offer.indexed_at, key=key, offer=offer)


def channeldata(made: Made) -> Found:
    return Found(made.sha256, len(made.body), keys.JSON, False, body=made.body)


def shard_index(made: ShardIndex, shelf: Shelf) -> Found:
    return Found(made.sha256, len(made.body), keys.BINARY, False, shelf.shards_at, body=made.body)


def being_built() -> Unavailable:
    """Something was acknowledged already: an empty index would hand its names to the next channel."""
    return Unavailable("The index of this subdir is being built for the first time; try again in a moment.")


@lru_cache(maxsize=512)
def small(body: bytes, media_type: str) -> Found:
    """One of the few bodies that are the same for every channel."""
    return Found(hashlib.sha256(body).hexdigest(), len(body), media_type, False, body=body)


@lru_cache(maxsize=512)
def empty(subdir: str, relations: Relations) -> dict[str, bytes]:
    return {index.SHARD_INDEX: index.empty_shard_index(subdir, relations), **flat.empty_documents(subdir, relations)}
