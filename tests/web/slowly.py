"""Event loops for clients that send half a request and then nothing more, without waiting for real time."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

FASTER = 200  # how much faster the clock of an idle client runs


class HastySelector(selectors.DefaultSelector):
    """Waits a fraction of what it is asked to."""

    def select(self, timeout: float | None = None) -> Any:
        return super().select(timeout / FASTER if timeout else timeout)


class HastyLoop(asyncio.SelectorEventLoop):
    """An event loop in which time passes faster, so that thirty idle seconds need not be waited for."""

    def __init__(self) -> None:
        super().__init__(HastySelector())

    def time(self) -> float:
        return super().time() * FASTER
