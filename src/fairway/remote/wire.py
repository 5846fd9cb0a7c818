"""Connections for the client: a name is resolved once, each address of it is judged, and the socket is connected to the
very address that passed. So a name server that gives another answer the second time (rebinding) gains nothing.

Each request has bounds on time and on bytes. They are counted here, below HTTP, where nothing a server sends goes past.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import httpcore2

from fairway.errors import FairwayError, RemoteRefused, RemoteUnavailable, RemoteWrong
from fairway.remote.addresses import Ip, Rules

CONNECT_SECONDS = 10.0
LOOK_SECONDS = 0.5  # how long a thread waits for bytes before it looks whether it should give up

Resolve = Callable[[str, int], Sequence[str]]


@dataclass(slots=True)
class Bounds:
    """What one request may take: until `deadline` (as in time.monotonic), `bytes` more from the wire, `idle` seconds
    without one; and `over`, whether nobody wants it any more.
    """

    deadline: float
    bytes: int
    idle: float
    over: Callable[[], bool]

    def left(self) -> float:
        """Seconds that remain. Raises `RemoteUnavailable`."""
        if self.over():
            raise RemoteUnavailable("It was given up: all of it took too long, or this server is stopping.")
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise RemoteUnavailable("It took longer than it may.", code="remote_timeout")
        return left


_current = threading.local()


@contextlib.contextmanager
def bounded(bounds: Bounds) -> Iterator[None]:
    """Bind what this thread reads and writes within the block. A connection serves one request at a time, and the thread
    that asks is the one that reads.
    """
    before = getattr(_current, "bounds", None)
    _current.bounds = bounds
    try:
        yield
    finally:
        _current.bounds = before


class Stream(httpcore2.NetworkStream):
    """A socket, with or without TLS, that reads within the bounds of the request it serves."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the bounds say
        bounds: Bounds = _current.bounds
        quiet = time.monotonic() + bounds.idle
        sock = self._sock
        while not (isinstance(sock, ssl.SSLSocket) and sock.pending()) and not self._poll.poll(
            min(LOOK_SECONDS, bounds.left()) * 1_000
        ):
            if time.monotonic() > quiet:
                raise RemoteUnavailable(f"Nothing came for {bounds.idle:.0f} seconds.", code="remote_timeout")
        sock.settimeout(min(bounds.idle, bounds.left()))
        try:
            data = sock.recv(max_bytes)
        except TimeoutError:
            raise RemoteUnavailable("It sent half of something, and then nothing.", code="remote_timeout") from None
        except OSError as error:
            raise httpcore2.ReadError(str(error)) from None
        bounds.bytes -= len(data)
        if bounds.bytes < 0:
            raise RemoteWrong("It sends more than it may.", code="remote_too_large")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        bounds: Bounds = _current.bounds
        try:
            self._sock.settimeout(min(bounds.idle, bounds.left()))
            self._sock.sendall(buffer)
        except OSError as error:
            raise httpcore2.WriteError(str(error)) from None  # httpcore looks whether there is an answer all the same

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        bounds: Bounds = _current.bounds
        try:
            self._sock.settimeout(min(CONNECT_SECONDS, bounds.left()))
            return Stream(ssl_context.wrap_socket(self._sock, server_hostname=server_hostname))
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise RemoteWrong(f"Its certificate is not trusted: {error.verify_message}.", code="remote_tls") from None
        except TimeoutError:
            self.close()
            raise RemoteUnavailable("It did not finish the TLS handshake in time.", code="remote_timeout") from None
        except OSError as error:
            self.close()
            reason = getattr(error, "reason", None) or error.strerror or "the connection was closed"
            raise RemoteWrong(f"TLS cannot be agreed on with it: {reason}.", code="remote_tls") from None
        except BaseException:
            self.close()
            raise

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # of an idle connection: the other side has closed it
            return self._sock.fileno() < 0 or bool(self._poll.poll(0))
        return self._sock if info == "socket" else None


class Backend(httpcore2.NetworkBackend):
    """Resolves, judges and connects. `rules` say what may be connected to; `resolve` gives a name's addresses."""

    def __init__(self, rules: Rules, resolve: Resolve) -> None:
        self._rules, self._resolve = rules, resolve

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        """Raises `RemoteRefused`, `RemoteUnavailable`."""
        bounds: Bounds = _current.bounds
        found = self.addresses(host, port, min(CONNECT_SECONDS, bounds.left()))
        last = ""
        for ip in found:
            seconds = min(CONNECT_SECONDS / min(len(found), 3), bounds.left())
            try:
                return Stream(connected(ip, port, seconds))
            except TimeoutError:
                last = "it does not answer"
            except OSError as error:
                last = (error.strerror or "no reason given").lower()
        raise RemoteUnavailable(f"It cannot be connected to: {last}.", code="remote_unreachable")

    def addresses(self, host: str, port: int, seconds: float) -> list[Ip]:
        """The addresses that `host` leads to and that may be connected to, in the resolver's order."""
        try:
            found: Sequence[Ip] = [ip_address(host)]
        except ValueError:
            found = [ip_address(text.partition("%")[0]) for text in in_time(self._resolve, host, port, seconds)]
        good: list[Ip] = []
        refused: RemoteRefused | None = None
        for ip in dict.fromkeys(found):
            try:
                self._rules.judge(host, ip, port)
            except RemoteRefused as error:
                refused = refused or error
            else:
                good.append(ip)
        if not good:
            raise refused or RemoteUnavailable("Its name has no address.", code="remote_unresolved")
        return good


def connected(ip: Ip, port: int, seconds: float) -> socket.socket:
    """A socket connected to exactly this address. Raises `OSError`."""
    sock = socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect((str(ip), port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def system_resolve(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def in_time(resolve: Resolve, host: str, port: int, seconds: float) -> Sequence[str]:
    """What a name leads to. The system's resolver knows no limit of time, so a thread asks it, which may be left behind.
    Raises `RemoteUnavailable`.
    """
    answer: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(resolve(host, port))
        except (OSError, UnicodeError, FairwayError) as error:
            answer.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        found = answer.get(timeout=seconds)
    except queue.Empty:
        raise RemoteUnavailable("Its name could not be looked up in time.", code="remote_timeout") from None
    if isinstance(found, Exception):
        raise RemoteUnavailable("Its name cannot be found.", code="remote_unresolved") from None
    return found
