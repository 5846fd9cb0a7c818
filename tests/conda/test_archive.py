"""Good packages are read, and none of the forms that real writers use is refused."""

import bz2
import io
import itertools
import struct
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from conda_package_streaming import package_streaming

from fairway.conda import archive, zipread
from fairway.conda.artifact import Contents, Limits
from fairway.conda.streams import Source
from fairway.errors import PackageRefused
from tests.support import builders as b

ROOT = Path(__file__).resolve().parents[2]
REAL = sorted((ROOT.parent / "shared" / "data" / "packages").glob("*/*"))
STEM = "demo-1.0-h0_0"


def read(filename: str, data: bytes, **options) -> Contents:
    extension = ".conda" if filename.endswith(".conda") else ".tar.bz2"
    return archive.read(io.BytesIO(data), stem=filename.removesuffix(extension), extension=extension, **options)


def with_payload(*members, **options) -> Contents:
    return read(*b.conda_package(files={}, paths=False, members=members, **options), require_paths=False)


@pytest.mark.parametrize("make", [b.conda_package, b.tar_bz2_package])
def test_reads_what_a_package_says(make):
    contents = read(
        *make(
            depends=["python >=3.11"],
            about={"summary": "A demo"},
            run_exports={"weak": ["demo >=1"]},
            files={"bin/demo": b"#!", "bin/.demo-post-link.sh": b"echo", "lib/x": b"12345"},
            link={"noarch": {"type": "python", "entry_points": ["demo = demo.main:run"]}},
            info={"info/licenses/LICENSE": b"Do what you want", "info/recipe/meta.yaml": b"package: demo"},
        )
    )
    assert contents.index["name"] == "demo"
    assert contents.index["depends"] == ["python >=3.11"]
    assert contents.about == {"summary": "A demo"}
    assert contents.run_exports == {"weak": ["demo >=1"]}
    assert (contents.paths.files, contents.paths.size) == (3, 11)
    assert contents.paths.scripts == ("bin/.demo-post-link.sh",)
    assert contents.licences == (("LICENSE", "Do what you want"),)
    assert contents.recipe == "package: demo"
    assert contents.link
    assert contents.warnings == ()


@pytest.mark.parametrize("make", [b.conda_package, b.tar_bz2_package])
def test_optional_files_may_be_missing(make):
    contents = read(*make(paths=False), require_paths=False)
    assert (contents.about, contents.run_exports, contents.link, contents.recipe) == ({}, {}, None, None)
    assert (contents.paths.files, contents.paths.size) == (1, 6)


def test_builders_are_deterministic():
    assert b.conda_package() == b.conda_package()
    assert b.tar_bz2_package() == b.tar_bz2_package()


def test_a_bare_list_of_run_exports_is_weak():
    assert read(*b.conda_package(run_exports=["demo"])).run_exports == {"weak": ["demo"]}


@pytest.mark.skipif(not REAL, reason="shared/data/packages is not on this machine")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_packages_are_accepted_and_read_as_conda_reads_them(path):
    data = path.read_bytes()
    contents = read(path.name, data)
    assert contents.index == orjson.loads(streamed(path.name, data)["info/index.json"])
    # two old builds hold empty files where their paths.json has links to libraries
    assert set(contents.warnings) <= {"symlink_empty", "paths_mismatch"}


def streamed(filename: str, data: bytes) -> dict[str, bytes]:
    """All members as conda-package-streaming sees them."""
    found = {}
    for component in ("info", "pkg") if filename.endswith(".conda") else ("info",):
        for tar, member in package_streaming.stream_conda_component(filename, io.BytesIO(data), component):
            assert member.name not in found
            stream = tar.extractfile(member) if member.isreg() else None
            found[member.name] = stream.read() if stream else b""
    return found


@pytest.mark.parametrize("make", [b.conda_package, b.tar_bz2_package])
def test_conda_sees_the_same_files(make):
    files = {f"lib/d{i}/{'x' * i}": bytes([i]) * i for i in range(1, 200, 7)}
    filename, data = make(files=files, about={"home": "x"})
    contents = read(filename, data)
    theirs = streamed(filename, data)
    assert contents.index == orjson.loads(theirs["info/index.json"])
    assert {name: content for name, content in theirs.items() if not name.startswith("info/")} == files
    assert contents.paths.files == len(files)
    assert contents.warnings == ()


# --- controls: what real writers do and we must not refuse ----------------------------------


@pytest.mark.parametrize("level", [1, 3, 9, 19, 22])
def test_every_compression_level(level):
    read(*b.conda_package(level=level))


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
def test_members_in_any_order(order):
    info, payload = b.zst(b.tar(b.tar_members(b.info_files(b.index_json("demo", "1.0", "h0_0"))))), b.zst(b.tar([]))
    entries = b.conda_entries(STEM, info, payload)
    read(f"{STEM}.conda", b.zip_file([entries[i] for i in order]))


def parts() -> list[b.Entry]:
    info = b.zst(b.tar(b.tar_members(b.info_files(b.index_json("demo", "1.0", "h0_0"), paths=True))))
    return b.conda_entries(STEM, info, b.zst(b.tar([])))


def test_zip64_in_local_headers_of_small_members():
    read(f"{STEM}.conda", b.zip_file([replace(entry, zip64=True) for entry in parts()]))


def test_times_in_zip_headers():
    unix = struct.pack("<HHBI", 0x5455, 5, 1, 0)
    ntfs = struct.pack("<HHIHHQQQ", 10, 32, 0, 1, 24, 0, 0, 0)
    read(f"{STEM}.conda", b.zip_file([replace(entry, extra=unix + ntfs, central_extra=unix) for entry in parts()]))


def test_zip64_end_records():
    entries = parts()
    plain = b.zip_file(entries)
    count, length, offset = struct.unpack("<10xH2I2x", plain[-22:])
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, offset + length, 1)
    for end in ({}, {"offset": 0xFFFFFFFF, "length": 0xFFFFFFFF, "count": 0xFFFF}):
        read(f"{STEM}.conda", b.zip_file(entries, before_end=record + locator, end=end))


def test_a_member_of_more_than_4_gib(tmp_path):
    """Only headers are written: the file is sparse, and locating members reads no data."""
    size, names = 5 << 30, [b"metadata.json", b"pkg", b"info"]
    both = struct.pack("<2Q", size, size)
    with (tmp_path / "big").open("w+b") as file:
        central = b""
        for name in names:
            offset, big = file.tell(), name == b"pkg"
            sizes = {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF} if big else {}
            local = b.Entry(name, local=sizes, extra=struct.pack("<HH", 1, 16) + both if big else b"")
            file.write(local.local_header())
            file.seek(size if big else 0, 1)
            wide = (both if big else b"") + (struct.pack("<Q", offset) if offset > 1 << 32 else b"")
            fields = {**sizes, "offset": min(offset, 0xFFFFFFFF)}
            extra = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
            central += b.Entry(name, central=fields, central_extra=extra).central_header(0)
        start = file.tell()
        file.write(central)
        file.write(struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 3, 3, len(central), start))
        file.write(struct.pack("<4sIQI", b"PK\6\7", 0, start + len(central), 1))
        file.write(b.zip_end(3, len(central), 0xFFFFFFFF))
        found = zipread.members(Source(file), frozenset(names))
    assert found[b"pkg"].size == size
    assert found[b"info"].offset > size


def test_python_zipfile_and_tarfile_write_what_we_read():
    def packed(files, tar_format):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tar_format) as tar:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size, member.mtime = len(data), 1.5
                tar.addfile(member, io.BytesIO(data))
        return b.zst(out.getvalue())

    files = {"a/" + "long/" * 30 + "päth": b"x", "lib/ünïcode.txt": b"", "z" * 99: b"1"}
    info = b.info_files(b.index_json("demo", "1.0", "h0_0"), files=files)
    for tar_format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as zipped:
            for entry in b.conda_entries(STEM, packed(info, tar_format), packed(files, tar_format)):
                with zipped.open(entry.name, "w", force_zip64=True) as stream:
                    stream.write(entry.data)
        contents = read(f"{STEM}.conda", out.getvalue())
        assert contents.paths.files == 3
        assert contents.warnings == ()


def test_ustar_prefix_splits_a_path():
    contents = with_payload(b.Member("tail-post-link.sh", b"1", prefix=b"bin/.x"), b.Member("y", prefix=b"a" * 120))
    assert contents.paths.files == 2


def test_links_inside_the_package():
    contents = with_payload(
        b.Member("lib/libz.so.1", b"elf"),
        b.Member("lib/libz.so", type=b"2", link="libz.so.1"),
        b.Member("include/z", type=b"2", link="../lib"),
        b.Member("lib/real/x", b"1"),
        b.Member("lib/y", type=b"2", link="real/../libz.so.1"),
        b.Member("lib/copy", type=b"1", link="lib/libz.so.1"),
    )
    assert contents.warnings == ()


def test_links_may_lead_through_links_and_up_again_before_them():
    contents = with_payload(
        b.Member("lib/real/x", b"1"),
        b.Member("lib64", type=b"2", link="lib"),
        b.Member("lib/current", type=b"2", link="real"),
        b.Member("bin/x", type=b"2", link="../lib64/current/x"),
        b.Member("bin/y", type=b"2", link="../share/../lib64/current/x"),
        b.Member("bin/z", type=b"2", link="../lib/real/../../lib64"),
    )
    assert contents.warnings == ()


def test_a_large_base_256_size_and_odd_numbers_are_read():
    big = b"\x80" + (600).to_bytes(11, "big")
    contents = with_payload(
        b.Member("a", b"x" * 600, size=big),
        b.Member("b", mtime=-1, uid=2**31, mode=0),
        b.Member("c", b"x", mtime=253402300799),
    )
    assert (contents.paths.files, contents.paths.size) == (3, 601)


@pytest.mark.parametrize(
    ("subdir", "expected"), [("noarch", ("case_collision",)), ("osx-64", ("case_collision",)), ("linux-64", ())]
)
def test_names_that_differ_in_case_only(subdir, expected):
    assert read(*b.conda_package(subdir=subdir, files={"x/A": b"", "x/a": b""})).warnings == expected


MAN = "share/man/man3/Foo::Bar.3"  # of Perl's module Foo::Bar
UNIT = "lib/systemd/system/dev-sda\\x2d1.device"


@pytest.mark.parametrize("make", [b.conda_package, b.tar_bz2_package])
@pytest.mark.parametrize(
    ("path", "accepted"),
    [
        (MAN, {"noarch", "linux-64", "osx-arm64"}),
        (UNIT, {"linux-64", "osx-arm64"}),
        ("information:x", {"noarch", "linux-64", "osx-arm64"}),
        ("lib/x::$INDEX_ALLOCATION/y", {"linux-64", "osx-arm64"}),
        ("lib/x:$DATA", {"linux-64", "osx-arm64"}),
        ("lib/info:x", {"noarch", "linux-64", "osx-arm64"}),
        ("info\\x", set()),
        ("conda-meta:x", set()),
    ],
)
def test_letters_that_windows_takes_otherwise(make, path, accepted):
    """H89. The payload has them; a paths.json may have colons alone, by the same rules."""
    for subdir in ("noarch", "linux-64", "osx-arm64", "win-64", "emscripten-wasm32"):
        kept = accepted | ({"emscripten-wasm32"} & {subdir} if "noarch" in accepted else set())
        assert outcome(make(subdir=subdir, members=[b.Member(path)])) == ("" if subdir in kept else "tar_path")
        listed = outcome(make(subdir=subdir, paths=b.paths_json({path: b""})))
        assert listed == ("" if subdir in kept and "\\" not in path else "paths_invalid")


def test_the_subdir_it_was_sent_to_holds_if_it_says_none():
    for index in ({"subdir": None}, {"subdir": None, "noarch": False}):
        made = b.conda_package(subdir="win-64", index=index, members=[b.Member(MAN)])
        assert outcome(made, subdir="win-64") == "tar_path"
        assert outcome(made, subdir="linux-64") == ""
    made = b.conda_package(subdir="linux-64", index={"subdir": None}, members=[b.Member(UNIT)])
    assert outcome(made, subdir="linux-64") == ""
    assert outcome(made, subdir="noarch") == "tar_path"


def outcome(made: tuple[str, bytes], **options) -> str:
    """The code of the refusal, "" for none."""
    try:
        read(*made, **options)
    except PackageRefused as refusal:
        return refusal.code
    return ""


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"path_type": None}, "the entry 'lib/x' has the path_type None; it must be 'hardlink', 'softlink' or"),
        ({"path_type": "link\x1b"}, r"the entry 'lib/x' has the path_type 'link\x1b'; it must be"),
        ({"path_type": ...}, "the entry 'lib/x' has no path_type; it must be 'hardlink', 'softlink' or 'directory'."),
        ({"size_in_bytes": "1"}, "the entry 'lib/x' has the size_in_bytes '1'; it must be a number"),
        ({"sha256": "0" * 99}, f"the entry 'lib/x' has the sha256 '{'0' * 59}; it must be 64 hexadecimal digits."),
        ({"no_link": 1}, "the entry 'lib/x' has the no_link 1; it must be true or false."),
        ({"_path": ...}, "an entry has no _path; it must be text."),
        ({"_path": ["a"]}, "an entry has the _path ['a']; it must be text."),
        (["a"], "an entry is ['a'], which is not an object."),
    ],
)
def test_a_bad_entry_of_paths_json_is_named_with_its_field(entry, said):
    if isinstance(entry, dict):
        entry = {"_path": "lib/x", "path_type": "hardlink", "size_in_bytes": 1, "sha256": "0" * 64, **entry}
        entry = {key: value for key, value in entry.items() if value is not ...}
    good = {"_path": "lib/a", "path_type": "hardlink"}
    with pytest.raises(PackageRefused) as error:
        read(*b.conda_package(paths={"paths": [good, entry], "paths_version": 1}))
    assert error.value.code == "paths_invalid"
    assert error.value.detail.startswith(f"info/paths.json: {said}")


def test_setuid_is_flagged():
    assert with_payload(b.Member("bin/su", b"x", mode=0o4755)).warnings == ("setuid",)


def test_paths_that_do_not_match_the_payload_are_flagged():
    listing = b.paths_json({"share/demo/hello.txt": b"", "missing": b""})
    assert read(*b.conda_package(paths=listing)).warnings == ("paths_mismatch",)
    assert read(*b.tar_bz2_package(paths=b.paths_json({}))).warnings == ("paths_mismatch",)
    other_size = b.paths_json({"share/demo/hello.txt": b"hello, longer\n"})
    for make in (b.conda_package, b.tar_bz2_package):
        assert read(*make(paths=other_size)).warnings == ("paths_mismatch",)
        del (unsized := b.paths_json({"share/demo/hello.txt": b""}))["paths"][0]["size_in_bytes"]
        assert read(*make(paths=unsized)).warnings == ()


def test_escaping_links_can_be_flagged_for_mirrors():
    filename, data = b.conda_package(members=[b.Member("x", type=b"2", link="/etc/passwd")], paths=False)
    contents = read(filename, data, require_paths=False, escaping_symlinks="flag")
    assert contents.warnings == ("symlink_escape",)


def test_the_window_limit_is_inclusive():
    blocks = [b.zstd_block(b.tar([]))]
    entries = b.changed(parts(), 1, data=b.zstd_frame(blocks, window=17 << 3))
    read(f"{STEM}.conda", b.zip_file(entries))


def test_payload_is_opaque():
    bomb = bz2.compress(bytes(10_000_000))
    read(*b.conda_package(files={"share/bomb.bz2": bomb, "share/x.conda": b.conda_package()[1]}))


def test_many_members_within_the_limit_and_index_last():
    members = [bytes(b.Member(f"d{i % 100}/f{i}")) for i in range(20_000)]
    index = b.tar_members(b.info_files(b.index_json("demo", "1.0", "h0_0")))
    data = bz2.compress(b.tar([*members, *index]), 1)
    contents = read(f"{STEM}.tar.bz2", data)
    assert contents.index["name"] == "demo"


def test_long_licences_are_cut():
    text = b"x" * 5000
    contents = read(*b.conda_package(info={"info/licenses/L": text}), limits=Limits(text_size=1000))
    assert contents.licences == (("L", "x" * 1000),)


def test_a_raw_file_that_reads_short_is_read_whole():
    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 700))

    filename, data = b.conda_package()
    archive.read(Slow(data), stem=filename.removesuffix(".conda"), extension=".conda")


def test_a_package_larger_than_the_read_at_once_size():
    noise = b"".join(i.to_bytes(4, "big") * 3 + (i * 2654435761 % 2**32).to_bytes(4, "big") for i in range(400_000))
    filename, data = b.conda_package(files={"lib/noise": noise, "lib/end": b"x"})
    assert len(data) > 1 << 20
    assert read(filename, data).paths.size == len(noise) + 1


def test_an_unknown_extension_is_refused():
    with pytest.raises(PackageRefused) as error:
        archive.read(io.BytesIO(b"PK"), stem="x-1-0", extension=".whl")
    assert error.value.code == "extension_unsupported"
