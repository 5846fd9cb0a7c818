"""A backup brings everything back, on another database too, and never over something that is there."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, delete, event, func, select

from fairway import tasks
from fairway.app import Fairway
from fairway.blobs import keys
from fairway.db import migrate
from fairway.db.models import Audit, Base, Channel, Job, Retired, User
from fairway.errors import SetupError
from fairway.queue import worker
from fairway.registry import accounts, backup, fsck, sweep
from fairway.registry.actor import CONSOLE
from fairway.settings import load
from tests.support.builders import conda_package, tar_bz2_package
from tests.support.site import Site


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Fairway]:
    """Another Fairway, on SQLite: a backup of PostgreSQL moves there."""
    with Fairway(load({"data": tmp_path / "other", "reading_processes": 1}, environ={})) as app:
        yield app


def filled(site: Site) -> str:
    site.user("ana")
    site.channel("lab", owner="ana")
    site.channel("open", "public")
    key = site.key("ana")
    for package in (conda_package(), conda_package(version="2.0"), tar_bz2_package(name="other")):
        assert site.put("lab", package, key).status_code == 201
    site.client.delete("/api/v1/delete/lab/noarch/demo-1.0-h0_0.conda", headers={"Authorization": f"Bearer {key}"})
    site.get("/lab/noarch/demo-2.0-h0_0.conda", key)
    site.settle()
    return key


def write(site: Site, path: Path) -> backup.Counted:
    return backup.backup(site.app.database, site.app.blobs, path, schema=migrate.HEAD, now=site.app.now())


def bring_back(app: Fairway, path: Path) -> backup.Counted:
    done = backup.restore(app.database, app.blobs, app.staging, path, schema=migrate.HEAD)
    app.publisher.catch_up()
    return done


def test_a_restored_server_answers_as_the_old_one(site: Site, empty: Fairway, tmp_path: Path) -> None:
    key = filled(site)
    documents = (
        "noarch/repodata.json",
        "noarch/repodata_shards.msgpack.zst",
        "noarch/demo-1.0-h0_0.conda",
        "channeldata.json",
    )
    before = {name: site.get(f"/lab/{name}", key).content for name in documents}
    path = tmp_path / "all.fairway"
    counted = write(site, path)
    assert counted.files == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert bring_back(empty, path) == counted
    assert list(fsck.check(empty.database, empty.blobs, deep=True)) == []
    with Site.around(empty) as restored:
        assert {name: restored.get(f"/lab/{name}", key).content for name in documents} == before
        again = restored.put("lab", conda_package(version="3.0"), key)
        assert again.status_code == 201, again.text


def test_a_backup_is_not_restored_over_something(site: Site, tmp_path: Path) -> None:
    filled(site)
    path = tmp_path / "all.fairway"
    write(site, path)
    with pytest.raises(SetupError, match="empty Fairway"):
        bring_back(site.app, path)


def used_once(app: Fairway) -> None:
    """As a server leaves it that was started, and where somebody tried something out."""
    worker.ensure(app.database, tasks.RECURRING, now=app.now())
    with app.database.write() as session:
        accounts.create_user(session, CONSOLE, "me", email="me@here", password_hash=None, is_admin=True, now=app.now())
        session.execute(delete(User))
        sweep.retire(session, ["index/9/"], now=1)


def lines(app: Fairway, table: type[Base]) -> int:
    with app.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


@pytest.mark.parametrize("older", [False, True])
def test_a_server_that_was_started_takes_a_backup_of_one_that_ran(
    fairway: Fairway, empty: Fairway, tmp_path: Path, older: bool
) -> None:
    path = tmp_path / "all.fairway"
    with Site(empty) as site:
        worker.ensure(empty.database, tasks.RECURRING, now=empty.now())
        filled(site)
        counted = write(site, path)
        audited = lines(empty, Audit)
    if older:  # they held the jobs too
        row = msgspec.msgpack.encode((1, "sweep", "", 1, 0, 0, None))
        add(path, "rows/jobs", len(row).to_bytes(4, "big") + row)
    used_once(fairway)
    assert bring_back(fairway, path) == counted
    assert list(fsck.check(fairway.database, fairway.blobs, deep=True)) == []
    assert (lines(fairway, Job), lines(fairway, Audit), lines(fairway, Retired)) == (1, audited, 0)


def add(path: Path, name: str, data: bytes) -> None:
    with tarfile.open(path, "a:") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))


def test_rows_that_do_not_fit_together_restore_nothing_and_say_so(site: Site, empty: Fairway, tmp_path: Path) -> None:
    filled(site)
    path = tmp_path / "all.fairway"
    write(site, path)
    row = msgspec.msgpack.encode((999, 999, "owner", 1))
    add(path, "rows/members", len(row).to_bytes(4, "big") + row)  # the last of a name counts
    with pytest.raises(SetupError, match="do not fit together"):
        bring_back(empty, path)
    assert (lines(empty, User), lines(empty, Channel)) == (0, 0)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "short": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "other": lambda file: file.write_bytes(bytes(file.stat().st_size)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_was_lost_is_named_and_all_others_are_backed_up(
    site: Site, empty: Fairway, tmp_path: Path, damage: str
) -> None:
    key = filled(site)
    path = tmp_path / "all.fairway"
    file = site.app.blobs.local_path(keys.package(hashlib.sha256(conda_package(version="2.0")[1]).hexdigest()))
    assert file is not None
    DAMAGES[damage](file)
    counted = write(site, path)
    assert (counted.files, counted.lost) == (2, ("lab/noarch/demo-2.0-h0_0.conda",))
    assert bring_back(empty, path).files == 2
    found = list(fsck.check(empty.database, empty.blobs, deep=True))
    assert [finding.where for finding in found] == ["lab/noarch/demo-2.0-h0_0.conda"]
    with Site.around(empty) as restored:  # and what brings it back
        assert restored.put("lab", conda_package(version="2.0"), key).status_code == 200
    assert list(fsck.check(empty.database, empty.blobs, deep=True)) == []


def test_lost_bytes_of_a_deleted_file_are_nobodys_loss(site: Site, empty: Fairway, tmp_path: Path) -> None:
    """Whoever loses bytes is told to delete the file; then a backup is whole again at once."""
    filled(site)
    path = tmp_path / "all.fairway"
    site.app.blobs.delete(keys.package(hashlib.sha256(conda_package()[1]).hexdigest()))
    counted = write(site, path)
    assert (counted.files, counted.lost) == (2, ())
    bring_back(empty, path)
    for app in (site.app, empty):
        ((harm, where),) = [(finding.harm, finding.where) for finding in fsck.check(app.database, app.blobs)]
        assert (harm, where) == ("note", "lab/noarch/demo-1.0-h0_0.conda")


def test_a_backup_does_not_overwrite_a_file(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_bytes(b"precious")
    with pytest.raises(SetupError, match="exists"):
        write(site, path)
    assert path.read_bytes() == b"precious"
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.endswith(".part")] == []


def test_a_backup_that_is_being_written_is_not_written_by_another(site: Site, tmp_path: Path) -> None:
    filled(site)
    path = tmp_path / "all.fairway"
    other = path.with_name("all.fairway.part")
    other.write_bytes(b"theirs")
    with pytest.raises(SetupError, match=r"remove all\.fairway\.part"):
        write(site, path)
    assert other.read_bytes() == b"theirs"
    other.unlink()
    assert write(site, path).files == 3
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("all")] == [path.name]


def test_a_backup_may_take_longer_than_the_database_has_patience(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends a session that says nothing for long, as while a large table goes from disk to disk."""
    filled(site)
    if not site.app.database.is_sqlite:

        @event.listens_for(site.app.database.reader, "begin")
        def hurry(connection: Connection) -> None:
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '200ms'")

    tables = []

    class Slow(tarfile.TarFile):
        def addfile(self, tarinfo: tarfile.TarInfo, fileobj: Any = None) -> None:
            if tarinfo.name in {"rows/users", "rows/details"}:
                tables.append(tarinfo.name)
                time.sleep(0.5)
            super().addfile(tarinfo, fileobj)

    monkeypatch.setattr(tarfile, "open", Slow.open)
    assert write(site, tmp_path / "all.fairway").files == 3
    assert tables == ["rows/users", "rows/details"]


def test_a_damaged_backup_restores_nothing(site: Site, empty: Fairway, tmp_path: Path) -> None:
    filled(site)
    path = tmp_path / "all.fairway"
    write(site, path)
    data = path.read_bytes()
    place = data.index(conda_package(version="2.0")[1][-400:]) + 30
    for broken in (data[: len(data) // 2], data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], b"no tar"):
        path.write_bytes(broken)
        with pytest.raises(SetupError):
            bring_back(empty, path)
    with Site.around(empty) as restored:
        assert restored.get("/api/v1/channels").json()["items"] == []
