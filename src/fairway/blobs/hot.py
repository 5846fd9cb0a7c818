"""Small objects that were asked for lately, in memory, under their paths: what is in here can never be stale."""

from __future__ import annotations

import threading
from collections import OrderedDict

BYTES = 64 << 20
LARGEST = 4 << 20


class Hot:
    """Thread-safe. Bounded in bytes; the one that was not asked for longest goes first."""

    def __init__(self, *, size: int = BYTES, largest: int = LARGEST) -> None:
        self._most, self._largest = size, largest
        self._items: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, path: str) -> bytes | None:
        with self._lock:
            data = self._items.get(path)
            if data is not None:
                self._items.move_to_end(path)
            return data

    def put(self, path: str, data: bytes) -> None:
        if len(data) > self._largest:
            return
        with self._lock:
            if path in self._items:
                return
            self._items[path] = data
            self._size += len(data)
            while self._size > self._most:
                _, gone = self._items.popitem(last=False)
                self._size -= len(gone)
