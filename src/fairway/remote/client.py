"""The one client with which Fairway asks other servers, whoever gave their address.

It speaks HTTP/1.1 over httpcore, below httpx2: no redirect is followed, nothing is decompressed, no proxy and no cookie
is taken from anywhere unless it is written here. Thread-safe; connections are kept and used again.

Every failure is a `RemoteError` whose sentence names the address, without its secrets, and what was the case.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Any, Literal, TypeVar

import httpcore2

from fairway import __version__
from fairway.errors import RemoteError, RemoteUnavailable, RemoteWrong
from fairway.remote.addresses import Location, Rules
from fairway.remote.answer import Answer, Document, Validators, gathered, judge, moved, named, wire_limit
from fairway.remote.credentials import Credential
from fairway.remote.wire import CONNECT_SECONDS, LOOK_SECONDS, Backend, Bounds, Resolve, bounded, system_resolve

HOPS = 3
TRIES = 3
IDLE_SECONDS = 30.0
SECONDS = 600.0
CONNECTIONS = 64
KEPT_SECONDS = 30.0
LONGEST_PAUSE = 30.0  # a server that wants to be left alone for longer is left alone: the next refresh asks again
DRAINED = 16 << 10  # what is read of an answer nobody wants, so that its connection can be used again
DRAIN_SECONDS = 2.0
MOVED = frozenset({301, 302, 303, 307, 308})

T = TypeVar("T")
R = TypeVar("R")


__all__ = ["Answer", "Client", "Document", "Validators", "Wish"]


@dataclass(frozen=True, slots=True)
class Wish:
    """One of many: `key` is the asker's own; the bytes must have `sha256` (32 bytes) if there is one."""

    url: str
    key: Any = None
    sha256: bytes | None = None


class Client:
    """Ask other servers. Close it when nobody asks any more; what is under way then fails within a second."""

    def __init__(
        self,
        rules: Rules,
        *,
        resolve: Resolve = system_resolve,
        trust: ssl.SSLContext | None = None,
        idle: float = IDLE_SECONDS,
        wait: Callable[[float, Callable[[], bool]], object] | None = None,
    ) -> None:
        """`trust` is which certificates count (the system's, by default); `idle` the seconds without a byte after which
        a server is given up; `wait` is how pauses between tries pass: for seconds, or until a function says that all is over.
        """
        self._closed = threading.Event()
        self._wait = wait or pass_time
        self._idle = idle
        self._backend = Backend(rules, resolve)
        self._trust = trust
        self._pool: httpcore2.ConnectionPool | None = None
        self._lock = threading.Lock()

    # --- what others call ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def get(
        self,
        url: str,
        *,
        credential: Credential | None = None,
        validators: Validators | None = None,
        headers: Iterable[tuple[str, str]] = (),
        limit: int,
        seconds: float = SECONDS,
        tries: int = TRIES,
        over: Callable[[], bool] | None = None,
    ) -> Iterator[Answer]:
        """The answer to a GET, its body unread: at most `limit` bytes, within `seconds` for all of it. What passes is
        tried again, until there is an answer; what then goes wrong with the body is not. `over` says whether nobody
        wants it any more. `headers` go to every hop, so no secret is among them.

        Raises `RemoteError`, of the kinds in `fairway.errors`.
        """
        bounds = self._bounds(seconds, limit, over)
        ask = lambda: self._ask(url, credential, validators, headers, limit, bounds)  # noqa: E731
        answer = self._again(ask, bounds, tries)
        try:
            yield answer
        finally:
            self._let_go(answer)

    def document(
        self,
        url: str,
        *,
        credential: Credential | None = None,
        validators: Validators | None = None,
        limit: int,
        seconds: float = SECONDS,
        into: IO[bytes] | None = None,
        tries: int = TRIES,
        over: Callable[[], bool] | None = None,
    ) -> Document | None:
        """A whole document, into memory or into the file `into`, which is emptied first; None if it has not changed since
        `validators`. A body that breaks off is asked for again. Raises `RemoteError`.
        """
        bounds = self._bounds(seconds, limit, over)

        def read() -> Document | None:
            bounds.bytes = wire_limit(limit)
            answer = self._ask(url, credential, validators, (), limit, bounds)
            try:
                return None if answer.unchanged else gathered(answer, into)
            finally:
                self._let_go(answer)

        return self._again(read, bounds, tries)

    def many(
        self,
        wishes: Iterable[Wish],
        *,
        credential: Credential | None = None,
        limit: int,
        seconds: float = 120.0,
        at_once: int = 16,
        over: Callable[[], bool] | None = None,
    ) -> Iterator[tuple[Wish, bytes | RemoteError]]:
        """Thousands of small documents, each of at most `limit` bytes and `seconds`, in the order in which they come. A
        failure is a result. Leaving the iteration stops what is under way; no more than `at_once` bodies wait in memory.
        """
        left = threading.Event()

        def bring(wish: Wish) -> bytes | RemoteError:
            try:
                found = self.document(
                    wish.url, credential=credential, limit=limit, seconds=seconds,
                    over=lambda: left.is_set() or (over is not None and over()),
                )  # fmt: skip
                assert found is not None  # noqa: S101 - without validators there is no 304
                if wish.sha256 is not None and hashlib.sha256(found.data).digest() != wish.sha256:
                    where = Location.parse(wish.url).shown(credential.secret if credential else "")
                    return RemoteWrong(
                        f"{where}: the bytes are not those that its index names.", code="remote_mismatch"
                    )
                return found.data
            except RemoteError as error:
                return error

        yield from at_the_same_time(bring, wishes, at_once, left)

    def check(self, url: str) -> None:
        """Whether `url` may be asked at all; its name is looked up, nothing is connected to. Raises `RemoteError`."""
        at = Location.parse(url)
        with named(at.shown()):
            self._backend.addresses(at.host, at.port, CONNECT_SECONDS)

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            for connection in pool.connections:
                if connection.is_idle():  # the others are closed by who reads them, once they see that all is over
                    connection.close()

    # --- how -------------------------------------------------------------------------------------------------------

    def _bounds(self, seconds: float, limit: int, over: Callable[[], bool] | None) -> Bounds:
        given_up = self._closed.is_set if over is None else lambda: self._closed.is_set() or over()
        return Bounds(time.monotonic() + seconds, wire_limit(limit), self._idle, given_up)

    def _connections(self) -> httpcore2.ConnectionPool:
        with self._lock:
            if self._pool is None:
                self._pool = httpcore2.ConnectionPool(
                    ssl_context=self._trust or httpcore2.default_ssl_context(),
                    max_connections=CONNECTIONS,
                    keepalive_expiry=KEPT_SECONDS,
                    network_backend=self._backend,
                )
            return self._pool

    def _again(self, ask: Callable[[], T], bounds: Bounds, tries: int) -> T:
        """What `ask` gives; called again, after a pause, for a failure that passes."""
        for number in range(1, tries + 1):
            try:
                return ask()
            except RemoteUnavailable as error:
                pause = error.seconds if error.seconds is not None else random.uniform(0.1, 0.5 * 2**number)
                if number == tries or pause > min(LONGEST_PAUSE, bounds.deadline - time.monotonic()) or bounds.over():
                    raise
                self._wait(pause, bounds.over)
                if bounds.over():
                    raise
        raise AssertionError

    def _ask(
        self,
        url: str,
        credential: Credential | None,
        validators: Validators | None,
        headers: Iterable[tuple[str, str]],
        limit: int,
        bounds: Bounds,
    ) -> Answer:
        """Ask, and follow where the answer leads. A credential that was left behind stays so, even if the way leads back:
        whoever sent us there chose what it would be used for.
        """
        at, carried = Location.parse(url), credential
        base = [*headers, *(validators.headers() if validators else ())]
        secret = credential.secret if credential else ""
        for hop in range(HOPS + 1):
            shown = at.shown(secret)
            answer = self._send(at, carried, base, limit, bounds, shown)
            if answer.status not in MOVED or "location" not in answer.headers:
                try:
                    judge(answer, conditional=bool(validators))
                except BaseException:
                    self._let_go(answer)
                    raise
                return answer
            self._let_go(answer)
            if hop < HOPS:
                at, carried = moved(at, answer, carried, shown)
        raise RemoteWrong(f"{shown} leads on and on: more than {HOPS} redirects.", code="remote_redirect")

    def _send(
        self,
        at: Location,
        credential: Credential | None,
        headers: list[tuple[str, str]],
        limit: int,
        bounds: Bounds,
        shown: str,
    ) -> Answer:
        lines = [
            ("Host", at.netloc),
            ("User-Agent", f"fairway/{__version__}"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "identity"),
            *headers,
            *(credential.headers(at) if credential else ()),
        ]
        target = credential.target(at) if credential else at.target
        host = f"[{at.host}]" if ":" in at.host else at.host
        request = httpcore2.Request(
            "GET",
            httpcore2.URL(scheme=at.scheme, host=host, port=at.port, target=target),
            headers=[(name.encode(), value.encode()) for name, value in lines],
            extensions={"timeout": {"pool": bounds.idle}},
        )
        with named(shown), bounded(bounds):
            bounds.left()
            response = self._connections().handle_request(request)
        found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return Answer(response.status, found, at, limit, bounds, shown, response)

    def _let_go(self, answer: Answer) -> None:
        """Close an answer. A short rest is read first, so that the connection stays."""
        response = answer._response  # noqa: SLF001 - the two are one
        try:
            if answer.status != HTTPStatus.OK and (answer.size or 0) <= DRAINED:
                bounds = Bounds(time.monotonic() + DRAIN_SECONDS, DRAINED, DRAIN_SECONDS, self._closed.is_set)
                with contextlib.suppress(Exception), bounded(bounds):
                    for _ in response.iter_stream():
                        pass
        finally:
            response.close()


def pass_time(seconds: float, over: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not over() and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_SECONDS))


# --- many ----------------------------------------------------------------------------------------------------------


def at_the_same_time(
    work: Callable[[T], R], items: Iterable[T], at_once: int, left: threading.Event
) -> Iterator[tuple[T, R]]:
    """`(item, work(item))` for each item, in any order, by `at_once` threads. They have ended when the iteration has,
    however that was; `left` is set first. An exception of `items` or `work` ends it.
    """
    source, taking = iter(items), threading.Lock()
    results: queue.Queue[tuple[Literal["one"], T, R] | tuple[Literal["end"], BaseException | None]] = queue.Queue(
        at_once
    )

    def run() -> None:
        problem: BaseException | None = None
        try:
            while not left.is_set():
                with taking:
                    item = next(source, source)
                if item is source:
                    break
                results.put(("one", item, work(item)))  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001 - handed to the thread that iterates
            problem = error
        results.put(("end", problem))

    threads = [threading.Thread(target=run, name=f"remote-{number}", daemon=True) for number in range(at_once)]
    for thread in threads:
        thread.start()
    running = at_once
    try:
        while running:
            found = results.get()
            if found[0] == "one":
                yield found[1], found[2]
                continue
            running -= 1
            if found[1] is not None:
                raise found[1]
    finally:
        left.set()
        while running:  # make room for those who wait to hand something over
            running -= results.get()[0] == "end"
        for thread in threads:
            thread.join()
