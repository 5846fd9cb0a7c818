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
from typing import BinaryIO

import msgspec

from fairway.conda import archive
from fairway.conda.names import Filename
from fairway.conda.record import artifact_of
from fairway.errors import FairwayError
from fairway.sandbox.confined import end_with_parent, leave_working_directory, limit, lower, received, send
from fairway.sandbox.wire import READY, Job, Reply, Setup


def main() -> None:
    """Answers jobs until standard input ends."""
    # Not the buffered ones: what is left in a buffer at the end of a job would belong to nobody.
    stdin, stdout = os.fdopen(0, "rb", buffering=0), os.fdopen(1, "wb", buffering=0)
    setup = msgspec.msgpack.decode(received(stdin) or b"", type=Setup)
    leave_working_directory()
    limit(memory=setup.memory, files=setup.files)
    end_with_parent()
    decoder, encoder = msgspec.msgpack.Decoder(Job), msgspec.msgpack.Encoder()
    send(stdout, READY)
    while (payload := received(stdin)) is not None:
        job = decoder.decode(payload)
        signal.setitimer(signal.ITIMER_REAL, 1, 1)
        reply = _answer(job, setup)
        signal.setitimer(signal.ITIMER_REAL, 0)
        send(stdout, encoder.encode(reply))


def _answer(job: Job, setup: Setup) -> Reply:
    # The limit counts the whole life of the process, so every job raises it by its own share.
    lower(resource.RLIMIT_CPU, ceil(time.process_time()) + job.cpu, for_good=False)
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


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the server is gone
        sys.exit(1)
