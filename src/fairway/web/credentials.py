"""Where a key may be in a request. One key works in every client, so every place a client knows is looked at."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from functools import lru_cache

from fairway.registry import sessions
from fairway.registry.tokens import well_formed

TOKEN_SCHEMES = ("bearer", "token")
KEPT_LENGTH = 256
BAD = "bad"
"""Stands for whatever claims to be a key and cannot be one. It is recognised as no good, rather than taken for nothing;
and what strangers send goes no further than here, since answers are kept by who asked.
"""


def in_headers(headers: Mapping[bytes, bytes]) -> str | None:
    """The key in `Authorization` (Bearer, token, or Basic with the key as password) or `X-API-Key`, or `BAD`."""
    value = headers.get(b"authorization")
    if value is not None:
        # nothing long is kept: strangers must not fill the memory
        return _kept(value) if len(value) <= KEPT_LENGTH else _kept.__wrapped__(value)
    value = headers.get(b"x-api-key")
    return None if value is None else possible(value.decode("latin-1").strip() or None)


@lru_cache(maxsize=4096)
def _kept(value: bytes) -> str | None:
    return possible(in_authorization(value.decode("latin-1")))


def possible(token: str | None) -> str | None:
    """The key, if it could be one of ours. The secret of a browser's session is none: it counts in its cookie only."""
    return token if token is None or (well_formed(token) and not token.startswith(sessions.PREFIX)) else BAD


def in_authorization(value: str) -> str | None:
    scheme, _, rest = value.strip().partition(" ")
    rest = rest.strip()
    if scheme.lower() in TOKEN_SCHEMES:
        return rest or None
    if scheme.lower() != "basic":
        return value or None
    try:
        user, _, password = base64.b64decode(rest, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return value
    # netrc and URLs name a user as well, whoever it is; some tools put the key in the user's place
    return password or user or None


def in_path(path: str, mount: str) -> tuple[str, str | None]:
    """The path without the mount prefix and without `/t/KEY`, and the key, or `BAD`.

    conda keeps the prefix before `/t/KEY`, rattler puts `/t/KEY` before everything: both mean the same.
    """
    inside = without_mount(path, mount)
    if not inside.startswith("/t/"):
        return inside, None
    token, slash, rest = inside[3:].partition("/")
    rest = slash + rest or "/"
    # only once: a channel may be called as the mount is
    return (without_mount(rest, mount) if inside == path else rest), possible(token)


def without_mount(path: str, mount: str) -> str:
    if mount and (path == mount or path.startswith(mount + "/")):
        return path[len(mount) :] or "/"
    return path
