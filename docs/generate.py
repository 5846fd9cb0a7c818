"""Write the reference pages that can be read off the code: `python docs/generate.py`, or `--check` to compare only."""
# ruff: noqa: T201, INP001 - a script of the documentation, no part of a package

from __future__ import annotations

import argparse
import inspect
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import structlog
import typer.main
from starlette.testclient import TestClient

from fairway.app import Fairway
from fairway.blobs import cloud
from fairway.cli.main import build
from fairway.settings import PREFIX, Settings, load
from fairway.web.app import create
from fairway.web.paths import What, understand

REFERENCE = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Written by docs/generate.py; do not edit. -->"

# --- settings ------------------------------------------------------------------------------------------------------

SETTINGS = """\
# Settings

A value comes from an option of the command, else from the settings file, else from the environment, else from the
default. `fairway config show` prints every setting, its value and which of the four it came from; passwords inside
addresses are masked there.

The settings file is `fairway.toml` in the data folder, or the file named by `--config` or `FAIRWAY_CONFIG`. It holds
the names below at its top level:

```toml
port = 8080
base_url = "https://conda.example.org"
keep_days = 30
```

A name in the file that is not in this table is refused, and so is a value out of its range; the sentence says which
source it came from.
"""

VARIABLES = """\
## Variables that are not settings

| Variable | Meaning |
|---|---|
| `FAIRWAY_CONFIG` | The settings file, for every command |
| `FAIRWAY_COMMAND` | How the command line is called here; only changes what the server prints at its first start |
| `FAIRWAY_TOKEN` | The API key of `fairway upload`, so that it need not stand in a shell's history |
| `FAIRWAY_SERVER` | The server's address for `fairway upload` |

An object store is named by `storage_url`; how to reach it comes from the variables its own tools use. For S3:
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` (or `AWS_DEFAULT_REGION`),
`AWS_ENDPOINT_URL_S3` (or `AWS_ENDPOINT_URL`), `AWS_VIRTUAL_HOSTED_STYLE_REQUEST` and `AWS_CA_BUNDLE`. Google Cloud Storage
and Azure take the variables that begin with `GOOGLE_` and `AZURE_`. None of them is ever shown or logged. These for S3
are passed on as they are:

{more}
"""


def settings_page() -> str:
    schema = Settings.model_json_schema()["properties"]
    rows = [(f"`{name}`", f"`{PREFIX}{name.upper()}`", *setting_cells(schema[name])) for name in Settings.model_fields]
    more = "\n".join(f"- `{name}`" for name in sorted(cloud._S3_OPTIONS))  # noqa: SLF001 - this page is about that list
    titles = ("Setting", "Variable", "Value", "Default", "Meaning")
    return "\n".join([NOTE, "", SETTINGS, *table(titles, rows), "", VARIABLES.format(more=more)])


def setting_cells(schema: dict[str, Any]) -> tuple[str, str, str]:
    default = schema.get("default")
    return value_of(schema), "" if default is None else f"`{default}`", schema["description"]


# --- commands ------------------------------------------------------------------------------------------------------

COMMANDS = """\
# Commands

Exit status 0 means success, 1 that something was refused (one sentence on standard error says what), 2 wrong usage.
Commands other than `serve`, `worker` and `upload` work on the data folder itself, beside a running server or without
one; whoever can read that folder needs no key. In a checkout, say `./dev fairway` instead of `fairway`.
"""


def commands_page() -> str:
    lines = [NOTE, "", COMMANDS]
    for path, command in commands_below(typer.main.get_command(build()), "fairway"):
        lines += command_lines(path, command)
    return "\n".join(lines)


def commands_below(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from commands_below(child, f"{path} {name}")


def command_lines(path: str, command: Any) -> list[str]:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option" and param.name != "help"]
    usage = [path, *(argument_name(param) for param in arguments)]
    usage += [f"{param.opts[0]} {value_name(param)}" for param in options if param.required]
    usage += ["[OPTIONS]"] if any(not param.required for param in options) else []
    lines = [f"## {path}", "", inspect.cleandoc(command.help or ""), "", "```", " ".join(usage), "```", ""]
    if arguments:
        rows = [(f"`{argument_name(param)}`", param.help or "") for param in arguments]
        lines += [*table(("Argument", "Meaning"), rows), ""]
    if options:
        rows = [(option_name(param), option_meaning(param)) for param in options]
        lines += [*table(("Option", "Meaning"), rows), ""]
    return lines


def argument_name(param: Any) -> str:
    name = param.name.upper() + ("..." if param.nargs == -1 else "")
    return name if param.required else f"[{name}]"


def value_name(param: Any) -> str:
    choices = get_args(param.type_descriptor.annotation)
    if choices and all(isinstance(choice, str) for choice in choices):
        return "|".join(choices)
    return str(param.name).upper().replace("AS_", "")


def option_name(param: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    return names if param.is_flag else f"{names} `{value_name(param)}`"


def option_meaning(param: Any) -> str:
    said = [param.help or ""]
    if param.required:
        said.append("(required)")
    elif param.default not in (None, False, "", []):
        said.append(f"(default: `{param.default}`)")
    return " ".join(word for word in said if word)


# --- http ----------------------------------------------------------------------------------------------------------

HTTP = """\
# HTTP

Two families of addresses: the files of channels, which conda clients fetch, and the API under `/api/v1`. The API
describes itself at `/api/v1/openapi.json`.

## Credentials

An API key may be sent as `Authorization: Bearer KEY`, `Authorization: token KEY`, `Authorization: Basic` with the key as
password (whatever the user name; or as user name with an empty password), `X-API-Key: KEY`, or, for reading only, in
front of the path: `/t/KEY/CHANNEL/...`. A header beats the path. Behind an address with a path of its own
(`base_url = "https://example.org/conda"`) both `/conda/t/KEY/...` and `/t/KEY/conda/...` are understood.

A bad credential on a channel that is public is read as none, and the answer says `Fairway-Credential: invalid`. What the
answers mean for channels that are not public is in
[how private channels answer](../explanation/how-private-channels-answer.md).

## Answers

Refusals are `application/problem+json` (RFC 9457) with `code`, `title`, `status`, `detail` and `message`; on the prefix.dev
dialect one sentence of plain text, with the code in the header `Fairway-Error`. The codes are listed in
[errors](errors.md). Of each address below only the answers of success are named; the OpenAPI document has the others too.
Every answer carries `X-Request-Id`, which the server's log has too; a proxy may send its own.

## Files of a channel

`GET` and `HEAD`, with `ETag` (the SHA-256 of the bytes), `If-None-Match`, `If-Modified-Since` and single ranges.
Everything else on these paths is answered 405.
"""

# Each path is held against the parser of the read path, so that this table cannot name what is not served.
FILES = (
    (What.DOCUMENT, "/{channel}/{subdir}/repodata_shards.msgpack.zst", "The shard index (CEP 16)"),
    (What.SHARD, "/{channel}/{subdir}/shards/{sha256}.msgpack.zst", "One package name's records; never changes"),
    (What.DOCUMENT, "/{channel}/{subdir}/repodata.json", "All records of a subdir (CEP 36)"),
    (What.DOCUMENT, "/{channel}/{subdir}/repodata.json.zst", "The same, compressed"),
    (What.DOCUMENT, "/{channel}/{subdir}/run_exports.json", "What each package exports (CEP 12)"),
    (What.DOCUMENT, "/{channel}/{subdir}/run_exports.json.zst", "The same, compressed"),
    (What.PACKAGE, "/{channel}/{subdir}/{filename}", "A package. On an object store the answer is a redirect to it"),
    (What.SIDECAR, "/{channel}/{subdir}/{filename}.sigs", "A package's attestations (CEP 50), if it has any"),
    (What.SIDECAR, "/{channel}/{subdir}/{filename}.sigs.{sha256}", "The same by hash; never changes"),
    (What.CHANNELDATA, "/{channel}/channeldata.json", "A channel's packages in a word each (CEP 38)"),
    (What.NOTICES, "/{channel}/notices.json", "An empty list of notices"),
)

CACHING = """\
The index documents of a public channel may be kept for `index_max_age` seconds; those of other channels have to be asked
for again each time (`private, no-cache, max-age=0`). Shards, and packages of channels that do not allow overwriting, may
be kept for ever. A subdir nothing was published to has an index as well: an empty one. `/get/{channel}/...` and
`/{channel}/label/main/...` mean the channel itself. A browser that opens `/{channel}` is sent to its page,
`/channels/{channel}`.

## API
"""


def http_page() -> str:
    document = openapi()
    lines = [NOTE, "", HTTP]
    lines += [*table(("Path", "What it is"), [(f"`{path}`", text) for _, path, text in checked_files()]), "", CACHING]
    for path, methods in sorted(document["paths"].items()):
        for method, operation in sorted(methods.items()):
            lines += operation_lines(method, path, operation)
    lines += ["## Bodies", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += schema_lines(name, schema)
    return "\n".join(lines).rstrip("\n") + "\n"


def openapi() -> dict[str, Any]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory() as folder, Fairway(load({"data": Path(folder) / "data"}, environ={})) as app:
        found: dict[str, Any] = TestClient(create(app, background=False)).get("/api/v1/openapi.json").json()
    return found


def checked_files() -> Iterator[tuple[What, str, str]]:
    example = {"channel": "lab", "subdir": "noarch", "filename": "demo-1.0-0.conda", "sha256": "0" * 64}
    for what, path, text in FILES:
        if understand(path.format(**example)).what is not what:
            raise SystemExit(f"{path} is no longer served as {what.value}: mend docs/generate.py")
        yield what, path, text


def operation_lines(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    answers = sorted(status for status in operation["responses"] if status < "400")
    lines = [f"### {method.upper()} {path}", "", inspect.cleandoc(operation.get("description", "")), ""]
    params = [param for param in operation.get("parameters", []) if param["in"] == "query"]
    if params:
        rows = [
            (f"`{param['name']}`", value_of(param["schema"]), param.get("description", default_of(param["schema"])))
            for param in params
        ]
        lines += [*table(("Query", "Value", "Meaning"), rows), ""]
    bodies = [
        f"{body_of(content['schema'])} (`{media}`)"
        for media, content in operation.get("requestBody", {}).get("content", {}).items()
    ]
    said = f"Body: {' or '.join(bodies)}. " if bodies else ""
    given = operation["responses"][answers[0]].get("content", {}).get("application/json", {}).get("schema", {})
    return [*lines, f"{said}Answers {', '.join(answers)}{f' with {value_of(given)}' if given else ''}.", ""]


def body_of(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return value_of(schema)
    return "the file" if schema.get("format") == "binary" else "a form with the part `file`"


def schema_lines(name: str, schema: dict[str, Any]) -> list[str]:
    needed = schema.get("required", [])
    rows = [
        (f"`{field}`", value_of(value), "required" if field in needed else default_of(value))
        for field, value in schema["properties"].items()
    ]
    about = [inspect.cleandoc(schema["description"]), ""] if "description" in schema else []
    return [f"### {name}", "", *about, *table(("Field", "Value", ""), rows), ""]


def default_of(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    return f"default: `{default}`" if default not in (None, "") else "optional"


# --- all -----------------------------------------------------------------------------------------------------------


def value_of(schema: dict[str, Any]) -> str:
    """What a JSON schema lets in, in few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(value_of(choice) for choice in schema["anyOf"] if choice.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    kind = str(schema.get("type", "anything"))
    if "prefixItems" in schema:
        return f"[{', '.join(value_of(item) for item in schema['prefixItems'])}]"
    if kind == "array":
        return f"list of {value_of(schema['items'])}"
    kind = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "object"}.get(kind, kind)
    kind = {"date-time": "time", "path": "path"}.get(schema.get("format", ""), kind)
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        kind += f" from {low}" + (f" to {high}" if high is not None else "")
    return kind + (f" of at most {schema['maxLength']} characters" if "maxLength" in schema else "")


def table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [titles, ("---",) * len(titles), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


PAGES = {"settings.md": settings_page, "commands.md": commands_page, "http.md": http_page}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a page is not current")
    check = parser.parse_args().check
    stale = 0
    for name, make in PAGES.items():
        path, text = REFERENCE / name, make().rstrip("\n") + "\n"
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if check:
            print(f"{path.name} is not what the code says: run python docs/generate.py")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
