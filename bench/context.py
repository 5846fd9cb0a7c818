"""What every bench gets: a folder to work in, how much to do, and data folders to start from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx

from bench.client import ROOT
from tests.support.server import Server


@dataclass(slots=True)
class Context:
    """`seconds` bounds one measurement, `rounds` is how often each is repeated."""

    work: Path
    sizes: Sequence[int] | None = None
    rounds: int = 3
    seconds: float = 3.0
    _stocks: dict[str, dict[str, Any]] = field(default_factory=dict)
    _counter: int = 0

    def say(self, text: str) -> None:
        print(f"bench: {text}", file=sys.stderr, flush=True)

    def folder(self, stem: str) -> Path:
        """A path nobody has used yet."""
        self._counter += 1
        return self.work / f"{stem}-{self._counter}"

    def data(self, channels: dict[str, int], *, visibility: str = "public", index: bool = True) -> tuple[Path, str]:
        """A data folder of its own with these channels and so many records in each; and a key to upload with."""
        wanted = {
            "channels": [
                {"name": name, "visibility": visibility, "records": count} for name, count in channels.items()
            ],
            "index": index,
        }
        text = json.dumps(wanted)
        if text not in self._stocks:
            self.say(f"loading channels {channels}")
            place = self.folder("stock")
            command = [sys.executable, "-m", "bench.load", str(place)]
            done = subprocess.run(command, cwd=ROOT, input=text, stdout=subprocess.PIPE, text=True, check=True)
            self._stocks[text] = {"place": place, "key": json.loads(done.stdout)["key"]}
        stock = self._stocks[text]
        copy = self.folder("data")
        shutil.copytree(stock["place"], copy)
        return copy, stock["key"]


@contextmanager
def serving(data: Path, **settings: str) -> Iterator[tuple[Server, int]]:
    """A Fairway on that folder, as `fairway serve` starts it; and its process id."""
    env = {"FAIRWAY_" + name.upper(): value for name, value in settings.items()}
    with Server(data, env=env) as server:
        assert server.process
        yield server, server.process.pid


def settle(server: Server) -> None:
    """Wait until every index has caught up, so that the next measurement is not disturbed by this one."""
    for _ in range(120):
        if "fairway_index_behind 0.0" in httpx.get(f"{server.url}/metrics").text:
            return
        time.sleep(0.25)


def channel_names(sizes: Sequence[int]) -> dict[str, int]:
    return {f"of-{size}": size for size in sizes}
