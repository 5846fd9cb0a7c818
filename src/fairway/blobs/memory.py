"""Blobs in a dictionary, for tests: as strict as the real stores, and gone with the process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from fairway.blobs.keys import Key
from fairway.blobs.store import CHUNK, Entry, Stat, check_prefix, failure, pieces
from fairway.errors import BlobMissing


class MemoryBlobs:
    """Blobs as values of a dictionary, whose single operations are atomic in CPython; so no lock is needed."""

    def __init__(self) -> None:
        self._blobs: dict[str, tuple[bytes, datetime]] = {}

    def put(self, key: Key, data: bytes) -> None:
        self._blobs[key.path] = (bytes(data), datetime.now(UTC))

    def put_file(self, key: Key, path: Path) -> None:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise failure(error) from error
        self.put(key, data)

    def put_files(self, files: Sequence[tuple[Key, Path]]) -> None:
        for key, path in files:
            self.put_file(key, path)

    def get(self, key: Key) -> bytes:
        found = self._blobs.get(key.path)
        if found is None:
            raise BlobMissing
        return found[0]

    def stream(self, key: Key, start: int = 0, length: int | None = None, chunk: int = CHUNK) -> Iterator[bytes]:
        data = memoryview(self.get(key))[start:]
        return pieces(data if length is None else data[:length], chunk)

    def stat(self, key: Key) -> Stat | None:
        found = self._blobs.get(key.path)
        return Stat(len(found[0]), found[1]) if found else None

    def delete(self, key: Key) -> bool:
        return self._blobs.pop(key.path, None) is not None

    def list(self, prefix: str) -> Iterator[Entry]:
        check_prefix(prefix)
        blobs = self._blobs.copy()
        return (Entry(path, len(data), when) for path, (data, when) in blobs.items() if path.startswith(prefix))

    def local_path(self, key: Key) -> Path | None:  # noqa: ARG002 - the protocol's
        return None

    def presign(self, key: Key, seconds: int, *, filename: str | None = None, media_type: str) -> str | None:  # noqa: ARG002 - the protocol's
        return None

    def check(self) -> None:
        """Always there."""

    def close(self) -> None:
        self._blobs.clear()
