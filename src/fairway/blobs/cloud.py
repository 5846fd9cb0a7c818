"""Blobs in an object store (S3 and what speaks it, Google Cloud Storage, Azure) through obstore."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from fairway.blobs.keys import Cache, Key
from fairway.blobs.presign import Signer, disposition
from fairway.blobs.store import CHUNK, Entry, Stat, check_prefix, failure, pieces
from fairway.errors import BlobMissing, FairwayError, SetupError, StorageFull, Unavailable

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 60.0
SMALL_SECONDS = 10.0
"""For what carries few bytes: a store that hangs is found out so much sooner, and uploads wait for it no longer."""

SMALL = 1 << 20
RETRIES = 3

PART = 8 << 20
"""Bytes of one part of an upload and of one range of a download; S3 takes 10,000 parts, so 78 GiB in one file."""

PARALLEL_PARTS = 4
"""Parts of one upload on the way at once: with `PART` this bounds its memory."""

PUTS_AT_ONCE = 8

# the variables of the AWS tools that obstore understands; others (profiles, pagers, ...) do not concern it
_S3_OPTIONS = frozenset({
    "AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_KMS_KEY_ID", "AWS_SSE_BUCKET_KEY_ENABLED", "AWS_REQUEST_PAYER",
    "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_METADATA_ENDPOINT",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_DISABLE_TAGGING",
})  # fmt: skip
_CACHE_CONTROL = {Cache.IMMUTABLE: "private, max-age=31536000, immutable", Cache.CURRENT: "private, no-cache"}
_NO_SPACE = frozenset({"QuotaExceeded", "StorageFull", "XMinioStorageFull"})
_REFUSED = frozenset({  # obstore has classes for them, but not when listing
    "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed", "SignatureDoesNotMatch",
})  # fmt: skip
_S3_CODE = re.compile(r"<Code>(\w{1,64})</Code>")

Store = S3Store | GCSStore | AzureStore


class CloudBlobs:
    """Blobs in one bucket below one prefix.

    A request may take `request` seconds and is tried again `retries` times within as many seconds; big blobs go up and
    come down in parts, so that this holds for a part and a slow reader keeps no connection busy. After each upload the
    store has to show an object of the right size before it is believed.
    """

    def __init__(self, store: Store, *, signer: Signer | None = None, prefix: str = "") -> None:
        """`prefix` is that of `store`, needed by `signer` only. `from_url` is the usual way."""
        self._store = self._hurried = store
        self._signer = signer
        self._prefix = prefix

    @classmethod
    def from_url(
        cls,
        url: str,
        options: Mapping[str, str],
        *,
        connect: float = CONNECT_SECONDS,
        request: float = REQUEST_SECONDS,
        retries: int = RETRIES,
    ) -> CloudBlobs:
        """The store at `s3://bucket/prefix`, `gs://...` or `az://...`; nothing is contacted yet.

        What carries at most `SMALL` bytes may take `SMALL_SECONDS` at most. `options`: `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, ... by their usual names. Without keys, the
        role of the machine or the container is asked for some. Times in seconds. Raises `SetupError`.
        """
        blobs = cls._open(url, options, connect, request, retries)
        if request > SMALL_SECONDS:
            blobs.hurry(cls._open(url, options, connect, SMALL_SECONDS, retries))
        return blobs

    @classmethod
    def _open(cls, url: str, options: Mapping[str, str], connect: float, request: float, retries: int) -> CloudBlobs:
        client: dict[str, Any] = {
            "connect_timeout": timedelta(seconds=connect),
            "timeout": timedelta(seconds=request),
            "user_agent": "fairway",
        }
        retry: dict[str, Any] = {
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=request),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
        }
        try:
            if urlsplit(url).scheme in {"s3", "s3a"}:
                return cls._s3(url, options, client, retry)
            names = ("GOOGLE_",) if url.startswith("gs:") else ("AZURE_",)
            config = {name.lower(): value for name, value in options.items() if name.upper().startswith(names)}
            store = obstore.store.from_url(
                url, config=cast("Any", config), client_options=cast("Any", client), retry_config=cast("Any", retry)
            )
        except (BaseError, ValueError) as error:
            raise SetupError(f"The object store cannot be used as it is set up ({type(error).__name__}).") from None
        return cls(cast("Store", store))

    @classmethod
    def _s3(cls, url: str, options: Mapping[str, str], client: dict[str, Any], retry: dict[str, Any]) -> CloudBlobs:
        """Every setting is given, also where it is the default: obstore would look for it in the environment, which
        is for `settings` alone to read.
        """
        parts = urlsplit(url)
        bucket, prefix = parts.netloc, parts.path.strip("/")
        if not bucket or "@" in bucket or parts.query or parts.fragment:
            raise SetupError("The storage URL must be of the form s3://bucket/prefix, without keys.")
        given = {name.upper(): value for name, value in options.items() if value}
        region = given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or "us-east-1"
        endpoint = given.get("AWS_ENDPOINT_URL_S3") or given.get("AWS_ENDPOINT_URL") or given.get("AWS_ENDPOINT")
        endpoint = (endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/")
        virtual = given.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() in {"1", "true", "yes"}
        if "AWS_CA_BUNDLE" in given:
            client["root_certificate"] = _read(given["AWS_CA_BUNDLE"])
        client["allow_http"] = endpoint.startswith("http://")
        config: dict[str, Any] = {
            **{name.lower(): value for name, value in given.items() if name in _S3_OPTIONS},
            "region": region,
            "endpoint": endpoint,
            "aws_endpoint_url_s3": endpoint,
            "virtual_hosted_style_request": virtual,
            "skip_signature": False,
            "unsigned_payload": False,  # the signature covers the hash of the bytes, so the store checks what it got
            "disable_bulk_delete": True,  # the bulk call is missing in several servers that speak S3
        }
        access, secret = given.get("AWS_ACCESS_KEY_ID"), given.get("AWS_SECRET_ACCESS_KEY")
        signer = provider = None
        if access and secret:
            token = given.get("AWS_SESSION_TOKEN")
            # not in `config`, so that neither the store's repr nor a session token of the environment plays a part
            provider = _static(access, secret, token)
            base = endpoint if virtual else f"{endpoint}/{bucket}"
            signer = Signer(base, region, access, secret, token)
        store = S3Store(
            bucket,
            prefix=prefix or None,
            config=cast("Any", config),
            client_options=cast("Any", client),
            retry_config=cast("Any", retry),
            credential_provider=cast("Any", provider),
        )
        return cls(store, signer=signer, prefix=f"{prefix}/" if prefix else "")

    def hurry(self, other: CloudBlobs) -> None:
        """Send what is small the way `other` does."""
        self._hurried = other._store

    def put(self, key: Key, data: bytes) -> None:
        self._put(key, data, len(data))

    def put_file(self, key: Key, path: Path) -> None:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise failure(error) from error
        self._put(key, path, size)

    def put_files(self, files: Sequence[tuple[Key, Path]]) -> None:
        with ThreadPoolExecutor(PUTS_AT_ONCE) as pool:
            for done in [pool.submit(self.put_file, key, path) for key, path in files]:
                done.result()

    def get(self, key: Key) -> bytes:
        return b"".join(self._windows(key, 0, None))

    def stream(self, key: Key, start: int = 0, length: int | None = None, chunk: int = CHUNK) -> Iterator[bytes]:
        windows = self._windows(key, start, length)
        first = next(windows, b"")  # now, so that a missing blob shows before an answer is begun

        def cut() -> Iterator[bytes]:
            yield from pieces(memoryview(first), chunk)
            for window in windows:
                yield from pieces(memoryview(window), chunk)

        return cut()

    def stat(self, key: Key) -> Stat | None:
        with _translated():
            try:
                found = obstore.head(self._hurried, key.path)
            except FileNotFoundError:
                return None
        return Stat(found["size"], found["last_modified"].astimezone(UTC))

    def delete(self, key: Key) -> bool:
        """Two requests, because S3 does not say whether there was anything to delete. After `Unavailable` the blob may
        still go, even later: a store that hung carries out what it had received.
        """
        if self.stat(key) is None:
            return False
        with _translated():
            try:
                obstore.delete(self._hurried, key.path)
            except FileNotFoundError:
                return False
        return True

    def list(self, prefix: str) -> Iterator[Entry]:
        with _translated():
            for page in obstore.list(self._store, check_prefix(prefix) or None):
                for item in page:
                    yield Entry(item["path"], item["size"], item["last_modified"].astimezone(UTC))

    def local_path(self, key: Key) -> Path | None:  # noqa: ARG002 - the protocol's
        return None

    def presign(self, key: Key, seconds: int, *, filename: str | None = None, media_type: str) -> str | None:
        """Without keys of our own (a role of the machine) obstore signs, and `filename` and `media_type` are left to
        what was stored with the blob.
        """
        if self._signer is None:
            with _translated():
                return obstore.sign(self._store, "GET", key.path, timedelta(seconds=seconds))
        answer = {"content-type": media_type}
        if filename is not None:
            answer["content-disposition"] = disposition(filename)
        now = datetime.now(UTC)
        return self._signer.url("GET", f"{self._prefix}{key.path}", seconds=seconds, now=now, answer=answer)

    def check(self) -> None:
        with _translated():
            # a listing needs the bucket, the keys and the right to use it, unlike a HEAD, whose 404 says nothing
            next(iter(obstore.list(self._hurried, "packages/ab/cd")), None)

    def close(self) -> None:
        """Connections close with the last reference to the store."""

    def _put(self, key: Key, source: bytes | Path, size: int) -> None:
        with _translated(writing=True):
            try:
                store = self._store if size > SMALL else self._hurried
                obstore.put(store, key.path, source, attributes=_attributes(key), chunk_size=PART,
                            max_concurrency=PARALLEL_PARTS)  # fmt: skip
            except BaseError as error:
                # a success without ETag: Swift says so to all but the last of those who put one key at the same time
                if "ETag Header missing" not in str(error):
                    raise
            # a 200 is not proof: proxies and half-broken stores say it too. The object itself is
            try:
                found = obstore.head(self._hurried, key.path)["size"]
            except FileNotFoundError:
                found = -1
            if found != size:
                raise Unavailable("The object store accepted a file and does not show it. Try again in a moment.")

    def _windows(self, key: Key, start: int, length: int | None) -> Iterator[bytes]:
        """The wanted range in windows of `PART` bytes, one request each: a reader may take hours for the whole."""
        end = None if length is None else start + length
        while end is None or start < end:
            until = start + PART if end is None else min(start + PART, end)
            with _translated():
                try:
                    result = obstore.get(self._store, key.path, options={"range": (start, until)})
                    size = result.meta["size"]
                    window = result.bytes().to_bytes()
                except BaseError:
                    # an empty blob has no first byte to ask for, and stores say so in many ways
                    if obstore.head(self._hurried, key.path)["size"] <= start:
                        return
                    raise
            yield window
            start += len(window)
            if start >= size or not window:
                return


def _attributes(key: Key) -> dict[Any, str]:
    return {"Content-Type": key.media_type, "Cache-Control": _CACHE_CONTROL[key.cache]}


def _static(access: str, secret: str, token: str | None) -> Callable[[], dict[str, Any]]:
    return lambda: {"access_key_id": access, "secret_access_key": secret, "token": token, "expires_at": None}


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        raise SetupError("The file that AWS_CA_BUNDLE names cannot be read.") from None


@contextlib.contextmanager
def _translated(*, writing: bool = False) -> Iterator[None]:
    """Turn what obstore raises into our errors. Its texts and causes are dropped on purpose: they repeat URLs and the
    answer of the store, which quotes what was signed.
    """
    try:
        yield
    except FairwayError:
        raise
    except FileNotFoundError as error:
        # writing to a bucket that does not exist is "not found" as well
        raise (_failure(error) if writing or "NoSuchBucket" in str(error) else BlobMissing()) from None
    except (BaseError, OSError) as error:
        raise _failure(error) from None


def _failure(error: Exception) -> FairwayError:
    text = str(error)
    found = _S3_CODE.search(text)
    code = found[1] if found else ""
    if code in _NO_SPACE or "507 Insufficient Storage" in text:
        return StorageFull("The object store is full or over its quota; nothing was stored.")
    reason = f" ({code})" if code else ""
    if isinstance(error, FileNotFoundError) or code == "NoSuchBucket":
        return Unavailable(f"The object store does not have the bucket this server is set up for{reason}.")
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or code in _REFUSED:
        return Unavailable(f"The object store refuses this server's access key{reason}.")
    return Unavailable(f"The object store does not answer as it should right now{reason}. Try again in a moment.")
