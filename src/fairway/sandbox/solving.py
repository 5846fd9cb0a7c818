"""A few child processes that solve, and the server's side of talking to them."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import threading
import time
from typing import Any

import msgspec

from fairway.conda.artifact import MEBI
from fairway.conda.question import Answer, Question, Supply
from fairway.errors import Unavailable
from fairway.sandbox.pool import START_SECONDS, Child, ChildDied
from fairway.sandbox.solving_wire import Bounds, Done, Find, Read, Suppliers
from fairway.sandbox.wire import frame

# Address space. Measured: 330 MiB at rest, of which 40 are touched; the shards of a search and what becomes of them come
# on top, three times over while a document is read.
MEMORY = 2_560 * MEBI
FILES = 64
FILE_SIZE = 512 * MEBI
KEPT = 128 * MEBI
GRACE_SECONDS = 3.0
"""How much longer than it should somebody may take to notice that it has been too long."""

QUESTIONS_PER_CHILD = 200
IDLE_SECONDS = 300.0
ENVIRONMENT = {"TOKIO_WORKER_THREADS": "2", "RAYON_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}

_log = logging.getLogger(__name__)
_decoder = msgspec.msgpack.Decoder(Find | Read | Suppliers | Done)
_encoder = msgspec.msgpack.Encoder()


class Solvers:
    """Answers questions in child processes, at most `processes` at once. Threads may share it.

    A child is started by the first question and ended when nobody has asked for some minutes; with it goes all that
    py-rattler takes. After `close()` none is left.
    """

    def __init__(
        self,
        *,
        processes: int,
        memory: int = MEMORY,
        kept: int = KEPT,
        patience: float = 10.0,
        idle: float = IDLE_SECONDS,
    ) -> None:
        """`patience`: seconds a caller waits for a free child. `idle`: seconds one is kept that does nothing."""
        self._bounds = Bounds(memory=memory, files=FILES, file_size=FILE_SIZE, kept=kept)
        self._patience, self._idle_seconds = patience, idle
        self._lock = threading.Lock()
        self._closed = False
        self._busy: set[Solver] = set()
        self._idle: queue.LifoQueue[Solver | None] = queue.LifoQueue()
        self._timer: threading.Timer | None = None
        for _ in range(processes):
            self._idle.put(None)

    def ask(self, question: Question, supply: Supply) -> Answer:
        """What a child finds. One that takes too long or dies over it is ended, which is an answer too.

        Raises: Unavailable: no child came free in time, or none starts, or this is closed; and what `supply` raises.
        """
        child = self._taken()
        keep = False
        try:
            answer = child.answer(question, supply)
            keep = child.jobs < QUESTIONS_PER_CHILD
            return answer
        except ChildDied as death:
            if self._closed:
                raise _closing() from None
            return gave_up(question, death)
        finally:
            self._give_back(child, keep=keep)

    @property
    def running(self) -> int:
        """How many children there are."""
        with self._lock:
            return len(self._busy) + sum(child is not None for child in self._idle.queue)

    def close(self) -> None:
        """Ends every child. Calls under way raise Unavailable."""
        with self._lock:
            self._closed = True
            busy = list(self._busy)
            if self._timer is not None:
                self._timer.cancel()
        for working in busy:
            working.kill()  # its caller reaps it
        self._end_idle()
        self._idle.put(None)  # wakes one who waits, who wakes the next

    def _taken(self) -> Solver:
        try:
            child = self._idle.get(timeout=self._patience)
        except queue.Empty:
            raise Unavailable("Every solver is busy. Try again in a moment.") from None
        try:
            if child is not None and not child.alive:
                child.end()
                child = None
            child = child or Solver(self._bounds)
            child.wait_ready(START_SECONDS)
            self._enlist(child)
        except BaseException as error:
            if child is not None:
                child.end()
            self._idle.put(None)  # the place stays, and whoever waits for it wakes
            if isinstance(error, ChildDied | OSError):
                raise Unavailable("The solver does not start; see the server's log.") from error
            raise
        return child

    def _enlist(self, child: Solver) -> None:
        with self._lock:
            if self._closed:
                raise _closing()
            self._busy.add(child)

    def _give_back(self, child: Solver, *, keep: bool) -> None:
        if not keep:
            child.end()
        with self._lock:
            self._busy.discard(child)
            closed = self._closed
            self._idle.put(child if keep and not closed else None)
            if keep and not closed:
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = threading.Timer(self._idle_seconds, self._end_idle)
                self._timer.daemon = True
                self._timer.start()
        if closed:
            child.end()

    def _end_idle(self) -> None:
        """End the children that do nothing; their places stay."""
        idle: list[Solver | None] = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for child in idle:
            if child is not None:
                child.end()
            self._idle.put(None)


class Solver(Child):
    """A solving child."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(bounds, module="fairway.sandbox.solving_child", env=ENVIRONMENT)
        # shards are more than a pipe holds, and a child that hangs must not hold us too
        os.set_blocking(self._stdin.fileno(), False)
        self._room = select.poll()
        self._room.register(self._stdin, select.POLLOUT)

    def answer(self, question: Question, supply: Supply) -> Answer:  # type: ignore[override]
        """Raises: ChildDied, and what `supply` raises."""
        self.jobs += 1
        deadline = time.monotonic() + question.seconds + GRACE_SECONDS
        self._say(question, deadline)
        while True:
            try:
                asked = _decoder.decode(self._received(deadline))
            except msgspec.DecodeError as error:
                raise ChildDied(self._reaped()) from error
            match asked:
                case Done(answer=answer):
                    return answer
                case Find(channels=channels, names=names):
                    self._say(supply.find(channels, names), deadline)
                case Read(wanted=wanted):
                    self._say(supply.read(wanted), deadline)
                case Suppliers(names=names):
                    self._say(supply.suppliers(names), deadline)

    def _say(self, what: Any, deadline: float) -> None:
        rest = memoryview(frame(_encoder.encode(what)))
        while rest:
            left = deadline - time.monotonic()
            if left <= 0 or not self._room.poll(left * 1000):
                raise ChildDied(self._reaped(), late=True)
            try:
                rest = rest[os.write(self._stdin.fileno(), rest) :]
            except BrokenPipeError:
                return  # it is gone; whoever waits for the answer finds out
            except BlockingIOError:
                continue


def gave_up(question: Question, death: ChildDied) -> Answer:
    if death.late:
        reason = f"The solver found no answer in {question.seconds:g} seconds."
    else:
        _log.warning("a solver died", extra={"status": death.status, "package": question.name})
        reason = "The solver came to an end over it: what this package may need is more than it can take."
    return Answer(solvable=False, decided=False, reason=reason)


def _closing() -> Unavailable:
    return Unavailable("This server is closing; nothing was changed. Try again in a moment.")
