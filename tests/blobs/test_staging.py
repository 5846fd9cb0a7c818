import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairway.blobs.staging import Digest, StagingArea, in_words
from fairway.errors import StorageFull, TooLarge, Unavailable

HOLD = """
import sys, time
from pathlib import Path
from fairway.blobs.staging import StagingArea
staged = StagingArea(Path(sys.argv[1])).open(limit=100)
staged.write(b"half an upload")
print(staged.path, flush=True)
time.sleep(60)
"""


@pytest.fixture
def area(tmp_path):
    return StagingArea(tmp_path / "staging")


def test_hashes_and_size_of_any_chunks(area):
    data = os.urandom(2_000_003)
    for size in (1, 1000, 65_536, 262_144, 1 << 20, len(data)):
        part = data[: 3000 if size == 1 else None]
        with area.open(limit=len(part)) as staged:
            for begin in range(0, len(part), size):
                staged.write(part[begin : begin + size])
            wanted = Digest(hashlib.sha256(part).hexdigest(), hashlib.md5(part).hexdigest(), len(part))
            assert staged.finish() == wanted
            assert staged.path.read_bytes() == part
    assert list(area.folder.iterdir()) == []


def test_nobody_else_may_read_it(area):
    with area.open(limit=10) as staged:
        assert staged.path.stat().st_mode & 0o777 == 0o600
        assert area.folder.stat().st_mode & 0o777 == 0o700


def test_the_limit_is_exact_and_named(area):
    with area.open(limit=3 << 20) as staged:
        staged.write(bytes(3 << 20))
        with pytest.raises(TooLarge, match="larger than 3 MiB") as caught:
            staged.write(b"x")
    assert caught.value.code == "file_too_large"
    assert list(area.folder.iterdir()) == []


def test_an_error_removes_the_file(area):
    staged = area.open(limit=10)
    with pytest.raises(TooLarge), staged:
        staged.write(b"more than ten")
    assert list(area.folder.iterdir()) == []
    staged.close()


def test_a_forgotten_file_is_removed_too(area):
    staged = area.open(limit=10)
    del staged
    assert list(area.folder.iterdir()) == []


def test_what_a_killed_process_left_is_cleared_and_live_files_stay(area):
    child = subprocess.Popen([sys.executable, "-c", HOLD, area.folder], stdout=subprocess.PIPE, text=True)
    with child, area.open(limit=10) as mine:
        mine.write(b"x")
        try:
            theirs = Path(child.stdout.readline().strip())
            assert theirs.exists()
            assert area.clear_dead() == 0
            assert theirs.exists()
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert theirs.exists()
        assert area.sweep(older_than_seconds=3600) == 0
        os.utime(theirs, (time.time() - 7200, time.time() - 7200))
        assert area.sweep(older_than_seconds=3600) == 1
        assert list(area.folder.iterdir()) == [mine.path]


def test_clear_dead_leaves_what_is_not_a_staged_file(area):
    (area.folder / "notes.txt").write_text("mine")
    (area.folder / "dead.part").write_text("x")
    (area.folder / "folder.part").mkdir()
    (area.folder / "link.part").symlink_to(area.folder / "notes.txt")
    assert area.clear_dead() == 1
    assert sorted(path.name for path in area.folder.iterdir()) == ["folder.part", "link.part", "notes.txt"]


def test_a_full_disk_has_its_own_error(area):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with area.open(limit=1 << 20) as staged:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(StorageFull):
                staged.write(bytes(200_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(area.folder.iterdir()) == []
    with area.open(limit=1 << 20) as staged:
        staged.write(bytes(200_000))
        assert staged.finish().size == 200_000


def test_a_folder_that_cannot_be_used_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable) as caught:
        StagingArea(tmp_path / "file" / "staging")
    assert str(tmp_path) not in caught.value.detail
    area = StagingArea(tmp_path / "staging")
    area.folder.rmdir()
    with area.open(limit=1) as staged, pytest.raises(Unavailable):
        staged.write(b"x")


def test_nothing_is_on_the_disk_before_the_first_byte(area):
    with area.open(limit=1) as staged:
        assert list(area.folder.iterdir()) == []
        staged.write(b"x")
        assert list(area.folder.iterdir()) == [staged.path]
    with area.open(limit=1) as empty:  # a file of no bytes is one too, when somebody asks for it
        assert empty.path.read_bytes() == b""
    assert list(area.folder.iterdir()) == []


def test_sizes_in_words():
    words = {700: "700 bytes", 1024: "1 KiB", 1536: "1.5 KiB", 2 << 30: "2 GiB", 100_000: "97.7 KiB", 1 << 40: "1 TiB"}
    assert {size: in_words(size) for size in words} == words
