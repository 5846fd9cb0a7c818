"""Where bytes are. `keys` names every blob, `store` says what a store does, the other modules are the stores.

A blob is immutable and stored under its hash; what points at the current one lives in the database. So no store needs
locks, versions or conditional writes, and a crash can leave a blob too many but never a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fairway.blobs.local import LocalBlobs
from fairway.blobs.staging import StagingArea
from fairway.blobs.store import BlobStore
from fairway.errors import SetupError

__all__ = ["BlobStore", "open_staging", "open_store"]

_CLOUD = frozenset({"s3", "s3a", "gs", "az", "azure", "abfs", "abfss"})


def open_store(url: str, *, data: Path, options: Mapping[str, str]) -> BlobStore:
    """The store at `url`: `file:///folder`, `s3://bucket/prefix` (also `gs:`, `az:`) or `memory://`; an empty one
    means the folder `blobs` in the data folder.

    `options` are the settings of the object store under the names of the usual variables (`AWS_ENDPOINT_URL`,
    `AWS_ACCESS_KEY_ID`, ...). Raises `SetupError` for a URL or option that makes no sense, `Unavailable` or
    `StorageFull` if a folder cannot be made. A cloud store is not contacted: `check` does that.
    """
    if not url:
        return LocalBlobs(data / "blobs")
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"} or parts.path in {"", "/"} or parts.query or parts.fragment:
            raise SetupError(f"The storage URL {url!r} must name a folder with three slashes, as file:///srv/blobs.")
        return LocalBlobs(Path(unquote(parts.path)))
    if parts.scheme == "memory":
        from fairway.blobs.memory import MemoryBlobs  # noqa: PLC0415 - only tests pay for it

        return MemoryBlobs()
    if parts.scheme in _CLOUD:
        from fairway.blobs.cloud import CloudBlobs  # noqa: PLC0415 - 15 MB, which a server with a disk need not load

        return CloudBlobs.from_url(url, options)
    raise SetupError(f"The storage URL must begin with file:, s3:, gs: or az:, not {parts.scheme or 'a path'!r}.")


def open_staging(store: BlobStore, *, data: Path) -> StagingArea:
    """The staging area that suits `store`: on its own file system if it is local, else in the data folder."""
    return StagingArea(store.staging if isinstance(store, LocalBlobs) else data / "staging")
