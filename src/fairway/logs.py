"""How logs look: JSON lines for machines, text on a terminal. Nothing that logs ever sees a key.

The line for each request is the busiest by far. It goes past structlog's processors, which cost more than answering a
small file does.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import structlog

# The id of the request that is being answered, for every line that is written meanwhile.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

Line = Callable[[str, dict[str, Any]], None]


class _State:
    level = logging.INFO
    text = True


def configure(form: Literal["auto", "json", "text"], level: str) -> None:
    """To stderr; stdout belongs to a command's answer."""
    _State.text = form == "text" or (form == "auto" and sys.stderr.isatty())
    _State.level = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if _State.text
        else structlog.processors.JSONRenderer()
    )
    shared: list[structlog.typing.Processor] = [
        add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not _State.text:
        shared.append(structlog.processors.dict_tracebacks)
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
    """What writes one line at the level info: its event, and its values, which must be ready for JSON."""
    if _State.level > logging.INFO:
        return lambda event, values: None  # noqa: ARG005
    if _State.text:
        log = structlog.get_logger("fairway")
        return lambda event, values: log.info(event, **values)
    write = sys.stderr.buffer.write

    def as_json(event: str, values: dict[str, Any]) -> None:
        values |= {
            "event": event,
            "level": "info",
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "request_id": request_id.get(),
        }
        # one write: lines of several threads and processes do not mix
        write(orjson.dumps(values) + b"\n")
        sys.stderr.flush()

    return as_json
