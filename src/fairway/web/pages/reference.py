"""The reference of the API, read off the OpenAPI document that describes it: `/docs/api`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

from fairway.web.deps import App
from fairway.web.pages.forms import PageRoute
from fairway.web.pages.render import page

router = APIRouter(include_in_schema=False, route_class=PageRoute)

METHODS = ("get", "post", "put", "patch", "delete")
# The tags of the routes, in the order in which people need them, with a heading and a sentence.
GROUPS = {
    "artifacts": ("Upload", "How a file gets into a channel. `fairway upload` and `curl -T` use this."),
    "packages": ("Packages and files", "What a channel holds, and finding it."),
    "channels": ("Channels and members", "Making channels, changing them, and who may use them."),
    "prefix.dev dialect": (
        "The dialect of pixi and rattler-build",
        "What `pixi upload prefix` and `rattler-build upload prefix` speak. Refusals are a sentence of plain text.",
    ),
    "operation": ("Operation", "For whoever runs the server. Nobody is asked for a key."),
}
EXAMPLES = {
    "channel": "my-channel",
    "subdir": "linux-64",
    "filename": "tool-1.0-h1_0.conda",
    "name": "tool",
    "user": "ada",
    "version": "1.0",
    "q": "tool",
}
# Where a body is no JSON, curl says which file it is of.
SENT = {
    "application/octet-stream": "-T tool-1.0-h1_0.conda",
    "multipart/form-data": "-F file=@tool-1.0-h1_0.conda",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, or a key of a JSON body; `place` is path, query or body."""

    name: str
    kind: str
    required: bool
    about: str
    place: str = "body"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer when all is well."""

    status: int
    phrase: str
    kind: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    anchor: str
    method: str
    path: str
    summary: str
    about: tuple[Markup, ...]  # paragraphs
    fields: tuple[Field, ...]
    sends: str
    replies: tuple[Reply, ...]
    refusals: tuple[int, ...]
    example: str


@dataclass(frozen=True, slots=True)
class Group:
    anchor: str
    title: str
    about: Markup
    operations: tuple[Operation, ...]


@router.get("/docs/api")
def reference(request: Request, app: App) -> HTMLResponse:
    """Every operation, with what it takes, answers and refuses."""
    document = request.app.openapi()
    return page(
        request, "reference/api.html", groups=groups_of(document, app.settings.url), version=document["info"]["version"]
    )


def groups_of(document: Mapping[str, Any], url: str) -> list[Group]:
    found: dict[str, list[Operation]] = {tag: [] for tag in GROUPS}
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                said = operations[method]
                tag = (said.get("tags") or ["other"])[0]
                found.setdefault(tag, []).append(operation_of(document, method, path, said, url))
    titled = ((tag, *GROUPS.get(tag, (tag.capitalize(), ""))) for tag in found)
    return [Group(slug(tag), title, in_code(about), tuple(found[tag])) for tag, title, about in titled if found[tag]]


def operation_of(document: Mapping[str, Any], method: str, path: str, said: Mapping[str, Any], url: str) -> Operation:
    parameters = tuple(
        Field(
            given["name"],
            kind_of(document, given["schema"]),
            bool(given.get("required")),
            given.get("description", ""),
            given["in"],
        )
        for given in said.get("parameters", ())
    )
    content = resolved(document, said.get("requestBody", {})).get("content", {})
    media = next(iter(content), "")
    body = tuple(fields_of(document, content[media].get("schema", {}))) if media == "application/json" else ()
    replies = [reply_of(document, int(code), answer) for code, answer in said["responses"].items() if int(code) < 400]
    paragraphs = said.get("description", "").strip().split("\n\n")
    return Operation(
        anchor=slug(f"{method} {path}"),
        method=method.upper(),
        path=path,
        summary=said["summary"].capitalize(),
        about=tuple(in_code(" ".join(paragraph.split())) for paragraph in paragraphs if paragraph.strip()),
        fields=parameters + body,
        sends=media,
        replies=tuple(sorted(replies, key=lambda reply: reply.status)),
        refusals=tuple(sorted(int(code) for code in said["responses"] if int(code) >= 400)),
        example=curl(method, path, parameters, media, body, url, keyed=bool(said.get("security"))),
    )


def reply_of(document: Mapping[str, Any], status: int, answer: Mapping[str, Any]) -> Reply:
    content = resolved(document, answer).get("content", {})
    media = next(iter(content), "")
    schema = content[media].get("schema", {}) if media else {}
    fields = tuple(fields_of(document, schema)) if media == "application/json" else ()
    kind = kind_of(document, schema) if media == "application/json" else media
    return Reply(status, HTTPStatus(status).phrase, kind, fields)


def resolved(document: Mapping[str, Any], value: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a `$ref` stands for."""
    while "$ref" in value:
        found: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def fields_of(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Field]:
    """The keys of an object, or of each object of a list."""
    schema = resolved(document, schema)
    if schema.get("type") == "array":
        schema = resolved(document, schema.get("items", {}))
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        yield Field(name, kind_of(document, inner), name in required, inner.get("description", ""))


def kind_of(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A type in words: `integer, 1 to 500`, `list of File`, `"read", "upload" or "admin"`, `string or null`."""
    if "$ref" in schema:
        inner = resolved(document, schema)
        return kind_of(document, inner) if "enum" in inner else str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind_of(document, one) for one in schema["anyOf"]))
    if "enum" in schema:
        words = [json.dumps(value) for value in schema["enum"]]
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    if "const" in schema:
        return json.dumps(schema["const"])
    kind = str(schema.get("type", "any"))
    if "prefixItems" in schema:
        return f"[{', '.join(kind_of(document, item) for item in schema['prefixItems'])}]"
    if kind == "array":
        return f"list of {kind_of(document, schema.get('items', {}))}"
    if "minimum" in schema and "maximum" in schema:
        kind += f", {schema['minimum']} to {schema['maximum']}"
    elif "maxLength" in schema:
        kind += f", at most {schema['maxLength']} characters"
    elif schema.get("format") == "date-time":
        kind = "time (RFC 3339)"
    if "default" in schema and schema["default"] not in ("", None):
        kind += f", else {json.dumps(schema['default'])}"
    return kind


def curl(
    method: str, path: str, parameters: tuple[Field, ...], media: str, body: tuple[Field, ...], url: str, *, keyed: bool
) -> str:
    """A command that would do it, with a file or names that stand for one's own."""
    for name in re.findall(r"\{(\w+)[^}]*\}", path):
        path = re.sub(r"\{" + name + r"[^}]*\}", quote(EXAMPLES.get(name, name)), path)
    asked = "&".join(
        f"{given.name}={quote(EXAMPLES.get(given.name, '...'))}"
        for given in parameters
        if given.required and given.place == "query"
    )
    address = f"{url}{path}{'?' + asked if asked else ''}"
    parts = ["curl"]
    if method not in {"get", "put"} or (method == "put" and media not in SENT):
        parts.append(f"-X {method.upper()}")
    if keyed:
        parts.append('-H "Authorization: Bearer $KEY"')
    if media in SENT:
        parts.append(SENT[media])
    elif body:
        values = {given.name: example_of(given) for given in body if given.required} or {
            body[0].name: example_of(body[0])
        }
        parts += ['-H "Content-Type: application/json"', f"-d '{json.dumps(values)}'"]
    return " \\\n  ".join([" ".join(parts[:2]), *parts[2:], f'"{address}"' if asked else address])


def example_of(given: Field) -> Any:
    if given.kind.startswith('"'):
        return json.loads(given.kind.split(" or ")[0].split(", ")[0])
    if given.kind.startswith("list"):
        return []
    if given.kind.startswith(("integer", "number")):
        return 1
    return True if given.kind.startswith("boolean") else EXAMPLES.get(given.name, f"my-{given.name}")


def in_code(text: str) -> Markup:
    """A sentence in which what stands between backticks is code."""
    parts = (
        Markup("<code>{}</code>").format(part) if n % 2 else escape(part) for n, part in enumerate(text.split("`"))
    )
    return Markup("").join(parts)


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
