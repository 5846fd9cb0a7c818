"""Blobs in a folder, made to survive a power cut: write, fsync the file, rename, fsync the folder; then return."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat as modes
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from fairway.blobs.keys import Key
from fairway.blobs.staging import make_private, reserve, write_all
from fairway.blobs.store import CHUNK, Entry, Stat, check_prefix, failure, no_space
from fairway.errors import BlobMissing, Unavailable

STAGING = ".staging"
"""The folder below the root for files on their way in, so that both are on one file system."""

# From so many files on, syncing the file system is cheaper than syncing each: measured between 10 and 30.
SYNC_ALL_FROM = 20
syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)  # Linux; it reports errors since 5.8

_NOT_BLOBS = frozenset({STAGING, "lost+found"})
# with O_NOFOLLOW a symbolic link is ELOOP or, where a folder is asked for, ENOTDIR: such a thing is no blob of ours
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalBlobs:
    """Blobs as files below `root`, which only this server's user may enter.

    No symbolic link below `root` is followed: each folder of a path is opened from the one before it. After an fsync
    failed for another reason than a full disk, nobody knows what the disk holds, and asking again may say "fine" for
    bytes that are lost; so the store takes nothing more until the server is restarted. Reading goes on.
    """

    def __init__(self, root: Path, staging: Path | None = None) -> None:
        """`staging` (default `root/.staging`) must be on the file system of `root`. Raises `StorageFull`,
        `Unavailable`.
        """
        self.root = root
        self.staging = staging or root / STAGING
        make_private(root)
        make_private(self.staging)
        self._guard = threading.Lock()
        self._durable: set[str] = set()
        self._broken = False

    def put(self, key: Key, data: bytes) -> None:
        self._refuse_if_broken()
        fd, path = reserve(self.staging)
        try:
            write_all(fd, data)
            self._commit(key, fd, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)

    def put_file(self, key: Key, path: Path) -> None:
        self._refuse_if_broken()
        try:
            fd = os.open(path, _FILE)
        except OSError as error:
            raise failure(error) from error
        try:
            if os.fstat(fd).st_dev == self.staging.stat().st_dev:
                os.fchmod(fd, 0o600)
                self._commit(key, fd, path)
            else:
                self._put_copy(key, fd)
        except OSError as error:
            raise failure(error) from error
        finally:
            os.close(fd)

    def put_files(self, files: Sequence[tuple[Key, Path]]) -> None:
        """Two passes over the whole file system instead of two or three fsyncs a file: contents, then names."""
        if len(files) < SYNC_ALL_FROM or syncfs is None or any(path.parent != self.staging for _, path in files):
            for key, path in files:
                self.put_file(key, path)
            return
        self._refuse_if_broken()
        try:
            self._sync_all()
            for key, path in files:
                *above, name = _parts(key)
                with self._made(above, durable=False) as folder:
                    os.rename(path, name, dst_dir_fd=folder)
            self._sync_all()
        except OSError as error:
            raise failure(error) from error

    def _sync_all(self) -> None:
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if syncfs is not None and syncfs(fd):
                number = ctypes.get_errno()
                if number not in {errno.ENOSPC, errno.EDQUOT}:
                    self._broken = True
                raise OSError(number, os.strerror(number))
        finally:
            os.close(fd)

    def get(self, key: Key) -> bytes:
        fd = self._open(key)
        with _ours(), os.fdopen(fd, "rb") as file:
            return file.read()

    def stream(self, key: Key, start: int = 0, length: int | None = None, chunk: int = CHUNK) -> Iterator[bytes]:
        return _Pieces(self._open(key), start, length, chunk)

    def stat(self, key: Key) -> Stat | None:
        try:
            with self._folder(key) as (folder, name):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise failure(error) from error
        if not modes.S_ISREG(found.st_mode):
            return None
        return Stat(found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def delete(self, key: Key) -> bool:
        """No fsync here: a blob that comes back after a power cut is an orphan, which the next sweep removes."""
        try:
            with self._folder(key) as (folder, name):
                os.unlink(name, dir_fd=folder)
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            raise failure(error) from error
        return True

    def list(self, prefix: str) -> Iterator[Entry]:
        todo = [check_prefix(prefix)]
        while todo:
            path = todo.pop()
            try:
                with self._inside(path.split("/")[:-1]) as folder, os.scandir(folder) as found:
                    for entry in found:
                        if entry.is_dir(follow_symlinks=False):
                            if path or entry.name not in _NOT_BLOBS:
                                todo.append(f"{path}{entry.name}/")
                        elif entry.is_file(follow_symlinks=False):
                            with contextlib.suppress(FileNotFoundError):
                                at = entry.stat(follow_symlinks=False)
                                when = datetime.fromtimestamp(at.st_mtime, UTC)
                                yield Entry(f"{path}{entry.name}", at.st_size, when)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise failure(error) from error

    def local_path(self, key: Key) -> Path | None:
        return self.root / key.path if self.stat(key) else None

    def presign(self, key: Key, seconds: int, *, filename: str | None = None, media_type: str) -> str | None:  # noqa: ARG002 - the protocol's
        return None

    def check(self) -> None:
        self._refuse_if_broken()
        fd, path = reserve(self.staging)
        try:
            write_all(fd, b"check")
            if os.fstat(fd).st_dev != self.root.stat().st_dev:
                raise Unavailable("The staging folder must be on the file system of the storage folder.")
        finally:
            path.unlink(missing_ok=True)
            os.close(fd)

    def close(self) -> None:
        """Nothing is held open."""

    # --- writing -------------------------------------------------------------------------------------------------

    def _commit(self, key: Key, fd: int, path: Path) -> None:
        """Give the written file at `path` its name, in the order that a crash at any point leaves it whole or absent:
        fsync(file), rename, fsync(folder), where the folder's own name has been made durable before.
        """
        *folders, name = _parts(key)
        try:
            self._sync(fd)
        except BaseException:
            # the kernel forgets a failed write-back: a second fsync of this file would succeed for bytes that are lost
            path.unlink(missing_ok=True)
            raise
        try:
            with self._made(folders) as folder:
                os.rename(path, name, dst_dir_fd=folder)
                self._sync(folder)
        except OSError as error:
            with self._guard:
                self._durable.clear()
            raise failure(error) from error

    def _put_copy(self, key: Key, source: int) -> None:
        """The file is on another file system (an import from elsewhere), where no rename can bring it from."""
        fd, path = reserve(self.staging)
        try:
            while data := os.read(source, CHUNK):
                write_all(fd, data)
            self._commit(key, fd, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _made(self, folders: Sequence[str], *, durable: bool = True) -> Iterator[int]:
        """The descriptor of the innermost of `folders`, each made if need be and durable in its parent.

        A folder that exists is not yet durable: its maker may have been killed before the fsync. So each process
        sees to each folder once, and remembers: 65,792 short strings when every package folder is in use. Not if the
        caller says that it will see to that itself.
        """
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = ""
            for name in folders:
                path = f"{path}/{name}"
                if path not in self._durable:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=fd)
                    if durable:
                        self._sync(fd)
                        with self._guard:
                            self._durable.add(path)
                inner = os.open(name, _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)

    def _sync(self, fd: int) -> None:
        try:
            os.fsync(fd)
        except OSError as error:
            if not no_space(error):
                self._broken = True
            with self._guard:
                self._durable.clear()
            raise failure(error) from error

    def _refuse_if_broken(self) -> None:
        if self._broken:
            raise Unavailable(
                "The disk of this server failed to store a file; nothing is accepted until its administrator has "
                "checked the disk and restarted the server."
            )

    # --- reading -------------------------------------------------------------------------------------------------

    def _open(self, key: Key) -> int:
        """A descriptor of the blob. Raises `BlobMissing`."""
        try:
            with self._folder(key) as (folder, name):
                fd = os.open(name, _FILE, dir_fd=folder)
        except OSError as error:
            if error.errno in _ABSENT:
                raise BlobMissing from None
            raise failure(error) from error
        if not modes.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise BlobMissing
        return fd

    @contextlib.contextmanager
    def _folder(self, key: Key) -> Iterator[tuple[int, str]]:
        """The descriptor of the folder of a blob that should exist, and the blob's name in it."""
        *folders, name = _parts(key)
        with self._inside(folders) as fd:
            yield fd, name

    @contextlib.contextmanager
    def _inside(self, folders: Sequence[str]) -> Iterator[int]:
        """The descriptor of the innermost of `folders`, none of which may be a link."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in folders:
                inner = os.open(folder, _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)


class _Pieces:
    """An open blob as an iterator. A class, because a generator that is never started never closes its file."""

    def __init__(self, fd: int, start: int, length: int | None, chunk: int) -> None:
        self._fd = fd
        self._at = start
        self._left = length
        self._chunk = chunk

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        want = self._chunk if self._left is None else min(self._chunk, self._left)
        with _ours():
            data = os.pread(self._fd, want, self._at) if want > 0 and self._fd >= 0 else b""
        if not data:
            self.close()
            raise StopIteration
        self._at += len(data)
        if self._left is not None:
            self._left -= len(data)
        return data

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise failure(error) from error


def _parts(key: Key) -> Sequence[str]:
    """The names a key's path consists of. `keys` makes no other; this is the last guard before the file system."""
    parts = key.path.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts) or parts[0] in _NOT_BLOBS:
        raise ValueError(f"{key.path!r} is not the path of a blob")
    return parts
