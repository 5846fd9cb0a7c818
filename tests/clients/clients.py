"""py-rattler and py-rattler-build as users run them: a home, a cache and credentials of their own, in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHILD = Path(__file__).with_name("rattler_child.py")
HOST = "127.0.0.1"  # rattler keeps credentials by host, without the port


def bearer(key: str) -> dict[str, Any]:
    return {"BearerToken": key}


def basic(user: str, key: str) -> dict[str, Any]:
    return {"BasicHTTP": {"username": user, "password": key}}


def in_path(key: str) -> dict[str, Any]:
    """rattler puts it into the address: /t/KEY/..."""
    return {"CondaToken": key}


class ClientError(Exception):
    """What the client told its user."""


class Client:
    """One user's machine. `auth` is what a sign-in to the loopback's host has stored; none: never signed in."""

    def __init__(self, home: Path, auth: dict[str, Any] | None = None) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        stored = home / "auth.json"
        stored.write_text(json.dumps({HOST: auth} if auth else {}))
        self.output = home / "output.txt"
        # nothing of this process: a CI's variables would have rattler-build look for trusted publishing
        env = {
            "HOME": str(home),
            "PATH": os.environ.get("PATH", ""),
            "RATTLER_AUTH_FILE": str(stored),
            "RATTLER_CACHE_DIR": str(home / "cache"),
            "NO_PROXY": "*",
        }
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, CHILD],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._process.communicate()

    def do(self, what: str, **ask: Any) -> Any:
        """Raises: ClientError: with the client's own words."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError
        self._process.stdin.write(json.dumps({"do": what, **ask}, default=str) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the client crashed ({self._process.wait()}):\n{self.printed()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(f"{answer['kind']}: {answer['error']}")
        return answer["answer"]

    def solve(self, channels: list[str], *specs: str, **options: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.do("solve", channels=channels, specs=specs, **options)
        return found

    def install(self, channels: list[str], *specs: str, prefix: Path, **options: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.do("install", channels=channels, specs=specs, prefix=prefix, **options)
        return found

    def names(self, channel: str, *specs: str, **options: Any) -> list[str]:
        """The file names of every record of some packages."""
        return sorted(record["fn"] for record in self.do("query", channels=[channel], specs=specs, **options))

    def upload(self, url: str, channel: str, *files: Path, **options: Any) -> None:
        self.do("upload", files=files, url=url, channel=channel, options=options)

    def printed(self) -> str:
        return self.output.read_text(errors="replace")
