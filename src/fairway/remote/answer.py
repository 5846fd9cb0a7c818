"""What another server answered: judged before anything is made of it, read within limits, failures in words."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import IO

import httpcore2
import msgspec

from fairway.errors import RemoteDenied, RemoteError, RemoteMissing, RemoteRefused, RemoteUnavailable, RemoteWrong
from fairway.remote.addresses import Location
from fairway.remote.credentials import Credential
from fairway.remote.wire import Bounds, bounded

OVERHEAD = 1 << 20  # bytes of headers and framing
PASSING = frozenset({408, 425, 429})  # and whatever is from 500 on, but for
LASTING = frozenset({501, 505})
PAGE = "It sent a web page instead of data, such as a sign-in page or a notice of a proxy in between."
# Some servers call a file's own form an encoding; the bytes are those of the file all the same.
OWN_ENCODING: dict[str, tuple[str, ...]] = {"bz2": ("bzip2", "x-bzip2"), "zst": ("zstd",)}


class Validators(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a server gave to ask later whether something has changed. JSON by msgspec. `at` is when it was asked (ms), for what
    is not asked for every time.
    """

    etag: str = ""
    modified: str = ""
    at: int = 0

    def __bool__(self) -> bool:
        return bool(self.etag or self.modified)

    def headers(self) -> list[tuple[str, str]]:
        pairs = (("If-None-Match", self.etag), ("If-Modified-Since", self.modified))
        return [(name, value) for name, value in pairs if value]


@dataclass(slots=True)
class Answer:
    """An answer whose body waits to be read: 200, or 304 if validators were sent. `size` as announced, if it was."""

    status: int
    headers: Mapping[str, str]
    at: Location
    limit: int
    bounds: Bounds
    shown: str
    _response: httpcore2.Response = field(repr=False)

    @property
    def unchanged(self) -> bool:
        return self.status == HTTPStatus.NOT_MODIFIED

    @property
    def size(self) -> int | None:
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def validators(self) -> Validators:
        etag, modified = (usable(self.headers.get(name, "")) for name in ("etag", "last-modified"))
        return Validators(etag, modified)

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes, at most `limit` bytes of it. Raises `RemoteWrong`, `RemoteUnavailable`."""
        got = 0
        body = iter(self._response.iter_stream())
        while True:
            with named(self.shown), bounded(self.bounds):
                chunk = next(body, None)
                if chunk is None:
                    return
                if not got and chunk[:256].lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
                    raise RemoteWrong(PAGE, code="remote_not_data")
                got += len(chunk)
                if got > self.limit:
                    raise RemoteWrong(too_large(self.limit), code="remote_too_large")
            yield chunk


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was read whole: in `data`, or in the file that was given. `sha256` in lower case hex."""

    data: bytes
    size: int
    sha256: str
    validators: Validators


def usable(text: str) -> str:
    """A validator that may be kept and sent back; nothing of another."""
    return text if len(text) <= 512 and text.isascii() and text.isprintable() else ""


def moved(at: Location, answer: Answer, carried: Credential | None, shown: str) -> tuple[Location, Credential | None]:
    """Where a redirect leads, and what may be taken along. Raises `RemoteRefused`, `RemoteWrong`."""
    try:
        to = at.join(answer.headers["location"])
    except RemoteRefused as error:
        raise RemoteRefused(f"{shown} redirects to an address that cannot be used. {error.detail}") from None
    if at.scheme == "https" and to.scheme == "http":
        raise RemoteWrong(f"{shown} redirects from https to http, which is not followed.", code="remote_redirect")
    return to, carried if to.origin == at.origin else None


def judge(answer: Answer, *, conditional: bool) -> None:
    """Return for an answer whose body is what was asked for. Raises `RemoteError`."""
    status, shown, headers = answer.status, answer.shown, answer.headers
    if status == HTTPStatus.NOT_MODIFIED and conditional:
        return
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        raise RemoteMissing(f"{shown} is not there: {in_words(status)}.")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED}:
        raise RemoteDenied(
            f"{shown} may not be read: {in_words(status)}. It wants a credential, or another one than it got."
        )
    if status in PASSING or (status >= 500 and status not in LASTING):
        raise RemoteUnavailable(
            f"{shown} cannot answer now: {in_words(status)}.", seconds=wait_of(headers.get("retry-after", ""))
        )
    if status != HTTPStatus.OK:
        raise RemoteWrong(f"{shown} gave an answer that cannot be used: {in_words(status)}.")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity", *OWN_ENCODING.get(answer.at.path.rpartition(".")[2], ())}:
        word = encoding if encoding.isalnum() else "unknown"
        raise RemoteWrong(
            f"{shown} was sent compressed ({word[:20]}), though it was asked for as it is.", code="remote_encoding"
        )
    if headers.get("content-type", "").strip().lower().startswith(("text/html", "application/xhtml")):
        raise RemoteWrong(f"{shown}: {PAGE}", code="remote_not_data")
    if answer.size is not None and answer.size > answer.limit:
        raise RemoteWrong(f"{shown}: {too_large(answer.limit)}", code="remote_too_large")


def too_large(limit: int) -> str:
    return f"It is larger than {limit:,} bytes, which is the limit here."


def wire_limit(limit: int) -> int:
    """What may come over the wire for a body of `limit` bytes: chunks have frames, and tiny chunks more of them."""
    return 2 * limit + OVERHEAD


def in_words(status: int) -> str:
    try:
        return f"HTTP {status}, {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def wait_of(text: str) -> int | None:
    """Seconds that a Retry-After asks for: a number or a date."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]), 86_400)
    try:
        return max(0, min(int(parsedate_to_datetime(text).timestamp() - time.time()), 86_400))
    except (ValueError, TypeError, OverflowError):
        return None


def gathered(answer: Answer, into: IO[bytes] | None) -> Document:
    """The body, whole."""
    sha256, size = hashlib.sha256(), 0
    parts: list[bytes] = []
    write: Callable[[bytes], object] = parts.append
    if into is not None:
        into.seek(0)
        into.truncate()
        write = into.write
    for chunk in answer.chunks():
        sha256.update(chunk)
        size += len(chunk)
        write(chunk)
    return Document(b"".join(parts), size, sha256.hexdigest(), answer.validators)


@contextlib.contextmanager
def named(shown: str) -> Iterator[None]:
    """Turn what goes wrong on the wire into our errors, and begin their sentence with the address."""
    try:
        yield
    except RemoteError as error:
        if error.detail.startswith(shown):
            raise
        raise type(error)(f"{shown}: {error.detail}", code=error.code, seconds=error.seconds) from None
    except httpcore2.PoolTimeout:
        raise RemoteUnavailable(f"{shown} was not asked: too many other requests are under way.") from None
    except httpcore2.TimeoutException:
        raise RemoteUnavailable(f"{shown} did not answer in time.", code="remote_timeout") from None
    except httpcore2.NetworkError:
        raise RemoteUnavailable(f"{shown}: It broke off before the end.", code="remote_cut_off") from None
    except httpcore2.RemoteProtocolError as error:
        if any(words in str(error) for words in ("without sending", "peer closed")):
            raise RemoteUnavailable(f"{shown}: It broke off before the end.", code="remote_cut_off") from None
        raise RemoteWrong(f"{shown}: What it sent is not HTTP as it should be.") from None
    except httpcore2.ProtocolError:
        raise RemoteWrong(f"{shown}: It cannot be asked over HTTP/1.1.") from None
