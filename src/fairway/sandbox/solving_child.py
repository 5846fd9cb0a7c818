"""The solving child: the only process in which py-rattler is. `python -I -m fairway.sandbox.solving_child`.

Records are strangers' texts, and whoever writes them decides how hard they are to solve: the solver may take all memory,
or more time than anybody waits. Here it takes what this process was given, and is ended with it. It knows no database:
shards come through the pipe, when it asks for them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, BinaryIO

import msgspec

from fairway.conda.needed import Search
from fairway.conda.partial import Parts
from fairway.conda.question import Found, Place, Question
from fairway.sandbox.confined import end_with_parent, leave_working_directory, limit, received, send
from fairway.sandbox.solving_wire import Asked, Bounds, Done, Find, Read, Suppliers
from fairway.sandbox.wire import READY


class Pipe:
    """The supply of a search: the parent, who is asked."""

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self._stdin, self._stdout = stdin, stdout

    def find(self, channels: Sequence[int], names: Sequence[str]) -> list[Found]:
        found: list[Found] = self._asked(Find(channels=list(channels), names=list(names)), list[Found])
        return found

    def read(self, wanted: Sequence[Found]) -> list[bytes]:
        shards: list[bytes] = self._asked(Read(wanted=list(wanted)), list[bytes])
        return shards

    def suppliers(self, names: Sequence[str]) -> list[Place]:
        places: list[Place] = self._asked(Suppliers(names=list(names)), list[Place])
        return places

    def _asked(self, what: Asked, kind: Any) -> Any:
        send(self._stdout, msgspec.msgpack.encode(what))
        payload = received(self._stdin)
        if payload is None:
            sys.exit(1)  # the parent is gone, or has lost patience
        return msgspec.msgpack.decode(payload, type=kind)


def main() -> None:
    """Answers questions until standard input ends."""
    stdin, stdout = os.fdopen(0, "rb", buffering=0), os.fdopen(1, "wb", buffering=0)
    bounds = msgspec.msgpack.decode(received(stdin) or b"", type=Bounds)
    leave_working_directory()
    # rattler has threads of its own, which count as processes
    limit(memory=bounds.memory, files=bounds.files, file_size=bounds.file_size, processes=None)
    end_with_parent()
    parts, pipe = Parts(bounds.kept), Pipe(stdin, stdout)
    send(stdout, READY)
    while (payload := received(stdin)) is not None:
        question = msgspec.msgpack.decode(payload, type=Question)
        signal.setitimer(signal.ITIMER_REAL, 1, 1)
        until = time.monotonic() + question.seconds
        answer = Search(question, pipe, parts, lambda until=until: until - time.monotonic()).answer()  # type: ignore[misc]
        signal.setitimer(signal.ITIMER_REAL, 0)
        parts.settle()
        send(stdout, msgspec.msgpack.encode(Done(answer=answer)))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the server is gone
        sys.exit(1)
    except MemoryError:
        os._exit(2)  # nothing that is left in here is worth keeping
