"""What one other server wants to see before it answers, bound to that server: scheme, host and port.

`Credential.headers` and `Credential.target` are the only ways to use one, and both look at where it would go.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Literal, Self, get_args
from urllib.parse import quote, unquote

import msgspec

from fairway.errors import Invalid
from fairway.remote.addresses import Location, channel_address, spelled

Kind = Literal["bearer", "basic", "header", "path"]

SECRET_LENGTH = 4_096
_VISIBLE = re.compile(r"[!-~]+")
_USERINFO = re.compile(r"([A-Za-z]+://)([^/?#@]*)@(.*)", re.DOTALL)
_PATH_TOKEN = re.compile(r"(https?://[^/?#]*(?:/[^?#]*?)?)/t/([A-Za-z0-9._~-]+)(/[^?#]*|)", re.IGNORECASE)


class _Packed(msgspec.Struct, array_like=True):
    kind: Kind
    secret: str
    user: str


@dataclass(frozen=True, slots=True)
class Credential:
    """`bearer`: `Authorization: Bearer`. `basic`: user and password. `header`: `X-API-Key`. `path`: `/t/TOKEN/...`,
    as conda has it. `origin` is what it is bound to (`Location.origin`).
    """

    kind: Kind
    secret: str = field(repr=False)
    user: str = field(default="", repr=False)
    origin: str = ""

    @classmethod
    def make(cls, kind: str, secret: str, url: str, user: str = "") -> Self:
        """A credential for the server of `url`. Raises `Invalid` for one that cannot be sent, `RemoteRefused`."""
        if kind not in get_args(Kind):
            raise Invalid(f"A credential is one of {', '.join(get_args(Kind))}.", code="credential_invalid")
        plain = re.compile(r"[A-Za-z0-9._~-]+") if kind == "path" else _VISIBLE
        fits = plain.fullmatch(secret) if kind != "basic" else secret.isprintable() and user.isprintable()
        if not fits or not 0 < len(secret) <= SECRET_LENGTH or len(user) > 256 or ":" in user:
            raise Invalid(
                "The credential is empty, too long, or has characters that cannot be sent.", code="credential_invalid"
            )
        return cls(kind, secret, user, Location.parse(url).origin)  # type: ignore[arg-type]

    def pack(self) -> bytes:
        """To be sealed; what it is bound to is not in it, and is the upstream's address wherever that is kept."""
        return msgspec.json.encode(_Packed(self.kind, self.secret, self.user))

    @classmethod
    def unpack(cls, data: bytes, url: str) -> Self:
        """Raises `Invalid` for bytes that are none."""
        try:
            packed = msgspec.json.decode(data, type=_Packed)
        except msgspec.MsgspecError:
            raise Invalid("The credential cannot be read.", code="credential_invalid") from None
        return cls.make(packed.kind, packed.secret, url, packed.user)

    @classmethod
    def out_of(cls, url: str) -> tuple[str, Self | None]:
        """A URL that people may have copied with its secret, taken apart: `https://user:password@host/channel` and
        `https://host/t/TOKEN/channel`, also percent-encoded. Raises as `make` and `channel_address` do.
        """
        credential = None
        if found := _USERINFO.fullmatch(url):
            user, _, password = found[2].partition(":")
            url = found[1] + found[3]
            credential = cls.make("basic", unquote(password), url, unquote(user))
        bare = spelled(url)
        if found := _PATH_TOKEN.fullmatch(bare):
            if credential is not None:
                raise Invalid("The address has two credentials in it; it can have one.", code="credential_invalid")
            bare = found[1] + found[3]
            credential = cls.make("path", found[2], bare)
        return channel_address(bare), credential

    def headers(self, at: Location) -> list[tuple[str, str]]:
        """What to send to `at`: nothing if that is another server."""
        if at.origin != self.origin:
            return []
        if self.kind == "bearer":
            return [("Authorization", f"Bearer {self.secret}")]
        if self.kind == "basic":
            pair = base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()
            return [("Authorization", f"Basic {pair}")]
        return [("X-API-Key", self.secret)] if self.kind == "header" else []

    def target(self, at: Location) -> str:
        """The path and query to ask `at` for. The token stands first, where rattler puts it and every server looks."""
        if self.kind != "path" or at.origin != self.origin or at.path.startswith("/t/"):
            return at.target
        return f"/t/{quote(self.secret, safe='')}{at.target}"
