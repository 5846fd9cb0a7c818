"""A few warm child processes that read packages, and the server's side of talking to them."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from fairway.conda.artifact import MEBI, Artifact, Limits
from fairway.conda.names import Filename
from fairway.errors import FairwayError, Malformed, PackageRefused, TooLarge, Unavailable
from fairway.sandbox.wire import HEADER, READY, Job, Reply, Setup, frame

# Address space of a child. Measured: 21 MiB at rest, 152 with a 128 MiB zstd window, 1,036 with the largest paths.json
# that Limits allow (of which 377 are ever touched).
MEMORY = 1_280 * MEBI
FILES = 32
CPU_SECONDS = 60
WALL_SECONDS = 120
START_SECONDS = 30
REPLY_SIZE = 256 * MEBI
JOBS_PER_CHILD = 500
AT_ONCE = 32 << 10  # bytes of requests; a pipe holds twice that

_log = logging.getLogger(__name__)
_refusals: dict[str, type[FairwayError]] = {kind.__name__: kind for kind in (PackageRefused, Malformed, TooLarge)}


class Reader:
    """Reads package files in child processes, at most `processes` at once. Threads may share it.

    The children are started at once and replaced when they die, take too long, or have done JOBS_PER_CHILD jobs. They
    end with their standard input, so also when this process is killed. After `close()` none is left.
    """

    def __init__(
        self,
        *,
        processes: int,
        limits: Limits,
        memory: int = MEMORY,
        cpu: int = CPU_SECONDS,
        wall: float = WALL_SECONDS,
        patience: float = 10.0,
    ) -> None:
        """`memory`: address space of a child in bytes. `cpu`, `wall`: seconds a small package may take; large ones get
        more. `patience`: seconds a caller waits for a free child.
        """
        self._setup = Setup(limits=limits, memory=memory, files=FILES)
        self._cpu, self._wall, self._patience = cpu, wall, patience
        self._lock = threading.Lock()
        self._closed = False
        self._busy: set[Child] = set()
        # Last in, first out: the child that worked last has its memory warm. None is a place without a child.
        self._idle: queue.LifoQueue[Child | None] = queue.LifoQueue()
        for _ in range(processes):
            self._idle.put(Child(self._setup))

    def read(
        self, path: Path, filename: Filename, *, subdir: str | None, now_ms: int | None, mirrored: bool = False
    ) -> Artifact:
        """Reads and judges one package file. `mirrored` allows what only old packages of a mirror have: no paths.json,
        links that lead out of the environment.

        Raises:
            PackageRefused, Malformed: what `conda.archive.read` and `conda.record.artifact_of` raise; PackageRefused
                also with code `archive_too_slow`, `archive_too_complex` (memory) or `archive_unreadable` (the child
                died of it).
            Unavailable: no child came free in time, or the reader is closed.
            OSError: the file cannot be opened or read.
        """
        (outcome,) = self.read_many([(path, filename, subdir)], now_ms=now_ms, mirrored=mirrored)
        if isinstance(outcome, Artifact):
            return outcome
        raise outcome

    def read_many(
        self, files: Sequence[tuple[Path, Filename, str | None]], *, now_ms: int | None, mirrored: bool = False
    ) -> list[Artifact | FairwayError | OSError]:
        """The same for some hundred files at most, each with its name and subdir: one child gets them all at once and
        is not waited for in between. What became of each, in order. Raises: Unavailable.
        """
        outcomes: dict[int, Artifact | FairwayError | OSError] = {}
        jobs: list[tuple[int, Job, float]] = []
        for number, (path, filename, subdir) in enumerate(files):
            try:
                jobs.append((number, *self._job(path, filename, subdir, now_ms=now_ms, mirrored=mirrored)))
            except OSError as error:
                outcomes[number] = error
        while jobs:  # a child that a file kills leaves those behind it to the next
            jobs = self._read_some(jobs, outcomes)
        return [outcomes[number] for number in range(len(files))]

    def _job(
        self, path: Path, filename: Filename, subdir: str | None, *, now_ms: int | None, mirrored: bool
    ) -> tuple[Job, float]:
        """And the seconds it may take."""
        absolute = os.path.abspath(path)  # noqa: PTH100 - resolve() would follow the link we refuse to follow
        size = os.lstat(absolute).st_size
        # bzip2 of incompressible data was measured at 21 MiB a second: four times that, for slower machines.
        share = size / (5 * MEBI)
        job = Job(
            path=os.fsencode(absolute),
            filename=filename.text,
            subdir=None if subdir is None else str(subdir),  # plain: msgspec encodes no subclass of str
            now_ms=now_ms,
            mirrored=mirrored,
            cpu=int(self._cpu + share),
        )
        return job, self._wall + 2 * share

    def _read_some(
        self, jobs: Sequence[tuple[int, Job, float]], outcomes: dict[int, Artifact | FairwayError | OSError]
    ) -> list[tuple[int, Job, float]]:
        """Have one child read files until it must not go on; the jobs that are left."""
        child = self._taken()
        done, keep = 0, False
        try:
            for number, job, seconds in jobs[: child.ask([job for _, job, _ in jobs])]:
                reply = child.answer(seconds)
                done += 1
                outcomes[number] = _outcome(reply, os.fsdecode(job.path))
                if reply.spent:
                    break
            else:
                keep = child.jobs < JOBS_PER_CHILD
        except ChildDied as death:
            outcomes[jobs[done][0]] = self._verdict(death)
            done += 1
        finally:
            self._give_back(child, keep=keep)
        return list(jobs[done:])

    def close(self) -> None:
        """Ends every child. Calls under way raise Unavailable."""
        with self._lock:
            self._closed = True
            busy = list(self._busy)
        for working in busy:
            working.kill()  # its caller reaps it
        with contextlib.suppress(queue.Empty):
            while True:
                child = self._idle.get_nowait()
                if child is not None:
                    child.end()
        self._idle.put(None)  # wakes one who waits, who wakes the next

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _taken(self) -> Child:
        try:
            child = self._idle.get(timeout=self._patience)
        except queue.Empty:
            raise Unavailable("Every reader of packages is busy. Try again in a moment.") from None
        try:
            if child is not None and not child.alive:
                child.end()
                child = None
            child = self._prepared(child)
        except BaseException as error:
            if child is not None:
                child.end()
            self._idle.put(None)  # the place stays, and whoever waits for it wakes
            if isinstance(error, ChildDied | OSError):
                raise Unavailable("The reader of packages does not start; see the server's log.") from error
            raise
        return child

    def _prepared(self, child: Child | None) -> Child:
        if self._closed:
            raise _closing()
        child = child or Child(self._setup)
        try:
            child.wait_ready(START_SECONDS)
            self._enlist(child)
        except BaseException:
            child.end()
            raise
        return child

    def _enlist(self, child: Child) -> None:
        with self._lock:
            if self._closed:
                raise _closing()
            self._busy.add(child)

    def _give_back(self, child: Child, *, keep: bool) -> None:
        if not keep:
            child.end()
        with self._lock:
            self._busy.discard(child)
            closed = self._closed
            if not closed:
                # A replacement starts now, so that the next caller does not wait for it.
                self._idle.put(child if keep else self._replacement())
        if closed:
            child.end()
            self._idle.put(None)

    def _replacement(self) -> Child | None:
        try:
            return Child(self._setup)
        except OSError:
            _log.warning("a reader of packages cannot be started", exc_info=True)
            return None  # the next caller tries again

    def _verdict(self, death: ChildDied) -> FairwayError:
        if self._closed:
            return _closing()
        if death.late or death.status == -signal.SIGXCPU:
            return PackageRefused("Reading the package takes longer than is allowed.", code="archive_too_slow")
        if death.status == -signal.SIGABRT:  # what orjson does when it gets no memory
            return _too_complex()
        _log.warning("a reader of packages died", extra={"status": death.status})
        return PackageRefused(
            "The package cannot be read: the process that tried came to an end over it.", code="archive_unreadable"
        )


class ChildDied(Exception):
    """A child ended without an answer, or was ended for being `late`. `status` is its exit status as Popen has it."""

    def __init__(self, status: int | None, *, late: bool = False) -> None:
        super().__init__(f"reading child ended with status {status}")
        self.status, self.late = status, late


class Child:
    """One child and its two pipes. Used by one thread at a time; only `kill` may come from another."""

    def __init__(
        self, setup: msgspec.Struct, *, module: str = "fairway.sandbox.child", env: Mapping[str, str] | None = None
    ) -> None:
        self.jobs = 0
        self._ready = False
        self._received_ahead = bytearray()
        self._process = subprocess.Popen(  # noqa: S603 - a module of ours
            [sys.executable, "-I", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=dict(env or {}),
            cwd=_starting_folder(),
        )
        assert self._process.stdin  # noqa: S101 - for the type checker: we asked for pipes
        assert self._process.stdout  # noqa: S101
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)
        self._write(frame(msgspec.msgpack.encode(setup)))

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self, seconds: float) -> None:
        """Raises ChildDied if it does not come up."""
        if not self._ready:
            self._ready = self._received(time.monotonic() + seconds) == READY

    def ask(self, jobs: Sequence[Job]) -> int:
        """Hand over as many jobs as it takes at once; how many. Each has to be waited for (`answer`), in their order.

        No more than a pipe holds: else we would wait for the child to read, and the child for us.
        """
        request = b""
        count = 0
        for job in jobs:
            one = frame(_encoder.encode(job))
            if count and len(request) + len(one) > AT_ONCE:
                break
            request += one
            count += 1
        self.jobs += count
        self._write(request)
        return count

    def answer(self, seconds: float) -> Reply:
        """The next one. Raises ChildDied when there is none within `seconds`, or none at all."""
        try:
            return _decoder.decode(self._received(time.monotonic() + seconds))
        except msgspec.DecodeError as error:
            raise ChildDied(self._reaped()) from error

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Ends the process if it still runs, waits for it and closes the pipes."""
        self._reaped()
        self._stdin.close()
        self._stdout.close()

    def _reaped(self) -> int:
        self._process.kill()
        return self._process.wait()

    def _write(self, data: bytes) -> None:
        # Fits into the pipe's buffer, so this does not block even if nobody reads.
        with contextlib.suppress(BrokenPipeError):  # it is gone; whoever asks for the answer finds out
            self._stdin.write(data)

    def _received(self, deadline: float) -> bytes:
        (size,) = HEADER.unpack(self._exactly(HEADER.size, deadline))
        if size > REPLY_SIZE:
            raise ChildDied(self._reaped())
        return self._exactly(size, deadline)

    def _exactly(self, size: int, deadline: float) -> bytes:
        received = self._received_ahead
        while len(received) < size:
            left = deadline - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                raise ChildDied(self._reaped(), late=True)
            part = os.read(self._stdout.fileno(), MEBI)
            if not part:
                # Its own status tells why, and a moment may pass between the end of the pipe and that of the process.
                try:
                    raise ChildDied(self._process.wait(timeout=1))
                except subprocess.TimeoutExpired:
                    raise ChildDied(self._reaped()) from None
            received += part
        wanted = bytes(received[:size])
        del received[:size]
        return wanted


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Reply)


def _starting_folder() -> str:
    """Where a child may make the folder it then stands in without leaving a trace; on a read-only system, anywhere."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return "/"


def _closing() -> Unavailable:
    return Unavailable("This server is closing; nothing was changed. Try again in a moment.")


def _outcome(reply: Reply, path: str) -> Artifact | FairwayError | OSError:
    if reply.artifact is not None:
        return reply.artifact
    if reply.refusal is not None:
        kind, code, detail = reply.refusal
        return _refusals.get(kind, PackageRefused)(detail, code=code)
    if reply.errno is not None:
        return OSError(reply.errno, os.strerror(reply.errno), path)
    if reply.fault is not None:
        _log.error("a reader of packages failed", extra={"fault": reply.fault})
        return PackageRefused("The package cannot be read: the reader failed over it.", code="archive_unreadable")
    return _too_complex()


def _too_complex() -> PackageRefused:
    return PackageRefused("The package needs more memory to be read than is allowed.", code="archive_too_complex")
