"""What the OpenAPI document says of every operation alike: how it refuses, and where a key may be.

The routes say what they answer when all is well. What each of them may refuse is in `web.errors`, so it is added here
to all, once, instead of being repeated beside each route and forgotten beside the next.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from fairway.web.api.models import Problem

REFUSALS = (400, 401, 403, 404, 422, 429, 500, 503)
WRITING = (409, 413, 507)  # only what changes something
PUBLIC = (400, 500, 503)  # where nobody is asked for a key
OUTSIDE = (400, 404, 500)  # where a dialect may not get to answer: an encoded path, a path of no route, a failure
PLAIN_TAG = "prefix.dev dialect"
PUBLIC_TAG = "operation"

SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key; `token KEY` is understood too"},
    "basic": {"type": "http", "scheme": "basic", "description": "An API key as the password of any user name"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key"},
}


def describe(api: FastAPI) -> None:
    """Let the application describe itself in full."""
    routes_say = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            complete(routes_say())
        return routes_say()

    api.openapi = openapi  # type: ignore[method-assign]


def complete(document: dict[str, Any]) -> None:
    parts = document.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own shape of a 422, which we do not send
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema()
    parts["securitySchemes"] = SCHEMES
    codes = sorted({*REFUSALS, *WRITING})
    parts["responses"] = {f"Problem{code}": problem(code) for code in codes} | {
        f"Sentence{code}": sentence(code) for code in codes
    }
    for operations in document["paths"].values():
        for method, operation in operations.items():
            complete_operation(method, operation)


def complete_operation(method: str, operation: dict[str, Any]) -> None:
    public = PUBLIC_TAG in operation["tags"]
    codes = PUBLIC if public else REFUSALS if method == "get" else (*REFUSALS, *WRITING)
    kind = "Sentence" if PLAIN_TAG in operation["tags"] else "Problem"
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422")):
        del answers["422"]
    for code in codes:
        answers.setdefault(str(code), {"$ref": f"#/components/responses/{kind}{code}"})
    if not public:
        # the empty one: what is public needs no key
        operation["security"] = [{}, *({scheme: []} for scheme in SCHEMES)]


def problem(code: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": HTTPStatus(code).phrase,
        "headers": headers(code),
        "content": {"application/problem+json": {"schema": schema}},
    }


def sentence(code: int) -> dict[str, Any]:
    """How the dialect refuses, and what goes wrong outside of it."""
    answer = problem(code)
    answer["headers"] = {**headers(code), "Fairway-Error": {"description": "The code", "schema": {"type": "string"}}}
    text = {"text/plain": {"schema": {"type": "string"}}}
    answer["content"] = text | answer["content"] if code in OUTSIDE else text
    if code in OUTSIDE:
        answer["headers"]["Fairway-Error"]["description"] = "The code, where the body is a sentence"
    return answer


def headers(code: int) -> dict[str, Any]:
    """Those a client acts upon. `required` would be left to each answer's own test."""
    if code == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": {"description": "Bearer", "schema": {"type": "string"}}}
    if code in {429, 503, 507}:
        return {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    return {}
