"""Who writes next."""

from __future__ import annotations

import threading
import time
from collections import deque


class Turn:
    """One writer at a time, in the order in which they came.

    A lock has no order: whoever lets go and asks again at once, as a long job does between its transactions, would get
    it before those who wait. And SQLite's own lock is polled, so that the last who came often goes first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def take(self, seconds: float) -> float | None:
        """Wait for one's turn; the seconds left of those given, or none when they were over before."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return seconds
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        begun = time.monotonic()
        if gate.acquire(timeout=seconds):
            return max(0.0, seconds - (time.monotonic() - begun))
        with self._lock:
            if gate in self._waiting:
                self._waiting.remove(gate)
                return None
        return 0.0  # it came in the very moment one gave up

    def give(self) -> None:
        """Let the next one write."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
