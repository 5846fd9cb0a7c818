"""Secrets that must be readable again, such as what an upstream wants to see: sealed in the database, the key beside it.

AES-256-GCM, with a key from a file that only this server's user can read. What a value is for is sealed in with it: one
that is copied to where it would be told to somebody else does not open. The file holds keys in lines, the newest first:
with that one is sealed, and all of them open. Without the file the database says nothing, and nor does a backup.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import select
from sqlalchemy.orm import Session

from fairway.db.models import Upstream
from fairway.errors import SecretLost, SetupError
from fairway.remote.addresses import Location

FORMAT = b"\x01"
KEY, NAME, NONCE = 32, 4, 12  # bytes
HEAD = "# Keys that open what Fairway has sealed in its database, the newest first. Keep a copy, and not with the backups.\n"


@dataclass(frozen=True, slots=True)
class SealingKey:
    """`name` says which one opens a value; it is made of the key, so it tells nothing and cannot be wrong."""

    secret: bytes = field(repr=False)

    @property
    def name(self) -> bytes:
        return hashlib.sha256(b"fairway key " + self.secret).digest()[:NAME]


class Keyring:
    """The keys in a file. Thread-safe; a file that another process has changed is read again."""

    def __init__(self, path: Path, *, make: bool = True) -> None:
        """With `make` the file is made when something is first sealed; else it has to be there."""
        self.path, self._make = path, make
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, ...], tuple[SealingKey, ...]] | None = None

    def seal(self, secret: bytes, purpose: str) -> bytes:
        """Raises: SetupError: the key file cannot be read or made."""
        key = next(iter(self._keys() or self._first()))
        head, nonce = FORMAT + key.name, secrets.token_bytes(NONCE)
        return head + nonce + AESGCM(key.secret).encrypt(nonce, secret, head + purpose.encode())

    def unseal(self, sealed: bytes, purpose: str) -> bytes:
        """What was sealed for this very purpose. Raises: SecretLost: its key is not here, or it was for something else;
        SetupError: the key file cannot be read.
        """
        head, rest = sealed[: 1 + NAME], sealed[1 + NAME :]
        for key in self._keys():
            if head == FORMAT + key.name:
                try:
                    return AESGCM(key.secret).decrypt(rest[:NONCE], rest[NONCE:], head + purpose.encode())
                except (InvalidTag, ValueError):
                    raise SecretLost(
                        "A stored secret is damaged, or belongs to something else. Enter it again."
                    ) from None
        raise SecretLost(f"A stored secret was sealed with a key that is not in {self.path}. Enter it again.")

    def newest(self, sealed: bytes) -> bool:
        """Whether a value is sealed with the key that is used now."""
        keys = self._keys()
        return bool(keys) and sealed[1 : 1 + NAME] == keys[0].name

    def rotate(self) -> None:
        """Put a new key before the others. Raises: SetupError."""
        with self._alone():
            self._write((SealingKey(secrets.token_bytes(KEY)), *self._keys()))

    def forget_old(self) -> int:
        """Keep only the newest key; how many others there were. What they sealed, also in backups, opens no more."""
        with self._alone():
            keys = self._keys()
            if len(keys) > 1:
                self._write(keys[:1])
            return max(0, len(keys) - 1)

    def count(self) -> int:
        return len(self._keys())

    # --- the file --------------------------------------------------------------------------------------------------

    def _first(self) -> tuple[SealingKey, ...]:
        if not self._make:
            raise SetupError(f"There is no key file {self.path} (secrets_file); 'fairway secrets rotate' makes it.")
        with self._alone():
            if not self._keys():  # else another process was faster
                self._write((SealingKey(secrets.token_bytes(KEY)),))
            return self._keys()

    def _keys(self) -> tuple[SealingKey, ...]:
        """The newest first; none if there is no file."""
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_mode & stat.S_IRWXO:
                    raise SetupError(f"Everybody on this machine can read the key file {self.path}: chmod 600 it.")
                state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
                with self._lock:
                    if self._read is None or self._read[0] != state:
                        self._read = state, parsed(file.read(1 << 16), self.path)
                    return self._read[1]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise SetupError(f"The key file {self.path} cannot be read: {error.strerror}.") from None

    def _write(self, keys: tuple[SealingKey, ...]) -> None:
        """Whole or not at all, also through a power cut: a key that is lost takes everything with it."""
        part = self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}")
        text = HEAD + "".join(base64.b64encode(key.secret).decode() + "\n" for key in keys)
        try:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(fd, "w", encoding="ascii") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(fd)
                part.replace(self.path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            with self._folder() as folder:
                os.fsync(folder)
        except OSError as error:
            raise SetupError(f"The key file {self.path} cannot be written: {error.strerror}.") from None

    @contextmanager
    def _folder(self) -> Iterator[int]:
        fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time changes the file. The folder is locked, since the file is replaced."""
        try:
            with self._folder() as folder:
                fcntl.flock(folder, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise SetupError(f"The folder of the key file {self.path} cannot be used: {error.strerror}.") from None


def parsed(data: bytes, path: Path) -> tuple[SealingKey, ...]:
    """Raises: SetupError: a line is no key."""
    keys = []
    for line in data.splitlines():
        if not line.strip() or line.startswith(b"#"):
            continue
        try:
            secret = base64.b64decode(line.strip(), validate=True)
        except binascii.Error:
            secret = b""
        if len(secret) != KEY:
            raise SetupError(f"The key file {path} has a line that is no key.")
        keys.append(SealingKey(secret))
    return tuple(keys)


# --- what is sealed ------------------------------------------------------------------------------------------------


def of_upstream(url: str) -> str:
    """The purpose of a credential: one server. Where an upstream moves to another, its credential does not open."""
    return f"upstream {Location.parse(url).origin}"


def reseal(session: Session, keyring: Keyring) -> tuple[int, int]:
    """Seal with the newest key whatever is sealed with an older one; how many that were, and how many are lost."""
    done = lost = 0
    for row in session.scalars(select(Upstream).where(Upstream.credential.is_not(None)).with_for_update()):
        if row.credential is None or keyring.newest(row.credential):
            continue
        try:
            secret = keyring.unseal(row.credential, of_upstream(row.url))
        except SecretLost:
            lost += 1
        else:
            row.credential = keyring.seal(secret, of_upstream(row.url))
            done += 1
    return done, lost


def state(session: Session, keyring: Keyring) -> tuple[int, int]:
    """How many secrets are stored, and how many of them cannot be opened."""
    rows = session.execute(select(Upstream.url, Upstream.credential).where(Upstream.credential.is_not(None))).all()
    return len(rows), sum(not opens(keyring, url, sealed) for url, sealed in rows)


def opens(keyring: Keyring, url: str, sealed: bytes | None) -> bool:
    try:
        keyring.unseal(sealed or b"", of_upstream(url))
    except SecretLost:
        return False
    return True
