"""`./dev fuzz [COUNT] [--seed N]`: many mutants, each read by us and, if accepted, by conda and rattler too.

Every mutant is a case of a seed and can be had again alone: `./dev fuzz --seed N --case I`. A tenth of them is also
sent to a real server, whose answer must be the one that was found in this process. What fails is kept in .cache/fuzz.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime as dt
import multiprocessing
import platform
import resource
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import httpx2 as httpx

import fairway
from fairway.blobs.local import STAGING
from fairway.conda.artifact import MEBI
from fairway.errors import FairwayError
from fairway.sandbox.pool import MEMORY
from fairway.web.errors import status_of
from tests.fuzz import oracle
from tests.fuzz.choices import Seeded
from tests.fuzz.mutate import Mutant, mutant
from tests.support.server import Server

KEPT = Path(__file__).resolve().parents[2] / ".cache" / "fuzz"
CHANNEL = "fuzz"
SERVED = 10  # each so many-th case goes to the server as well
WARM = 300  # cases after which files and memory are counted for the first time
CPU_ALLOWED = 5.0  # seconds for one of these small files
GROWTH_ALLOWED = 64 * MEBI
# What comes before the archive is looked at, so a mutant gets no further.
SHALLOW = {"format_mismatch", "filename_mismatch", "archive_truncated", "zip_trailing", "zip_prefix", "conda_members"}


@dataclass
class Tally:
    """What one worker has seen."""

    codes: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)
    served: int = 0
    slowest: float = 0.0
    grown: int = 0
    files: int = 0

    def add(self, other: Tally) -> None:
        self.codes += other.codes
        self.failures += other.failures
        self.served += other.served
        self.slowest = max(self.slowest, other.slowest)
        self.grown, self.files = max(self.grown, other.grown), max(self.files, other.files)


@dataclass(frozen=True)
class Target:
    """The server mutants are sent to."""

    url: str
    key: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("count", nargs="?", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="only this one, and say what it is")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.case is not None:
        return one(options.seed, options.case)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fairway-fuzz-") as folder, Server(Path(folder) / "data") as server:
        tally, peak = run(server, options.seed, options.count, options.processes)
    seconds = time.monotonic() - started
    report(tally, options, seconds, peak)
    return 1 if tally.failures else 0


def run(server: Server, seed: int, count: int, processes: int) -> tuple[Tally, int]:
    server.make_admin()
    server.make_channel(CHANNEL)
    server.cli("channel", "set", CHANNEL, "--overwrite", "--v3")
    target = Target(server.url, server.key("admin"))
    watch = Watch(server)
    tally = Tally()
    shares = [(seed, range(first, count, processes), target) for first in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        results = pool.map_async(worker, shares)
        while not results.ready():
            results.wait(0.5)
            watch.look()
        for result in results.get():
            tally.add(result)
    tally.failures += watch.ended()
    return tally, watch.peak


# --- cases ---------------------------------------------------------------------------------------------------------


def worker(share: tuple[int, range, Target]) -> Tally:
    seed, cases, target = share
    tally = Tally()
    files = memory = 0
    with httpx.Client(base_url=target.url, headers={"Authorization": f"Bearer {target.key}"}, timeout=120) as client:
        for number, case in enumerate(cases):
            made = mutant(Seeded(f"{seed}:{case}"))
            try:
                verdict = attempt(made, tally)
                if case % SERVED == 0:
                    tally.served += 1
                    ask(client, made, verdict)
            except Exception as error:
                keep(seed, case, made)
                what = "".join(traceback.format_exception_only(error)).strip()
                tally.failures.append(f"case {case} {made.story}: {what[:400]}")
            if number == WARM:
                files, memory = open_files(), resident()
    if files:
        tally.files, tally.grown = open_files() - files, resident() - memory
        if tally.files > 0:
            tally.failures.append(f"{tally.files} more open files at the end")
        if tally.grown > GROWTH_ALLOWED:
            tally.failures.append(f"{tally.grown >> 20} MiB more memory at the end")
    return tally


def attempt(made: Mutant, tally: Tally) -> tuple[int, str]:
    """Status and code that the file deserves. Raises whatever is not an intended refusal, and Disagreement."""
    before = time.process_time()
    try:
        accepted = oracle.accept(made.filename, made.data)
    except FairwayError as refusal:
        verdict = int(status_of(refusal)), refusal.code
        sentence = refusal.detail
    else:
        verdict, sentence = (int(HTTPStatus.CREATED), "accepted"), "None."
    spent = time.process_time() - before
    tally.slowest = max(tally.slowest, spent)
    tally.codes[verdict[1]] += 1
    assert 0 < len(sentence) <= 500, sentence
    assert spent < CPU_ALLOWED, f"reading it took {spent:.1f} s"
    if verdict[1] == "accepted":
        oracle.compare(made.filename, made.data, accepted)
    return verdict


def ask(client: httpx.Client, made: Mutant, verdict: tuple[int, str]) -> None:
    path = f"/api/v1/channels/{CHANNEL}/artifacts/{made.filename}"
    answer = client.put(path, content=made.data, params={"force": "true"})
    said = answer.status_code, answer.json().get("code", "accepted")
    if said == (int(HTTPStatus.OK), "accepted"):
        said = int(HTTPStatus.CREATED), "accepted"  # the same bytes as before
    assert said == verdict, f"the server says {said}, this process {verdict}"


def one(seed: int, case: int) -> int:
    made = mutant(Seeded(f"{seed}:{case}"))
    print(f"{keep(seed, case, made)}: {len(made.data)} bytes, {made.story}")
    tally = Tally()
    verdict = attempt(made, tally)
    print(*verdict)
    return 0


def keep(seed: int, case: int, made: Mutant) -> Path:
    path = KEPT / f"{seed}-{case}" / made.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.data)
    return path


# --- leaks ---------------------------------------------------------------------------------------------------------


def open_files(pid: int | str = "self") -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident(pid: int | str = "self", what: str = "VmRSS") -> int:
    """Bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) << 10
    return 0


class Watch:
    """The server's open files and memory, and the most that any of its reading children ever had."""

    def __init__(self, server: Server) -> None:
        self._server = server
        assert server.process is not None
        self._pid = server.process.pid
        self.peak = 0
        self._looks: list[tuple[int, int]] = []

    def look(self) -> None:
        with contextlib.suppress(OSError):
            self._looks.append((open_files(self._pid), resident(self._pid)))
        for thread in Path(f"/proc/{self._pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (thread / "children").read_text().split():
                    self.peak = max(self.peak, resident(child, "VmHWM"))

    def ended(self) -> list[str]:
        """What is wrong with the server after all of it."""
        found = []
        server = self._server
        if httpx.get(f"{server.url}/health/ready", timeout=30).status_code != HTTPStatus.OK:
            found.append("the server is not ready at the end")
        if failed := [line for line in server.log_lines() if line.get("level") == "error"]:
            found.append(f"the server logged {len(failed)} errors, the first: {str(failed[0])[:400]}")
        quarter = self._looks[len(self._looks) // 4 :]
        if quarter and self._looks[-1][0] > max(files for files, _ in quarter[: max(1, len(quarter) // 2)]) + 8:
            found.append(f"the server's open files grew from {quarter[0][0]} to {self._looks[-1][0]}")
        if quarter and self._looks[-1][1] - quarter[0][1] > GROWTH_ALLOWED:
            found.append(f"the server's memory grew from {quarter[0][1] >> 20} to {self._looks[-1][1] >> 20} MiB")
        if self.peak > MEMORY:
            found.append(f"a reading child had {self.peak >> 20} MiB")
        if staged := list((server.data / "blobs" / STAGING).iterdir()):
            found.append(f"{len(staged)} staged files are left")
        server.stop()
        checked = server.cli("fsck", check=False)
        if checked.returncode:
            found.append(f"fsck: {checked.stdout[-400:]}{checked.stderr[-400:]}")
        return found


# --- telling -------------------------------------------------------------------------------------------------------


def report(tally: Tally, options: argparse.Namespace, seconds: float, peak: int) -> None:
    count = sum(tally.codes.values())
    accepted = tally.codes["accepted"]
    deep = sum(number for code, number in tally.codes.items() if code not in SHALLOW)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    spent = sum(usage.ru_utime + usage.ru_stime for usage in used)
    today = dt.datetime.now(tz=dt.UTC).date()
    print(f"Fairway {fairway.__version__}, Python {platform.python_version()}, {today}, seed {options.seed}")
    print(
        f"{count} archives in {seconds:.0f} s ({count / seconds:.0f} a second), {spent:.0f} s of processor time in all"
    )
    print(f"{accepted} accepted ({accepted / count:.0%}); {deep / count:.0%} accepted or refused for what is inside")
    print(f"{tally.served} of them sent to a real server")
    print(f"slowest read: {tally.slowest * 1000:.0f} ms; most memory of a reading child: {peak >> 20} MiB")
    print(f"open files grown by {tally.files}, memory of this process by {tally.grown >> 20} MiB")
    print()
    for code, number in tally.codes.most_common():
        print(f"{number:8} {code}")
    print(f"\n{len(tally.failures)} failures")
    for failure in tally.failures[:20]:
        print(failure)
