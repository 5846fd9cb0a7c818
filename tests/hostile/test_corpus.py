"""The hostile packages of docs/reference/hostile-packages.md, sent to a real server that reads in real children."""

from __future__ import annotations

import asyncio
import collections
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairway.conda.artifact import MEBI
from fairway.sandbox.pool import CPU_SECONDS
from fairway.web.app import create
from tests.hostile.asking import CHANNEL, MAX_FILE_SIZE, Case, Lab
from tests.hostile.contents import archives, metadata, tars
from tests.hostile.names import DATA, DEMO, names, requests
from tests.support.server import Server
from tests.support.site import Site
from tests.web.dialects import ask_slowly, refusal, request
from tests.web.slowly import HastyLoop

pytestmark = pytest.mark.xdist_group("hostile")
ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "reference" / "hostile-packages.md"
KINDS = 91
SLOW = 88  # what comes of a client that stops is tested with a clock of its own, below
LEAVE_SOMETHING = {16, 87}  # these publish a file before they are refused
# A reading child at rest has 21 MiB; 128 more are a zstd window, and the rest is lists of 500,000 names.
MEMORY = 400 * MEBI


def cases() -> dict[int, list[Case]]:
    found: dict[int, list[Case]] = collections.defaultdict(list)
    for case in itertools.chain(names(), archives(), tars(), metadata(), requests()):
        found[case.number].append(case)
    return found


CASES = cases()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    env = {"FAIRWAY_MAX_FILE_SIZE": str(MAX_FILE_SIZE)}
    with Server(tmp_path_factory.mktemp("hostile") / "data", env=env) as server:
        server.make_admin()
        server.make_channel(CHANNEL, "--public")
        yield Lab(server, server.key("admin"))


@pytest.mark.parametrize("number", sorted(CASES), ids=lambda number: f"H{number:02d}")
def test_answered_as_promised_and_nothing_left(lab: Lab, number: int) -> None:
    before = lab.settled()
    found = {case.what: case.ask(lab) for case in CASES[number]}
    assert found == {case.what: case.expected for case in CASES[number]}
    if number not in LEAVE_SOMETHING and all(status >= 400 for status, _ in found.values()):
        assert lab.settled() == before


def test_h88_a_client_that_stops(lab: Lab, site: Site) -> None:
    """It gets no answer that makes it send again, and leaves nothing; nor does one that is cut off."""
    site.channel("open")
    asked = request("put", "open", (DEMO, DATA), site.key())
    half = {"type": "http.request", "body": DATA[: len(DATA) // 2], "more_body": True}
    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        found = refusal("put", *runner.run(ask_slowly(create(site.app, background=False), asked, [half])))
    assert (SLOW, (found.status, found.code)) in promised_pairs()
    assert not list(site.app.staging.folder.iterdir())
    before = lab.settled()
    for size in (0, 1, len(DATA) // 2, len(DATA) - 1):
        lab.raw({"Content-Length": str(len(DATA))}, DATA[:size], reset=True)
    assert lab.settled() == before


def test_z_the_server_is_well_after_all_of_it(lab: Lab) -> None:
    """Last in this file: reading has cost what it may, and rows, bytes and index agree."""
    assert lab.peak < MEMORY
    assert lab.cpu < CPU_SECONDS
    assert lab.client.get("/health/ready").json() == {"status": "ok", "database": "ok", "storage": "ok"}
    assert not [line for line in lab.server.log_lines() if line.get("level") == "error"]
    assert not lab.settled()["staged"]
    lab.server.stop()
    assert lab.server.cli("fsck", check=False).returncode == 0
    lab.server.start()


# --- the table -----------------------------------------------------------------------------------------------------


def promised() -> dict[int, set[tuple[int, str]]]:
    """What the page promises: for each number the statuses and codes of its answers."""
    rows: dict[int, set[tuple[int, str]]] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| H(\d\d) \|.*\| ([^|]+) \|$", line):
            answers: set[tuple[int, str]] = set()
            for status, codes in re.findall(r"(\d{3})((?: `\w+`,?)*)", match[2]):
                answers |= {(int(status), code) for code in re.findall(r"`(\w+)`", codes) or [""]}
            rows[int(match[1])] = answers
    return rows


def promised_pairs() -> set[tuple[int, tuple[int, str]]]:
    return {(number, answer) for number, answers in promised().items() for answer in answers}


def test_every_number_has_a_row_and_a_case() -> None:
    assert sorted(promised()) == list(range(1, KINDS + 1))
    assert sorted({*CASES, SLOW}) == list(range(1, KINDS + 1))
    assert f"{KINDS} kinds" in TABLE.read_text(encoding="utf-8")


def test_the_page_says_what_is_tested() -> None:
    tested = {number: {case.expected for case in found} for number, found in CASES.items()}
    tested[87].add((201, ""))  # the first of the two
    tested[SLOW] = {(400, "upload_timeout")}
    assert promised() == tested
