"""Starts servers without importing everything again: half a second instead of three for each of many kills.

A program of its own. It imports Fairway once, forks a child for each line of standard input, and the child becomes
`fairway ARGUMENTS` in a session of its own. From there on nothing differs from a server that a shell has started.
Lines in and out are JSON: `{"start": [arguments], "env": {...}, "log": path}` gives `{"pid": n}`, `{"poll": n}` gives
`{"status": n or null}`. It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NoReturn


def become(arguments: list[str], env: dict[str, str], log: str) -> NoReturn:
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for fd, at in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(fd, at)
    sys.argv = ["fairway", *arguments]
    status = 0
    try:
        if order := env.get("TORTURE_POINT"):
            import points  # beside this program

            points.install(order, cloud="FAIRWAY_STORAGE_URL" in env)
        from fairway.cli.main import main

        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def start(order: dict[str, Any]) -> dict[str, Any]:
    pid = os.fork()
    if pid == 0:
        become(order["start"], order["env"], order["log"])
    return {"pid": pid}


def poll(pid: int) -> dict[str, Any]:
    found, status = os.waitpid(pid, os.WNOHANG)
    return {"status": os.waitstatus_to_exitcode(status) if found else None}


if __name__ == "__main__":
    import granian.server.embed

    import fairway.cli.main
    import fairway.web.app  # noqa: F401

    print(json.dumps({"ready": bool(granian.server.embed)}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        answer = start(asked) if "start" in asked else poll(asked["poll"])
        print(json.dumps(answer), flush=True)
