"""What the kernel saw of uploads: nobody is told "stored" before it is. What a power cut leaves follows from the order."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.harness import Quick, Wire, eventually, make_channel, together
from tests.support.builders import conda_package

CALLS = "trace=fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,write,writev,pwrite64,sendto,sendmsg"
RENAMES = ("rename", "renameat", "renameat2")
SENDS = ("write", "writev", "sendto", "sendmsg")
LINE = re.compile(r"(\d+) +(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))")
UPLOADS = 24


@dataclass
class Call:
    """One system call: when it began and ended, as line numbers of the trace, and how strace shows it."""

    name: str
    text: str
    begun: int
    ended: int = 0


def calls_of(trace: Path) -> list[Call]:
    """Every call that has returned without an error, in the order of their beginnings."""
    found, open_calls = [], {}
    for number, line in enumerate(trace.read_text(errors="replace").splitlines()):
        if not (match := LINE.match(line)):
            continue
        pid, name, text, resumed, rest = match.groups()
        if name:
            call = Call(name, text, number)
            if text.endswith("<unfinished ...>"):
                open_calls[pid] = call
                continue
        elif (call := open_calls.pop(pid, None)) is None or call.name != resumed:
            continue
        call.text += rest or ""
        call.ended = number
        if re.search(r"= \d+(?:<.*>)?$", call.text.rstrip()):
            found.append(call)
    return sorted(found, key=lambda call: call.begun)


@pytest.fixture
def traced(tmp_path):
    """A server under strace, and where the trace is."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace is not installed, and it is what shows the order of fsync, rename and send")
    trace = tmp_path / "trace"
    # -s: enough to recognise a file name in a page of the database's log
    prefix = (strace, "-f", "-y", "-s", "5000", "-e", CALLS, "-o", trace)
    server = Quick(tmp_path / "server", prefix=prefix)
    try:
        server.start(seconds=90)
    except RuntimeError as error:
        server.kill()
        if "ptrace" in str(error):  # containers may forbid it
            pytest.skip(f"strace may not trace here: {str(error)[-200:]}")
        raise
    yield server, trace
    server.kill()


def sent(trace: Path, status: str) -> int:
    """How many answers of this status have been sent to the end, as far as strace has written it down."""
    return sum(call.name in SENDS and status in call.text for call in calls_of(trace))


def only(calls: list[Call], what: str, *, after: int, **wanted) -> Call:
    """The first call that begins after a line and has these names and texts."""
    names, texts = wanted["names"], wanted["texts"]
    for call in calls:
        if call.begun > after and call.name in names and all(text in call.text for text in texts):
            return call
    raise AssertionError(f"the trace shows no {what} after line {after}")


def check_order(calls: list[Call], filename: str, sha256: str) -> None:
    """fsync(staged) < rename < fsync(folder) < the rows in the log < its fsync < the answer, each begun after the end of
    the one before.
    """
    folder = f"/packages/{sha256[:2]}/{sha256[2:4]}"
    rename = only(calls, "rename", after=-1, names=RENAMES, texts=[f'"{sha256}"'])
    assert f"{folder}>" in rename.text
    (part,) = re.findall(r"[0-9a-f]{32}\.part", rename.text)
    synced = [call for call in calls if call.name == "fsync" and part in call.text and call.ended < rename.begun]
    assert len(synced) == 1, f"{filename}: its bytes were not durable before they got their name"
    writes = [call for call in calls if call.name in {"write", "writev"} and part in call.text]
    assert writes
    assert all(call.ended < synced[0].begun for call in writes), "something was written after the fsync"
    named = only(calls, "fsync of the folder", after=rename.ended, names=("fsync",), texts=[f"{folder}>"])
    rows = only(calls, "row in the log", after=named.ended, names=("pwrite64",), texts=["fairway.db-wal>", filename])
    sync = ("fdatasync", "fsync")
    commit = only(calls, "fsync of the log", after=rows.ended, names=sync, texts=["fairway.db-wal>"])
    answer = only(calls, "answer", after=-1, names=SENDS, texts=["socket:[", "HTTP/1.1 201", filename])
    assert commit.ended < answer.begun, f"{filename} was acknowledged before its rows were durable"


def check_folders(calls: list[Call]) -> None:
    """A folder is durable in its parent before a file in it is renamed into place."""
    made = [call for call in calls if call.name == "mkdirat" and "/blobs" in call.text]
    assert made
    for call in made:
        parent, name = re.search(r'<([^>]*)>, "([^"]+)"', call.text).groups()
        synced = only(calls, "fsync of the parent", after=call.ended, names=("fsync",), texts=[f"<{parent}>"])
        inside = [c for c in calls if c.name in RENAMES and f"<{parent}/{name}" in c.text and c.begun > call.ended]
        assert all(synced.ended < c.begun for c in inside), f"{parent}/{name} was used before it was durable"


def test_an_upload_is_durable_before_it_is_acknowledged(traced):
    server, trace = traced
    key = make_channel(server, "lab", "public")
    packages = [conda_package(f"demo{number:02}", "1.0") for number in range(UPLOADS)]

    def upload(number: int) -> list[dict]:
        with Wire(server, key) as wire:
            answers = [wire.put("lab", *package) for package in packages[number::4]]
        assert [status for status, _ in answers] == [201] * len(answers)
        return [answer for _, answer in answers]

    answers = [answer for each in together(upload, 4) for answer in each]
    assert server.process.poll() is None
    assert eventually(lambda: sent(trace, "HTTP/1.1 201") >= UPLOADS, seconds=10)
    server.kill()
    calls = calls_of(trace)
    for answer in answers:
        check_order(calls, answer["filename"], answer["sha256"])
    check_folders(calls)


def test_a_delete_is_durable_before_it_is_acknowledged(traced):
    server, trace = traced
    key = make_channel(server, "lab", "public")
    filename, data = conda_package("demo")
    with Wire(server, key) as wire:
        assert wire.put("lab", filename, data)[0] == 201
        size = len(trace.read_text(errors="replace").splitlines())
        assert wire.ask("DELETE", f"/api/v1/channels/lab/artifacts/noarch/{filename}")[0] == 204
    # the client may read its answer before strace has written down that it was sent
    assert eventually(lambda: sent(trace, "HTTP/1.1 204") == 1, seconds=10)
    server.kill()
    calls = calls_of(trace)
    rows = only(calls, "row in the log", after=size, names=("pwrite64",), texts=["fairway.db-wal>", "artifact.delete"])
    sync = ("fdatasync", "fsync")
    commit = only(calls, "fsync of the log", after=rows.ended, names=sync, texts=["fairway.db-wal>"])
    answer = only(calls, "answer", after=size, names=SENDS, texts=["socket:[", "HTTP/1.1 204"])
    assert commit.ended < answer.begun
