"""The cookies of this server: their names, their attributes, and where they count.

A session's cookie counts for pages, and for reading a channel's files, so that somebody who is signed in can click on one.
It never counts for the API: what acts there says who it is in a header, which no other site can make a browser send.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from fairway.registry import sessions
from fairway.registry.tokens import well_formed

LONGEST = 100


class Cookies:
    """`session` is who is signed in, `form` ties a form to the browser of somebody who is not, `note` is what the next page
    has to say, `known` that somebody signed in with this browser before, so that strangers' guesses do not keep them out.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        mount, secure = parts.path.rstrip("/"), parts.scheme == "https"
        # a browser takes a name with this prefix only from this very host, over TLS, for all of its paths: no neighbour on
        # a subdomain can plant one
        prefix = "__Host-" if secure and not mount else ""
        self.session, self.form, self.note, self.known = (
            prefix + name for name in ("fairway", "fairway-form", "fairway-note", "fairway-known")
        )
        self._attributes = f"; Path={mount}/; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"
        self._session = self.session.encode()

    def session_in(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """The secret of a session, if something that could be one was sent."""
        for name, value in headers:
            if name == b"cookie" and self._session in value:
                found = self.read(self.session, [value])
                if found is not None and found.startswith(sessions.PREFIX) and well_formed(found):
                    return found
        return None

    def read(self, name: str, sent: Iterable[bytes]) -> str | None:
        """A cookie's value. A browser may send its cookies in several headers (HTTP/2)."""
        wanted = name.encode()
        for header in sent:
            for pair in header.split(b";"):
                key, _, value = pair.strip().partition(b"=")
                if key == wanted and len(value) <= LONGEST:
                    return value.decode("latin-1")
        return None

    def write(self, name: str, value: str, *, seconds: int | None = None) -> str:
        """A Set-Cookie; without `seconds` until the browser is closed."""
        return f"{name}={value}{'' if seconds is None else f'; Max-Age={seconds}'}{self._attributes}"

    def drop(self, name: str) -> str:
        return self.write(name, "", seconds=0)
