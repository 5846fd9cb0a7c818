"""Every address of the application, and who decides about it. A new route has to be written here, with its decision."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.routing import BaseRoute, Mount, Route

from fairway.conda.names import RESERVED_CHANNEL_NAMES
from fairway.web.api.bodies import JsonRoute
from fairway.web.app import Dispatch
from fairway.web.visit import Visits
from tests.support.browser import OWN
from tests.support.builders import conda_package

# READ, UPLOAD, ...: access.require on the channel; "list": only what access.visible_to lets through; "trash": only what
# registry.trash.restorable does; "key": a known actor and what registry.channels.create_channel asks; "open": nothing of
# anybody is in the answer; "person": somebody who is signed in with a browser, about what is their own; "form": whoever was
# given the form; "code": whoever has the secret; "admin": administrators, signed in with a browser; nobody else learns of it.
DECISIONS = {
    ("GET", "/"): "list",
    ("GET", "/search"): "list",
    ("GET", "/search/live"): "list",
    **{("GET", f"/channels/{{channel}}{page}"): "READ" for page in ("", "/readme", "/related", "/statistics")},
    **{
        ("GET", f"/channels/{{channel}}/packages/{{name}}{tab}"): "READ"
        for tab in (
            "",
            "/needed",
            "/versions",
            "/files",
            "/dependencies",
            "/dependents",
            "/contents",
            "/recipe",
            "/statistics",
            "/history",
        )
    },
    ("GET", "/api/v1/openapi.json"): "open",
    ("GET", "/api/v1/channels"): "list",
    ("POST", "/api/v1/channels"): "key",
    ("GET", "/api/v1/channels/{channel}"): "READ",
    ("PATCH", "/api/v1/channels/{channel}"): "MANAGE",
    ("DELETE", "/api/v1/channels/{channel}"): "MANAGE",
    ("POST", "/api/v1/channels/{channel}/restore"): "trash",
    ("GET", "/api/v1/channels/{channel}/members"): "SEE_MEMBERS",
    ("PUT", "/api/v1/channels/{channel}/members/{user}"): "MANAGE",
    ("DELETE", "/api/v1/channels/{channel}/members/{user}"): "MANAGE",
    ("GET", "/api/v1/channels/{channel}/upstream"): "READ",
    ("PUT", "/api/v1/channels/{channel}/upstream"): "MANAGE",
    ("DELETE", "/api/v1/channels/{channel}/upstream"): "MANAGE",
    ("POST", "/api/v1/channels/{channel}/upstream/refresh"): "REINDEX",
    ("POST", "/api/v1/channels/{channel}/upstream/estimate"): "MANAGE",
    ("GET", "/api/v1/channels/{channel}/upstream/conflicts"): "MANAGE",
    ("POST", "/api/v1/channels/{channel}/upstream/accept"): "MANAGE",
    ("GET", "/api/v1/channels/{channel}/upstream/reserved"): "RELEASE",
    ("POST", "/api/v1/channels/{channel}/upstream/release"): "RELEASE",
    ("GET", "/api/v1/channels/{channel}/packages"): "READ",
    ("GET", "/api/v1/channels/{channel}/packages/{name}"): "READ",
    ("GET", "/api/v1/channels/{channel}/packages/{name}/solve"): "READ",
    ("GET", "/api/v1/channels/{channel}/artifacts/{subdir}/{filename}"): "READ",
    ("DELETE", "/api/v1/channels/{channel}/artifacts/{subdir}/{filename}"): "DELETE",
    ("POST", "/api/v1/channels/{channel}/artifacts/{subdir}/{filename}/restore"): "DELETE",
    ("PUT", "/api/v1/channels/{channel}/artifacts/{subdir}/{filename}/yank"): "YANK",
    ("DELETE", "/api/v1/channels/{channel}/artifacts/{subdir}/{filename}/yank"): "YANK",
    ("PUT", "/api/v1/channels/{channel}/packages/{name}/versions/{version}/yank"): "YANK",
    ("DELETE", "/api/v1/channels/{channel}/packages/{name}/versions/{version}/yank"): "YANK",
    ("PUT", "/api/v1/channels/{channel}/artifacts/{filename}"): "UPLOAD",
    ("PUT", "/api/v1/channels/{channel}/artifacts/{subdir}/{filename}"): "UPLOAD",
    ("POST", "/api/v1/upload/{channel:path}"): "UPLOAD",
    ("DELETE", "/api/v1/delete/{channel}/{subdir}/{filename}"): "DELETE",
    ("POST", "/api/v1/reindex/{channel}"): "REINDEX",
    ("POST", "/api/v1/reindex/{channel}/{subdir}"): "REINDEX",
    ("GET", "/api/v1/search"): "list",
    ("GET", "/health/live"): "open",
    ("GET", "/health/ready"): "open",
    ("GET", "/metrics"): "open",
    ("GET", "/static/*"): "open",
    ("GET", "/styleguide"): "open",
    ("GET", "/docs/api"): "open",
    ("GET", "/login"): "open",
    ("GET", "/setup"): "open",
    ("GET", "/signup"): "open",
    ("POST", "/login"): "form",
    ("POST", "/setup"): "form",
    ("POST", "/signup"): "form",
    ("GET", "/invitations/{code}"): "code",
    **{
        (method, path): "person"
        for path, methods in {
            "/channels/new": "GET POST",
            "/channels/new/name": "GET",
            "/confirm": "GET POST",
            "/invitations": "GET",
            "/invitations/{which}/accept": "POST",
            "/invitations/{which}/decline": "POST",
            "/logout": "POST",
            "/settings": "GET POST",
            "/settings/keys": "GET",
            "/settings/keys/new": "GET POST",
            "/settings/keys/{token_id}/revoke": "GET POST",
            "/settings/password": "GET POST",
            "/settings/sessions": "GET",
            "/settings/sessions/end-others": "POST",
            "/settings/sessions/{session_id}/end": "POST",
            "/channels/trash": "GET POST",
        }.items()
        for method in methods.split()
    },
    ("GET", "/channels/{channel}/logo"): "READ",
    **{
        (method, f"/channels/{{channel}}/{path}"): decision
        for path, (decision, methods) in {
            "upload": ("UPLOAD", "GET POST"),
            "upload/file": ("UPLOAD", "POST"),
            "settings": ("MANAGE", "GET POST"),
            "settings/logo": ("MANAGE", "POST"),
            "settings/visibility": ("MANAGE", "GET POST"),
            "settings/danger": ("MANAGE", "GET POST"),
            "settings/relations": ("MANAGE", "GET POST"),
            "settings/upstream": ("MANAGE", "GET POST"),
            "settings/upstream/accept": ("MANAGE", "POST"),
            "settings/upstream/estimate": ("MANAGE", "POST"),
            "settings/upstream/refresh": ("MANAGE", "POST"),
            "settings/upstream/remove": ("MANAGE", "POST"),
            "members": ("READ", "GET"),  # the list is for SEE_MEMBERS, one's own role for each member
            "members/{user}": ("MANAGE", "GET POST"),
            "invite": ("MANAGE", "GET POST"),
            "invitations/{invitation_id}/withdraw": ("MANAGE", "POST"),
            "leave": ("READ", "GET POST"),
            "trash": ("DELETE", "GET"),
            "packages/{name}/release": ("RELEASE", "GET POST"),
            "packages/{name}/files/{subdir}/{filename}/{act}": ("YANK", "GET POST"),  # or DELETE, as the act is
            "packages/{name}/versions/{version}/{act}": ("YANK", "GET POST"),
        }.items()
        for method in methods.split()
    },
    **{
        (method, f"/admin{path}"): "admin"
        for path, methods in {
            "": "GET",
            "/audit": "GET",
            "/channels": "GET",
            "/channels/{channel}/quota": "GET POST",
            "/invitations": "GET",
            "/invitations/new": "GET POST",
            "/invitations/{invitation_id}/withdraw": "POST",
            "/jobs": "GET",
            "/jobs/{job_id}/retry": "POST",
            "/settings": "GET",
            "/storage": "GET",
            "/trash": "GET",
            "/trash/{channel}/restore": "POST",
            "/users": "GET",
            "/users/{user}/{act}": "GET POST",
        }.items()
        for method in methods.split()
    },
}
ON_A_CHANNEL = {"READ", "MANAGE", "SEE_MEMBERS", "UPLOAD", "DELETE", "YANK", "REINDEX", "RELEASE", "trash"}


def router(site):
    visits = site.client.app
    assert isinstance(visits, Visits)
    assert isinstance(visits.app, Dispatch)
    return visits.app.router


def listed(found: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    for route in routes(found):
        if isinstance(route, Mount):
            yield "GET", f"{route.path}/*"
        elif isinstance(route, Route):
            for method in (route.methods or set()) - {"HEAD"}:
                yield method, route.path


def routes(found: list[BaseRoute]) -> Iterator[BaseRoute]:
    for route in found:
        if hasattr(route, "original_router"):  # FastAPI's included router
            yield from routes(route.original_router.routes)
        else:
            yield route


def test_every_route_has_its_decision(site):
    assert sorted(set(listed(router(site).routes))) == sorted(DECISIONS)


def test_every_body_in_json_is_bounded(site):
    """The framework reads a body whole, before it asks who sent it."""
    found = [route for route in routes(router(site).routes) if getattr(route, "body_field", None) is not None]
    assert found
    assert all(isinstance(route, JsonRoute) for route in found)


def test_every_route_begins_with_a_name_no_channel_can_have():
    for _, path in DECISIONS:
        first = path.split("/")[1]
        assert not first or first in RESERVED_CHANNEL_NAMES, path


def test_a_route_on_a_channel_answers_nobody_with_the_decision(site):
    """Without a key, on a channel that is not there: whatever decides, decides before anything else is looked at."""
    for (method, path), decision in DECISIONS.items():
        if decision not in ON_A_CHANNEL:
            continue
        filled = path.replace("{channel:path}", "none").replace("{channel}", "none").replace("{subdir}", "noarch")
        filled = filled.replace("{filename}", "x-1.0-0.conda").replace("{name}", "x").replace("{user}", "admin")
        filled = filled.replace("{act}", "yank").replace("{invitation_id}", "1")
        body = {"role": "viewer"} if "members" in path else {}
        answer = site.client.request(method, filled, json=body if method in {"PUT", "PATCH"} else None, headers=OWN)
        assert (answer.status_code, "www-authenticate" in answer.headers) == (401, True), (method, path)


def test_what_is_not_a_file_is_kept_by_no_cache(site):
    """An answer that says nothing of caching may be kept by one, and given to somebody else."""
    key = site.key()
    site.channel("lab")
    assert site.put("lab", conda_package("demo"), key).status_code == 201
    for method, path in DECISIONS:
        place = {"channel": "lab", "name": "demo", "subdir": "noarch", "filename": "demo-1.0-h0_0.conda"}
        place |= {"code": "x", "token_id": 1, "user": "admin", "version": "1.0", "act": "resume"}
        if method == "GET" and "*" not in path:
            answer = site.get(path.format(**place), key)
            assert answer.headers["cache-control"] == "no-store", path
    assert site.get("/static/mark.svg").headers["cache-control"] == "no-cache"
    assert (
        site.get("/api/v1/channels/", key).headers["cache-control"] == "no-store"
    )  # sent on, to the one without a slash


def test_open_routes_say_nothing_of_anybody(site):
    site.channel("secret-lab", "public")
    site.user("mallory")
    for (_, path), decision in DECISIONS.items():
        if decision == "open":
            text = site.get(path.replace("*", "mark.svg")).text
            assert "secret-lab" not in text
            assert "mallory" not in text
