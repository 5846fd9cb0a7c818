"""README and logo of a channel."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from itertools import product

import pytest
from PIL import Image, ImageOps
from sqlalchemy import select

from fairway import errors
from fairway.db.models import Audit
from fairway.registry import channels, logos
from fairway.registry.actor import CONSOLE


def picture(size=(300, 200), kind="PNG", mode="RGB", **options):
    out = io.BytesIO()
    Image.new(mode, size, 120).save(out, kind, **options)
    return out.getvalue()


def test_a_readme_is_kept_and_bounded(world):
    world.set(readme=" # Lab\r\n\r\ntext ")
    world.set(description="x")
    with world.app.database.read() as session:
        assert channels.readme_of(session, channels.show(session, CONSOLE, "lab").id) == "# Lab\n\ntext"
        details = [line.details for line in session.scalars(select(Audit).where(Audit.action == "channel.update"))]
    assert details[0] == {"readme": [0, 11]}
    with pytest.raises(errors.Invalid) as caught:
        world.set(readme="ü" * 32_769)
    assert caught.value.code == "readme_invalid"
    world.set(readme="ü" * 32_768)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_logo_is_made_anew_and_small(world, kind, mode):
    owner, maintainer = world.actor("owner"), world.actor("maintainer")
    made = logos.encoded(picture((600, 300), kind, mode))
    with Image.open(io.BytesIO(made)) as image:
        assert (image.format, image.size, image.mode, image.info) == ("PNG", (256, 128), "RGBA", {})
    with world.app.database.write() as session:
        channels.set_logo(session, owner, "lab", made, now=world.now)
    with world.app.database.read() as session:
        channel_id = channels.show(session, CONSOLE, "lab").id
        assert channels.logo_of(session, channel_id) == made
    with world.app.database.write() as session, pytest.raises(errors.NotAllowed):
        channels.set_logo(session, maintainer, "lab", None, now=world.now)
    with world.app.database.write() as session:
        channels.set_logo(session, CONSOLE, "lab", None, now=world.now)
    with world.app.database.read() as session:
        assert channels.logo_of(session, channel_id) is None


def test_what_else_was_in_the_file_is_gone():
    from PIL.PngImagePlugin import PngInfo

    said = PngInfo()
    said.add_text("Comment", "canary<script>")
    assert b"canary" not in logos.encoded(picture(pnginfo=said))
    assert b"canary" not in logos.encoded(picture() + b"canary<script>alert(1)</script>")
    assert b"canary" not in logos.encoded(picture(kind="JPEG", comment=b"canary"))


def animated(kind):
    frames = [Image.new("RGB", (8, 8), color) for color in (10, 200)]
    out = io.BytesIO()
    frames[0].save(out, kind, save_all=True, append_images=frames[1:], duration=100)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        picture()[:60],
        picture((4097, 4097), mode="1"),
        picture((20_000, 1_000), mode="1"),
        picture(kind="GIF", mode="P"),
        picture(kind="BMP"),
        picture(kind="TIFF"),
        picture() + b"\0" * (2 << 20),
        animated("PNG"),
        animated("WEBP"),
        animated("GIF"),
    ],
    ids=lambda data: f"{data[:8]!r}-{len(data)}",
)
def test_what_is_no_small_still_picture_is_refused(data):
    with pytest.raises(errors.Invalid) as caught:
        logos.encoded(data)
    assert caught.value.code == "logo_invalid"


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    bomb = picture((5_000, 5_000), mode="1")
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(errors.Invalid):
        logos.encoded(bomb)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_a_bent_picture_is_refused_or_taken_and_nothing_else(kind):
    """Its EXIF above all, which Pillow reads with other errors than the picture."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "hello"
    whole = picture((40, 30), kind, exif=exif)
    begin = whole.find(b"II*\x00") if b"II*\x00" in whole else whole.index(b"MM\x00*")
    for place, value in product(range(begin + 4, begin + 40), range(13)):
        data = bytearray(whole)
        data[place] = value
        with suppress(errors.Invalid), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logos.encoded(bytes(data))


def test_the_warnings_of_other_threads_are_left_alone(monkeypatch):
    """Filters are of the whole process: two pictures at once would leave every warning an error for good."""
    before, seen = list(warnings.filters), []
    turned = ImageOps.exif_transpose
    monkeypatch.setattr(ImageOps, "exif_transpose", lambda one: (seen.append(list(warnings.filters)), turned(one))[1])
    logos.encoded(picture())
    assert seen == [before]
