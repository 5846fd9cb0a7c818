"""What the tests of hostile packages share: a good package in its parts, and the code another is refused with."""

import io

from fairway.conda import archive
from fairway.errors import PackageRefused
from tests.support import builders as b

STEM = "demo-1.0-h0_0"
INFO, PKG = f"info-{STEM}.tar.zst", f"pkg-{STEM}.tar.zst"
INDEX = b.index_json("demo", "1.0", "h0_0")
GOOD_INFO = b.zst(b.tar(b.tar_members(b.info_files(INDEX))))
EMPTY = b.zst(b.tar([]))
GOOD = b.conda_entries(STEM, GOOD_INFO, EMPTY)  # metadata.json, pkg, info


def code(data: bytes, extension: str = ".conda", **options) -> str:
    """The code of the refusal, or "accepted"; any other exception fails the test."""
    try:
        archive.read(io.BytesIO(data), stem=STEM, extension=extension, **options)
    except PackageRefused as refusal:
        refused = refusal
    else:
        return "accepted"
    assert refused.detail.endswith((".", "?"))
    assert len(refused.detail) <= 400
    return refused.code


def changed(at: int, **fields) -> bytes:
    """The good package with some fields of one zip member (0 metadata.json, 1 pkg, 2 info) replaced."""
    return b.zip_file(b.changed(GOOD, at, **fields))
