"""Reading children are limited, replaced when they fail, and never left behind."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairway.conda.artifact import MEBI, Limits
from fairway.conda.names import Filename
from fairway.errors import Malformed, PackageRefused, Unavailable
from fairway.sandbox.pool import JOBS_PER_CHILD, Reader
from tests.support import builders

NOW = 1_800_000_000_000


@pytest.fixture
def reader():
    with Reader(processes=2, limits=Limits()) as open_reader:
        yield open_reader


@pytest.fixture
def package(tmp_path):
    return written(tmp_path, *builders.conda_package(about={"summary": "A demo"}, run_exports={"weak": ["demo >=1"]}))


def written(folder: Path, filename: str, data: bytes) -> Path:
    path = folder / filename
    path.write_bytes(data)
    return path


def read(reader: Reader, path: Path, **options):
    return reader.read(path, Filename.parse(path.name), **{"subdir": None, "now_ms": NOW, **options})


def refusal(reader: Reader, path: Path, **options) -> str:
    with pytest.raises((PackageRefused, Malformed)) as caught:
        read(reader, path, **options)
    assert caught.value.detail[-1] in ".?"
    return caught.value.code


def children(of: int | None = None) -> set[int]:
    """The process ids of the reading children of a process, zombies included."""
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == (of or os.getpid()) and (
                b"fairway.sandbox.child" in (folder / "cmdline").read_bytes() or "Z" in state(int(folder.name))
            ):
                found.add(int(folder.name))
        except OSError:
            continue
    return found


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def until(condition, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def many_members(folder: Path, count: int = 300_000) -> Path:
    """A small file that takes seconds to read."""
    member = bytes(builders.Member("x", b""))
    assert len(member) == 512
    files = b"".join(bytes(builders.Member(f"lib/{i:06d}", b"")) for i in range(count))
    return written(folder, *builders.conda_package("slow", files={}, members=[files]))


def test_an_artifact_comes_back_whole(reader, package):
    artifact = read(reader, package, subdir="noarch")
    assert (artifact.filename, artifact.name, artifact.subdir) == ("demo-1.0-h0_0.conda", "demo", "noarch")
    assert artifact.record["depends"] == []
    assert artifact.about == {"summary": "A demo"}
    assert artifact.run_exports["weak"] == ["demo >=1"]
    assert artifact.paths.files == 1


def test_refusals_come_back_with_their_class_and_code(reader, tmp_path, package):
    assert refusal(reader, written(tmp_path, "empty-1-0.conda", b"")) == "archive_truncated"
    assert refusal(reader, package, subdir="linux-64") == "subdir_mismatch"
    assert refusal(reader, written(tmp_path, "other-1.0-h0_0.conda", package.read_bytes())) == "filename_mismatch"
    future = written(tmp_path, *builders.conda_package("future", index={"timestamp": NOW + 10**9}))
    assert refusal(reader, future) == "timestamp_invalid"
    assert read(reader, future, now_ms=None).record["timestamp"] == NOW + 10**9
    old = written(tmp_path, *builders.tar_bz2_package("old", paths=False))
    assert refusal(reader, old) == "paths_missing"
    assert read(reader, old, mirrored=True).name == "old"
    assert len(children()) == 2  # none of this costs a child


def test_what_is_no_file_is_the_servers_trouble_not_the_packages(reader, tmp_path, package):
    with pytest.raises(FileNotFoundError):
        read(reader, tmp_path / "none-1-0.conda")
    link = tmp_path / "link-1-0.conda"
    link.symlink_to(package)
    with pytest.raises(OSError, match="symbolic link"):
        read(reader, link)
    os.mkfifo(tmp_path / "fifo-1-0.conda")
    with pytest.raises(OSError):
        read(reader, tmp_path / "fifo-1-0.conda")
    (tmp_path / "folder-1-0.conda").mkdir()
    with pytest.raises(OSError):
        read(reader, tmp_path / "folder-1-0.conda")
    assert read(reader, package).name == "demo"


def test_a_relative_path_is_the_parents(reader, package, monkeypatch):
    monkeypatch.chdir(package.parent)
    assert read(reader, Path(package.name)).name == "demo"


def test_children_are_limited(reader, package):
    read(reader, package)
    for child in children():
        assert until(lambda pid=child: "(deleted)" in str(Path(f"/proc/{pid}/cwd").readlink()))
        assert Path(f"/proc/{child}/environ").read_bytes() == b""
        assert len(list(Path(f"/proc/{child}/fd").iterdir())) == 3
        limits = {
            kind: resource.prlimit(child, kind)
            for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)
        }
        assert until(lambda pid=child: resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0))
        assert limits[resource.RLIMIT_FSIZE] == limits[resource.RLIMIT_NPROC] == (0, 0)
        assert limits[resource.RLIMIT_NOFILE] == (32, 32)
        assert resource.prlimit(child, resource.RLIMIT_AS) == (1_280 * MEBI, 1_280 * MEBI)
    softs = [resource.prlimit(child, resource.RLIMIT_CPU)[0] for child in children()]
    assert min(soft for soft in softs if soft != resource.RLIM_INFINITY) <= 62


def test_no_more_than_its_processes_work_at_once(package):
    with Reader(processes=2, limits=Limits()) as reader, ThreadPoolExecutor(8) as threads:
        seen = children()
        artifacts = list(threads.map(lambda _: read(reader, package), range(200)))
        assert len(artifacts) == 200
        assert children() == seen
        assert len(seen) == 2


def test_who_waits_too_long_is_told_so(package):
    with Reader(processes=1, limits=Limits(), wall=2, patience=0.1) as reader, ThreadPoolExecutor(1) as threads:
        read(reader, package)
        (child,) = children()
        os.kill(child, signal.SIGSTOP)
        stuck = threads.submit(read, reader, package)
        time.sleep(0.2)
        with pytest.raises(Unavailable) as caught:
            read(reader, package)
        assert caught.value.code == "busy"
        with pytest.raises(PackageRefused) as late:
            stuck.result(timeout=10)
        assert late.value.code == "archive_too_slow"
        assert read(reader, package).name == "demo"
        assert child not in children()


def test_too_much_processor_time(tmp_path, package):
    # no second beyond the one that is rounded up, for work of several on any machine
    with Reader(processes=1, limits=Limits(payload_members=900_000, ratio=10_000), cpu=0) as reader:
        assert refusal(reader, many_members(tmp_path, 800_000)) == "archive_too_slow"
        assert read(reader, package).name == "demo"


def test_too_much_memory(tmp_path, package):
    files = {f"lib/{i:06d}": b"" for i in range(250_000)}
    big = written(tmp_path, *builders.conda_package("big", files={}, paths=builders.paths_json(files)))
    with Reader(processes=1, limits=Limits(), memory=120 * MEBI) as reader:
        assert refusal(reader, big) in ("archive_too_complex", "decompressed_too_large")
        assert read(reader, package).name == "demo"


def test_a_child_that_dies_over_a_package(tmp_path, package):
    with Reader(processes=1, limits=Limits()) as reader, ThreadPoolExecutor(1) as threads:
        read(reader, package)
        before = open_files()
        for _ in range(3):
            (child,) = children()
            os.kill(child, signal.SIGSTOP)
            doomed = threads.submit(read, reader, package)
            time.sleep(0.1)
            os.kill(child, signal.SIGKILL)
            with pytest.raises(PackageRefused) as caught:
                doomed.result(timeout=10)
            assert caught.value.code == "archive_unreadable"
            assert read(reader, package).name == "demo"
        assert open_files() == before


def test_a_child_that_died_at_rest_is_replaced_unseen(package):
    with Reader(processes=1, limits=Limits()) as reader:
        read(reader, package)
        (child,) = children()
        os.kill(child, signal.SIGKILL)
        assert until(lambda: state(child) == "Z")
        assert read(reader, package).name == "demo"
        assert child not in children()


def test_children_are_replaced_after_many_jobs(tmp_path, package):
    empty = written(tmp_path, "empty-1-0.conda", b"")
    with Reader(processes=1, limits=Limits()) as reader:
        first = children()
        for _ in range(JOBS_PER_CHILD):
            assert refusal(reader, empty) == "archive_truncated"
        assert read(reader, package).name == "demo"
        assert not first & children()
        assert len(children()) == 1


def test_nothing_is_left_after_closing(tmp_path, package):
    before = open_files()
    reader = Reader(processes=3, limits=Limits())
    with ThreadPoolExecutor(2) as threads:
        slow = many_members(tmp_path)
        under_way = [threads.submit(read, reader, slow) for _ in range(2)]
        assert until(lambda: len(reader._busy) == 2)
        reader.close()
        for call in under_way:
            with pytest.raises(Unavailable):
                call.result(timeout=10)
    assert until(lambda: not children())
    assert open_files() == before
    with pytest.raises(Unavailable):
        read(reader, package)
    assert not children()
    reader.close()


def test_waiting_callers_are_let_go_by_closing(package):
    reader = Reader(processes=1, limits=Limits(), patience=30)
    read(reader, package)
    (child,) = children()
    os.kill(child, signal.SIGSTOP)
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(read, reader, package) for _ in range(4)]
        assert until(lambda: len(reader._busy) == 1)
        started = time.monotonic()
        reader.close()
        for call in calls:
            with pytest.raises(Unavailable):
                call.result(timeout=10)
        assert time.monotonic() - started < 5
    assert not children()


PARENT = """
import sys, threading, time
from pathlib import Path
from fairway.conda.artifact import Limits
from fairway.conda.names import Filename
from fairway.sandbox.pool import Reader
reader = Reader(processes=2, limits=Limits())
path = Path(sys.argv[1])
threading.Thread(target=lambda: reader.read(path, Filename.parse(path.name), subdir=None, now_ms=None)).start()
while not reader._busy:
    time.sleep(0.01)
print("busy", flush=True)
time.sleep(60)
"""


def test_children_end_with_a_parent_that_was_killed(tmp_path):
    slow = many_members(tmp_path, 490_000)
    command = [sys.executable, "-c", PARENT, str(slow)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"busy\n"
        orphans = children(parent.pid)
        assert len(orphans) == 2
        parent.kill()
        parent.wait()
        # The one at rest sees the end of its input at once, the one at work looks every second.
        assert until(lambda: all(state(orphan) in ("gone", "Z") for orphan in orphans), 4)


def test_children_find_the_package_without_the_environment(tmp_path, package, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "msgspec.py").write_text("raise SystemExit('taken from the working directory')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Reader(processes=1, limits=Limits()) as reader:
        assert read(reader, package).name == "demo"


def test_many_threads_and_dying_children_leave_nothing_behind(package):
    before = open_files()
    stop = threading.Event()

    def kill_now_and_then():
        while not stop.wait(0.02):
            for child in children():
                try:
                    os.kill(child, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def attempt(_: int) -> str:
        try:
            return read(reader, package).name
        except (PackageRefused, Unavailable) as error:
            return error.code

    with Reader(processes=2, limits=Limits()) as reader, ThreadPoolExecutor(6) as threads:
        killer = threading.Thread(target=kill_now_and_then)
        killer.start()
        outcomes = set(threads.map(attempt, range(60)))
        stop.set()
        killer.join()
        assert outcomes <= {"demo", "archive_unreadable", "busy"}
        assert read(reader, package).name == "demo"
    assert not children()
    assert open_files() == before


def read_many(reader: Reader, paths: list[Path]) -> list[str]:
    """The names of the packages, or the codes of the refusals."""
    outcomes = reader.read_many([(path, Filename.parse(path.name), None) for path in paths], now_ms=NOW)
    return [getattr(outcome, "name", None) or getattr(outcome, "code", None) or str(outcome) for outcome in outcomes]


def test_many_files_are_read_in_one_go_each_with_its_own_outcome(reader, tmp_path):
    paths = [written(tmp_path, *builders.conda_package(f"demo{number}")) for number in range(30)]
    paths[7].write_bytes(b"")
    paths[11].unlink()
    outcomes = read_many(reader, paths)
    assert outcomes[7] == "archive_truncated"
    assert "No such file" in outcomes[11]
    assert [name for number, name in enumerate(outcomes) if number not in {7, 11}] == [
        f"demo{number}" for number in range(30) if number not in {7, 11}
    ]
    assert read_many(reader, []) == []


def test_a_file_that_ends_its_reader_leaves_those_behind_it_to_the_next(tmp_path, package):
    names = {f"lib/{i:06d}": b"" for i in range(250_000)}
    big = written(tmp_path, *builders.conda_package("big", files={}, paths=builders.paths_json(names)))
    slow = many_members(tmp_path, 800_000)
    limits = Limits(payload_members=900_000, ratio=10_000)
    with Reader(processes=1, limits=limits, memory=120 * MEBI, cpu=0) as reader:
        outcomes = read_many(reader, [package, big, package, slow, package, package])
        assert [outcomes[number] for number in (0, 2, 4, 5)] == ["demo"] * 4
        assert outcomes[1] in {"archive_too_complex", "decompressed_too_large", "archive_too_slow"}
        assert outcomes[3] in {"archive_too_slow", "archive_too_complex", "decompressed_too_large"}
        assert read(reader, package).name == "demo"


def test_a_reader_that_is_killed_costs_one_file(tmp_path, package):
    with Reader(processes=1, limits=Limits()) as reader, ThreadPoolExecutor(1) as threads:
        read(reader, package)
        (child,) = children()
        os.kill(child, signal.SIGSTOP)
        doomed = threads.submit(read_many, reader, [package] * 5)
        time.sleep(0.1)
        os.kill(child, signal.SIGKILL)
        assert doomed.result(timeout=20) == ["archive_unreadable", *["demo"] * 4]


def test_no_more_is_asked_at_once_than_a_pipe_holds(tmp_path):
    """Long paths: what does not fit goes in the next round, and nobody waits for ever."""
    folder = tmp_path.joinpath(*["x" * 200] * 8)
    folder.mkdir(parents=True)
    paths = [written(folder, *builders.conda_package(f"demo{number}")) for number in range(60)]
    with Reader(processes=1, limits=Limits()) as reader:
        assert read_many(reader, paths) == [f"demo{number}" for number in range(60)]
