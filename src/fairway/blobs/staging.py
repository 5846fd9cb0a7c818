"""Where the bytes of an upload wait until they are known to be good.

A staged file belongs to the process that holds a lock (`flock`) on it. The kernel drops the lock when that process
dies, however it dies, so what may be cleared away needs no list of processes, no pid that could be reused, no clock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import secrets
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from fairway.blobs.store import failure
from fairway.errors import TooLarge

IN_PARALLEL = 512 << 10
"""From this size of a chunk on md5 has a thread of its own, beside sha256 and the disk. Measured with two cores: chunks
of 1 MiB 460 -> 620 MB/s, of 256 KiB 460 -> 490, of 64 KiB 450 -> 300, where handing over costs more than it saves.
"""

_SUFFIX = ".part"
_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True, slots=True)
class Digest:
    """What the bytes of one staged file are: both hashes in lower case hex, the size in bytes."""

    sha256: str
    md5: str
    size: int


class StagedFile:
    """One upload on its way in, readable and writable by this server's user only. Use it as a context manager.

    One thread at a time may write. Leaving the context removes the file, unless `BlobStore.put_file` has moved it away.
    """

    def __init__(
        self, folder: Path, limit: int, helpers: Executor, *, md5: bool = True, name: str | None = None
    ) -> None:
        """`limit` is the largest size in bytes; `helpers` has threads; without `md5` the digest has none."""
        self._name = name
        self._limit = limit
        self._helpers = helpers
        self._size = 0
        self._sha256 = hashlib.sha256()
        # repodata names it; nothing here trusts it
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._folder = folder
        self._fd = -1
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """Where the bytes are. Made when it is first needed, so that a thread waits for the disk and not the event loop.
        Raises `StorageFull`, `Unavailable`.
        """
        if self._path is None:
            self._fd, self._path = reserve(self._folder, self._name)
        return self._path

    def write(self, chunk: bytes) -> None:
        """Append `chunk`. Raises `TooLarge` if the file would exceed its limit, `StorageFull`, `Unavailable`."""
        self._size += len(chunk)
        if self._size > self._limit:
            raise TooLarge(f"The file is larger than {in_words(self._limit)}, which is the limit here.")
        _ = self.path
        if self._md5 is None or len(chunk) < IN_PARALLEL:
            self._sha256.update(chunk)
            if self._md5 is not None:
                self._md5.update(chunk)
            write_all(self._fd, chunk)
            return
        md5 = self._helpers.submit(self._md5.update, chunk)
        try:
            self._sha256.update(chunk)
            write_all(self._fd, chunk)
        finally:
            md5.result()  # also after an error: the chunk and the hash are shared until then

    def finish(self) -> Digest:
        """What has been written. The bytes are with the kernel, so every process can read them at `path`; making them
        durable is left to `BlobStore.put_file`, which then happens once, and never for a file that is refused.
        """
        md5 = "" if self._md5 is None else self._md5.hexdigest()
        return Digest(self._sha256.hexdigest(), md5, self._size)

    def close(self) -> None:
        """Remove the file if it is still there. Calling it again does nothing."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


class StagingArea:
    """The folder of staged files: on the file system of the local store, so that storing one is a rename."""

    def __init__(self, folder: Path) -> None:
        """Makes `folder` if need be, for this server's user only. Raises `StorageFull`, `Unavailable`."""
        self.folder = folder
        self._helpers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="staging-md5")
        make_private(folder)

    def open(self, limit: int, *, md5: bool = True, name: str | None = None) -> StagedFile:
        """A new staged file of at most `limit` bytes; nothing is on the disk before the first of them. By a `name`, which
        nobody else may have used, others can `peek` at it.
        """
        return StagedFile(self.folder, limit, self._helpers, md5=md5, name=name)

    def path_of(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"

    def peek(self, name: str) -> int | None:
        """A descriptor of the file that somebody is staging under this name, if it is there (yet, or still). What is in
        it stays readable whatever becomes of the name. Raises `Unavailable`.
        """
        try:
            return os.open(self.path_of(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failure(error) from error

    def sweep(self, older_than_seconds: float) -> int:
        """Remove what dead processes left and nobody has written to for so long; return how many files that were."""
        limit = time.time() - older_than_seconds
        removed = 0
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.endswith(_SUFFIX) and entry.is_file(follow_symlinks=False):
                        removed += _remove_dead(entry.path, limit)
        except OSError as error:
            raise failure(error) from error
        return removed

    def clear_dead(self) -> int:
        """Remove what dead processes left, however young; return how many files that were. For the start."""
        return self.sweep(-math.inf)


def make_private(folder: Path) -> None:
    """Make `folder` and its parents with mode 0700, durably; what exists stays as it is. Raises `StorageFull`, `Unavailable`."""
    try:
        if folder.is_dir():
            return
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)  # all that will be stored below hangs on this name
        finally:
            os.close(fd)
    except OSError as error:
        raise failure(error) from error


def reserve(folder: Path, name: str | None = None) -> tuple[int, Path]:
    """A new file in `folder` that nobody else can have: its descriptor, locked by this process, and its path. Without a
    `name` it gets one of its own.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        while True:
            path = folder / f"{name or secrets.token_hex(16)}{_SUFFIX}"
            fd = os.open(path, flags, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                # a sweep may have seen the file between its creation and the lock, and have taken it for a dead one
                if os.fstat(fd).st_nlink:
                    return fd, path
            except BaseException:
                os.close(fd)
                path.unlink(missing_ok=True)
                raise
            os.close(fd)
    except OSError as error:
        raise failure(error) from error


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`; the kernel may take less at once. Raises `StorageFull`, `Unavailable`."""
    try:
        written = os.write(fd, data)
        if written < len(data):
            rest = memoryview(data)
            while written < len(data):
                written += os.write(fd, rest[written:])
    except OSError as error:
        raise failure(error) from error


def in_words(size: int) -> str:
    """A size in bytes as people write it: `2 GiB`, `1.5 MiB`, `700 bytes`."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{size} bytes"


def _remove_dead(path: str, limit: float) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if os.fstat(fd).st_mtime > limit:
            return False
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # the owner may have stored it and let go of it since it was listed: then this name is gone, or is not it
        Path(path).unlink()
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
