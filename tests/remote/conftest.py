"""An upstream on the loopback, and a client that may ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from fairway.remote.addresses import Rules
from fairway.remote.client import Client
from tests.support.upstream import Upstream


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as upstream:
        upstream.add("demo")
        upstream.publish()
        yield upstream


@pytest.fixture
def client_of() -> Iterator[Callable[..., Client]]:
    """A client that may ask these upstreams, whose pauses take no time: `client_of(up, other)`. `client.pauses` has them."""
    with ExitStack() as stack:

        def make(*upstreams: Upstream, allow: str = "", **options: object) -> Client:
            pauses: list[float] = []
            rules = Rules.parse(",".join([allow, *(one.allow for one in upstreams)]))
            client = Client(rules, wait=lambda seconds, over: pauses.append(seconds), **{"idle": 5.0, **options})  # type: ignore[arg-type]
            client.pauses = pauses  # type: ignore[attr-defined]
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def client(up: Upstream, client_of: Callable[..., Client]) -> Client:
    return client_of(up)
