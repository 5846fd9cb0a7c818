"""What real writers write is accepted, and read alike by conda, rattler and us."""

from __future__ import annotations

import bz2
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import rattler_build
from conda_package_streaming import create

from tests.conda.corpus import PACKAGES, needs_packages
from tests.fuzz import oracle
from tests.support import builders as b
from tests.support.builders import Member, long_name, pax
from tests.support.hostile import GOOD, STEM, changed

FILES = {
    "bin/demo": b"#!/bin/sh\n",
    "lib/python/" + "deep/" * 30 + "mödul.py": b"x = 1\n" * 300,
    "empty": b"",
    "ü": b"1",
}


def agree(filename: str, data: bytes) -> oracle.Accepted:
    accepted = oracle.accept(filename, data)
    oracle.compare(filename, data, accepted)
    return accepted


@needs_packages
@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.name)
def test_real_packages(path: Path) -> None:
    agree(path.name, path.read_bytes())


@pytest.mark.parametrize("make", [b.conda_package, b.tar_bz2_package])
def test_our_own_builders(make) -> None:
    accepted = agree(*make(files=FILES, depends=["python >=3.11"], index={"constrains": ["x <2"]}, about={"home": "x"}))
    assert accepted.artifact.paths.files == len(FILES)
    agree(*make(files={}))


@pytest.mark.parametrize("kind", list(rattler_build.ArchiveType))
@pytest.mark.parametrize("level", [1, 9])
@pytest.mark.parametrize("noarch", [None, "generic", "python"])
def test_what_rattler_build_writes(tmp_path: Path, kind, level: int, noarch) -> None:
    staged = tmp_path / "files"
    for path, data in FILES.items():
        (staged / path).parent.mkdir(parents=True, exist_ok=True)
        (staged / path).write_bytes(data)
    if noarch is None:  # rattler-build writes no links into noarch packages
        (staged / "bin" / "link").symlink_to("demo")
    (tmp_path / "LICENSE").write_text("free")
    made = rattler_build.assemble_package(
        "demo", "1.0", "noarch" if noarch else "linux-64", "h0_0", tmp_path / "out", files_dir=staged, summary="A demo",
        depends=["python >=3.11"], constrains=["x <2"], noarch=noarch, license="MIT", license_files=[tmp_path / "LICENSE"],
        compression_level=level, archive_type=kind,
    )  # fmt: skip
    path = Path(made.path)
    accepted = agree(path.name, path.read_bytes())
    assert accepted.artifact.warnings == ()
    assert accepted.artifact.paths.files == len(FILES) + (noarch is None)


@pytest.mark.parametrize("level", [1, 19])
@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_what_conda_package_streaming_writes(tmp_path: Path, level: int, tar_format: int) -> None:
    info = b.info_files(b.index_json("demo", "1.0", "h0_0"), files=FILES)
    with create.conda_builder(STEM, tmp_path, compression_level=level) as tar:
        tar.format = tar.info_tar.format = tar_format
        for name, data in {**info, **FILES}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1_700_000_000.5
            tar.addfile(member, io.BytesIO(data))
    agree(f"{STEM}.conda", (tmp_path / f"{STEM}.conda").read_bytes())


def test_conda_build_and_transmute(tmp_path: Path) -> None:
    """The order and kinds of members of conda-build's tar.bz2, and the same as a .conda, as conda-package-handling does."""
    members = [
        *b.tar_members(b.info_files(b.index_json("demo", "1.0", "h0_0", subdir="linux-64"), files={"lib/a": b"1", "lib/b": b"1"})),
        Member("lib/", type=b"5", mode=0o755), Member("lib/a", b"1"), Member("lib/b", type=b"1", link="lib/a"),
        Member("lib/c", type=b"2", link="a"), Member("bin/su", b"2", mode=0o4755),
    ]  # fmt: skip
    accepted = agree(f"{STEM}.tar.bz2", bz2.compress(b.tar(members)))
    assert accepted.artifact.warnings == ("paths_mismatch", "setuid")
    with create.conda_builder(STEM, tmp_path) as out, tarfile.open(fileobj=io.BytesIO(b.tar(members))) as tar:
        for member in tar:
            out.addfile(member, tar.extractfile(member) if member.isreg() else None)
    agree(f"{STEM}.conda", (tmp_path / f"{STEM}.conda").read_bytes())


CONTROLS = {
    "zip64 in local headers": b.zip_file([replace(entry, zip64=True) for entry in GOOD]),
    "members in another order": b.zip_file([GOOD[2], GOOD[0], GOOD[1]]),
    "pax path": changed(1, data=b.zst(b.tar([pax({"path": "é/" * 60 + "x", "size": "3"}), Member("x", b"123")]))),
    "GNU long name and link": changed(
        1,
        data=b.zst(
            b.tar([long_name("n" * 150), long_name("t" * 150, b"K"), Member("n", type=b"2", magic=b"ustar  \0")])
        ),
    ),
    "ustar prefix": changed(1, data=b.zst(b.tar([Member("y", b"1", prefix=b"a" * 120)]))),
    "base-256 size": changed(1, data=b.zst(b.tar([Member("a", b"x" * 600, size=b"\x80" + (600).to_bytes(11, "big"))]))),
    "odd numbers": changed(1, data=b.zst(b.tar([Member("b", mtime=-1, uid=2**31, mode=0)]))),
    "other spellings": changed(1, data=b.zst(b.tar([Member("./a/./b", b"1"), Member("a//c", b"2")]))),
    "global header": changed(1, data=b.zst(b.tar([pax({"comment": "x"}, everywhere=True), Member("a", b"2")]))),
    "raw blocks": changed(1, data=b.zstd_frame([b.zstd_block(b.tar([Member("a", b"2")]))], window=17 << 3)),
    "padded end": changed(1, data=b.zst(b.tar([Member("a", b"2")], bytes(10240)))),
}


@pytest.mark.parametrize("data", CONTROLS.values(), ids=CONTROLS)
def test_controls(data: bytes) -> None:
    agree(f"{STEM}.conda", data)


@pytest.mark.parametrize(
    ("members", "reader"),
    [
        ([pax({"path": "a\n"}), Member("b")], "rattler"),
        ([Member("a"), Member("a", b"2")], "ours"),
        ([pax({"comment": "x"}, everywhere=True)], "conda"),
        ([long_name("a\0"), Member("a")], "rattler"),
    ],
    ids=["lines in a pax value", "twice", "a global header last", "two NULs"],
)
def test_the_oracle_would_notice(members, reader, monkeypatch) -> None:
    """Readers differ on what we refuse, and the oracle says so: it is asked as if we had accepted."""
    accepted = oracle.accept(f"{STEM}.conda", b.zip_file(GOOD))
    lenient = {"a": ("file", b""), **oracle.ours(f"{STEM}.conda", b.zip_file(GOOD))}
    monkeypatch.setattr(oracle, "ours", lambda *_: lenient)
    with pytest.raises(oracle.Disagreement):
        oracle.compare(f"{STEM}.conda", changed(1, data=b.zst(b.tar(members))), accepted)
