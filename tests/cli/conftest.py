import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.runner import Done, Runner

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner(tmp_path_factory.mktemp("runner")) as runner:
        yield runner


@pytest.fixture
def fairway_command(runner: Runner, database_url: str, tmp_path: Path) -> Callable[..., Done]:
    """Run `fairway ...` on a fresh data folder; `env` adds to its environment, `stdin` is what it reads."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRWAY_", "AWS_"))}
    inherited |= {"FAIRWAY_DATA": str(tmp_path / "data"), "FAIRWAY_DATABASE_URL": database_url, "COLUMNS": "200"}

    def run(*arguments: object, env: dict[str, str] | None = None, stdin: str = "") -> Done:
        return runner(*map(str, arguments), env=inherited | (env or {}), stdin=stdin)

    return run


@pytest.fixture
def cli(fairway_command: Callable[..., Done]) -> Callable[..., Done]:
    """The same with the administrator "admin" and the channel "lab"."""
    done = fairway_command(
        "user", "create", "admin", "--email", "admin@example.org", "--password-stdin", "--admin", stdin=PASSWORD + "\n"
    )
    assert done.status == 0, done.stderr
    assert fairway_command("channel", "create", "lab", "--owner", "admin").status == 0
    return fairway_command
