"""One large package through the upload page, in Chromium: what it shows meanwhile, and whether memory stays constant on both
sides.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

from bench import packages
from bench.context import Context, serving
from bench.load import open_fairway
from bench.measure import MB, Peak, clock, tree
from bench.report import Table, number
from fairway.registry import sessions
from tests.browser.looking import ARGUMENTS

MEGABYTES = 2_000
WAIT_SECONDS = 1_800


def run(context: Context) -> list[Table]:
    made = Table(
        "One large package through the upload page, in Chromium",
        (
            "MB",
            "s",
            "s of them after the last byte",
            "steps shown",
            "server: CPU s",
            "server: peak MB over idle",
            "browser: peak MB over idle",
        ),
    )
    found = shutil.which("chromium")
    if found is None:
        raise SystemExit("bench: no Chromium here: apt-get install chromium")
    for megabytes in context.sizes or (MEGABYTES,):
        context.say(f"making a package of {megabytes} MB")
        path = package(context.work, megabytes)
        data, _ = context.data({"big": 0})
        with open_fairway(data) as app, app.database.write() as session:
            secret = sessions.start(session, 1, name="admin", address="127.0.0.1", agent="bench", now=app.now())
        with serving(data) as (server, pid):
            others = set(tree(os.getpid()))
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
                driver = min(set(tree(os.getpid())) - others)
                browser = chromium.new_context(base_url=server.url)
                host = urlsplit(server.url).hostname or ""
                browser.add_cookies([{"name": "fairway", "value": secret, "domain": host, "path": "/"}])
                page = browser.new_page()
                page.goto("/channels/big/upload")
                with Peak(pid) as here, Peak(driver) as there, clock(pid) as spent:
                    steps, checking = upload(page, path)
                made.rows.append((
                    str(megabytes), number(spent.wall), number(checking), str(steps), number(spent.cpu),
                    number(here.mb - here.first), number(there.mb - there.first),
                ))  # fmt: skip
                chromium.close()
        path.unlink()
    return [made]


def package(where: Path, megabytes: int) -> Path:
    big = packages.big(where, megabytes * MB)
    filename, head, tail = big.parts(1)
    path = where / filename
    with path.open("wb") as file, big.payload.open("rb") as payload:
        file.write(head)
        shutil.copyfileobj(payload, file, 1 << 20)
        file.write(tail)
    big.payload.unlink()
    big.payload.with_suffix(".crc").unlink()
    return path


def upload(page: Page, path: Path) -> tuple[int, float]:
    """How many steps of the bar were seen, and how long the server took after the last byte."""
    page.locator("input[type=file]").set_input_files(path)
    row = page.locator("li.upload")
    seen: set[str] = set()
    sent = None
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        state = row.locator(".upload-state").text_content() or ""
        classes = row.get_attribute("class") or ""
        if "upload-good" in classes:
            return len(seen), time.monotonic() - (sent or time.monotonic())
        if "upload-bad" in classes:
            raise RuntimeError(row.text_content())
        if "checked" in state:
            sent = sent or time.monotonic()
        else:
            seen.add(state)
        page.wait_for_timeout(100)
    raise RuntimeError("the upload did not end")
