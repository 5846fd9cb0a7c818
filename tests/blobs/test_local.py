import ctypes
import errno
import hashlib
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

from fairway.blobs import local, open_staging, open_store, staging
from fairway.blobs.keys import Cache, Key, document, package
from fairway.blobs.local import LocalBlobs
from fairway.errors import BlobMissing, SetupError, StorageFull, Unavailable

DATA = b"some bytes"
KEY = package(hashlib.sha256(DATA).hexdigest())

TRACED = """
import sys
from pathlib import Path
from fairway.blobs.keys import package
from fairway.blobs.local import LocalBlobs
from fairway.blobs.staging import StagingArea
store = LocalBlobs(Path(sys.argv[1]))
first, second = package("ab12" + "0" * 60), package("ab12" + "1" * 60)
print("BEGIN", flush=True)
with StagingArea(store.staging).open(limit=100) as staged:
    staged.write(b"upload")
    staged.finish()
    store.put_file(first, staged.path)
print("STORED", flush=True)
store.put(second, b"index")
print("STORED", flush=True)
"""


@pytest.fixture
def store(tmp_path):
    return LocalBlobs(tmp_path / "blobs")


def is_empty(store):
    return not list(store.list("")) and not list(store.staging.iterdir())


# --- a power cut -------------------------------------------------------------------------------------------------


def trace(tmp_path):
    """The calls of one `put_file` and one `put`, up to the moment each returned, as (name, subject) pairs."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace is not installed, and it is what shows the order of fsync and rename")
    log, root = tmp_path / "trace", tmp_path / "blobs"
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,write"
    # a signature-only policy of ptrace (containers) makes strace fail: then there is nothing to be seen
    done = subprocess.run(
        [strace, "-f", "-y", "-s", "64", "-e", calls, "-o", log, sys.executable, "-c", TRACED, root],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    begun, found, rounds = False, [], []
    for line in log.read_text().splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)\) += \d+$", line) or re.match(r"\d+ +(\w+)\((.*)\) += \d+", line)
        if not call:
            continue
        name, rest = call[1], call[2]
        if name == "write":
            if "BEGIN" in rest:
                begun = True
            elif "STORED" in rest:
                rounds.append(found)
                found = []
        elif begun:
            found.append((name, rest.replace(f"{root}", "")))
    return rounds


def test_an_upload_is_durable_before_it_is_stored(tmp_path):
    first, second = trace(tmp_path)
    names = [name for name, _ in first]
    assert names == ["fsync", *["mkdirat", "fsync"] * 3, "renameat", "fsync"], first
    rename = names.index("renameat")
    synced = [rest for name, rest in first[:rename] if name == "fsync"]
    assert ".part>" in synced[0]
    # each new folder is durable in its parent before the file gets its name
    assert [re.search(r"<(.*)>", rest)[1] for rest in synced[1:]] == ["", "/packages", "/packages/ab"]
    assert ".part" in first[rename][1]
    assert "</packages/ab/12>" in first[rename + 1][1]
    assert sum(".part>" in rest for name, rest in first if name == "fsync") == 1
    # the folders are known now: one fsync of the file, one of the folder
    assert [name for name, _ in second] == ["fsync", "renameat", "fsync"], second
    assert ".part>" in second[0][1]
    assert "</packages/ab/12>" in second[2][1]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("failing", [1, 2, 3, 4, 5])
def test_a_failed_fsync_is_never_a_success(store, monkeypatch, number, failing):
    """The kernel is the outside here: there is no other way to make the n-th fsync of a healthy disk fail."""
    real, count = os.fsync, 0

    def fsync(fd):
        nonlocal count
        count += 1
        if count == failing:
            raise OSError(number, os.strerror(number))
        real(fd)

    staged = open_staging(store, data=store.root).open(limit=100)
    staged.write(DATA)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(Unavailable if number == errno.EIO else StorageFull):
        store.put_file(KEY, staged.path)
    assert count == failing
    if failing == 1:
        assert not staged.path.exists()  # so that nobody can try again with pages the kernel has given up
    staged.close()
    if number == errno.EIO:
        with pytest.raises(Unavailable, match="restarted"):
            store.put(KEY, DATA)
        with pytest.raises(Unavailable, match="restarted"):
            store.check()
    else:
        store.put(KEY, DATA)
        assert store.get(KEY) == DATA
        assert count >= failing + 2
    assert list(store.staging.iterdir()) == []


# --- a full disk -------------------------------------------------------------------------------------------------


def test_a_file_the_system_does_not_allow_is_a_full_disk(store):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StorageFull):
            store.put(KEY, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert is_empty(store)
    store.put(KEY, DATA)
    assert store.get(KEY) == DATA


TINY = """
import os, sys
from pathlib import Path
from fairway.blobs.keys import package
from fairway.blobs.local import LocalBlobs
from fairway.blobs.staging import StagingArea
from fairway.errors import StorageFull
store = LocalBlobs(Path(sys.argv[1]) / "blobs")
area = StagingArea(store.staging)
stored, refused = [], 0
for number in range(60):
    key = package(f"{number:064x}")
    try:
        if number % 2:
            store.put(key, os.urandom(50_000))
        else:
            with area.open(limit=1 << 20) as staged:
                staged.write(os.urandom(50_000))
                store.put_file(key, staged.path)
        stored.append(key)
    except StorageFull:
        refused += 1
assert refused and stored, (refused, len(stored))
assert sorted(e.path for e in store.list("")) == sorted(k.path for k in stored)
assert all(len(store.get(key)) == 50_000 for key in stored)
assert not list(area.folder.iterdir())
store.delete(stored[0]); store.delete(stored[1])
store.put(package("f" * 64), bytes(50_000))
print("PROVED", refused)
"""


def test_a_disk_that_really_is_full(tmp_path):
    """In a mount namespace of its own, so that the small disk goes away with the process."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    unshare = shutil.which("unshare")
    if not unshare:
        pytest.skip("unshare is not installed, so no small file system can be made")
    script = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
    command = [unshare, "--mount", "--user", "--map-root-user", "sh", "-c", script, folder]
    done = subprocess.run([*command, sys.executable, "-c", TINY, folder], capture_output=True, text=True, check=False)
    if done.returncode and "Traceback" not in done.stderr:
        pytest.skip(f"no small file system can be made here: {done.stderr.strip()[-200:]}")
    assert done.stdout.startswith("PROVED"), done.stderr


# --- what stands in the folder besides ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../out", "a/../../out", "/etc/passwd", "", "a//b", "./a", "a/\0", ".staging/x"])
def test_no_path_leaves_the_root(store, tmp_path, path):
    key = Key(path, "text/plain", Cache.IMMUTABLE, "0" * 64)
    (tmp_path / "out").write_text("secret")
    for call in (store.get, store.stream, store.stat, store.delete, store.local_path, lambda k: store.put(k, b"x")):
        with pytest.raises(ValueError, match="not the path of a blob"):
            call(key)
    assert (tmp_path / "out").read_text() == "secret"


def test_no_symbolic_link_is_followed(store, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    store.put(KEY, DATA)
    file = store.root / KEY.path
    file.unlink()
    file.symlink_to(secret)
    with pytest.raises(BlobMissing):
        store.get(KEY)
    assert store.stat(KEY) is None
    assert store.local_path(KEY) is None
    assert list(store.list("")) == []
    store.put(KEY, DATA)  # replaces the link, does not write through it
    assert secret.read_text() == "secret"
    assert store.get(KEY) == DATA


def test_no_linked_folder_is_followed(store, tmp_path):
    other = LocalBlobs(tmp_path / "other")
    other.put(KEY, DATA)
    (store.root / "packages").symlink_to(other.root / "packages")
    with pytest.raises(BlobMissing):
        store.get(KEY)
    assert store.stat(KEY) is None
    with pytest.raises(Unavailable):
        store.put(KEY, DATA)
    assert store.local_path(KEY) is None
    assert list(store.list("")) == list(store.list("packages/")) == []


def test_only_this_user_may_enter(store):
    old = os.umask(0)
    try:
        store.put(KEY, DATA)
    finally:
        os.umask(old)
    for path in [store.root, *store.root.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_file_from_another_file_system_is_copied(store, tmp_path):
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == store.root.stat().st_dev:
        pytest.skip("there is no second file system here")
    data = os.urandom(3_000_000)
    with NamedTemporaryFile(dir=memory) as elsewhere:
        elsewhere.write(data)
        elsewhere.flush()
        store.put_file(KEY, Path(elsewhere.name))
    assert store.get(KEY) == data
    assert list(store.staging.iterdir()) == []


def test_a_file_that_is_not_there(store, tmp_path):
    with pytest.raises(Unavailable):
        store.put_file(KEY, tmp_path / "nothing")


def test_readers_of_a_blob_finish_while_it_is_replaced_or_deleted(store):
    data = os.urandom(1_000_000)
    key = package(hashlib.sha256(data).hexdigest())
    store.put(key, data)
    streams = [store.stream(key, chunk=1000) for _ in range(20)]
    begun = [next(stream) for stream in streams]
    store.put(key, data)
    store.delete(key)
    assert all(first + b"".join(rest) == data for first, rest in zip(begun, streams, strict=True))


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_streams_close_their_files(store):
    store.put(KEY, DATA)
    before = open_files()
    for _ in range(50):
        list(store.stream(KEY))
        store.stream(KEY)
        next(store.stream(KEY, chunk=1))
        with pytest.raises(BlobMissing):
            store.get(package("0" * 64))
    assert open_files() == before


def test_a_listing_survives_what_comes_and_goes(store):
    keys = [document(1, "noarch", "repodata.json", hashlib.sha256(b"%d" % n).hexdigest()) for n in range(50)]
    stop = threading.Event()
    store.put(KEY, DATA)

    def churn():
        while not stop.is_set():
            for key in keys:
                store.put(key, DATA)
            for key in keys:
                store.delete(key)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        assert all(KEY.path in {entry.path for entry in store.list("")} for _ in range(50))
    finally:
        stop.set()
        thread.join()


def test_folders_made_by_another_process_are_found_again(tmp_path):
    LocalBlobs(tmp_path / "blobs").put(KEY, DATA)
    assert LocalBlobs(tmp_path / "blobs").get(KEY) == DATA


def test_a_folder_removed_from_outside_is_made_again(store):
    store.put(KEY, DATA)
    shutil.rmtree(store.root / "packages")
    with pytest.raises(Unavailable):
        store.put(KEY, DATA)
    store.put(KEY, DATA)
    assert store.get(KEY) == DATA


def test_urls(tmp_path):
    assert open_store("", data=tmp_path, options={}).root == tmp_path / "blobs"
    assert open_store(f"file://{tmp_path}/with%20space", data=tmp_path, options={}).root == tmp_path / "with space"
    for url in (
        "file://blobs",
        "file:///",
        "file://server/blobs",
        "ftp://x/y",
        "blobs",
        "s3://",
        "s3://key:word@bucket",
    ):
        with pytest.raises(SetupError):
            open_store(url, data=tmp_path, options={})


def test_many_files_are_durable_before_and_after_they_get_their_names(store, monkeypatch):
    """Contents first, then names: in between the whole file system is synced, not each file."""
    calls = []
    monkeypatch.setattr(local, "syncfs", lambda fd: calls.append("sync") or 0)
    rename = os.rename
    monkeypatch.setattr(os, "rename", lambda *a, **k: (calls.append("rename"), rename(*a, **k)))
    files = []
    for number in range(local.SYNC_ALL_FROM):
        fd, path = staging.reserve(store.staging)
        staging.write_all(fd, b"%d" % number)
        os.close(fd)
        files.append((package(hashlib.sha256(b"%d" % number).hexdigest()), path))
    store.put_files(files)
    assert calls == ["sync", *["rename"] * len(files), "sync"]


def test_a_failed_sync_of_everything_is_never_a_success(store, monkeypatch):
    def fail(_):
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(local, "syncfs", fail)
    files = []
    for number in range(local.SYNC_ALL_FROM):
        fd, path = staging.reserve(store.staging)
        os.close(fd)
        files.append((package(hashlib.sha256(b"%d" % number).hexdigest()), path))
    with pytest.raises(Unavailable):
        store.put_files(files)
    with pytest.raises(Unavailable):  # nobody knows what the disk holds
        store.put(package(hashlib.sha256(b"x").hexdigest()), b"x")
