"""The parts of one running Fairway, opened and closed together. This is where the clock is read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

import structlog
from sqlalchemy.orm import Session

from fairway.blobs import open_staging, open_store
from fairway.blobs.staging import StagedFile
from fairway.conda.artifact import Limits
from fairway.db import migrate
from fairway.db.engine import Database
from fairway.db.models import Upstream
from fairway.errors import FairwayError, NotFound, SetupError, StorageFull
from fairway.queue import jobs, worker
from fairway.registry import setup
from fairway.registry.actor import Actor
from fairway.registry.committer import Committer
from fairway.registry.fetches import Fetches
from fairway.registry.index import ShardIndexes
from fairway.registry.lookup import Lookup
from fairway.registry.publish import Intake, Offer, Published, accept
from fairway.registry.publisher import Publisher
from fairway.registry.solving import Solving
from fairway.registry.statistics import Counts
from fairway.remote.addresses import Rules
from fairway.sandbox.pool import Reader
from fairway.settings import Loaded

if TYPE_CHECKING:
    from fairway.registry.sealing import Keyring
    from fairway.remote.channel import Upstream as RemoteChannel
    from fairway.remote.client import Client
    from fairway.remote.credentials import Credential
    from fairway.remote.transfer import Transfers

log = structlog.get_logger("fairway.app")

FLUSH_SECONDS = 5.0
JOBS_SECONDS = 30.0
SLOW_JOBS_SECONDS = 1.0  # somebody may be watching
SLOW_JOBS = 3  # at once: a server elsewhere that drips must not keep all other upstreams waiting

SETTINGS_FILE = "fairway.toml"
SETUP_FILE = "setup-code"
SECRETS_FILE = "secrets.key"
OURS = frozenset(("blobs", "fairway.db", "server.lock", "staging", SETTINGS_FILE, SETUP_FILE, SECRETS_FILE))
"""What Fairway keeps in its data folder."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Fairway:
    """One Fairway. `serving` is the server or a worker: it migrates the database, and on SQLite it is the only one. A
    command beside a running server must not change the schema under it.
    """

    def __init__(self, loaded: Loaded, *, serving: bool = False) -> None:
        self.loaded = loaded
        self.settings = settings = loaded.settings
        self.origins = loaded.origins
        self.now = now_ms
        self._lock: IO[str] | None = None
        make_data_folder(settings.data)
        check_data_folder(settings.data)
        if serving and settings.on_sqlite:
            self._lock = only_server(settings.data)
        self.database = Database(settings.database)
        if serving or migrate.current(self.database) is None:
            migrate.upgrade(self.database)
        else:
            migrate.require_current(self.database)
        self.blobs = open_store(settings.storage, data=settings.data, options=loaded.storage_options)
        self.staging = open_staging(self.blobs, data=settings.data)
        self.limits = Limits(file_size=settings.max_file_size)
        self._reader: Reader | None = None
        self._reader_lock = threading.Lock()
        self._remote: Client | None = None
        self._keyring: Keyring | None = None
        self._transfers: Transfers | None = None
        self.committer = Committer(self.database)
        self.shard_indexes = ShardIndexes(self.database)
        self.publisher = Publisher(self.database, self.blobs, self.staging, clock=self.now)
        self.lookup = Lookup(self.database, clock=self.now)
        self.counts = Counts()
        self.fetches = Fetches(self.database, lambda: self.now())  # noqa: PLW0108 - tests give it another clock
        self.solving = Solving(self.database)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def reader(self) -> Reader:
        """The children that read archives; started by the first who needs them."""
        with self._reader_lock:
            if self._reader is None:
                self._reader = Reader(processes=self.settings.reading_processes, limits=self.limits)
            return self._reader

    @property
    def keyring(self) -> Keyring:
        """What opens sealed secrets."""
        from fairway.registry.sealing import Keyring  # noqa: PLC0415 - most commands open none

        with self._reader_lock:
            if self._keyring is None:
                self._keyring = Keyring(self.settings.secrets, make=self.settings.secrets_file is None)
            return self._keyring

    def seal(self, secret: bytes, url: str) -> bytes:
        """What the server of `url` wants to see, as it is stored. Raises: SetupError, RemoteRefused."""
        from fairway.registry import sealing  # noqa: PLC0415 - as above

        return self.keyring.seal(secret, sealing.of_upstream(url))

    def unseal(self, sealed: bytes, url: str) -> bytes:
        """Raises: SecretLost, SetupError."""
        from fairway.registry import sealing  # noqa: PLC0415 - as above

        return self.keyring.unseal(sealed, sealing.of_upstream(url))

    @property
    def remote(self) -> Client:
        """What asks other servers; made by the first who needs it."""
        with self._reader_lock:
            if self._remote is None:
                from fairway.remote.client import Client  # noqa: PLC0415 - most commands ask nobody

                self._remote = Client(Rules.parse(self.settings.upstream_allow), idle=self.settings.upstream_patience)
            return self._remote

    def remote_credentials(self, address: str) -> tuple[str, bytes | None]:
        """An address that people may have copied with its secret, taken apart: the bare one, and the secret, sealed.

        Raises: Invalid, RemoteRefused.
        """
        from fairway.remote.credentials import Credential  # noqa: PLC0415 - as above

        url, credential = Credential.out_of(address.strip().rstrip("/"))
        return url, None if credential is None else self.seal(credential.pack(), url)

    @property
    def transfers(self) -> Transfers:
        """Files of upstreams on their way; made by the first who needs it."""
        client = self.remote
        with self._reader_lock:
            if self._transfers is None:
                from fairway.remote.transfer import Transfers  # noqa: PLC0415

                self._transfers = Transfers(client, self.staging, room=self.room)
            return self._transfers

    def room(self, size: int) -> None:
        """Raises: StorageFull: the disk would have less than the reserve left."""
        free = shutil.disk_usage(self.staging.folder).free
        if free - size < self.settings.disk_reserve:
            raise StorageFull

    def credential_of(self, channel_id: int) -> Credential | None:
        """What a channel's upstream wants to see. Raises: NotFound."""
        with self.database.read() as session:
            return self.upstream_of(session, channel_id)[1].credential

    def upstream_of(self, session: Session, channel_id: int) -> tuple[list[str] | None, RemoteChannel]:
        """The subdirs a channel wants of its upstream (none: all), and how to ask it. Raises: NotFound."""
        from fairway.remote.channel import Upstream as RemoteChannel  # noqa: PLC0415
        from fairway.remote.credentials import Credential  # noqa: PLC0415

        row = session.get(Upstream, channel_id)
        if row is None:
            raise NotFound("The channel has no upstream.")
        credential = None
        if row.credential is not None:
            credential = Credential.unpack(self.unseal(row.credential, row.url), row.url)
        stop = lambda: self.stopping  # noqa: E731
        return row.subdirs, RemoteChannel(self.remote, row.url, credential, self.staging.folder, stop)

    @property
    def stopping(self) -> bool:
        """Whether this Fairway is being closed: long work ends soon then."""
        return self._stop.is_set()

    @property
    def setup_code_file(self) -> Path:
        return self.settings.data / SETUP_FILE

    def new_setup_code(self) -> str | None:
        """The code that makes the first administrator, also in a file that only this user can read; none if somebody has
        an account. The ones before are void.
        """
        with self.database.write() as session:
            code = setup.new_code(session, now=self.now())
        self.setup_code_file.unlink(missing_ok=True)
        if code is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(self.setup_code_file, flags, 0o600), "w", encoding="ascii") as file:
                file.write(code + "\n")
        return code

    @property
    def intake(self) -> Intake:
        return Intake(self.database, self.blobs, self.reader, self.committer.publish, self.settings.url)

    def take(self, actor: Actor, staged: StagedFile, offer: Offer) -> Published:
        """Publish a staged file: every client can see it then. Raises as registry.publish.accept does."""
        published = accept(self.intake, actor, staged, offer, now=self.now())
        self.publisher.poke()  # the flat documents follow
        return published

    def start(
        self,
        handlers: Mapping[str, worker.Handler],
        recurring: Mapping[str, int],
        slow: Mapping[str, worker.Handler] | None = None,
        build: Callable[[int], None] | None = None,
    ) -> None:
        """Begin what goes on in the background: the publisher, the counts, the jobs (`fairway.tasks` names them). `slow`
        ones have threads of their own. `build` writes the flat documents of a large subdir in another process.
        """
        removed = self.staging.clear_dead()
        if removed:
            log.info("staging.cleared", files=removed)
        if self._lock is not None:  # there is no other server
            with self.database.write() as session:
                jobs.release(session)
        _ = self.reader
        self.publisher.start(apart=build)
        run_jobs = partial(self._run_jobs, handlers, recurring)
        run_slow = partial(self._run_jobs, slow or {}, {}, SLOW_JOBS_SECONDS)
        threads: list[tuple[str, Callable[[], None]]] = [("counts", self._flush_counts), ("jobs", run_jobs)]
        threads += [("slow-jobs", run_slow)] * SLOW_JOBS
        for name, target in threads:
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _flush_counts(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            try:
                self.counts.flush(self.database)
            except FairwayError as error:
                log.warning("counts.flush", error=error.detail)
            except Exception:
                log.exception("counts.flush")

    def _run_jobs(
        self, handlers: Mapping[str, worker.Handler], recurring: Mapping[str, int], every: float = JOBS_SECONDS
    ) -> None:
        while not self._stop.is_set():
            try:
                worker.ensure(self.database, recurring, now=self.now())
                worker.run_due(self.database, handlers, recurring, clock=self.now)
            except FairwayError as error:
                log.warning("jobs.run", error=error.detail)
            except Exception:
                log.exception("jobs.run")
            self._stop.wait(every)

    def close(self) -> None:
        """Stop the background, write what is still in memory, and let go of everything. May be called twice."""
        self._stop.set()
        if self._remote is not None:
            self._remote.close()  # whoever asks others stops within a second
        if self._transfers is not None:
            self._transfers.close()
        self.fetches.close()
        self.lookup.close()
        self.solving.close()
        self.publisher.stop()
        for thread in self._threads:
            thread.join(timeout=30)
        with contextlib.suppress(FairwayError):
            self.counts.flush(self.database)
        with self._reader_lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
        self.blobs.close()
        self.database.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_data_folder(data: Path) -> None:
    """Raises: SetupError: it cannot be made or written."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SetupError(f"The data folder {data} cannot be made: {error.strerror}.") from None
    if not os.access(data, os.W_OK | os.X_OK):
        raise SetupError(f"The data folder {data} cannot be written by this user.")


def check_data_folder(data: Path) -> None:
    """Raises: SetupError: it is somebody else's: another program's, or another user's."""
    try:
        names = {path.name for path in data.iterdir() if not path.name.startswith(".")} - {"lost+found"}
        owners = {name: (data / name).lstat().st_uid for name in names & OURS}
    except OSError as error:
        raise SetupError(f"The data folder {data} cannot be read: {error.strerror}.") from None
    if names and not owners:
        raise SetupError(
            f"The folder {data} holds other things, such as {min(names)}, and was never Fairway's: name an empty one, or put "
            "a fairway.toml into this one to say that it is meant."
        )
    for name in sorted(owners.keys() - {SETTINGS_FILE}):
        if owners[name] != os.geteuid():
            # whoever may do everything would leave files behind that the server cannot write
            raise SetupError(
                f"{data / name} belongs to the user {user_name(owners[name])}, and this is {user_name(os.geteuid())}: run "
                f"Fairway as the user {user_name(owners[name])}."
            )


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def only_server(data: Path) -> IO[str]:
    """Hold the data folder's lock. The kernel gives it back however the process ends.

    Raises: SetupError: another server has it.
    """
    path = data / "server.lock"
    try:
        lock = path.open("a", encoding="ascii")
    except OSError as error:
        raise SetupError(f"The lock {path} cannot be taken: {error.strerror}.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise SetupError(
            f"Another Fairway is serving the data folder {data}. One server at a time may use SQLite; for several, use "
            "PostgreSQL (FAIRWAY_DATABASE_URL)."
        ) from None
    return lock
