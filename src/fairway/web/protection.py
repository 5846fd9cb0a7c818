"""The headers that tell browsers what not to do, on every answer: made here and nowhere else."""

from __future__ import annotations

Headers = list[tuple[bytes, bytes]]

SECURITY_HEADERS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
]
HSTS = (b"strict-transport-security", b"max-age=31536000")
CSP_DATA = b"default-src 'none'; frame-ancestors 'none'; sandbox"
CSP_PAGE = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Protection:
    """The headers of one server; `https` is whether people reach it so."""

    def __init__(self, *, https: bool) -> None:
        always = [*SECURITY_HEADERS, HSTS] if https else SECURITY_HEADERS
        self._made = {
            (page, quiet, shared): [
                *always,
                (b"cross-origin-resource-policy", b"cross-origin" if shared else b"same-origin"),
                (b"referrer-policy", b"no-referrer" if quiet else b"strict-origin-when-cross-origin"),
                (b"content-security-policy", CSP_PAGE if page else CSP_DATA),
            ]
            for page in (False, True)
            for quiet in (False, True)
            for shared in (False, True)
        }

    def headers(self, *, page: bool = False, quiet: bool = False, shared: bool = False) -> Headers:
        """`quiet`: the address is nobody else's business. `shared`: pages of others may use it, as the files of public
        channels. The list is not to be changed.
        """
        return self._made[page, quiet, shared]
