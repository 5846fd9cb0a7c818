"""`fairway ARGUMENTS`, each in a process of its own: forked from one that has everything imported, because importing
takes a second or two and the command itself a tenth of one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

FORKER = """
import importlib, json, os, pkgutil, sys
import fairway
import fairway.cli.main as cli

# a command loads only what it needs, and would do so anew in each process
for module in pkgutil.walk_packages(fairway.__path__, "fairway."):
    if ".migrations" not in module.name:
        importlib.import_module(module.name)
for name in ("sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg", "rich.progress"):
    importlib.import_module(name)

def child(job):
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(job[name], flags, 0o600), number)
    os.environ.clear()
    os.environ.update(job["env"])
    sys.argv = ["fairway", *job["arguments"]]
    try:
        cli.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        import traceback
        traceback.print_exc()
        status = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        child(json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = json.loads(self.stdout)
        return rows


class Runner:
    """Start once, run often."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        self.to, self.back = self.process.stdin, self.process.stdout
        assert self.back.readline().strip() == "ready"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.to.close()
        self.process.wait(timeout=30)
        self.back.close()

    def __call__(self, *arguments: str, env: dict[str, str], stdin: str = "") -> Done:
        files = {name: self.folder / name for name in ("stdin", "stdout", "stderr")}
        files["stdin"].write_text(stdin)
        job = {"arguments": arguments, "env": env, **{name: str(path) for name, path in files.items()}}
        self.to.write(json.dumps(job) + "\n")
        self.to.flush()
        status = int(self.back.readline())
        return Done(status, files["stdout"].read_text(), files["stderr"].read_text())
