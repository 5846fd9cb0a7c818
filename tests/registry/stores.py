"""Stores that do something when a chosen object is put: count, wait, fail, or let somebody else go first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fairway.blobs.keys import Key
from fairway.blobs.store import BlobStore


class Watched:
    """A store that calls `before(key)` in front of every put."""

    def __init__(self, store: BlobStore, before: Callable[[Key], None]) -> None:
        self._store, self._before = store, before

    def put(self, key: Key, data: bytes) -> None:
        self._before(key)
        self._store.put(key, data)

    def put_file(self, key: Key, path: Any) -> None:
        self._before(key)
        self._store.put_file(key, path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Gate:
    """Holds up whoever puts an object whose path contains `part`, until it is opened."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, key: Key) -> None:
        if self.part in key.path:
            self.reached.set()
            assert self.opened.wait(10)
