"""A wire between a program and a server, which can be cut, made silent, and mended."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Wire:
    """Listens on `port` of the loopback and passes everything on to another one. One thread for each direction."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._pairs: list[socket.socket] = []
        self._lock = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self._closed = False
        self._whole = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Every connection ends now, and new ones end at once."""
        with self._lock:
            self._whole = False
            pairs, self._pairs = self._pairs, []
        for one in pairs:
            hang_up(one)

    def silence(self) -> None:
        """Connections are taken, and nothing passes any more."""
        self._flows.clear()

    def mend(self) -> None:
        with self._lock:
            self._whole = True
        self._flows.set()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                whole = self._whole
            if not whole:
                hang_up(near)
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._to), timeout=10)
            except OSError:
                hang_up(near)
                continue
            far.settimeout(None)
            with self._lock:
                self._pairs += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                self._flows.wait()
                other.sendall(data)
        hang_up(other)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self.cut()
        self._flows.set()
        self._listener.close()


def hang_up(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
