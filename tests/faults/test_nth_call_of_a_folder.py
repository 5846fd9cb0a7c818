"""A folder comes in some hundred files at a time: whatever fails, each file is published whole or not at all, and the
next attempt brings in the rest.
"""

from __future__ import annotations

import ctypes
import errno
import sqlite3
from itertools import count
from pathlib import Path

import pytest

from fairway.blobs import keys, local
from fairway.errors import FairwayError
from fairway.registry import fsck
from fairway.registry.actor import CONSOLE
from fairway.registry.many import Many, accept_many
from fairway.registry.publish import Published
from fairway.registry.publisher import Publisher
from tests.faults.seams import NO_SPACE, Faults, database_calls, file_calls, sqlite_says
from tests.support.builders import conda_package
from tests.support.site import Site

FILES = local.SYNC_ALL_FROM + 1  # so that they are stored together
STEP = 7  # calls are alike for each file: every seventh is one of every kind


class Folder:
    """Folders of new files for one channel, brought in while the n-th call fails."""

    def __init__(self, site: Site, faults: Faults, folder: Path) -> None:
        self.site, self.faults, self.folder = site, faults, folder
        site.channel("lab", "public")
        self.numbers = count()
        self.expected = 0

    def files(self) -> list[Path]:
        paths = []
        for _ in range(FILES):
            filename, data = conda_package("demo", f"1.{next(self.numbers)}")
            paths.append(self.folder / filename)
            paths[-1].write_bytes(data)
        self.expected += FILES
        return paths

    def bring(self, paths: list[Path]) -> list[Published | Exception]:
        app = self.site.app
        many = Many(app.intake, app.staging, CONSOLE, "lab", False, 1 << 20, 2, app.now)
        outcomes = dict(accept_many(many, paths))
        assert list(outcomes) == paths
        assert list(app.staging.folder.iterdir()) == []
        return [outcomes[path] for path in paths]

    def fail(self, number: int) -> bool:
        """Bring a folder in while the n-th call fails; false if so many calls are not made."""
        paths = self.files()
        self.faults.arm(number)
        outcomes = self.bring(paths)
        hit, self.faults.left = self.faults.hit, 0
        for outcome in outcomes:
            if isinstance(outcome, Published):
                assert self.site.app.blobs.stat(keys.package(outcome.sha256)).size == outcome.size
            else:
                assert isinstance(outcome, FairwayError), outcome
                assert outcome.code in {"busy", "storage_full"}
        self.whole()
        again = self.bring(paths)
        assert all(isinstance(outcome, Published) for outcome in again), (number, hit, again)
        for first, second in zip(outcomes, again, strict=True):
            assert second.created == (not isinstance(first, Published))
        return hit is not None

    def whole(self) -> None:
        app = self.site.app
        assert [found for found in fsck.check(app.database, app.blobs, deep=True) if found.harm == "error"] == []

    def sweep(self, step: int) -> None:
        number = 1
        while self.fail(number):
            number += step
        assert number > 1
        app = self.site.app
        Publisher(app.database, app.blobs, app.staging, clock=app.now).catch_up()
        served = self.site.get("/lab/noarch/repodata.json").json()["packages.conda"]
        assert len(served) == self.expected


@pytest.fixture
def folder(site: Site, tmp_path: Path) -> Folder:
    (tmp_path / "packages").mkdir()
    return Folder(site, Faults(), tmp_path / "packages")


def test_the_nth_file_call_finds_no_room(folder, monkeypatch):
    file_calls(monkeypatch, folder.faults, NO_SPACE)
    folder.sweep(STEP)


def test_the_nth_statement_fails(folder):
    if not folder.site.app.database.is_sqlite:
        pytest.skip("tests/faults/test_nth_call.py has this for PostgreSQL")
    fail = sqlite_says("disk I/O error", sqlite3.SQLITE_IOERR)
    with database_calls(folder.site.app, folder.faults, fail):
        folder.sweep(2)


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_file_system_that_cannot_be_synced(folder, monkeypatch, which, number):
    """Once for the contents, once for the names. After EIO nobody knows what the disk holds: nothing more comes in."""
    real, calls = local.syncfs, count(1)

    def syncfs(fd: int) -> int:
        if next(calls) == which:
            ctypes.set_errno(number)
            return -1
        return int(real(fd))

    monkeypatch.setattr(local, "syncfs", syncfs)
    paths = folder.files()
    first = folder.bring(paths)
    assert {outcome.code for outcome in first} == {"busy" if number == errno.EIO else "storage_full"}
    folder.whole()
    again = folder.bring(paths)
    if number == errno.EIO:
        assert {outcome.code for outcome in again} == {"busy"}
    else:
        assert all(outcome.created for outcome in again)
