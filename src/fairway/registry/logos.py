"""Pictures of channels: decoded and encoded anew, so that what is served is a small PNG that we made and nothing else.

Three formats, one picture, bounded in bytes and pixels before anything is decoded, and so in time and memory. No SVG: it
is a document with scripts.
"""

from __future__ import annotations

import io
import struct
import threading

from PIL import Image, ImageOps, UnidentifiedImageError

from fairway.errors import Invalid, Unavailable

BYTES_MAX = 2 << 20
PIXELS_MAX = 4096 * 4096
SIDE = 256
FORMATS = ("PNG", "JPEG", "WEBP")
# A picture of few bytes may take 64 MiB and more when it is decoded: one at a time.
DECODING = threading.Lock()
PATIENCE_SECONDS = 5.0
# what Pillow raises for pictures that are cut or bent, the last ones by their EXIF
DAMAGED = (OSError, SyntaxError, EOFError, LookupError, ValueError, TypeError, ArithmeticError, struct.error)


def encoded(data: bytes) -> bytes:
    """The picture as a PNG of at most 256 x 256, without anything else that was in the file. Takes up to a second.

    Raises: Invalid: it is no picture of these formats, is animated, or is too large. Unavailable: too many at once.
    """
    if len(data) > BYTES_MAX:
        raise refused(f"has more than {BYTES_MAX >> 20} MiB")
    if not DECODING.acquire(timeout=PATIENCE_SECONDS):
        raise Unavailable("Too many pictures at once; try again in a moment.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if not 0 < width * height <= PIXELS_MAX:
                raise refused(f"has more than {PIXELS_MAX >> 20} million pixels")
            if getattr(picture, "n_frames", 1) != 1:
                raise refused("is animated")
            picture.draft("RGB", (SIDE * 2, SIDE * 2))  # JPEG alone: decode only what is needed
            small = ImageOps.exif_transpose(picture).convert("RGBA")
            small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            small.info.clear()
            out = io.BytesIO()
            small.save(out, "PNG", optimize=True)
            return out.getvalue()
    except UnidentifiedImageError:
        raise refused("is no PNG, JPEG or WebP") from None
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise refused("cannot be read") from error
    finally:
        DECODING.release()


def refused(why: str) -> Invalid:
    return Invalid(f"The picture {why}: send a PNG, JPEG or WebP of at most 2 MiB, not animated.", code="logo_invalid")
