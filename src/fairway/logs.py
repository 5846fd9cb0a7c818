"""How logs look: JSON lines for machines, text on a terminal. Nothing that logs ever sees a key.

The line for each request is the busiest by far. It goes past structlog's processors, which cost more than answering a
small file does.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import select
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, BinaryIO, Literal

import orjson
import structlog

# The id of the request that is being answered, for every line that is written meanwhile.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

LINES_SECONDS = 0.02

# Without the values of variables, which structlog shows by default: one of them may be a key.
TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))

Line = Callable[[str, dict[str, Any]], None]


class _State:
    level = logging.INFO
    text = True


def configure(form: Literal["auto", "json", "text"], level: str) -> None:
    """To stderr; stdout belongs to a command's answer."""
    _State.text = form == "text" or (form == "auto" and sys.stderr.isatty())
    _State.level = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if _State.text
        else structlog.processors.JSONRenderer()
    )
    shared: list[structlog.typing.Processor] = [
        add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not _State.text:
        shared.append(TRACEBACKS)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_State.level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # what libraries say through the standard library, in the same form
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=renderer))
    logging.basicConfig(level=max(_State.level, logging.WARNING), handlers=[handler], force=True)


def add_request_id(_: Any, __: str, event: Any) -> Any:
    found = request_id.get()
    if found is not None:
        event["request_id"] = found
    return event


def line() -> Line:
    """What writes one line at the level info: its event, and its values, which must be ready for JSON and hold the
    request's id. To be called in an event loop, and its lines go out together some milliseconds later.
    """
    if _State.level > logging.INFO:
        return lambda event, values: None  # noqa: ARG005
    if _State.text:
        log = structlog.get_logger("fairway")
        return lambda event, values: log.info(event, **values)
    return Lines(sys.stderr.buffer)


class Lines:
    """JSON lines, written a few at a time: a call into the kernel for each gives the interpreter's lock away, which
    costs more than the request it tells of.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        atexit.register(self._write)  # what the last turns of the loop left
        self._waiting: list[bytes] = []
        self._second, self._prefix = 0, ""

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        values |= {"event": event, "level": "info", "timestamp": self._now()}
        waiting = self._waiting
        waiting.append(orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE))
        if len(waiting) == 1:
            asyncio.get_running_loop().call_later(LINES_SECONDS, self._write)

    def _now(self) -> str:
        now = time.time_ns() // 1_000
        second, micros = divmod(now, 1_000_000)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._prefix}{micros:06d}Z"

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        part: list[bytes] = []
        size = 0
        for one in waiting:
            if size + len(one) > select.PIPE_BUF and part:
                self._out.write(b"".join(part))
                self._out.flush()
                part, size = [], 0
            part.append(one)
            size += len(one)
        # a pipe takes so much at once, and whole: lines of several threads and processes do not mix
        if part:
            self._out.write(b"".join(part))
            self._out.flush()
