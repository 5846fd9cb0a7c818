"""What an upstream may do wrong: faults for `Upstream.fault`.

Each is made by a call, and answers one request in place of the server. Those that wait do so until the server stops or
`up.released` is set; nothing sleeps.
"""

from __future__ import annotations

import gzip
import socket
import struct
import sys
from collections.abc import Callable

from tests.support.upstream import Fault, Handler

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def status(number: int, *, retry_after: object = None, body: bytes = b"no") -> Fault:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return lambda handler, _: handler.send(number, body, headers)


def instead(body: bytes, content_type: str = "application/json") -> Fault:
    """Other bytes, well sent: broken JSON, valid JSON of another shape, a changed file, nothing at all."""
    return lambda handler, _: handler.send(200, body, {"Content-Type": content_type})


def html(content_type: str = "text/html; charset=utf-8") -> Fault:
    return instead(b"\n <!DOCTYPE html><html><body>Please sign in to the hotel's network</body></html>", content_type)


def flipped(at: int = -1) -> Fault:
    """One bit of the good body is another."""

    def answer(handler: Handler, body: bytes) -> None:
        wrong = bytearray(body)
        wrong[at] ^= 1
        handler.send(200, bytes(wrong))

    return answer


def truncated(keep: float = 0.5) -> Fault:
    """Content-Length says all, a part comes, then the connection ends."""

    def answer(handler: Handler, body: bytes) -> None:
        handler.send(200, body[: int(len(body) * keep)], length=len(body))
        handler.close_connection = True

    return answer


def half(keep: float = 0.5) -> Fault:
    """A part of the body, sent as if it were all."""
    return lambda handler, body: handler.send(200, body[: int(len(body) * keep)])


def unsized(keep: float = 1.0) -> Fault:
    """Without a length: the body ends where the connection does."""

    def answer(handler: Handler, body: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body[: int(len(body) * keep)])
        handler.wfile.flush()
        handler.close_connection = True

    return answer


def reset() -> Fault:
    """The connection is reset before an answer."""

    def answer(handler: Handler, _: bytes) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        handler.connection.close()

    return answer


def hangs(after: int | None = None) -> Fault:
    """No answer; or so many bytes of the body and then nothing more, until it is released: then the rest."""

    def answer(handler: Handler, body: bytes) -> None:
        if after is not None:
            handler.send(200, body[:after], length=len(body))
        handler.pause()
        if after is None:
            handler.send(200, body)
        else:
            handler.wfile.write(body[after:])
            handler.wfile.flush()

    return answer


def good() -> Fault:
    """The answer there is: for the first of many requests of which the others shall go wrong."""
    return lambda handler, body: handler.good(body)


def drips(every: float = 0.02, size: int = 1, *, headers: bool = False) -> Fault:
    """A few bytes at a time, of the body or of the headers already, for ever if the client lets it."""

    def answer(handler: Handler, body: bytes) -> None:
        if not headers:
            handler.send(200, b"", length=len(body))
        whole = (b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 50_000) if headers else body
        for begin in range(0, len(whole), size):
            handler.wfile.write(whole[begin : begin + size])
            handler.wfile.flush()
            if handler.pause(every):
                break
        handler.close_connection = True

    return answer


def redirects(to: str | Callable[[Handler], str], number: int = 302) -> Fault:
    """To a URL, or to what a function of the handler says."""
    return lambda handler, _: handler.send(number, b"", {"Location": to if isinstance(to, str) else to(handler)})


def loops() -> Fault:
    return redirects(lambda handler: handler.path + ("&" if "?" in handler.path else "?") + "again")


def encoded(encoding: str = "gzip") -> Fault:
    """Compressed, though nobody asked for it."""
    return lambda handler, body: handler.send(200, gzip.compress(body), {"Content-Encoding": encoding})


def unchanged() -> Fault:
    """304 to everybody, for ever."""
    return lambda handler, _: handler.send(304, b"")


def huge(size: int = 1 << 40, *, chunked: bool = True) -> Fault:
    """As many zeros, without saying so first."""

    def answer(handler: Handler, _: bytes) -> None:
        piece = bytes(1 << 16)
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n"))
        for _begin in range(0, size, len(piece)):
            handler.wfile.write(b"10000\r\n" + piece + b"\r\n" if chunked else piece)
        handler.close_connection = True

    return answer


def bomb(size: int = 1 << 30) -> Fault:
    """A zstd frame that grows to `size` zeros."""

    def answer(handler: Handler, _: bytes) -> None:
        packer, piece = zstd.ZstdCompressor(level=1), bytes(1 << 20)
        handler.send(200, b"".join(packer.compress(piece) for _n in range(size >> 20)) + packer.flush())

    return answer


def raw(data: bytes) -> Fault:
    """These bytes instead of an answer: no HTTP, endless headers, an interim answer after the other."""

    def answer(handler: Handler, _: bytes) -> None:
        handler.wfile.write(data)
        handler.wfile.flush()
        handler.close_connection = True

    return answer
