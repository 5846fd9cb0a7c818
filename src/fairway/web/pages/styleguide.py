"""The style page: every part in all its states, for whoever makes pages. Only with the setting `development`."""

from __future__ import annotations

import math
from datetime import date, timedelta

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from fairway.errors import NotFound
from fairway.web.deps import App
from fairway.web.pages.forms import PageRoute
from fairway.web.pages.render import page

router = APIRouter(include_in_schema=False, route_class=PageRoute)

# Names as strangers choose them: as long as they may be, from right to left, and with pictures.
LONG = "a-package-with-a-name-of-sixty-four-characters-which-is-allowed0"
HEBREW = "חבילה לדוגמה עם תיאור בעברית"
EMOJI = "🚢 ship it 👩🏽‍🔬🧪 — with a sentence that goes on for a while, so that it has to be broken somewhere"
DAYS = 90


@router.get("/styleguide")
def styleguide(request: Request, app: App) -> HTMLResponse:
    if not app.settings.development:
        raise NotFound
    first = date(2026, 8, 24)
    daily = [round(120 + 80 * math.sin(n / 5) + 7 * (n % 7) + n) for n in range(DAYS)]
    platforms = ["noarch", "linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64"]
    versions = [f"{major}.{minor}.0" for major in (3, 2, 1) for minor in (2, 1, 0)]
    cells = {
        (version, platform): (1 + (row + column) % 3, f"#{version}", "built for 3 Pythons")
        for row, version in enumerate(versions)
        for column, platform in enumerate(platforms)
        if (row * 7 + column * 3) % 5
    }
    return page(
        request,
        "styleguide.html",
        long=LONG,
        hebrew=HEBREW,
        emoji=EMOJI,
        daily=[((first + timedelta(days=n)).isoformat(), count) for n, count in enumerate(daily)],
        platforms=platforms,
        versions=[
            (version, f"#{version}", {0: ("latest", "good"), 3: ("yanked", "bad")}.get(n))
            for n, version in enumerate(versions)
        ],
        cells=cells,
        sample=request.query_params.get("sample", ""),
    )
