"""The rules of docs/architecture.md that no linter knows: one obvious place for each thing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from fairway import errors
from fairway.web.errors import STATUS

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "fairway"
FUNCTION_LINES, FILE_LINES = 60, 450
BAD_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "managers", "misc"}

# Who may, beside the one obvious place, and why.
BEGINS = {
    "db.engine": "it is the place",
    "db.migrate": "a migration is a transaction of its own",
    "db.migrations.versions.0004_yank_and_search": "an extension may be refused, and the rest goes on",
}
WRITES_BLOBS = {
    "registry.flat": "index documents",
    "registry.publish": "packages",
    "registry.backup": "packages, when they are restored",
    "cli.maintain": "the probe of 'fairway doctor', deleted at once",
}
MAKES_INDEX_KEYS = {
    "registry.flat": "writes",
    "registry.fsck": "reads",
    "registry.sweep": "reads",
    "web.files": "reads",
    "cli.maintain": "the probe of 'fairway doctor'",
}
LISTS_BLOBS = {"registry.sweep": "below a buried channel's prefix, and what nobody knows"}
DELETES_BLOBS = {"registry.sweep": "what was retired long enough ago", "cli.maintain": "its own probe"}
SPELLS_PATHS = {"blobs.keys": "it is the place", "blobs.cloud": "lists a little, to see whether the bucket answers"}
INSERTS_ARTIFACTS = {"registry.rows": "it is the place"}
READS_ENVIRONMENT = {"settings": "it is the place"}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of Fairway by its name without the package: `registry.index`."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text())
    return found


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Each call with the dotted name of what is called, as far as it has one: `self.app.blobs.put`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def who_calls(*endings: str) -> set[str]:
    return {name for name, tree in modules().items() for called, _ in calls(tree) if called.endswith(endings)}


def blob_calls(*methods: str) -> set[str]:
    """Modules that call these methods of something called blobs, or hand such a method to a thread."""
    endings = tuple(f"blobs.{method}" for method in methods)
    return {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and dotted(node).endswith(endings) and not name.startswith("blobs")
    }


def test_imports_point_down():
    """The contracts of pyproject.toml."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_rules_see_the_source():
    assert len(modules()) > 60
    assert {"registry.index", "web.app", "settings", "db"} <= set(modules())


def test_only_the_engine_begins_and_commits():
    ours = {"commit", "begin", "begin_nested"}
    found = {name for name, tree in modules().items() for called, _ in calls(tree) if called.split(".")[-1] in ours}
    assert found <= set(BEGINS)
    assert "db.engine" in found
    text = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.split(" ")[0].upper() in {"COMMIT", "BEGIN"}
        and node.value.isupper()
    }
    assert text <= set(BEGINS)


def test_only_the_settings_read_the_environment():
    found = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and dotted(node) in {"os.environ", "os.getenv", "os.environb", "os.putenv"})
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and {"environ", "getenv"} & {a.name for a in node.names})
    }  # fmt: skip
    assert found == set(READS_ENVIRONMENT)


def test_only_publishing_makes_artifacts():
    """A restore goes by the names of tables; it is no publication."""
    found = {
        name
        for name, tree in modules().items()
        for called, call in calls(tree)
        if called.split(".")[-1] in {"insert", "upsert", "insert_missing"}
        and any(
            dotted(part) in {"Artifact", "models.Artifact"} for argument in call.args for part in ast.walk(argument)
        )
    }
    assert found == set(INSERTS_ARTIFACTS)
    # conda.record makes what a package says of itself, which has the same name and is no row
    made = {name for name, tree in modules().items() for called, _ in calls(tree) if called in {"Artifact", "models.Artifact"}}  # fmt: skip
    assert {name for name in made if not name.startswith(("conda.", "sandbox."))} == set()


def test_only_few_write_list_or_delete_what_is_stored():
    assert blob_calls("put", "put_file") == set(WRITES_BLOBS)
    assert blob_calls("list") <= set(LISTS_BLOBS)
    assert blob_calls("delete") <= set(DELETES_BLOBS)


def test_only_the_index_writes_index_keys():
    assert who_calls("keys.document") == set(MAKES_INDEX_KEYS)
    readers = {name for name, does in MAKES_INDEX_KEYS.items() if does == "reads"}
    assert readers.isdisjoint(blob_calls("put", "put_file"))


def test_only_keys_build_storage_paths():
    made = {name for name, tree in modules().items() for called, _ in calls(tree) if called in {"Key", "keys.Key"}}
    assert made == {"blobs.keys"}
    prefixes = ("packages/", "index/")
    written = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(prefixes)
    }
    assert written == set(SPELLS_PATHS)


def domain_errors() -> set[str]:
    return {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.FairwayError)}  # fmt: skip


def names_in(node: ast.AST | None) -> set[str]:
    return set() if node is None else {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} | {
        part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)
    }  # fmt: skip


def test_every_error_has_its_status_in_the_one_table():
    found = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.FairwayError)
    }
    assert set(STATUS) == found - {errors.FairwayError}
    assert all(status >= 400 for status in STATUS.values())
    # an uploading client sends again, whole, whatever is none of these
    lasting = {status for kind, status in STATUS.items() if status < 500 and kind is not errors.RateLimited}
    assert lasting <= {400, 401, 403, 404, 409, 413, 422}
    assert all(issubclass(kind.__mro__[1], errors.FairwayError | Exception) for kind in STATUS)


def test_nobody_else_chooses_a_status_for_an_error():
    """A handler that catches one of our errors hands it to web.errors: it names no status itself. And nothing raises
    the framework's own exception.
    """
    chosen = []
    for name, tree in modules().items():
        if name.startswith("cli") or name == "web.errors":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and names_in(node.type) & domain_errors():
                inside = ast.Module(node.body, [])
                numbers = [part.value for part in ast.walk(inside) if isinstance(part, ast.Constant)]
                if "HTTPStatus" in names_in(inside) or any(type(n) is int and 400 <= n < 600 for n in numbers):
                    chosen.append(f"{name}:{node.lineno}")
            if isinstance(node, ast.Raise) and "HTTPException" in names_in(node):
                chosen.append(f"{name}:{node.lineno}")
    assert chosen == []
    assert {name for name, tree in modules().items() if "STATUS" in names_in(tree)} == {"web.errors"}


def test_every_error_that_is_raised_is_one_of_ours_and_has_a_code():
    codes = [kind.code for kind in STATUS]
    assert len(set(codes)) == len(codes) - 1  # a refused package is a kind of Invalid, with codes of its own
    assert all(code == code.lower() and " " not in code for code in codes)


def test_the_registry_knows_no_http():
    words = {"status_code", "HTTPStatus", "Request", "Response", "headers"}
    found = {name: words & names_in(tree) for name, tree in modules().items() if name.startswith(("registry", "conda", "db", "queue"))}  # fmt: skip
    assert {name: used for name, used in found.items() if used} == {}


def test_the_registry_does_not_look_at_the_clock():
    """Times come in as `now`; `time.monotonic` measures how long something takes."""
    clocks = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "dt.datetime.now", "date.today"}
    below = ("registry", "conda", "db", "queue")
    found = {name for name, tree in modules().items() if name.startswith(below) for called, _ in calls(tree) if called in clocks}  # fmt: skip
    assert found == set()


def test_no_module_has_a_name_that_says_nothing():
    assert [name for name in modules() if set(name.split(".")) & BAD_NAMES] == []


def functions() -> Iterator[tuple[str, int]]:
    for name, tree in modules().items():
        if name.startswith("db.migrations.versions"):
            continue  # a schema has the length it has
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}.{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_functions_and_files_can_be_read_at_once():
    assert [(name, lines) for name, lines in functions() if lines > FUNCTION_LINES] == []
    files = [*SOURCE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    counted = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in files}
    assert {path: lines for path, lines in counted.items() if lines > FILE_LINES} == {}


def test_flags_are_named_at_the_call():
    """A bare True says nothing: a parameter of type bool is keyword-only. Typer's commands are called by Typer."""
    bare = []
    for name, tree in modules().items():
        if name.startswith("cli"):
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.decorator_list:
                continue
            bare += [
                f"{name}.{node.name}({argument.arg})"
                for argument in [*node.args.posonlyargs, *node.args.args]
                if argument.annotation is not None and dotted(argument.annotation) == "bool"
            ]
    assert bare == sorted(KNOWN_BARE_FLAGS)


KNOWN_BARE_FLAGS = {"conda.record.section_of(needs_v3)"}


@pytest.mark.parametrize("name", ["secret", "token", "password", "key"])
def test_nothing_logs_a_credential(name):
    """What a log line is given by name is never a key or a password."""
    logged = []
    for module, tree in modules().items():
        for called, call in calls(tree):
            if called.split(".")[0] in {"log", "_log"}:
                logged += [f"{module}:{call.lineno}" for word in call.keywords if word.arg == name and "_id" not in ast.dump(word.value)]  # fmt: skip
    allowed = {"queue.worker"} if name == "key" else set()  # a job's key is its name
    assert [place for place in logged if place.split(":")[0] not in allowed] == []
