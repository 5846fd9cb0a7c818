"""Every part of the pages, as it looks and behaves in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.looking import findings, too_wide

pytestmark = pytest.mark.xdist_group("browser")

FIRST_VISIT = 150_000  # bytes on the wire


@pytest.mark.parametrize("width", [320, 360, 1440])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_sticks_out(look, theme, width):
    page = look("/styleguide", theme=theme, width=width)
    assert findings(page) == []
    assert too_wide(page) == []


def test_what_is_wrong_is_seen(look):
    """The judges, each with something to judge."""
    page = look("/styleguide", width=360)
    page.evaluate("() => document.querySelector('main').append(document.createElement('img'))")
    assert any(finding.startswith("image-alt") for finding in findings(page))
    assert too_wide(page) == []
    page.evaluate("() => document.querySelector('main').append(document.createElement('canvas'))")
    page.evaluate("() => document.querySelector('main > canvas').width = 2000")
    assert too_wide(page) != []
    page.evaluate("() => document.querySelector('main').setAttribute('style', 'color: red')")
    page.evaluate("() => setTimeout(() => { throw new Error('of a script') })")
    page.wait_for_function("() => new Promise(done => setTimeout(() => done(true)))")
    policy, raised = look.problems
    assert "Content Security Policy" in policy
    assert "of a script" in raised
    look.problems.clear()


def test_the_first_visit_is_light_and_nothing_moves(look):
    page = look("/", width=360)
    sizes = page.evaluate("() => performance.getEntries().map(e => [e.name, e.transferSize ?? 0])")
    assert {name for name, _ in sizes if name.endswith(".woff2")}
    assert sum(size for _, size in sizes) < FIRST_VISIT
    moved = page.evaluate(
        """() => new Promise(done => new PerformanceObserver(list => done(list.getEntries().map(e => e.value)))
            .observe({type: 'layout-shift', buffered: true}) || setTimeout(() => done([]), 300))"""
    )
    assert sum(moved) == 0


def test_colours_follow_the_system_until_one_chooses(look):
    page = look("/styleguide", theme="dark")
    dark = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    switch = page.get_by_role("button", name="Colours: as the system")
    switch.click()
    assert page.locator("html").get_attribute("data-theme") == "light"
    light = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert light != dark
    page.reload()
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == light
    page.get_by_role("button", name="Colours: light").click()
    page.get_by_role("button", name="Colours: dark").click()
    assert page.locator("html").get_attribute("data-theme") is None


def test_commands_are_copied_and_the_client_is_remembered(look):
    page = look("/styleguide")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tabs = page.locator("#guide-commands")
    tabs.get_by_role("tab", name="pixi").focus()
    page.keyboard.press("ArrowRight")
    expect(tabs.get_by_role("tab", name="conda")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(tabs.get_by_role("tab", name="micromamba")).to_have_attribute("aria-selected", "true")
    tabs.get_by_role("tab", name="conda", exact=True).click()
    tabs.get_by_role("button", name="Copy the conda command").click()
    expect(page.locator("#voice")).to_have_text("Copied")
    assert page.evaluate("() => navigator.clipboard.readText()").startswith("conda install -c http://127.0.0.1")
    page.reload()
    expect(tabs.get_by_role("tab", name="conda", exact=True)).to_have_attribute("aria-selected", "true")
    expect(tabs.get_by_text("Needs conda 23.11")).to_be_visible()
    expect(tabs.get_by_text("pixi workspace channel add")).to_be_hidden()


def test_keys_open_menus_and_dialogs_and_close_them(look):
    page = look("/styleguide")
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys).to_be_visible()
    assert findings(page) == []
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    page.keyboard.press("/")
    expect(page.locator("#guide-find")).to_be_focused()
    page.keyboard.type("?")  # a letter, while one writes
    expect(keys).to_be_hidden()
    menu = page.locator("details.menu").filter(has_text="Yank")
    menu.locator("summary").press("ArrowDown")
    expect(menu.get_by_role("link", name="Download")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(menu.get_by_role("button", name="Delete")).to_be_focused()
    assert findings(page) == []
    page.keyboard.press("Escape")
    expect(menu).not_to_have_attribute("open", re.compile(""))
    expect(menu.locator("summary")).to_be_focused()
    page.get_by_role("button", name="Open a dialog").click()
    dialog = page.get_by_role("dialog", name=re.compile("^Delete"))
    expect(dialog).to_be_visible()
    assert findings(page) == []
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()


def test_a_dangerous_button_waits_for_the_typed_name(look):
    page = look("/styleguide")
    button = page.locator("[data-needs-typing]")
    expect(button).to_be_disabled()
    page.get_by_label("Type robots to delete").fill("robot")
    expect(button).to_be_disabled()
    page.get_by_label("Type robots to delete").fill("robots")
    expect(button).to_be_enabled()


def test_a_chart_is_drawn_and_says_its_figures(look):
    page = look("/styleguide")
    chart = page.locator("figure.chart")
    expect(chart.locator("canvas")).to_be_visible()
    chart.locator(".u-over").hover()
    expect(chart.locator(".chart-tip")).to_contain_text(re.compile(r"2026-\d\d-\d\d .* downloads"))
    chart.get_by_text("As a table").click()
    expect(chart.get_by_role("cell").first).to_be_visible()


def test_parts_of_pages_are_brought_in_and_mistakes_are_said(look):
    page = look("/styleguide")
    page.get_by_label("Write something").fill("<b>ahoy</b>")
    expect(page.locator("#echo")).to_have_text("You wrote <b>ahoy</b>")
    page.get_by_role("button", name="Ask for what is not there").click()
    expect(page.locator(".toast-bad")).to_contain_text("That is not there any more.")
    expect(page.locator("#echo")).to_have_text("You wrote <b>ahoy</b>")
    assert "404" in look.problems.pop()


def test_a_refused_upload_says_why(look):
    page = look("/styleguide")
    page.locator("#f-files").set_input_files({"name": "ahoy.conda", "mimeType": "x/y", "buffer": b"ahoy"})
    row = page.locator(".upload").filter(has_text="ahoy.conda")
    expect(row).to_contain_text("This address does not answer to that method.")
    expect(row.get_by_role("button", name="Send again")).to_be_visible()
    assert findings(page) == []
    assert "405" in look.problems.pop()


def test_without_javascript_everything_is_there(look):
    page = look("/styleguide", script=False)
    commands = page.locator("#guide-commands")
    for client in ("pixi workspace", "conda install", "mamba install", "micromamba install"):
        expect(commands.get_by_text(client).first).to_be_visible()
    expect(commands.get_by_role("tab")).to_have_count(0)
    expect(page.get_by_role("button", name="Upload")).to_be_visible()
    expect(page.locator("figure.chart svg")).to_be_visible()
    expect(page.get_by_role("button", name="Colours: as the system")).to_be_hidden()
    expect(page.get_by_role("button", name=re.compile("^Copy"))).to_have_count(0)
    page.get_by_role("searchbox").first.fill("numpy")
