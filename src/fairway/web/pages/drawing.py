"""Small pictures made of numbers, and what a name looks like: plain geometry, so that a page needs no script to show it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise

TINTS = 12

Number = int | float


def spark(points: Sequence[Number], width: Number, height: Number) -> tuple[str, str]:
    """The line and the area below it, as path data of an SVG of that size; a line at the bottom where all is zero."""
    low = height - 1.5
    points = fewer(points, int(width // 3)) or [0]
    if len(points) == 1:
        points = [points[0], points[0]]
    top = max(*points, 1)
    step = width / (len(points) - 1)
    places = [f"{n * step:.1f},{low - max(value, 0) / top * (height - 3):.1f}" for n, value in enumerate(points)]
    line = "M" + "L".join(places)
    return line, f"{line}L{width},{height}L0,{height}Z"


def fewer(points: Sequence[Number], most: int) -> list[Number]:
    """At most so many numbers, each the mean of its neighbours: a page has a hundred of these pictures."""
    if len(points) <= most:
        return list(points)
    ends = [round(n * len(points) / most) for n in range(most + 1)]
    return [sum(points[first:last]) / (last - first) for first, last in pairwise(ends)]


def columns(points: Sequence[Number], width: Number, height: Number) -> str:
    """One bar for each number, side by side, as path data."""
    top, step = max(*points, 1, 1), width / max(len(points), 1)
    bar = max(step * 0.8, 0.5)
    drawn = []
    for n, value in enumerate(points):
        tall = max(value, 0) / top * height
        if tall:
            drawn.append(f"M{n * step:.2f},{height}v-{tall:.2f}h{bar:.2f}v{tall:.2f}z")
    return "".join(drawn)


def share(used: Number, limit: Number | None) -> int:
    """Per cent, 0 to 100; whatever is above zero is at least one, so that it can be seen."""
    if not limit or used <= 0:
        return 0
    return max(1, min(100, round(100 * used / limit)))


def initials(name: str) -> str:
    """One or two letters for a name: `ada-lovelace` is AL, `demo` is D."""
    parts = [part for part in re.split(r"[\W_]+", name) if part]
    return "".join(part[0] for part in parts[:2]).upper() or "?"


def tint(name: str) -> int:
    """A number from 0 to 11 that is always the same for a name."""
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) % TINTS
