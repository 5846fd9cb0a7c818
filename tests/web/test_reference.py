"""The reference of the API says what the API's own description says."""

import re
from html import unescape

from fairway.web.pages.reference import groups_of
from tests.web.test_pages import Tags


def test_every_operation_is_there(site):
    document = site.get("/api/v1/openapi.json").json()
    page = Tags(site.get("/docs/api").text)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert path in page.text
            assert operation["summary"].capitalize() in page.text
            assert method.upper() in page.text
    assert [one for one in page.named("a") if one.get("href") == "/api/v1/openapi.json"]
    ids = [one["id"] for _, one in page.tags if "id" in one]
    assert len(ids) == len(set(ids))
    inside = {one["href"][1:] for one in page.named("a") if str(one.get("href", "")).startswith("#")}
    assert inside <= set(ids)


def test_what_it_takes_answers_and_refuses_is_said(site):
    document = site.get("/api/v1/openapi.json").json()
    found = {
        (one.method, one.path): one for group in groups_of(document, "https://c.example") for one in group.operations
    }
    assert len(found) == sum(map(len, document["paths"].values()))
    made = found["POST", "/api/v1/channels"]
    assert {(field.name, field.required, field.place) for field in made.fields} >= {("name", True, "body")}
    visibility = next(field for field in made.fields if field.name == "visibility")
    assert visibility.kind.startswith('"private", "internal" or "public"')
    assert [reply.status for reply in made.replies] == [201]
    assert {401, 403, 409, 422} <= set(made.refusals)
    assert made.example == (
        'curl -X POST \\\n  -H "Authorization: Bearer $KEY" \\\n  -H "Content-Type: application/json" \\\n'
        '  -d \'{"name": "tool"}\' \\\n  https://c.example/api/v1/channels'
    )
    sent = found["PUT", "/api/v1/channels/{channel}/artifacts/{filename}"]
    assert "-T tool-1.0-h1_0.conda" in sent.example
    limit = next(field for field in found["GET", "/api/v1/channels"].fields if field.name == "limit")
    assert limit.kind == "integer, 1 to 500, else 100"
    assert not any("{" in one.example.replace("-d '{", "") for one in found.values())


def test_the_commands_work(site):
    """Those that only read, sent as they stand there."""
    site.channel("my-channel", "public")
    key = site.key(scope="admin")
    for command in re.findall(r"<code>(curl[^<]*)</code>", site.get("/docs/api").text):
        words = unescape(command).replace("\\\n", " ").split()
        if "-X" in words or "-T" in words or "-d" in words:
            continue
        address = words[-1].strip('"')
        assert address.startswith("http://127.0.0.1:8000/")
        path = address.removeprefix("http://127.0.0.1:8000")
        assert site.get(path, key if "Authorization:" in command else None).status_code in {200, 404}, path
