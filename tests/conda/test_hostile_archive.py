"""Hostile packages, outside and below: names, ZIP, compression, and bytes changed at random. The numbers are those of
the threat model's corpus (H13 to H46); `test_hostile_tar` has the rest.
"""

import bz2
import gzip
import lzma
import struct
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairway.conda.artifact import Limits
from tests.support import builders as b
from tests.support.builders import Entry, Member, long_name, pax, zip_file, zst, zstd_block, zstd_frame
from tests.support.hostile import EMPTY, GOOD, GOOD_INFO, INDEX, PKG, changed, code

END64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 3, 3, 0, 0)


def test_the_base_of_all_cases_is_good():
    assert code(zip_file(GOOD)) == "accepted"


# --- zip -----------------------------------------------------------------------------------------------------------

TAR_BZ2 = b.tar_bz2_package()[1]
CONDA = zip_file(GOOD)
ZIP = {
    "H13 tar.bz2 named conda": (TAR_BZ2, "format_mismatch"),
    "H17 empty": (b"", "archive_truncated"),
    "H17 one byte": (b"P", "archive_truncated"),
    "H17 only an end": (b.zip_end(0, 0, 0), "conda_members"),
    **{f"H19 method {m}": (changed(1, method=m), "zip_method") for m in (8, 12, 14, 93)},
    "H19 encrypted": (changed(1, flags=1), "zip_method"),
    "H20 fourth member": (zip_file([*GOOD, Entry("evil.tar.zst", EMPTY)]), "conda_members"),
    "H21 two info": (zip_file([*GOOD, Entry("info-other-1-0.tar.zst", EMPTY)]), "conda_members"),
    "H21 info of another": (changed(2, name="info-other-1-0.tar.zst"), "conda_members"),
    "H21 no metadata": (zip_file(GOOD[1:]), "conda_members"),
    "H21 no pkg": (zip_file([GOOD[0], GOOD[2]]), "conda_members"),
    "H22 twice": (zip_file([*GOOD, GOOD[2]]), "zip_duplicate"),
    "H22 twice in the file": (zip_file([*GOOD, GOOD[2]], central=GOOD), "zip_duplicate"),
    "H23 not in directory": (zip_file([*GOOD, Entry("evil.tar.zst", EMPTY)], central=GOOD), "zip_cd_mismatch"),
    "H23 not in directory, between": (
        zip_file([GOOD[0], Entry("evil.tar.zst", EMPTY), *GOOD[1:]], central=GOOD),
        "zip_cd_mismatch",
    ),
    "H23 only in directory": (zip_file(GOOD[:2], central=GOOD), "zip_overlap"),
    "H23 points nowhere": (changed(2, central={"offset": 5}), "zip_overlap"),
    "H23 other order": (zip_file(GOOD, central=[GOOD[2], GOOD[1], GOOD[0]]), "zip_cd_mismatch"),
    "H24 name": (changed(1, local={"name": PKG.replace("pkg", "gkp").encode()}), "zip_cd_mismatch"),
    "H24 size": (changed(1, local={"size": 9, "packed": 9}), "zip_cd_mismatch"),
    "H24 crc": (changed(1, local={"crc": 9}), "zip_cd_mismatch"),
    "H24 method": (changed(1, local={"method": 8}), "zip_cd_mismatch"),
    "H24 two sizes": (changed(1, central={"size": 9}), "zip_cd_mismatch"),
    "H25 overlap": (
        changed(1, local={"size": 300, "packed": 300}, central={"size": 300, "packed": 300}),
        "zip_overlap",
    ),
    "H26 prefix": (b"\x7fELF" + zip_file(GOOD), "zip_prefix"),
    "H26 prefix counted": (zip_file(GOOD, prefix=b"GIF89a"), "zip_prefix"),
    "H27 trailer": (CONDA + b"x", "zip_trailing"),
    "H27 comment": (zip_file(GOOD, end={"comment": b"hello"}), "zip_trailing"),
    "H27 end in comment": (zip_file(GOOD, end={"comment": b.zip_end(3, 0, 0)}), "zip_trailing"),
    "H27 two ends": (CONDA + b.zip_end(3, 0, 0), "zip_trailing"),
    "H28 no record": (zip_file(GOOD, end={"offset": 0xFFFFFFFF}), "zip_zip64"),
    "H28 elsewhere": (zip_file(GOOD, before_end=END64 + struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1)), "zip_zip64"),
    "H28 useless field": (changed(1, central_extra=struct.pack("<HHQ", 1, 8, 5)), "zip_zip64"),
    "H28 missing field": (changed(1, central={"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF}), "zip_zip64"),
    "H28 other size": (changed(1, extra=struct.pack("<HHQQ", 1, 16, 5, 5)), "zip_zip64"),
    "H29 descriptor": (
        changed(1, flags=8, local={"crc": 0, "size": 0, "packed": 0}, after=b"PK\7\x08" + bytes(12)),
        "zip_data_descriptor",
    ),
    "H29 descriptor, no signature": (changed(1, flags=8, after=bytes(12)), "zip_data_descriptor"),
    "H30 unicode path": (changed(1, extra=struct.pack("<HHBI", 0x7075, 9, 1, 0) + b"evil"), "zip_extra"),
    "H30 central": (changed(1, central_extra=struct.pack("<HHBI", 0x7075, 9, 1, 0) + b"evil"), "zip_extra"),
    "H30 twice": (changed(1, extra=struct.pack("<HHBHHB", 0x5455, 1, 0, 0x5455, 1, 0)), "zip_extra"),
    "H30 NTFS times": (changed(1, extra=struct.pack("<HHI", 10, 4, 0)), "zip_extra"),
    "H30 Unix times": (changed(1, extra=struct.pack("<HHBQ", 0x5455, 9, 1, 0)), "zip_extra"),
    "H30 no Unix times": (changed(1, extra=struct.pack("<HH", 0x5455, 0)), "zip_extra"),
    "H30 three bytes": (changed(1, extra=b"abc"), "zip_extra"),
    "H30 member comment": (changed(1, comment=b"x"), "zip_extra"),
    **{
        f"H31 name {name!r}": (changed(1, name=name), "conda_members")
        for name in ("a/b", "a\\b", "../x", "/etc/x", b"\xff\xfe", "a\x01", "dir/")
    },
    "H31 symlink": (changed(1, attributes=0o120777 << 16), "conda_members"),
    "H32 crc": (changed(1, crc=1), "zip_crc"),
    "H32 crc of metadata": (changed(0, crc=1), "zip_crc"),
    "H33 65,000 claimed": (zip_file(GOOD, end={"count": 65_000}), "conda_members"),
    "H34 disk": (zip_file(GOOD, end={"disk": 1}), "zip_cd_mismatch"),
    "H34 member on a disk": (changed(1, central={"disk": 1}), "zip_cd_mismatch"),
    "H34 offset": (zip_file(GOOD, end={"offset": 1}), "zip_cd_mismatch"),
    "H34 length": (zip_file(GOOD, end={"length": 1}), "zip_cd_mismatch"),
    **{
        f"H35 metadata {text[:20]!r}": (changed(0, data=text), "conda_format_version")
        for text in (
            b'{"conda_pkg_format_version": 3}',
            b'{"conda_pkg_format_version": "2"}',
            b'{"conda_pkg_format_version": 2.0}',
            b"{}",
            b"[]",
            b"\xff",
            b"",
        )
    },
    "H35 large metadata": (changed(0, data=b" " * 10_000_000), "metadata_too_large"),
    "H36 polyglot": (TAR_BZ2 + CONDA, "zip_prefix"),
}


@pytest.mark.parametrize(("data", "expected"), ZIP.values(), ids=ZIP)
def test_zip(data, expected):
    assert code(data) == expected


def test_h18_truncated_anywhere():
    assert {code(CONDA[:size]) for size in range(len(CONDA))} == {"archive_truncated"}


# --- compressed streams --------------------------------------------------------------------------------------------

TAR = b.tar([])
RAW = zstd_block(TAR)
SKIPPABLE = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"abcd"
ZSTD = {
    **{f"H39 window 2^{log}": (zstd_frame([RAW], window=log - 10 << 3), "zstd_window") for log in range(28, 42)},
    "H39 window a little above": (zstd_frame([RAW], window=17 << 3 | 1), "zstd_window"),
    "H39 as content size": (zstd_frame([RAW], window=None, content_size=1 << 28), "zstd_window"),
    "H40 two frames": (EMPTY + EMPTY, "zstd_framing"),
    "H40 many frames": (EMPTY + zst(b"") * 10_000, "zstd_framing"),
    "H40 skippable before": (SKIPPABLE + EMPTY, "zstd_framing"),
    "H40 skippable after": (EMPTY + SKIPPABLE, "zstd_framing"),
    "H40 junk": (EMPTY + b"x", "zstd_framing"),
    "H41 dictionary": (zstd_frame([RAW], descriptor=1, after_window=b"\7"), "zstd_invalid"),
    "H41 reserved bit": (zstd_frame([RAW], descriptor=8), "zstd_invalid"),
    "H41 content size": (zstd_frame([RAW], content_size=1025), "zstd_invalid"),
    "H41 checksum": (zstd_frame([RAW, bytes(4)], descriptor=4), "zstd_invalid"),
    "H41 truncated block": (zstd_frame([RAW[:-1]]), "zstd_invalid"),
    "H41 no last block": (zstd_frame([zstd_block(TAR, last=False)]), "zstd_invalid"),
    "H41 reserved block": (zstd_frame([zstd_block(b"", kind=3)]), "zstd_invalid"),
    "H41 empty RLE": (zstd_frame([zstd_block(b"x", last=False, kind=1, size=0)] * 9 + [RAW]), "zstd_invalid"),
    "H41 empty blocks": (zstd_frame([zstd_block(b"", last=False)] * 9 + [RAW]), "zstd_invalid"),
    "H41 tiny blocks": (
        zstd_frame([*(zstd_block(TAR[i : i + 1], last=False) for i in range(1024)),
                    *([zstd_block(b"\0", last=False)] * 5000), zstd_block(b"")]),
        "zstd_invalid",
    ),
    "not zstd": (bz2.compress(TAR), "zstd_invalid"),
    "nothing": (b"", "zstd_invalid"),
    "an empty frame": (zst(b""), "archive_truncated"),
}  # fmt: skip


@pytest.mark.parametrize("at", [1, 2], ids=["pkg", "info"])
@pytest.mark.parametrize(("data", "expected"), ZSTD.values(), ids=ZSTD)
def test_zstd(data, expected, at):
    assert code(changed(at, data=data)) == expected


def zeros(size: int) -> bytes:
    """A zstd frame of zeros in RLE blocks, at a cost of 4 bytes each 128 KiB."""
    block = zstd_block(b"\0", last=False, kind=1, size=1 << 17)
    return zstd_frame([block * (size >> 17), zstd_block(b"")])


def test_h38_bombs():
    big = Limits(payload_size=1 << 28)
    assert code(changed(2, data=zeros(4 << 30))) == "decompressed_too_large"
    assert code(changed(1, data=zeros(64 << 30))) == "ratio_exceeded"
    assert code(changed(1, data=zeros(64 << 30)), limits=big) == "decompressed_too_large"
    declared = zstd_frame([RAW], content_size=1 << 60)
    assert code(changed(1, data=declared)) == "decompressed_too_large"


def test_h38_a_file_of_zeros_inside_a_tar():
    member = Member("zeros", size=b"%011o\0" % (3 << 30)).header()
    blocks = zstd_block(b"\0", last=False, kind=1, size=1 << 17) * (3 << 13)
    bomb = zstd_frame([zstd_block(member, last=False), blocks, zstd_block(b"")])
    assert code(changed(1, data=bomb)) == "ratio_exceeded"


SPLIT = b.tar([Member("a", b"x" * 512)])
BZ2 = {
    "H13 conda named tar.bz2": (CONDA, "format_mismatch"),
    "H43 two streams": (TAR_BZ2 + TAR_BZ2, "bz2_framing"),
    "H43 split": (bz2.compress(SPLIT[:512]) + bz2.compress(SPLIT[512:]), "bz2_framing"),
    "H44 junk": (TAR_BZ2 + b"x", "bz2_framing"),
    "H45 gzip": (gzip.compress(TAR), "format_mismatch"),
    "H45 xz": (lzma.compress(TAR), "format_mismatch"),
    "H45 tar": (TAR, "format_mismatch"),
    "H45 7z": (b"7z\xbc\xaf\x27\x1c" + bytes(99), "format_mismatch"),
    "H46 crc": (TAR_BZ2[:10] + bytes([TAR_BZ2[10] ^ 1]) + TAR_BZ2[11:], "bz2_invalid"),
    "H46 randomised": (TAR_BZ2[:14] + bytes([TAR_BZ2[14] | 0x80]) + TAR_BZ2[15:], "bz2_invalid"),
    "H46 block size 0": (b"BZh0" + TAR_BZ2[4:], "bz2_invalid"),
    "cut": (TAR_BZ2[:-5], "archive_truncated"),
    "empty": (b"", "archive_truncated"),
    "start": (b"BZ", "archive_truncated"),
}


@pytest.mark.parametrize(("data", "expected"), BZ2.values(), ids=BZ2)
def test_bz2(data, expected):
    assert code(data, ".tar.bz2") == expected


def test_h42_bz2_bomb():
    bomb = bz2.compress(bytes(32 << 20))
    assert len(bomb) < 100
    assert code(bomb, ".tar.bz2", limits=Limits(ratio_from=16 << 20)) == "decompressed_too_large"
    assert code(bomb, ".tar.bz2", limits=Limits(payload_size=16 << 20)) == "decompressed_too_large"


def test_the_file_itself_has_a_limit():
    assert code(CONDA, limits=Limits(file_size=100)) == "file_too_large"


# --- anything at all -----------------------------------------------------------------------------------------------

FILES = [
    (".conda", b.conda_package(files={"a/b": b"x" * 700, "c": b""}, about={"x": 1}, run_exports=["y"])[1]),
    (".tar.bz2", b.tar_bz2_package()[1]),
]
INNER = b.tar([
    *b.tar_members(b.info_files(INDEX)), long_name("n" * 120), Member("n", b"1"), pax({"path": "q", "size": "3"}),
    Member("z", b"123"), Member("l", type=b"2", link="q"), Member("h", type=b"1", link="q"),
])  # fmt: skip
EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x30, 0x39, 0x2F])),
    min_size=1,
    max_size=4,
)
FEW = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def edited(data: bytes, edits: list[tuple[float, int]]) -> bytes:
    out = bytearray(data)
    for place, value in edits:
        out[int(place * len(out))] = value
    return bytes(out)


@FEW
@given(st.sampled_from(FILES), EDITS)
def test_bytes_changed_anywhere(file, edits):
    extension, data = file
    assert code(edited(data, edits), extension)


@FEW
@given(EDITS)
def test_tar_bytes_changed_below_good_compression(edits):
    assert code(bz2.compress(edited(INNER, edits)), ".tar.bz2", require_paths=False)


@FEW
@given(EDITS)
def test_zstd_bytes_changed_below_a_good_zip(edits):
    assert code(zip_file([replace(GOOD[0]), GOOD[1], replace(GOOD[2], data=edited(GOOD_INFO, edits))]))
