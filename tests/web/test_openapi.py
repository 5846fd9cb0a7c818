"""A real server, asked what its own OpenAPI document promises: no failure of ours, no answer that is not in it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode as Mode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.builders import conda_package
from tests.support.server import Server

pytestmark = pytest.mark.xdist_group("openapi")
EXAMPLES = int(os.environ.get("FAIRWAY_SCHEMATHESIS_EXAMPLES", "12"))  # for each operation
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    allow_header_conformance,
]
DEMO, OTHER = conda_package("demo"), conda_package("other", "2.0")
# What exists, so that requests reach what is behind "not found". The channel `gone` is there to be deleted.
KNOWN = {
    "channel": ["open", "closed", "nobodys", "none"],
    "subdir": ["noarch", "linux-64"],
    "filename": [DEMO[0], OTHER[0], "none-1.0-0.conda"],
    "name": ["demo", "none"],
    "user": ["admin", "guest", "none"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("openapi") / "data") as started:
        started.make_admin()
        started.make_user("guest")
        started.make_channel("open", "--public")
        for name in ("closed", "gone"):
            started.make_channel(name)
        started.make_channel("nobodys", owner="guest")
        key = started.key()
        for channel in ("open", "closed", "nobodys"):
            started.put(channel, *DEMO, key).raise_for_status()
        yield started


@pytest.fixture(scope="module")
def keys(server: Server) -> list[str | None]:
    """Those of somebody who may do much, somebody who may do little, somebody who may only read, and none."""
    return [server.key("admin"), server.key("admin", user="guest"), server.key("read"), None, "fwy-u-nonsense"]


def test_every_operation_keeps_its_promises(server: Server, keys: list[str | None]) -> None:
    document = schemathesis.openapi.from_dict(server.get("/api/v1/openapi.json").json())
    tried = 0
    for found in document.get_all_operations():
        hold_to_its_promises(found.ok(), server, keys)
        tried += 1
    assert tried > 20


def hold_to_its_promises(operation: Any, server: Server, keys: list[str | None]) -> None:
    turn = itertools.count()
    good, bad = (operation.as_strategy(generation_mode=mode) for mode in (Mode.POSITIVE, Mode.NEGATIVE))

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(good | bad)
    def hold(case: schemathesis.Case) -> None:
        number = next(turn)
        if number % 4:
            aim(case, number)
        key = keys[number % len(keys)] if number % 2 else keys[0]
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        case.call_and_validate(base_url=server.url, headers=headers, checks=CHECKS, timeout=30)

    hold()


def aim(case: schemathesis.Case, number: int) -> None:
    """Name what exists in the place of what was made up, and send a package where one is expected."""
    for name in case.path_parameters or {}:
        if name in KNOWN:
            case.path_parameters[name] = KNOWN[name][number // 4 % len(KNOWN[name])]
    whole_channel = case.method == "DELETE" and list(case.path_parameters or {}) == ["channel"]
    if whole_channel:
        case.path_parameters["channel"] = "gone"
    if case.method == "PUT" and "artifacts" in case.path and number % 3:
        case.body, case.media_type = (DEMO, OTHER)[number % 2][1], "application/octet-stream"
    if "/upload/" in case.path and number % 3:
        name, data = conda_package("sent", f"{number}")
        case.body, case.media_type, case.headers["X-File-Name"] = data, "application/octet-stream", name


def test_what_a_put_answers_is_what_the_document_says(server: Server, keys: list[str | None]) -> None:
    said = server.get("/api/v1/openapi.json").json()
    (path,) = [path for path in said["paths"] if path.endswith("/artifacts/{filename}")]
    answers = said["paths"][path]["put"]["responses"]
    fields = said["components"]["schemas"]["Uploaded"]["properties"]
    package = conda_package("answered")
    for status in (201, 200):
        answer = server.put("open", *package, keys[0])
        assert answer.status_code == status
        assert set(answer.json()) == set(fields)
        assert answers[str(status)]["content"]["application/json"]["schema"]["$ref"].endswith("/Uploaded")


def test_every_operation_says_how_it_refuses_and_who_may_ask(server: Server) -> None:
    said = server.get("/api/v1/openapi.json").json()
    for path, operations in said["paths"].items():
        for method, operation in operations.items():
            refusals = {code: answer for code, answer in operation["responses"].items() if code >= "400"}
            assert {"400", "500", "503"} <= set(refusals), (method, path)
            assert "HTTPValidationError" not in str(operation)
            assert ("security" in operation) is not path.startswith(("/health", "/metrics")), (method, path)
    assert set(said["components"]["securitySchemes"]) == {"bearer", "basic", "header"}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/v1/upload/open?force=maybe"), ("POST", "/api/v1/upload/open?force=2")]
)
def test_the_dialect_of_clients_refuses_in_a_sentence_also_what_the_framework_refuses(server, keys, method, path):
    headers = {"Authorization": f"Bearer {keys[0]}"}
    answer = httpx.request(method, f"{server.url}{path}", content=DEMO[1], headers=headers)
    assert (answer.status_code, answer.headers["fairway-error"]) == (422, "request_invalid")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith("force: ")
    assert answer.text.endswith(".\n")
