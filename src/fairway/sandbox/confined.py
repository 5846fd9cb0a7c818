"""What a child does to itself before it looks at anything of strangers, and how it speaks with its parent."""

from __future__ import annotations

import os
import resource
import signal
import threading
from types import FrameType
from typing import BinaryIO

from fairway.sandbox.wire import HEADER, frame


def leave_working_directory() -> None:
    """Stands in a folder that is gone: nothing relative can be opened, and nothing is left behind."""
    name = f"fairway-child-{os.getpid()}-{os.urandom(8).hex()}"
    try:
        os.mkdir(name, 0o700)  # noqa: PTH102 - pathlib costs a quarter of our start
        os.chdir(name)
        os.rmdir(f"../{name}")  # noqa: PTH106
    except OSError:
        os.chdir("/")  # no place for temporary files: any folder without files of ours


def limit(*, memory: int, files: int, file_size: int = 0, processes: int | None = 0) -> None:
    """Bytes of address space, open files, bytes of a file that is written, processes (none: as many as there are; threads
    count too). What is taken can never be had again.
    """
    lower(resource.RLIMIT_AS, memory)
    lower(resource.RLIMIT_FSIZE, file_size)
    lower(resource.RLIMIT_NOFILE, files)
    lower(resource.RLIMIT_CORE, 0)
    if processes is not None:
        lower(resource.RLIMIT_NPROC, processes)


def lower(what: int, most: int, *, for_good: bool = True) -> None:
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most if for_good else hard))


def end_with_parent() -> None:
    """While something is done (`signal.setitimer`) nobody looks at standard input, so its end would go unseen."""
    parent = os.getppid()

    def look(_number: int, _frame: FrameType | None) -> None:
        if os.getppid() != parent:
            os._exit(1)

    signal.signal(signal.SIGALRM, look)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides when we end


def end_with_input() -> None:
    """End at once when standard input does, however busy we are: whoever started us holds its other end, and is gone then,
    also if it was killed. For who may be killed at any moment.
    """

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def received(stdin: BinaryIO) -> bytes | None:
    """A frame; none when there will be no more."""
    header = _exactly(stdin, HEADER.size)
    return None if header is None else _exactly(stdin, HEADER.unpack(header)[0])


def _exactly(stdin: BinaryIO, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = stdin.read(size - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)


def send(stdout: BinaryIO, payload: bytes) -> None:
    rest = memoryview(frame(payload))
    while rest:
        rest = rest[stdout.write(rest) :]
