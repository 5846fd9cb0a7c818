"""A plot with two logarithmic axes, as SVG that is readable on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 84, 150, 40, 48
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .grid { stroke: #d0d7de } .title { font-weight: 600 }
.line { fill: none; stroke-width: 2 } .a { stroke: #0969da; fill: #0969da } .b { stroke: #bf3989; fill: #bf3989 }
.c { stroke: #9a6700; fill: #9a6700 } path.line { fill: none }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .grid { stroke: #30363d } .a { stroke: #58a6ff; fill: #58a6ff } .b { stroke: #f778ba; fill: #f778ba }
  .c { stroke: #d29922; fill: #d29922 } path.line { fill: none } }
text.a, text.b, text.c { stroke: none }
"""


def loglog(title: str, across: str, up: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """`lines` maps a name to its points; both coordinates are above zero."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x_range, y_range = decades(xs), decades(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (math.log10(x) - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (math.log10(y) - y_range[0]) / (y_range[1] - y_range[0]) * (HEIGHT - TOP - BOTTOM),
        )

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>',
    ]
    for power in range(x_range[0], x_range[1] + 1):
        x, y = place(10**power, 10 ** y_range[0])
        out.append(f'<path class="grid" d="M{x:.1f} {TOP}V{y:.1f}"/>')
        out.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{power_of_ten(power)}</text>')
    for power in range(y_range[0], y_range[1] + 1):
        x, y = place(10 ** x_range[0], 10**power)
        out.append(f'<path class="grid" d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}"/>')
        out.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{power_of_ten(power)} {escape(up)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>')
    for kind, (name, points) in zip("abc", lines.items(), strict=False):
        places = [place(*point) for point in points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        out.append(f'<path class="line {kind}" d="{path}"/>')
        out += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in places]
        x, y = places[-1]
        out.append(f'<text class="{kind}" x="{x + 10:.1f}" y="{y + 4:.1f}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around the values, at least one decade apart."""
    low, high = math.floor(math.log10(min(values)) + 1e-9), math.ceil(math.log10(max(values)) - 1e-9)
    return low, max(high, low + 1)


def power_of_ten(power: int) -> str:
    return f"{10**power:,}" if power >= 0 else f"{10**power:g}"
