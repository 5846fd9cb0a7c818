"""The pages of a channel as large as any: how long the server takes, what it asks the database, what a first visit loads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2 as httpx
from sqlalchemy import event

from bench.client import ROOT, Connection
from bench.context import Context, serving, settle
from bench.load import open_fairway
from bench.measure import median, percentile
from bench.report import Table, number
from bench.site import CHANNEL
from tests.support.server import Server
from tests.support.site import Site

COUNT = 100_000
TIMES = 40
GOAL_MS, GOAL_KB, GOAL_STATEMENTS = 100, 150, 6
# What is asked for: the words of the row, and the path; {package} is the one with the most files.
PAGES = {
    "home": "/",
    "search, three letters": "/search?q=pan",
    "search while typing": "/search/live?q=pan",
    "channel": "/channels/{channel}",
    "channel, by downloads": "/channels/{channel}?sort=downloads",
    "channel, filtered": "/channels/{channel}?q=lib",
    "channel: read me": "/channels/{channel}/readme",
    "channel: statistics": "/channels/{channel}/statistics",
    "channel: members": "/channels/{channel}/members",
    "package": "/channels/{channel}/packages/{package}",
    "package: versions": "/channels/{channel}/packages/{package}/versions",
    "package: files": "/channels/{channel}/packages/{package}/files",
    "package: dependencies": "/channels/{channel}/packages/{package}/dependencies",
    "package: dependents": "/channels/{channel}/packages/{package}/dependents",
    "package: contents": "/channels/{channel}/packages/{package}/contents",
    "package: recipe": "/channels/{channel}/packages/{package}/recipe",
    "package: statistics": "/channels/{channel}/packages/{package}/statistics",
    "package: history": "/channels/{channel}/packages/{package}/history",
    "upload": "/channels/{channel}/upload",
    "channel settings": "/channels/{channel}/settings",
    "API keys": "/settings/keys",
    "administration": "/admin",
    "administration: channels": "/admin/channels",
    "administration: storage": "/admin/storage",
    "administration: audit": "/admin/audit",
    "API reference": "/docs/api",
}


def run(context: Context) -> list[Table]:
    count = (context.sizes or [COUNT])[0]
    context.say(f"loading a channel of {count:,} files")
    data = context.folder("site")
    command = [sys.executable, "-m", "bench.site", str(data), str(count)]
    stock = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)
    paths = {name: path.format(channel=CHANNEL, package=stock["package"]) for name, path in PAGES.items()}
    made = Table(
        f"Pages of a channel with {count:,} files of {stock['packages']:,} packages, for its owner",
        ("page", "median ms", "p99 ms", "statements", "kB of the page", "kB at a first visit"),
    )
    with serving(data, searches_per_minute="0") as (server, _):
        settle(server)
        took = {name: asked(server, path, stock["secret"], context.rounds) for name, path in paths.items()}
        loaded = {name: weight(server, path, stock["secret"]) for name, path in paths.items()}
    counted = statements(data, paths, stock["secret"])
    for name in paths:
        page, everything = loaded[name]
        made.rows.append((
            name, number(median(took[name]) * 1000), number(percentile(took[name], 99) * 1000), str(counted[name]),
            number(page / 1000), number(everything / 1000),
        ))  # fmt: skip
    made.notes.append(
        f"The package shown has the most files of all. Goals: {GOAL_MS} ms, {GOAL_STATEMENTS} statements, {GOAL_KB} kB. Time is "
        "from request to the last byte on one connection over the loopback, the page packed with gzip; a first visit also "
        "loads styles, scripts, fonts and pictures."
    )
    return [made]


def asked(server: Server, path: str, secret: str, rounds: int) -> list[float]:
    """Seconds of each answer, the first ones left out."""
    connection = Connection(server.port)
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Accept: text/html", "Accept-Encoding: gzip"]
    request = "\r\n".join([*lines, f"Cookie: fairway={secret}", "", ""]).encode()
    times = []
    for _ in range(TIMES * rounds):
        began = time.perf_counter()
        status, _body = connection.ask(request)
        times.append(time.perf_counter() - began)
        if status != 200:
            raise SystemExit(f"bench: {path} answered {status}")
    return times[5:]


def weight(server: Server, path: str, secret: str) -> tuple[int, int]:
    """Bytes of the page, and of all that a browser loads with it, as they go over the wire."""
    headers = {"Accept-Encoding": "gzip, br", "Accept": "text/html", "Cookie": f"fairway={secret}"}
    client = httpx.Client(base_url=server.url, headers=headers)
    sizes: dict[str, int] = {}

    def load(address: str) -> str:
        with client.stream("GET", address) as answer:
            sizes[address] = sum(map(len, answer.iter_raw()))
        return client.get(address, headers={"Accept-Encoding": "gzip"}).content.decode("latin-1")

    page = load(path)
    for found in sorted(set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page))):
        text = load(found)
        fonts = re.findall(r"url\(([^)]+\.woff2)\)", text) if found.endswith(".css") else []
        for font in sorted(set(fonts)):
            load(urljoin(found, font.strip("\"'")))
    client.close()
    return sizes[path], sum(sizes.values())


def statements(data: Path, paths: dict[str, str], secret: str) -> dict[str, int]:
    """How many each page makes: the least of three, since the background asks now and then too."""
    counted: dict[str, int] = {}
    with open_fairway(data) as app, Site.around(app) as site:
        browser = site.browser()
        browser.take(secret)
        for name, path in paths.items():
            browser.get(path)
            counted[name] = min(counting(app.database.reader, lambda path=path: browser.get(path)) for _ in range(3))
    return counted


def counting(engine: Any, act: Callable[[], object]) -> int:
    count = 0

    def seen(_connection: object, _cursor: object, text: str, *_: object) -> None:
        nonlocal count
        count += text.split(" ", 1)[0].upper() not in {"BEGIN", "PRAGMA"}

    event.listen(engine, "before_cursor_execute", seen)
    act()
    event.remove(engine, "before_cursor_execute", seen)
    return count
