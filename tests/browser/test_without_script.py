"""Every form with JavaScript turned off: what can be done with a page does not depend on a script."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.test_journeys import fill, press
from tests.support.builders import conda_package

pytestmark = pytest.mark.xdist_group("browser")

NUMBERS = count(1)
PASSWORD = "four harbours under a quiet moon"


@pytest.fixture
def plain(look, demo):
    """Opens the demo without JavaScript, as somebody."""

    def open_as(user: str, path: str = "/") -> Page:
        page: Page = look("/login", server=demo.server, script=False)
        demo.sign_in(page, user)
        page.goto(path)
        return page

    return open_as


@dataclass(frozen=True)
class Reef:
    """A channel of yuki's with one file in it, made with the forms; and the page they are on."""

    page: Page
    name: str
    filename: str

    @property
    def at(self) -> str:
        return f"/channels/{self.name}"

    def fill(self, place: str, **fields: str) -> None:
        self.page.goto(f"{self.at}/{place}")
        fill(self.page, **fields)


@pytest.fixture
def reef(plain, tmp_path: Path):
    name = f"plain-reef-{next(NUMBERS)}"
    page = plain("yuki", "/channels/new")
    fill(page, name=name, description="Made without a script")
    press(page, "Make the channel")
    for client in (f"fairway upload {name}", "pixi upload prefix", "rattler-build upload", "curl -T"):
        expect(page.get_by_text(client).first).to_be_visible()
    filename, data = conda_package("kelp", "1.2.0")
    (tmp_path / filename).write_bytes(data)
    page.goto(f"/channels/{name}/upload")
    page.locator("input[type=file]").set_input_files(tmp_path / filename)
    press(page, "Upload")
    expect(page.locator(".upload-good")).to_contain_text("kelp 1.2.0")
    yield Reef(page, name, filename)
    page.goto(f"/channels/{name}/settings/danger")  # the demo is for others, too
    fill(page, typed_delete=name)
    press(page, "Delete the channel")


def test_somebody_signs_in_looks_and_signs_out(look, demo):
    page = look("/login", server=demo.server, script=False)
    fill(page, name="tomas", password="not this one at all")
    press(page, "Sign in")
    expect(page.locator(".field-error")).to_be_visible()
    fill(page, name="tomas", password=demo.passwords["tomas"])
    press(page, "Sign in")
    page.get_by_role("searchbox").first.fill("saltmarsh")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name=re.compile("^saltmarsh-core")).first).to_be_visible()
    page.locator("select[name=platform]").select_option("noarch")
    press(page, "Search")
    assert "platform=noarch" in page.url
    page.goto("/channels/saltmarsh")
    page.locator("select[name=sort]").select_option("downloads")
    press(page, "Show")
    assert "sort=downloads" in page.url
    page.goto("/channels/saltmarsh/packages/saltmarsh-core")
    page.locator("select[name=version]").select_option(index=2)
    press(page, "Show")
    assert "version=" in page.url
    for tab in ("files", "dependencies", "contents", "recipe"):
        page.goto(f"/channels/saltmarsh/packages/saltmarsh-core/{tab}")
        page.locator("main select").first.select_option(index=1)
        press(page, "Show")
        assert "?" in page.url, tab
    page.locator("summary.account-button").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()


def test_a_channel_is_managed(reef):
    page = reef.page
    reef.fill("settings", description="Changed without a script", readme="# Kelp *forest*")
    press(page, "Preview the README")
    expect(page.locator("#preview em")).to_have_text("forest")
    page.locator("main [name=description]").press("Enter")  # saves
    expect(page.locator("[data-toast]")).to_be_visible()
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(picture, "PNG")
    page.locator("input[type=file]").set_input_files(
        {"name": "kelp.png", "mimeType": "image/png", "buffer": picture.getvalue()}
    )
    press(page, "Use this picture")
    expect(page.locator(".page-title img")).to_be_visible()
    press(page, "Remove it")
    expect(page.locator(".page-title img")).to_have_count(0)
    reef.fill("settings/visibility", typed="something else")
    page.get_by_role("radio", name=re.compile("Public")).check()
    press(page, "Change who can see it")
    expect(page.locator(".field-error")).to_be_visible()
    fill(page, typed=reef.name)
    press(page, "Change who can see it")
    expect(page.locator(".page-title")).to_contain_text("public")


def test_people_are_invited_changed_and_removed(reef, plain):
    page = reef.page
    reef.fill("invite", who="eve@example.org")
    press(page, "Invite")
    link = page.locator("main .code").inner_text().strip()
    expect(page.get_by_text("works once")).to_be_visible()
    page.goto(f"{reef.at}/members")
    page.get_by_role("button", name="Withdraw the invitation of eve@example.org").click()
    expect(page.get_by_text("Nobody waits for an answer")).to_be_visible()
    assert page.goto(f"/invitations/{link.rpartition('/')[2]}").status == 404
    reef.fill("invite", who="leon")
    press(page, "Invite")
    leon = plain("leon", "/invitations")
    leon.get_by_role("button", name=f"Accept {reef.name}").click()
    page.goto(f"{reef.at}/members/leon")
    page.get_by_role("radio", name=re.compile("Uploader")).check()
    press(page, "Change the role")
    expect(page.get_by_role("row").filter(has_text="leon")).to_contain_text("uploader")
    leon.goto(f"{reef.at}/leave")
    press(leon, "Leave the channel")
    page.goto(f"{reef.at}/members")
    expect(page.get_by_role("row").filter(has_text="leon")).to_have_count(0)


def test_a_file_is_yanked_put_back_deleted_and_restored(reef):
    page, filename = reef.page, reef.filename
    page.goto(f"{reef.at}/packages/kelp/files")
    page.locator("main details.menu summary").click()
    page.get_by_role("link", name="Yank").click()
    fill(page, reason="Too salty")
    press(page, "Yank it")
    page.goto(f"{reef.at}/packages/kelp/files")
    expect(page.get_by_text("Too salty").first).to_be_visible()
    page.goto(f"{reef.at}/packages/kelp/files/noarch/{filename}/unyank")
    press(page, "Put it back")
    page.goto(f"{reef.at}/packages/kelp/files/noarch/{filename}/delete")
    press(page, "Delete it")
    page.goto(f"{reef.at}/trash")
    page.get_by_role("link", name=f"Restore {filename}").click()
    press(page, "Restore it")
    page.goto(f"{reef.at}/packages/kelp/files")
    expect(page.locator("main .chip").filter(has_text=re.compile("yanked|deleted"))).to_have_count(0)


def test_a_channel_comes_back_from_the_trash(reef):
    page = reef.page
    reef.fill("settings/danger", typed_delete=reef.name)
    press(page, "Delete the channel")
    page.get_by_role("button", name=f"Restore {reef.name}").click()
    page.wait_for_url(f"**{reef.at}")


def test_ones_own_settings(plain):
    page = plain("adaeze", "/settings")
    fill(page, full_name="Adaeze O.")
    press(page, "Save")
    expect(page.locator("[data-toast]")).to_be_visible()
    page.goto("/settings/keys/new")
    fill(page, name="Plain")
    page.get_by_role("radio", name=re.compile("Only these")).check()
    page.get_by_label("polar-ocean", exact=True).check()
    press(page, "Make the key")
    for client in ("pixi auth login", "micromamba auth login"):
        expect(page.get_by_text(client).first).to_be_visible()
    page.goto("/settings/keys")
    page.get_by_role("link", name="Revoke Plain").click()
    press(page, "Revoke the key")
    expect(page.get_by_role("row").filter(has_text="Plain")).to_have_count(0)
    plain("adaeze", "/settings/sessions")
    page.goto("/settings/sessions")
    page.get_by_role("button", name="Sign out everywhere else").click()
    expect(page.get_by_role("row")).to_have_count(2)


def test_the_administration(plain, look, demo):
    page = plain("mara", "/admin/invitations/new")
    fill(page, email="plain@example.org")
    press(page, "Make the link")
    code = page.locator("main .code").inner_text().strip().rpartition("/")[2]
    stranger = look(f"/invitations/{code}", server=demo.server, script=False)
    stranger.get_by_role("link", name="Make an account").click()
    fill(stranger, name="plain", email="plain@example.org", password=PASSWORD)
    press(stranger, "Make the account")
    expect(stranger.get_by_role("heading", name="My channels")).to_be_visible()
    for act, button in (("suspend", "Suspend"), ("resume", "Let in again")):
        page.goto("/admin/users?q=plain")
        page.locator("main details.menu summary").first.click()
        page.locator(f"main a[href$='/{act}']").click()
        press(page, button)
        expect(page.locator("[data-toast]")).to_be_visible()
    page.goto("/admin/channels/polar-ocean/quota")
    fill(page, quota="500")
    press(page, "Save")
    expect(page.get_by_role("row").filter(has_text="polar-ocean").first).to_contain_text("500")
    page.goto("/admin/jobs")
    page.locator("main table").get_by_role("button").first.click()
    expect(page.locator("[data-toast]")).to_be_visible()
    page.goto("/admin/audit")
    page.locator("main [name=by]").fill("mara")
    press(page, "Show")
    assert "by=mara" in page.url
