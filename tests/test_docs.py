"""What the pages say is so: links lead somewhere, reference pages are current, and the quick start runs as printed."""

from __future__ import annotations

import ast
import contextlib
import itertools
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from fairway import errors
from fairway.cli.main import build
from fairway.web.errors import status_of
from tests.support.server import PASSWORD, free_port

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SOURCES = sorted((ROOT / "src" / "fairway").rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
README = (ROOT / "README.md").read_text()

# --- pages ---------------------------------------------------------------------------------------------------------

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub and others give a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page)):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_no_registry_and_no_folder_of_one_machine(page: Path) -> None:
    text = page.read_text()
    registries = r"://[^\s/)]*(?:pypi\.|pythonhosted|npmjs|anaconda\.org|crates\.io|proxy\.golang|docker\.io|ghcr\.io)"
    assert re.findall(registries, text) == []
    assert re.findall(rf"(?<![\w.])(?:/root|/home/\w+|/work|/Users/\w+|{re.escape(str(ROOT))})(?:/|\b)", text) == []


def test_every_page_is_in_the_table_of_contents() -> None:
    """Each page can be reached from docs/README.md or from the index of decisions."""
    listed = set()
    for index in (DOCS / "README.md", DOCS / "decisions" / "README.md"):
        listed |= {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(index.read_text())}
    assert [page for page in sorted(DOCS.rglob("*.md")) if page != DOCS / "README.md" and page not in listed] == []


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in sorted((DOCS / "decisions").glob("[0-9]*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_decisions_that_the_code_names_are_there() -> None:
    named = {
        number for path in SOURCES for number in re.findall(r"docs/decisions/(\d{4})", path.read_text(encoding="utf-8"))
    }
    assert [number for number in sorted(named) if not list((DOCS / "decisions").glob(f"{number}-*.md"))] == []


def test_modules_that_the_architecture_names_are_those_there_are() -> None:
    text = (DOCS / "architecture.md").read_text()
    layout = next(block for block in FENCE.findall(text) if "errors.py" in block)
    named = set(re.findall(r"(\w+)\.py\b", layout))
    exempt = {"__init__", "env"}
    there = {path.stem for path in SOURCES if "versions" not in path.parts} - exempt
    assert named == there
    assert len(text.splitlines()) <= 340


def test_numbers_of_the_readme_are_true() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Python {project['requires-python'].removeprefix('>=')} or newer" in README
    words = {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60}
    (word,) = re.findall(r"a script of (\w+) lines", README)
    assert abs(len((ROOT / "examples" / "hello.py").read_text().splitlines()) - words[word]) <= 5
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    ceps = set(re.findall(r"CEP (\d+)", README))
    assert ceps
    assert [cep for cep in sorted(ceps) if not re.search(rf"CEP [\d, and]*\b{cep}\b", code)] == []


# --- reference -----------------------------------------------------------------------------------------------------


def test_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_variable_of_a_command_is_on_the_page_of_settings() -> None:
    page = (DOCS / "reference" / "settings.md").read_text()
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    names = set(re.findall(r'\bsecret\("(\w+)"\)', code)) | set(re.findall(r'\bPREFIX \+ "(\w+)"', code))
    assert {"CONFIG", "TOKEN"} <= names
    assert [name for name in sorted(names) if f"`FAIRWAY_{name}`" not in page] == []


BLOCK = re.compile(r"^```(?:bash|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"(?:^|[|(] *|\$ )(?:\./dev |sudo -u \w+ )?fairway +([^|#]*)")


def called_in(page: Path) -> list[list[str]]:
    """The arguments of each `fairway` in the blocks of a page."""
    lines = "\n".join(BLOCK.findall(page.read_text())).replace("\\\n", " ").splitlines()
    lines = [re.sub(r"\$\([^)]*\)", "made", line.strip().removeprefix("KEY=$(").rstrip(")")) for line in lines]
    found = [shlex.split(call[1]) for line in lines if (call := CALL.search(line))]
    return [list(itertools.takewhile(lambda word: word not in {">", "2>", "&", "&&", ";"}, one)) for one in found]


def test_commands_on_the_pages_are_understood() -> None:
    """With their arguments and options. What they do is tried where a block is marked to be run."""
    root = typer.main.get_command(build())
    wrong, tried = [], 0
    for page in PAGES:
        for words in called_in(page):
            tried += 1
            try:
                context = root.make_context("fairway", list(words))
                command, rest = root, list(words)
                while hasattr(command, "resolve_command"):
                    name, command, rest = command.resolve_command(context, rest)
                    context = command.make_context(name, list(rest), parent=context)
            except typer.Exit:
                continue  # a help text, or the version
            except Exception as error:  # what typer raises for wrong usage has no public name
                wrong.append((page.name, " ".join(words), str(error)))
    assert wrong == []
    assert tried > 50


# Answers made without an error of ours: the router's, and the last resort.
MADE_IN_WEB = {"method_not_allowed": {405}, "internal": {500}, "request_invalid": {422}}


def texts(node: ast.AST | None) -> set[str]:
    """The strings in an expression. A condition holds what is compared, not a code."""
    if node is None:
        return set()
    if isinstance(node, ast.IfExp):
        return texts(node.body) | texts(node.orelse)
    values = [child.value for child in ast.walk(node) if isinstance(child, ast.Constant)]
    return {value for value in values if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9_]+", value)}


def is_code(name: str | None) -> bool:
    return name is not None and (name == "code" or name.endswith("_code"))


def codes_in_source() -> dict[str, set[int]]:
    """Every error code of the source with the statuses it is answered with."""
    found: dict[str, set[int]] = {code: set(statuses) for code, statuses in MADE_IN_WEB.items()}

    def note(codes: set[str], kind: type[errors.FairwayError] | None) -> None:
        for code in codes:
            found.setdefault(code, set())
            if kind is not None:
                found[code].add(int(status_of(kind())))

    for path in SOURCES:
        below = path.relative_to(ROOT / "src" / "fairway").parts[0]
        if below == "web" and path.name != "errors.py":
            usual = None  # answers there are made with a status of their own: MADE_IN_WEB
        else:
            usual = errors.PackageRefused if below in {"conda", "sandbox"} else None
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and below == "errors.py":
                kind = getattr(errors, node.name)
                note({kind.code}, kind)
            elif isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                kind = getattr(errors, name, usual)
                for keyword in node.keywords:
                    if is_code(keyword.arg):
                        note(texts(keyword.value), kind)
                if name in {"refuse", "problem_body"}:
                    note(set().union(*(texts(argument) for argument in node.args[1:2])), kind)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(is_code(getattr(target, "id", None)) for target in targets) and below != "errors.py":
                    note(texts(node.value), usual)
            elif isinstance(node, ast.arguments):
                named = [*node.posonlyargs, *node.args][::-1]
                defaults = [
                    *zip(named, node.defaults[::-1], strict=False),
                    *zip(node.kwonlyargs, node.kw_defaults, strict=True),
                ]
                for argument, default in defaults:
                    if is_code(argument.arg):
                        note(texts(default), usual)
    return found


def codes_on_page() -> dict[str, set[int]]:
    rows = re.findall(r"^\| `(\w+)` \| ([\d, ]+) \|", (DOCS / "reference" / "errors.md").read_text(), re.MULTILINE)
    assert len(rows) == len({code for code, _ in rows}), "a code has two rows"
    return {code: {int(status) for status in statuses.split(",")} for code, statuses in rows}


def test_every_error_code_has_a_row_and_every_row_a_code() -> None:
    assert sorted(codes_on_page()) == sorted(codes_in_source())


def test_statuses_on_the_page_of_errors_are_those_of_the_server() -> None:
    wanted = codes_in_source()
    assert {code: found for code, found in codes_on_page().items() if found != wanted[code]} == {}


# --- commands that can be copied -----------------------------------------------------------------------------------

MARKED = re.compile(r"^<!-- run(?P<server>: server)? -->\n```bash\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


class Place:
    """A folder like a fresh clone: `dev` and `examples` in it, nothing else, and nothing activated."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"127.0.0.1:{self.port}"
        (folder / "home").mkdir(parents=True)
        for name in ("dev", "examples"):
            (folder / name).symlink_to(ROOT / name)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("FAIRWAY_", "AWS_", "RATTLER_"))
        }
        kept.pop("VIRTUAL_ENV", None)
        path = [part for part in kept["PATH"].split(":") if Path(part) != ROOT / ".venv" / "bin"]
        self.env = kept | {
            "PATH": ":".join(path),
            "HOME": str(folder / "home"),
            "FAIRWAY_PORT": str(self.port),
            "FAIRWAY_SERVER": f"http://{self.address}",
            "FAIRWAY_DATA": str(folder / "data"),
        }

    def addressed(self, text: str) -> str:
        """The text for this port."""
        return text.replace("127.0.0.1:8000", self.address)

    def shell(self, text: str) -> str:
        """Run a script as a person at a terminal without errors would; its output."""
        done = subprocess.run(
            ["bash", "-e", "-c", text],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, (
            f"{done.stdout}\n--- server ---\n{(self.folder / 'server.log').read_text()[-3000:]}"
        )
        return done.stdout

    @contextlib.contextmanager
    def serving(self, text: str) -> Iterator[Path]:
        """Run the script of the first terminal, until the block ends; gives the file with what it printed."""
        log = self.folder / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-e", "-c", text],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait(process, log)
            yield log
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _wait(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{self.address}/health/ready") as answer:
                if answer.status == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(f"the server is not ready:\n{log.read_text()[-3000:]}")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Skips where `./dev` would set the environment up anew, under the feet of whoever runs this."""
    script = "from importlib import machinery, util; l = machinery.SourceFileLoader('dev', 'dev'); "
    script += "m = util.module_from_spec(util.spec_from_loader('dev', l)); l.exec_module(m); "
    script += "raise SystemExit(not (m.STAMP.is_file() and m.STAMP.read_text() == m.wanted()))"
    if subprocess.run(["python3", "-B", "-c", script], cwd=ROOT, check=False).returncode:
        pytest.skip("this environment is not the one that ./dev makes of these requirements: run ./dev setup")
    return Place(tmp_path / "place")


def marked(page: Path) -> tuple[str, str]:
    """What a page has for the first terminal, and for the second."""
    found = list(MARKED.finditer(page.read_text()))
    servers = [match["text"] for match in found if match["server"]]
    assert len(servers) == 1
    return servers[0], "".join(match["text"] for match in found if not match["server"])


def test_the_quick_start_of_the_readme(place: Place) -> None:
    server, second = marked(ROOT / "README.md")
    with place.serving(place.addressed(server)):
        said = place.shell(place.addressed(second))
    assert said.splitlines()[-1] == "Hello from a channel of our own."


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tutorial uses curl, which is not on this machine")
def test_the_tutorial(place: Place) -> None:
    server, second = marked(DOCS / "tutorial" / "first-channel.md")
    with place.serving(place.addressed(server)):
        said = place.shell(place.addressed(second))
    assert said.count("Hello from a channel of our own.") == 2
    assert "No, and the line above says why." in said
    assert "A name never comes back with other bytes." in said
    assert '"code":"auth_required"' in said
    assert '"removed":["hello-fairway-1.0-0.tar.bz2"]' in said
    assert "Rows, files and index agree." in said
    assert said.splitlines()[-1] == "Revoked the key 3."


def test_what_an_empty_server_prints_can_be_copied(place: Place) -> None:
    """As printed, with a package in the place of PACKAGE.conda, by somebody who types the password that is asked for."""
    with place.serving("./dev serve") as log:
        shown = log.read_text()
        assert f"http://{place.address}" in shown
        commands = [line.strip() for line in shown.splitlines() if line.startswith("    ")]
        ours = [line for line in commands if "./dev fairway" in line]
        assert [line.split("./dev fairway ")[1].split()[0] for line in ours] == ["user", "channel", "token", "upload"]
        others = [line for line in commands if line not in ours]
        assert [line.split()[0] for line in others] == ["pixi", "pixi"]
        assert all(place.address in line for line in others)
        place.shell("python3 examples/hello.py")
        script = "\n".join(["set -e", *ours]).replace("PACKAGE.conda", "hello-fairway-1.0-0.tar.bz2")
        said = typed(script, PASSWORD, place)
    assert "published in my-channel/noarch" in said


def typed(script: str, password: str, place: Place, *, seconds: float = 120) -> str:
    """Run a script at a terminal, answering each question for a password; what the terminal showed."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        # a session of its own, whose terminal is ours: a password is asked for there, whatever standard input is
        [sys.executable, "-c", OWN_TERMINAL, "bash", "-c", script],
        cwd=place.folder,
        env=place.env | {"TERM": "dumb", "COLUMNS": "200"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    shown = b""
    answered = 0
    deadline = time.monotonic() + seconds
    try:
        while select.select([controller], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                part = os.read(controller, 4096)
            except OSError:  # how Linux says that the other side has closed
                break
            shown += part
            # the space comes once nothing is echoed any more; what was typed before is thrown away
            if re.search(rb"(?:assword|onfirm)[^:\n]*: $", shown[answered:]):
                answered = len(shown)
                os.write(controller, password.encode() + b"\n")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
        assert process.poll() == 0, shown.decode(errors="replace")
    finally:
        os.close(controller)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return shown.decode(errors="replace")
