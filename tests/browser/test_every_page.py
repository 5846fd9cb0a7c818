"""Every page, for everybody: what it answers, that it is whole and can be read, in light and dark, on a desk and on a phone."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page

from tests.browser.looking import findings, too_wide, visit

# Of the private channel polar-ocean-bench, and of the small demo
pytestmark = pytest.mark.xdist_group("browser")

PEOPLE = {"nobody": None, "stranger": "yuki", "viewer": "leon", "owner": "ingrid", "administrator": "mara"}
COLOURS = ["color-contrast", "link-in-text-block"]  # what else there is does not turn dark
ALL_RULES = {"nobody", "owner", "administrator"}  # what the others see is a part of it
PRIVATE, PUBLIC, PACKAGE, LONG = (
    "/channels/polar-ocean-bench", "/channels/saltmarsh", "/channels/saltmarsh/packages/saltmarsh-core",
    "/channels/oddities/packages/a-package-whose-name-is-as-long-as-any-name-may-be-and-no-longer",
)  # fmt: skip
TABS = (
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

# What is answered, in the order of PEOPLE. Who is not signed in is led to the page that signs in.
OPEN, SIGNED, READ = (200,) * 5, (200,) * 5, (401, 404, 200, 200, 200)
MAINTAIN, OWN, ADMIN = (401, 404, 403, 200, 200), (401, 404, 403, 200, 200), (200, 404, 404, 404, 200)
PAGES = (
    dict.fromkeys(
        ("/", "/search", "/search?q=salt", "/search?q=nothing-like-this", "/docs/api", "/styleguide", PUBLIC, f"{PUBLIC}/readme",
         f"{PUBLIC}/statistics", f"{PUBLIC}/related", "/channels/polar-ocean/related", "/channels/oddities/related", "/channels/oddities", "/channels/oddities/readme", LONG, f"{LONG}/files",
         "/channels/oddities/packages/not-markup", "/channels/polar-ocean/packages/icefloe-testdata/contents",
         f"{PACKAGE}?platform=osx-arm64&osx=14.0", "/channels/saltmarsh/packages/driver-imu-nine", "/channels/saltmarsh/packages/driver-imu-nine/versions",
         *(PACKAGE + tab for tab in TABS)),
        OPEN,
    )
    | dict.fromkeys(
        ("/login", "/settings", "/settings/password", "/settings/keys", "/settings/keys/new", "/settings/sessions", "/invitations",
         "/channels/new", "/channels/trash", "/confirm"),
        SIGNED,
    )
    | dict.fromkeys(
        (PRIVATE, f"{PRIVATE}/readme", f"{PRIVATE}/statistics", f"{PRIVATE}/related", *(f"{PRIVATE}/packages/icefloe{tab}" for tab in TABS)), READ
    )
    | {f"{PRIVATE}/members": READ, f"{PRIVATE}/leave": (401, 404, 200, 200, 404)}
    | dict.fromkeys(
        (f"{PRIVATE}/upload", f"{PRIVATE}/trash", f"{PRIVATE}/packages/icefloe/versions/3.0.0a4/yank"), MAINTAIN
    )
    | dict.fromkeys(
        (f"{PRIVATE}/settings", f"{PRIVATE}/settings/visibility", f"{PRIVATE}/settings/danger", f"{PRIVATE}/settings/relations", f"{PRIVATE}/settings/upstream",
         f"{PRIVATE}/invite",
         f"{PRIVATE}/members/leon"),
        OWN,
    )
    | dict.fromkeys(
        ("/admin", "/admin/users", "/admin/users?q=nobody-is-called-that", "/admin/users/tomas/suspend", "/admin/invitations", "/admin/invitations/new", "/admin/channels",
         "/admin/channels/saltmarsh/quota", "/admin/trash", "/admin/storage", "/admin/jobs", "/admin/audit", "/admin/settings"),
        ADMIN,
    )
    | {"/channels/there-is-none": (401, 404, 404, 404, 404), "/nowhere/at/all": (401, 404, 404, 404, 404), "/setup": (404,) * 5}
)  # fmt: skip


SEEN: set[str] = set()


def already(page: Page) -> bool:
    """Whether somebody has been shown the same, but for the secret of a form: it is looked at by all rules once."""
    main = page.locator("main").evaluate("main => document.title + main.outerHTML")
    shown = re.sub(r'value="[^"]{20,}"', "", main)
    known = shown in SEEN
    SEEN.add(shown)
    return known


@pytest.mark.parametrize("person", PEOPLE)
def test_every_page_renders_for(person, look, demo):
    page = look("/login", server=demo.server)
    if PEOPLE[person] is not None:
        demo.sign_in(page, PEOPLE[person])
    wrong = []
    for path, statuses in PAGES.items():
        page.set_viewport_size({"width": 1440, "height": 900})
        page.emulate_media(color_scheme="light")
        answer = visit(page, path)
        status = statuses[list(PEOPLE).index(person)]
        found = [] if answer is not None and answer.status == status else [f"{answer and answer.status}, not {status}"]
        if (person in ALL_RULES or status != 200) and not already(page):
            found += findings(page)
            page.emulate_media(color_scheme="dark")
            found += [f"dark: {finding}" for finding in findings(page, rules=COLOURS)]
        page.set_viewport_size({"width": 360, "height": 740})
        found += [f"360 px: {element}" for element in too_wide(page)]
        wrong += [f"{path}: {one}" for one in found]
    if wrong:
        pytest.fail("\n".join(wrong))
