"""What a path asks for, before anybody looks whether it is there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from fairway.conda.names import RESERVED_CHANNEL_NAMES
from fairway.registry import flat, index
from fairway.web import credentials

PACKAGE_SUFFIXES = (".conda", ".tar.bz2")
SHARD = re.compile(r"([0-9a-f]{64})\.msgpack\.zst", re.ASCII)
SIDECAR = re.compile(r"(.+(?:\.conda|\.tar\.bz2))\.sigs(?:\.([0-9a-f]{64}))?", re.ASCII)
DOCUMENTS = frozenset((index.SHARD_INDEX, *flat.FLAT))
# Decoded once, a path must not hide another: no encoded slash, backslash, NUL or percent sign.
ENCODED = re.compile(rb"%(?:2f|5c|00|25)", re.IGNORECASE)
# In a log, wherever they stand: `//t/KEY/`, `/lab/t/KEY/` or a mount that is not ours are mistakes that people make.
KEY_PLACE = re.compile(r"/t/+[^/]+")
KEY = re.compile(r"fwy-[a-z]-[0-9A-Za-z]+", re.ASCII)
# What programs ask, and no page is at.
MACHINES = frozenset(("api", "health", "metrics", "static"))
ROUTED = RESERVED_CHANNEL_NAMES - {"get"}
# Longer ones are understood anew each time: strangers must not fill the memory with them.
KEPT_LENGTH = 512


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


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a request wants to go. `path` is without mount and key; `token` the key that was in it; `asked` is none
    for what the router answers, with a page where it is `paged`; what is not `lasting` is made anew for each request;
    `shown` is what a log may say.
    Compared by identity, which is what makes it cheap as a key.
    """

    path: str
    token: str | None
    hiding: bool
    asked: Asked | None
    paged: bool
    lasting: bool
    shown: str


def place(path: str, raw: bytes, mount: str) -> Place:
    kept = _place if len(raw) <= KEPT_LENGTH else _place.__wrapped__
    return kept(path, raw, mount)


@lru_cache(maxsize=4096)
def _place(path: str, raw: bytes, mount: str) -> Place:
    inside, token = credentials.in_path(path, mount)
    hiding = ENCODED.search(raw) is not None or "\x00" in inside
    first = inside.lstrip("/").partition("/")[0]
    routed = not first or first in ROUTED
    asked = None if routed else understand(inside)
    return Place(inside, token, hiding, asked, routed and first not in MACHINES, len(raw) <= KEPT_LENGTH, shown(inside))


def shown(path: str) -> str:
    """A path without keys, also where none belongs, and without what a terminal would act upon."""
    masked = KEY.sub("fwy-***", KEY_PLACE.sub("/t/***", path))
    if masked.isprintable():
        return masked
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in masked)


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
