"""Channels, members, packages and files through the JSON API."""

import datetime as dt

import pytest
from sqlalchemy import event

from fairway.registry import channels
from fairway.registry.actor import CONSOLE
from tests.support.builders import conda_package, tar_bz2_package
from tests.support.site import bearer

CHANNELS = "/api/v1/channels"


class Api:
    """The API as the administrator sees it; `ask(...)` as somebody else."""

    def __init__(self, site) -> None:
        self.site, self.admin = site, site.key(scope="admin")

    def ask(self, method, path, body=None, *, key="", **params):
        headers = bearer(key or self.admin) if key is not None else {}
        return self.site.client.request(method, path, json=body, headers=headers, params=params or None)

    def get(self, path, **options):
        return self.ask("GET", path, **options)


@pytest.fixture
def api(site):
    return Api(site)


def problem(answer, status, code):
    """The form of a refusal, and which one it is."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert set(body) == {"code", "title", "status", "detail", "message"}
    assert (body["status"], body["code"], body["message"]) == (status, code, body["detail"])
    assert body["title"]
    assert body["detail"].endswith((".", "?"))
    return body["detail"]


def test_a_channel_is_made_shown_and_read_at_once(api):
    made = api.ask("POST", CHANNELS, {"name": "lab", "visibility": "public", "description": " A lab "})
    assert made.status_code == 201
    body = made.json()
    created = dt.datetime.fromisoformat(body.pop("created_at"))
    assert abs(created - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
    assert body.pop("updated_at") == made.json()["created_at"]
    assert body == {
        "name": "lab", "url": "http://127.0.0.1:8000/lab", "visibility": "public", "description": "A lab",
        "allow_v3": True, "allow_overwrite": False, "packages": 0, "artifacts": 0, "size": 0,
        "base": None, "overrides": None,
    }  # fmt: skip
    assert api.get(f"{CHANNELS}/lab", key=None).json() == made.json()
    assert api.site.get("/lab/noarch/repodata.json").status_code == 200


def test_a_channel_is_private_unless_said_otherwise(api):
    assert api.ask("POST", CHANNELS, {"name": "lab"}).json()["visibility"] == "private"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "Lab"}, 422, "name_invalid"),
        ({"name": "admin"}, 422, "name_reserved"),
        ({"name": "linux-64"}, 422, "name_reserved"),
        ({"name": "x" * 129}, 422, "name_invalid"),
        ({"name": "taken"}, 409, "name_taken"),
        ({"name": "lab", "owner": "nobody"}, 404, "not_found"),
        ({"name": "lab", "visibility": "secret"}, 422, "request_invalid"),
        ({"name": "lab", "description": "x" * 1_001}, 422, "request_invalid"),
        ({"name": "lab", "unknown": 1}, 422, "request_invalid"),
        ({"name": 7}, 422, "request_invalid"),
        ({}, 422, "request_invalid"),
        (["lab"], 422, "request_invalid"),
    ],
)
def test_a_channel_that_cannot_be_made_is_refused_with_a_reason(api, body, status, code):
    api.site.channel("taken")
    problem(api.ask("POST", CHANNELS, body), status, code)
    assert [item["name"] for item in api.get(CHANNELS).json()["items"]] == ["taken"]


def test_making_channels_needs_a_key_for_that(api):
    api.site.user("alice")
    problem(api.ask("POST", CHANNELS, {"name": "lab"}, key=None), 401, "auth_required")
    problem(api.ask("POST", CHANNELS, {"name": "lab"}, key=api.site.key("alice", "upload")), 403, "scope_missing")
    api.site.channel("one", owner="alice")
    bound = api.site.key("alice", "admin", channels=["one"])
    problem(api.ask("POST", CHANNELS, {"name": "lab"}, key=bound), 403, "scope_missing")
    alice = api.site.key("alice", "admin")
    problem(api.ask("POST", CHANNELS, {"name": "lab", "owner": "admin"}, key=alice), 403, "scope_missing")
    assert api.ask("POST", CHANNELS, {"name": "lab"}, key=alice).status_code == 201
    assert api.get(f"{CHANNELS}/lab/members", key=alice).json()[0] | {"added_at": ""} == {
        "user": "alice", "role": "owner", "added_at": "",
    }  # fmt: skip


def test_channels_are_listed_page_by_page_and_only_those_one_may_read(api):
    site = api.site
    for user in ("alice", "bob"):
        site.user(user)
    for n in range(3):
        site.channel(f"private-{n}", owner="alice")
        site.channel(f"public-{n}", "public")
    site.channel("inside", "internal")
    site.channel("hidden")
    open_ones = [f"public-{n}" for n in range(3)]
    wanted = {
        None: open_ones,
        site.key("bob", "read"): ["inside", *open_ones],
        site.key("alice", "read"): ["inside", *(f"private-{n}" for n in range(3)), *open_ones],
        site.key("alice", "read", channels=["private-1"]): ["private-1", *open_ones],
        api.admin: ["hidden", "inside", *(f"private-{n}" for n in range(3)), *open_ones],
    }
    for key, names in wanted.items():
        for limit in (1, 2, 3, 100):
            found, cursor = [], ""
            while cursor is not None:
                page = api.get(CHANNELS, key=key, limit=limit, cursor=cursor).json()
                assert len(page["items"]) <= limit
                found += [item["name"] for item in page["items"]]
                cursor = page["cursor"]
            assert found == names
    for limit in (0, 501, "many"):
        problem(api.get(CHANNELS, limit=limit), 422, "request_invalid")


def test_a_channel_is_changed_only_in_what_is_named(api):
    api.site.channel("lab")
    change = api.ask("PATCH", f"{CHANNELS}/lab", {"description": "new", "allow_overwrite": True}).json()
    assert (change["description"], change["allow_overwrite"], change["visibility"], change["allow_v3"]) == (
        "new", True, "private", True,
    )  # fmt: skip
    assert api.ask("PATCH", f"{CHANNELS}/lab", {}).json() == change
    assert api.ask("PATCH", f"{CHANNELS}/lab", {"allow_v3": False, "visibility": "public"}).json()["allow_v3"] is False
    assert api.get(f"{CHANNELS}/lab", key=None).json()["description"] == "new"
    problem(api.ask("PATCH", f"{CHANNELS}/lab", {"name": "other"}), 422, "request_invalid")


def test_a_deleted_channel_is_gone_for_everybody_and_its_name_stays_taken(api):
    api.site.channel("lab", "public")
    filename, data = conda_package()
    api.site.put("lab", (filename, data), api.admin)
    assert api.ask("DELETE", f"{CHANNELS}/lab").status_code == 204
    for path in (f"{CHANNELS}/lab", "/lab/noarch/repodata.json", f"/lab/noarch/{filename}", f"{CHANNELS}/lab/packages"):
        problem(api.get(path, key=None), 401, "auth_required")
        problem(api.get(path), 404, "not_found")
    assert api.get(CHANNELS).json()["items"] == []
    assert api.get("/api/v1/search", q="demo").json()["items"] == []
    problem(api.site.put("lab", conda_package("late"), api.admin), 404, "not_found")
    problem(api.ask("DELETE", f"{CHANNELS}/lab"), 404, "not_found")
    problem(api.ask("POST", CHANNELS, {"name": "lab"}), 409, "name_taken")


def test_members_are_given_roles_and_the_last_owner_stays(api):
    for user in ("alice", "bob"):
        api.site.user(user)
    api.site.channel("lab", owner="alice")
    members = f"{CHANNELS}/lab/members"
    alice = api.site.key("alice", "admin")
    assert api.ask("PUT", f"{members}/bob", {"role": "uploader"}, key=alice).status_code == 204
    assert api.ask("PUT", f"{members}/bob", {"role": "maintainer"}, key=alice).status_code == 204
    assert [(m["user"], m["role"]) for m in api.get(members).json()] == [("alice", "owner"), ("bob", "maintainer")]
    for method, body in (("DELETE", None), ("PUT", {"role": "viewer"})):
        assert "last owner" in problem(api.ask(method, f"{members}/alice", body, key=alice), 422, "last_owner")
    assert api.ask("PUT", f"{members}/bob", {"role": "owner"}, key=alice).status_code == 204
    assert api.ask("DELETE", f"{members}/alice", key=alice).status_code == 204
    problem(api.get(members, key=alice), 404, "not_found")  # it is private, and she is out
    problem(api.ask("PUT", f"{members}/nobody", {"role": "viewer"}), 404, "not_found")
    problem(api.ask("PUT", f"{members}/bob", {"role": "king"}), 422, "request_invalid")
    assert api.ask("DELETE", f"{members}/alice").status_code == 204  # not a member any more: nothing to do


def test_packages_are_listed_by_name_page_by_page(api):
    api.site.channel("lab")
    for package in (conda_package("b", "2.0", about={"summary": "Two"}, index={"license": "MIT"}), conda_package("a"),
                    conda_package("c", "1.0"), conda_package("c", "1.10"), conda_package("c", "1.9")):  # fmt: skip
        assert api.site.put("lab", package, api.admin).status_code == 201
    first = api.get(f"{CHANNELS}/lab/packages", limit=2).json()
    assert ([item["name"] for item in first["items"]], first["cursor"]) == (["a", "b"], "b")
    second = api.get(f"{CHANNELS}/lab/packages", limit=2, cursor="b").json()
    (c,) = second["items"]
    assert (c["name"], c["version"], c["files"], second["cursor"]) == ("c", "1.10", 3, None)
    b = first["items"][1]
    assert (b["version"], b["summary"], b["license"], b["files"]) == ("2.0", "Two", "MIT", 1)
    files = api.get(f"{CHANNELS}/lab/packages/c").json()
    assert files["package"] == c
    assert [file["version"] for file in files["files"]] == ["1.10", "1.9", "1.0"]
    problem(api.get(f"{CHANNELS}/lab/packages/none"), 404, "not_found")


def test_a_file_is_shown_and_deleted(api):
    api.site.channel("lab")
    filename, data = tar_bz2_package("demo", "1.0", subdir="linux-64")
    put = api.site.put("lab", (filename, data), api.admin, subdir="linux-64").json()
    path = f"{CHANNELS}/lab/artifacts/linux-64/{filename}"
    shown = api.get(path).json()
    assert {name: shown[name] for name in ("subdir", "filename", "sha256", "size", "indexed_timestamp")} == {
        name: put[name] for name in ("subdir", "filename", "sha256", "size", "indexed_timestamp")
    }
    assert (shown["uploaded_by"], shown["deleted"], shown["downloads"], shown["build"]) == ("admin", False, 0, "h0_0")
    assert api.ask("DELETE", path).status_code == 204
    assert api.get(path).json()["deleted"] is True
    problem(api.ask("DELETE", path), 404, "not_found")
    problem(api.get(f"{CHANNELS}/lab/artifacts/noarch/{filename}"), 404, "not_found")
    lab = api.get(f"{CHANNELS}/lab").json()
    assert (lab["artifacts"], lab["size"]) == (0, 0)


def test_uploading_the_same_file_again_is_fine_and_another_is_409(api):
    api.site.channel("lab")
    first = api.site.put("lab", conda_package(), api.admin)
    again = api.site.put("lab", conda_package(), api.admin)
    assert (first.status_code, first.json()["created"]) == (201, True)
    assert (again.status_code, again.json()) == (200, first.json() | {"created": False})
    problem(api.site.put("lab", conda_package(files={"x": b"x"}), api.admin), 409, "file_exists")
    form = {"file": (conda_package()[0], conda_package()[1], "application/octet-stream")}
    dialect = api.site.client.post("/api/v1/upload/lab", files=form, headers=bearer(api.admin))
    assert (dialect.status_code, dialect.headers["fairway-error"]) == (409, "file_exists")


def test_listings_ask_the_database_a_fixed_number_of_times(api):
    api.site.channel("lab")

    def statements(path):
        count = 0

        def seen(*_):
            nonlocal count
            count += 1

        event.listen(api.site.app.database.reader, "before_cursor_execute", seen)
        assert api.get(path, key=api.admin).status_code == 200
        event.remove(api.site.app.database.reader, "before_cursor_execute", seen)
        return count

    def least(path):
        # The server's own work in the background asks now and then too, which adds to a count and never takes from it.
        return min(statements(path) for _ in range(3))

    paths = (CHANNELS, f"{CHANNELS}/lab/packages", "/", "/channels/lab", "/api/v1/search?q=p")
    api.site.put("lab", conda_package("p"), api.admin)
    few = {path: least(path) for path in paths}
    for n in range(12):
        api.site.put("lab", conda_package(f"p{n}"), api.admin)
        api.site.channel(f"more-{n}", "public")
    assert {path: least(path) for path in paths} == few
    assert max(few.values()) <= 8


def test_unknown_addresses_and_methods_are_answered_in_the_same_form(api):
    problem(api.get("/api/v1/none"), 404, "not_found")
    problem(api.get("/channels/none"), 404, "not_found")
    problem(api.ask("DELETE", CHANNELS), 405, "method_not_allowed")
    with api.site.app.database.write() as session:
        channels.create_channel(session, CONSOLE, "lab", owner="admin", now=1)
    problem(api.ask("POST", f"{CHANNELS}/lab"), 405, "method_not_allowed")
    answer = api.site.client.post(
        CHANNELS, content=b"{", headers=bearer(api.admin) | {"content-type": "application/json"}
    )
    problem(answer, 422, "request_invalid")


def test_head_says_what_get_would_without_its_body(api):
    for path in (
        "/health/live",
        "/health/ready",
        "/",
        CHANNELS,
        "/api/v1/search?q=x",
        "/api/v1/openapi.json",
        "/api/v1/nothing",
    ):
        plainly = {"accept-encoding": "identity"}  # packed, no two answers are as long
        got, head = (api.site.client.request(method, path, headers=plainly) for method in ("GET", "HEAD"))
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-length"] == got.headers["content-length"], path
    assert api.site.client.head(CHANNELS, headers={"x-api-key": "none"}).status_code == 401


def test_only_files_of_public_channels_may_be_used_by_other_sites(api):
    for name in ("open", "closed"):
        api.site.channel(name, "public" if name == "open" else "private")
    key = api.site.key("admin", "read")
    for path, shared in (("/open/noarch/repodata.json", True), ("/closed/noarch/repodata.json", False), ("/", False)):
        answer = api.site.get(path, key)
        assert answer.headers["cross-origin-resource-policy"] == ("cross-origin" if shared else "same-origin"), path
