"""One server for each module: starting one takes longer than most of these tests. Each test makes its own channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clients.clients import Client
from tests.clients.live import Live
from tests.support.server import Server


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A real `fairway serve` with an administrator."""
    with Server(tmp_path_factory.mktemp("live") / "server") as server:
        running = Live(server)
        yield running
        running.close()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Start clients: `client(auth)`; each has a home of its own unless `home` names one."""
    with ExitStack() as stack:
        started = 0

        def start(auth: dict[str, Any] | None = None, *, home: str | None = None) -> Client:
            nonlocal started
            started += 1
            return stack.enter_context(Client(tmp_path / (home or f"home{started}"), auth))

        yield start
