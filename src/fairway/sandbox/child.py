"""The reading child: the only process that looks inside a package. `python -I -m fairway.sandbox.child`.

It is started by `pool`, which speaks the frames of `wire` with it, and imports nothing it does not need: it starts
fast, and there is little in it to misuse. What it may take is limited by the kernel before the first byte is read.
"""

from __future__ import annotations

import os
import resource
import signal
import stat
import sys
import time
import traceback
from math import ceil
from types import FrameType
from typing import BinaryIO

import msgspec

from fairway.conda import archive
from fairway.conda.names import Filename
from fairway.conda.record import artifact_of
from fairway.errors import FairwayError
from fairway.sandbox.wire import HEADER, READY, Job, Reply, Setup, frame


def main() -> None:
    """Answers jobs until standard input ends."""
    # Not the buffered ones: what is left in a buffer at the end of a job would belong to nobody.
    stdin, stdout = os.fdopen(0, "rb", buffering=0), os.fdopen(1, "wb", buffering=0)
    setup = msgspec.msgpack.decode(_received(stdin) or b"", type=Setup)
    _leave_working_directory()
    _limit(setup)
    parent = os.getppid()

    def look_for_parent(_number: int, _frame: FrameType | None) -> None:
        # While a package is read nobody looks at standard input, so its end would go unseen for that long.
        if os.getppid() != parent:
            os._exit(1)

    signal.signal(signal.SIGALRM, look_for_parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides when we end
    decoder, encoder = msgspec.msgpack.Decoder(Job), msgspec.msgpack.Encoder()
    _send(stdout, READY)
    while (payload := _received(stdin)) is not None:
        job = decoder.decode(payload)
        signal.setitimer(signal.ITIMER_REAL, 1, 1)
        reply = _answer(job, setup)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(stdout, encoder.encode(reply))


def _answer(job: Job, setup: Setup) -> Reply:
    # The limit counts the whole life of the process, so every job raises it by its own share.
    _lower(resource.RLIMIT_CPU, ceil(time.process_time()) + job.cpu, for_good=False)
    try:
        with _opened(job.path) as file:
            filename = Filename.parse(job.filename)
            contents = archive.read(
                file,
                stem=filename.stem,
                extension=filename.extension,
                subdir=job.subdir,
                limits=setup.limits,
                require_paths=not job.mirrored,
                escaping_symlinks="flag" if job.mirrored else "refuse",
            )
        return Reply(artifact=artifact_of(contents, filename, subdir=job.subdir, now_ms=job.now_ms))
    except FairwayError as error:
        # The reader turns a lack of memory into a refusal; what it held then may stay in pieces.
        starved = isinstance(error.__cause__, MemoryError)
        return Reply(refusal=(type(error).__name__, error.code, error.detail), spent=starved)
    except OSError as error:
        return Reply(errno=error.errno or 0)
    except MemoryError:
        return Reply(spent=True)
    except Exception:  # noqa: BLE001 - a fault of ours; the parent logs it, for we may not write to any file
        return Reply(fault=traceback.format_exc(limit=-8), spent=True)


def _opened(path: bytes) -> BinaryIO:
    # Non-blocking, or a FIFO in the place of the file would hold us here.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(21, "not a regular file")
    return os.fdopen(descriptor, "rb")


def _leave_working_directory() -> None:
    """Stands in a folder that is gone: nothing relative can be opened, and nothing is left behind."""
    name = f"fairway-reader-{os.getpid()}-{os.urandom(8).hex()}"
    try:
        os.mkdir(name, 0o700)  # noqa: PTH102 - pathlib costs a quarter of our start
        os.chdir(name)
        os.rmdir(f"../{name}")  # noqa: PTH106
    except OSError:
        os.chdir("/")  # no place for temporary files: any folder without files of ours


def _limit(setup: Setup) -> None:
    for what, most in (
        (resource.RLIMIT_AS, setup.memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, setup.files),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _lower(what, most, for_good=True)


def _lower(what: int, most: int, *, for_good: bool) -> None:
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most if for_good else hard))


def _received(stdin: BinaryIO) -> bytes | None:
    header = _exactly(stdin, HEADER.size)
    return None if header is None else _exactly(stdin, HEADER.unpack(header)[0])


def _exactly(stdin: BinaryIO, size: int) -> bytes | None:
    parts = b""
    while len(parts) < size:
        part = stdin.read(size - len(parts))
        if not part:
            return None
        parts += part
    return parts


def _send(stdout: BinaryIO, payload: bytes) -> None:
    rest = memoryview(frame(payload))
    while rest:
        rest = rest[stdout.write(rest) :]


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the server is gone
        sys.exit(1)
