"""A server of ours whose channels have real ones as their upstreams."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx

from tests.clients.live import Live
from tests.clients.real import BASES, CHANNELS, Static
from tests.support.server import Server
from tests.support.upstream import Upstream
from tests.support.waiting import eventually


@dataclass
class Real:
    """Our server with a channel for each of the static ones. `began` is when, in ms."""

    static: Static
    upstream: Upstream
    server: Server
    client: httpx.Client
    began: int

    def get(self, path: str, **params: str) -> httpx.Response:
        answer = self.client.get(path, params=params or None)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:500])
        return answer

    def upstream_of(self, channel: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/api/v1/channels/{channel}/upstream").json()
        return found


@contextmanager
def serving(shared: Path, folder: Path) -> Iterator[Real]:
    static = Static.written(shared, folder / "static")
    began = int(time.time() * 1000)
    with Upstream(channel="", folder=static.folder) as upstream:
        env = {"FAIRWAY_UPSTREAM_ALLOW": upstream.allow, "FAIRWAY_SOLVES_PER_MINUTE": "0"}
        with Server(folder / "server", env=env) as server:
            live = Live(server)
            headers = {"Authorization": f"Bearer {live.new_key(scope='admin')}"}
            live.close()
            with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
                real = Real(static, upstream, server, client, began)
                make(real)
                eventually(lambda: all(real.upstream_of(channel)["good_at"] for channel in CHANNELS), seconds=300)
                yield real


def make(real: Real) -> None:
    """Make the channels, say what builds on what, and give each its upstream."""
    api = "/api/v1/channels"
    asked = [
        real.client.post(api, json={"name": channel, "owner": "admin", "visibility": "public"}) for channel in CHANNELS
    ]
    asked += [real.client.patch(f"{api}/{channel}", json={"base": base}) for channel, base in BASES.items()]
    for channel in CHANNELS:
        address = {"url": f"{real.upstream.origin}/{channel}"}
        asked.append(real.client.put(f"{api}/{channel}/upstream", json=address))
    assert all(answer.status_code in {200, 201} for answer in asked), [answer.text for answer in asked]
