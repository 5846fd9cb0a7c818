"""What people come for, from the first click to the last, in a browser with a real server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.looking import findings
from tests.clients.clients import Client, bearer
from tests.support.builders import conda_package

pytestmark = pytest.mark.xdist_group("browser")

PASSWORD = "four harbours under a quiet moon"


def fill(page: Page, **fields: str) -> None:
    """The fields of a form, by their names."""
    for name, value in fields.items():
        page.locator(f"main [name={name}]").fill(value)


def press(page: Page, name: str) -> None:
    page.get_by_role("main").get_by_role("button", name=name, exact=True).click()
    page.wait_for_load_state("networkidle")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A file to upload."""
    filename, data = conda_package("kelp", "1.2.0", about={"summary": "Counts kelp", "license": "MIT"})
    path = tmp_path / filename
    path.write_bytes(data)
    return path


def test_from_the_first_start_to_the_first_package(look, serve, package):
    server = serve()
    code = (server.data / "setup-code").read_text().strip()
    assert code in server.log.read_text()
    page = look("/", server=server)
    page.goto("/setup")
    fill(page, code=code, name="ada", email="ada@example.org", password=PASSWORD)
    press(page, "Make the account")
    assert not (server.data / "setup-code").exists()
    page.goto("/channels/new")
    assert page.get_by_role("radio", name=re.compile("Private")).is_checked()
    fill(page, name="reef", description="Things that grow")
    expect(page.locator("#name-check")).not_to_be_empty()
    press(page, "Make the channel")
    assert page.url.endswith("/channels/reef")
    expect(page.get_by_text(f"fairway upload reef my-package-1.0-0.conda --server {server.url}")).to_be_attached()
    page.get_by_role("link", name="Upload").first.click()
    page.locator("input[type=file]").set_input_files(package)
    row = page.locator(".upload").filter(has_text=package.name)
    expect(row).to_have_class(re.compile("upload-good"))
    expect(row).to_contain_text("1.2.0")
    assert findings(page) == []
    page.goto("/channels/reef")
    page.get_by_role("link", name="kelp").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("kelp")
    expect(page.get_by_text("Counts kelp").first).to_be_visible()
    again = look("/setup", server=server)
    expect(again.get_by_role("heading", level=1)).to_have_text("Nothing is here")


def test_a_package_is_found_by_three_letters_and_its_line_copied(look, demo):
    page = look("/", server=demo.server)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("/")
    page.keyboard.type("core")
    hit = page.get_by_role("option").filter(has_text="saltmarsh-core")
    expect(hit.locator("mark")).to_have_text("core")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/channels/saltmarsh/packages/saltmarsh-core")
    page.get_by_role("button", name="Copy the pixi command").click()
    copied = page.evaluate("() => navigator.clipboard.readText()")
    both = f"{demo.server.url}/forge {demo.server.url}/saltmarsh"  # the one builds on the other
    assert copied == f"pixi workspace channel add {both}\npixi add saltmarsh-core"


def test_what_is_private_is_found_by_its_members_only(look, demo):
    for user, found in ((None, False), ("ingrid", False), ("tomas", True)):
        page = look("/login", server=demo.server)
        if user is not None:
            demo.sign_in(page, user)
        page.goto("/search?q=fleet")
        assert ("fleet-image-heron" in page.locator("main").inner_text()) is found, user


def test_a_key_is_made_and_works(look, demo, tmp_path):
    page = look("/login?next=/settings/keys", server=demo.server)
    fill(page, name="tomas", password=demo.passwords["tomas"])
    press(page, "Sign in")
    page.get_by_role("link", name="New key").click()
    fill(page, name="Journey")
    page.get_by_text("Only these", exact=True).click()
    page.get_by_label("saltmarsh-fleet").check()
    press(page, "Make the key")
    shown = page.locator("main").inner_text()
    (key,) = set(re.findall(r"fwy-u-\w+", shown))
    assert findings(page) == []
    page.goto("/settings/keys")
    row = page.get_by_role("row").filter(has_text="Journey")
    expect(row).to_contain_text("never")
    assert key not in page.content()
    channel = f"{demo.server.url}/saltmarsh-fleet"
    with Client(tmp_path / "with", bearer(key)) as client:
        assert client.names(channel, "fleet-image-heron", platforms=["noarch"])
    with Client(tmp_path / "without") as client, pytest.raises(Exception, match="401"):
        client.names(channel, "fleet-image-heron", platforms=["noarch"])
    row.get_by_role("link", name="Revoke").click()
    press(page, "Revoke the key")
    with Client(tmp_path / "revoked", bearer(key)) as client, pytest.raises(Exception, match="401"):
        client.names(channel, "fleet-image-heron", platforms=["noarch"])


def as_somebody(look, demo, user: str, path: str) -> Page:
    page: Page = look("/login", server=demo.server)
    demo.sign_in(page, user)
    page.goto(path)
    return page


def test_somebody_is_invited_accepts_and_uploads_and_a_viewer_does_not(look, demo, package):
    members = "/channels/polar-ocean-bench/members"
    owner = as_somebody(look, demo, "ingrid", members)
    owner.get_by_role("link", name="Invite somebody").click()
    fill(owner, who="yuki")
    owner.get_by_role("radio", name=re.compile("Uploader")).check()
    press(owner, "Invite")
    expect(owner.get_by_role("row").filter(has_text="yuki")).to_contain_text("uploader")
    stranger = as_somebody(look, demo, "yuki", "/channels/polar-ocean-bench")
    expect(stranger.get_by_role("heading", level=1)).to_have_text("Nothing is here")
    stranger.goto("/invitations")
    stranger.get_by_role("button", name="Accept polar-ocean-bench").click()
    stranger.goto("/channels/polar-ocean-bench/upload")
    stranger.locator("input[type=file]").set_input_files(package)
    expect(stranger.locator(".upload").filter(has_text=package.name)).to_have_class(re.compile("upload-good"))
    stranger.goto("/channels/polar-ocean-bench/packages/kelp")
    expect(stranger.get_by_text("Counts kelp").first).to_be_visible()
    viewer = as_somebody(look, demo, "leon", "/channels/polar-ocean-bench")
    expect(viewer.get_by_role("link", name="Upload")).to_have_count(0)
    refused = viewer.goto("/channels/polar-ocean-bench/upload")
    assert refused is not None
    assert refused.status == 403
    expect(viewer.get_by_role("heading", level=1)).to_have_text("You may not do this")


def test_a_version_is_yanked_and_put_back(look, demo):
    package = "/channels/polar-ocean/packages/icefloe"
    page = as_somebody(look, demo, "tomas", f"{package}/versions/2.2.0/yank")
    fill(page, reason="Ice melted upwards; use 2.1.1")
    press(page, "Yank the version")
    expect(page.locator("[data-toast]")).to_contain_text("Yanked")
    page.goto(package)
    expect(page.locator(".page-head")).to_contain_text("2.1.1")
    everybody = look(f"{package}?version=2.2.0", server=demo.server)
    expect(everybody.get_by_text("Ice melted upwards; use 2.1.1").first).to_be_visible()
    everybody.goto(f"{package}/versions")
    expect(everybody.get_by_role("row").filter(has_text="2.2.0")).to_contain_text("yanked")
    assert findings(everybody) == []
    page.goto(f"{package}/versions/2.2.0/unyank")
    press(page, "Put the version back")
    page.goto(package)
    expect(page.locator(".page-head")).to_contain_text("2.2.0")


def test_a_channel_is_deleted_and_restored(look, demo):
    page = as_somebody(look, demo, "yuki", "/channels/saltmarsh-tools/settings/danger")
    button = page.get_by_role("button", name="Delete the channel")
    expect(button).to_be_disabled()
    page.locator("[name=typed_delete]").fill("saltmarsh-tools")
    button.click()
    page.wait_for_url("**/channels/trash")
    expect(page.get_by_role("row").filter(has_text="saltmarsh-tools")).to_be_visible()
    other = as_somebody(look, demo, "tomas", "/channels/saltmarsh-tools")
    expect(other.get_by_role("heading", level=1)).to_have_text("Nothing is here")
    other.goto("/search?q=marsh-release")
    assert "saltmarsh-tools" not in other.locator("main").inner_text()
    page.get_by_role("button", name="Restore saltmarsh-tools").click()
    page.wait_for_url("**/channels/saltmarsh-tools")
    again = other.goto("/channels/saltmarsh-tools/packages/marsh-release")
    assert again is not None
    assert again.status == 200
