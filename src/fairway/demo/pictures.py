"""Pictures of the demo's channels, drawn anew each time."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

from PIL import Image, ImageDraw

SIDE = 512
Drawing = ImageDraw.ImageDraw


def of(channel: str) -> bytes | None:
    """The picture of a channel as a PNG, or none for those that have none."""
    if channel not in DRAWN:
        return None
    ground, draw = DRAWN[channel]
    picture = Image.new("RGB", (SIDE, SIDE), ground)
    draw(ImageDraw.Draw(picture))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def reeds(pen: Drawing) -> None:
    """Reeds before the sun, over water."""
    pen.ellipse((136, 76, 376, 316), fill="#f4c66a")
    for foot, top, lean in ((150, 150, -34), (206, 96, -14), (262, 128, 12), (316, 84, 28), (366, 168, 40)):
        pen.line(((foot, 400), (foot + lean, top)), fill="#12342f", width=13)
        pen.ellipse((foot + lean - 17, top - 26, foot + lean + 17, top + 72), fill="#7a3f1d")
    for row, colour in enumerate(("#2b7a78", "#1f5f66", "#174a53")):
        crest = 372 + 48 * row
        curve = [(x, crest + 12 * math.sin(x / 41 + 2.1 * row)) for x in range(0, SIDE + 1, 8)]
        pen.polygon([*curve, (SIDE, SIDE), (0, SIDE)], fill=colour)


def floes(pen: Drawing) -> None:
    """Floes on dark water, seen from above."""
    for x, y, size, turn, colour in (
        (196, 178, 140, 0.3, "#f3f8fb"), (388, 132, 72, 0.9, "#d5e6ef"), (392, 330, 104, 0.1, "#e6f0f6"),
        (168, 404, 82, 0.6, "#c4dae6"), (60, 318, 40, 1.2, "#e6f0f6"),
    ):  # fmt: skip
        corners = [
            (
                x + size * stretch * math.cos(turn + n * math.tau / 7),
                y + size * stretch * math.sin(turn + n * math.tau / 7),
            )
            for n, stretch in enumerate((1.0, 0.86, 1.06, 0.9, 1.0, 0.8, 0.96))
        ]
        pen.polygon([(left + 9, top + 12) for left, top in corners], fill="#0a2a45")
        pen.polygon(corners, fill=colour)


DRAWN: dict[str, tuple[str, Callable[[Drawing], None]]] = {
    "saltmarsh": ("#cfe6df", reeds),
    "polar-ocean": ("#14466b", floes),
}
