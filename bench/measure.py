"""What a process tree costs, read from /proc; medians; and a few limits of the machine."""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
MB = 1_000_000


def tree(pid: int) -> list[int]:
    """A process and everything it started."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                with suppress(OSError):
                    todo += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a tree so far, reaped children included."""
    ticks = 0
    for one in tree(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def rss(pids: Sequence[int]) -> float:
    """Resident memory of these processes together, in MB."""
    pages = 0
    for one in pids:
        with suppress(OSError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * PAGE / MB


class Peak:
    """The largest resident memory of a tree while the block runs, in MB, looked at 50 times a second."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.first = self.mb = rss(tree(pid))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        pids, looked = tree(self.pid), time.monotonic()
        while not self._stop.wait(0.02):
            if time.monotonic() - looked > 0.3:
                pids, looked = tree(self.pid), time.monotonic()
            self.mb = max(self.mb, rss(pids))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


class Clock:
    """Wall and CPU seconds of a tree during a block."""

    wall = cpu = 0.0


@contextmanager
def clock(pid: int) -> Iterator[Clock]:
    spent = Clock()
    cpu, wall = cpu_seconds(pid), time.perf_counter()
    yield spent
    spent.wall = time.perf_counter() - wall
    spent.cpu = cpu_seconds(pid) - cpu


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")


def rate(step: Callable[[int], object], *, seconds: float) -> float:
    """How often a second a step can be done."""
    done, started = 0, time.perf_counter()
    while (now := time.perf_counter()) - started < seconds:
        step(done)
        done += 1
    return done / (now - started)


def fsync_renames(folder: Path, data: bytes, *, seconds: float) -> float:
    """Files a second: written, fsynced, renamed, their folder fsynced; what one durable small file costs."""
    folder.mkdir(parents=True, exist_ok=True)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def one(number: int) -> None:
        part = folder / "part"
        fd = os.open(part, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, data)
        os.fsync(fd)
        os.close(fd)
        part.rename(folder / f"{number}-{secrets.token_hex(4)}")
        os.fsync(directory)

    try:
        return rate(one, seconds=seconds)
    finally:
        os.close(directory)


def sqlite_commits(folder: Path, *, seconds: float) -> float:
    """Transactions a second of one writer, WAL and synchronous=FULL, one row of 500 bytes each."""
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / f"{secrets.token_hex(4)}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, value BLOB)")
    value = bytes(500)

    def one(_: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO rows (value) VALUES (?)", (value,))
        connection.execute("COMMIT")

    try:
        return rate(one, seconds=seconds)
    finally:
        connection.close()


def hash_and_write(source: Path, folder: Path) -> tuple[float, float]:
    """Seconds to hash a file with sha256 and md5 one after the other, and to write it again with one fsync."""
    hashing = writing = 0.0
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    target = folder / "written"
    with source.open("rb") as file, target.open("wb", buffering=0) as out:
        while data := file.read(1 << 20):
            started = time.perf_counter()
            sha256.update(data)
            md5.update(data)
            hashing += time.perf_counter() - started
            started = time.perf_counter()
            out.write(data)
            writing += time.perf_counter() - started
        started = time.perf_counter()
        os.fsync(out.fileno())
        writing += time.perf_counter() - started
    target.unlink()
    return hashing, writing
