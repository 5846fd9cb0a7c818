"""The line for each request: written some at a time, whole, and none lost."""

import asyncio
import io
import select
import subprocess
import sys

import orjson
import pytest

from fairway.logs import Lines


class Out(io.BytesIO):
    """Remembers each write, and says when so many lines are there."""

    def __init__(self):
        super().__init__()
        self.parts = []
        self.wanted, self.done = 0, None

    def write(self, data):
        self.parts.append(bytes(data))
        size = super().write(data)
        if self.getvalue().count(b"\n") == self.wanted:
            self.done.set_result(None)
        return size


def written(count: int, out: Out) -> list[dict]:
    async def say() -> None:
        out.wanted, out.done = count, asyncio.get_running_loop().create_future()
        lines = Lines(out)
        for number in range(count):
            lines("request", {"request_id": f"{number:08x}", "path": "/" + "x" * 300})
        await out.done

    asyncio.run(say())
    return [orjson.loads(line) for line in out.getvalue().splitlines()]


def test_lines_come_in_order_with_time_level_and_id():
    found = written(3, Out())
    assert [one["request_id"] for one in found] == ["00000000", "00000001", "00000002"]
    assert {(one["event"], one["level"]) for one in found} == {("request", "info")}
    assert all(len(one["timestamp"]) == len("2026-11-21T03:33:38.000000Z") for one in found)


def test_what_goes_out_at_once_is_whole_lines_that_a_pipe_takes_at_once():
    out = Out()
    written(200, out)
    assert len(out.parts) < 100
    assert all(part.endswith(b"\n") and len(part) <= select.PIPE_BUF for part in out.parts)


FAILING = """
import sys
import structlog
from fairway import logs

def handler(credential):
    return 1 / 0

logs.configure(sys.argv[1], "debug")
try:
    handler("fwy-" + "secret")
except ZeroDivisionError:
    structlog.get_logger("fairway").exception("request.failed")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_failure_is_logged_without_the_values_of_its_variables(form):
    """One of them may be a key."""
    done = subprocess.run([sys.executable, "-c", FAILING, form], capture_output=True, text=True, check=True)
    assert "ZeroDivisionError" in done.stderr
    assert "handler" in done.stderr
    assert "fwy-secret" not in done.stderr
