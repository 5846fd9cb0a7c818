"""Hostile packages, inside: tar members and `info/` files (H47 to H82 of the threat model's corpus)."""

import bz2
import resource
import time
from dataclasses import replace

import pytest

from fairway.conda.artifact import Limits
from tests.support import builders as b
from tests.support.builders import Member, long_name, pax, zst, zstd
from tests.support.hostile import INDEX, changed, code

HIDDEN = Member("hidden", b"x").header()
DEEP = "/".join("d" * 200)
LINKED = {"path_type": "hardlink"}
TARS = {
    **{
        f"H48 {name!r}": ([Member(name)], "tar_path")
        for name in (
            "/etc/x",
            "a/../b",
            "..",
            "C:\\x",
            "c:x",
            "\\\\srv\\x",
            "",
            ".",
            "./",
            "a\\..\\..\\x",
            b"\xff",
            "a/",
        )
    },
    "H48 root directory": ([Member("./", type=b"5")], "tar_path"),
    "H48 NUL in pax": ([pax({"path": "a\0b"}), Member("a")], "tar_path"),
    "H48 absolute in pax": ([pax({"path": "/a"}), Member("a")], "tar_path"),
    "H48 empty in pax": ([pax({"path": ""}), Member("a")], "tar_path"),
    "H48 absolute in long name": ([long_name("/a"), Member("a")], "tar_path"),
    "H48 absolute by prefix": ([Member("a", prefix=b"/etc")], "tar_path"),
    "H49 5,000 bytes": ([long_name("a/" * 2500 + "b"), Member("a")], "tar_path"),
    "H49 long part": ([pax({"path": "a/" + "b" * 300}), Member("a")], "tar_path"),
    "H49 deep": ([long_name(DEEP), Member("a")], "tar_path"),
    **{
        f"H50 type {kind!r}": ([Member("a", HIDDEN, type=kind)], "tar_type")
        for kind in (b"3", b"4", b"6", b"7", b"V", b"D", b"M", b"N", b"A", b"X", b"\xff")
    },
    "H51 old GNU": ([Member("a", type=b"S")], "tar_sparse"),
    "H51 pax 0.0": ([pax({"GNU.sparse.size": "9"}), Member("a")], "tar_sparse"),
    "H51 pax 0.1": ([pax({"GNU.sparse.map": "0,1"}), Member("a")], "tar_sparse"),
    "H51 pax 1.0": ([pax({"GNU.sparse.major": "1", "GNU.sparse.realsize": str(2**63)}), Member("a")], "tar_sparse"),
    "H52 other size": ([pax({"size": "512"}), Member("a", bytes(1024))], "tar_size_conflict"),
    "H52 size of nothing": ([pax({"size": "512"}), Member("a", HIDDEN, size=0)], "tar_size_conflict"),
    "H52 no number": ([pax({"size": "-1"}), Member("a")], "tar_size_conflict"),
    "H52 global": ([pax({"size": "0"}, everywhere=True), Member("a")], "tar_size_conflict"),
    "H52 negative": ([Member("a", size=-512)], "tar_size_conflict"),
    "H52 link with data": ([Member("a", HIDDEN, type=b"2", link="b")], "tar_size_conflict"),
    "H52 directory with data": ([Member("a", HIDDEN, type=b"5")], "tar_size_conflict"),
    "H53 twice": ([Member("p", b.pax_record("path", "a") * 2, type=b"x"), Member("a")], "tar_pax"),
    "H53 two headers": ([pax({"path": "a"}), pax({"path": "b"}), Member("a")], "tar_pax"),
    "H53 with long name": ([pax({"path": "a"}), long_name("b"), Member("a")], "tar_pax"),
    "H53 after long name": ([long_name("b"), pax({"path": "a"}), Member("a")], "tar_pax"),
    "H53 global": ([pax({"path": "a"}, everywhere=True), Member("b")], "tar_pax"),
    "H53 hdrcharset": ([pax({"hdrcharset": "BINARY"}), Member("b")], "tar_pax"),
    "H53 length": ([Member("p", b"99 path=a\n", type=b"x"), Member("a")], "tar_pax"),
    "H53 no newline": ([Member("p", b"9 path=ab", type=b"x"), Member("a")], "tar_pax"),
    "H53 several lines": ([pax({"comment": "a\n12 path=evil"}), Member("a")], "tar_pax"),
    "H53 global in a directory": (
        [replace(pax({"comment": "x"}, everywhere=True), name="tmp/Global"), Member("a")],
        "tar_pax",
    ),
    "H53 global, last": ([Member("a"), pax({"comment": "x"}, everywhere=True)], "tar_pax"),
    "H53 huge": ([Member("p", size=64 << 20, type=b"x"), Member("a")], "tar_pax"),
    "H53 last": ([pax({"path": "a"})], "tar_pax"),
    "H54 huge name": ([Member("L", size=64 << 20, type=b"L"), Member("a")], "tar_longname"),
    "H54 huge link": ([Member("K", size=64 << 20, type=b"K"), Member("a")], "tar_longname"),
    "H54 two NULs": ([long_name("a\0"), Member("a")], "tar_longname"),
    "H54 goes on in the padding": (
        [replace(long_name("ab"), data=b"", size=2).header(), b"ab".ljust(512, b"c"), Member("a")],
        "tar_longname",
    ),
    "H54 NUL inside": ([long_name("a\0b"), Member("a")], "tar_longname"),
    "H54 last": ([long_name("a")], "tar_longname"),
    "H54 twice": ([long_name("a"), long_name("b"), Member("a")], "tar_longname"),
    **{
        f"H55 to {link!r}": ([Member("a"), Member("b", type=b"1", link=link), Member("c")], "tar_link")
        for link in ("/etc/x", "../x", "c", "nowhere", "b", "")
    },
    "H55 to a directory": ([Member("d/a"), Member("b", type=b"1", link="d")], "tar_link"),
    "H55 to a link": ([Member("a", type=b"2", link="x"), Member("b", type=b"1", link="a")], "tar_link"),
    "H55 cycle": ([Member("a", type=b"1", link="b"), Member("b", type=b"1", link="a")], "tar_link"),
    "H56 absolute": ([Member("a", type=b"2", link="/etc"), Member("a/passwd")], "tar_through_link"),
    "H56 inside": ([Member("d/a", type=b"2", link="../x"), Member("d/a/b/c")], "tar_through_link"),
    **{
        f"H57 {link!r}": ([Member("d/a", type=b"2", link=link)], "symlink_escape")
        for link in ("/etc/passwd", "../../x", "x/../../..", "C:\\x", "..\\..\\x", "\\x")
    },
    "H57 through a link": (
        [Member("p/q/s", type=b"2", link=".."), Member("p/q/u", type=b"2", link="s/../..")],
        "symlink_escape",
    ),
    **{
        f"H57 through links, then up: {what}": (
            [Member("deep/file"), *(Member(path, type=b"2", link=link) for path, link in links.items())],
            "symlink_escape",
        )
        for what, links in {
            "shortest": {"deep/k": "..", "w": "deep", "z": "w/k/.."},
            "before what it goes through": {"a/z": "../w/k/..", "deep/k": "..", "w": "deep"},
            "again and again": {"deep/k": "..", "w": "deep", "z": "w/k/w/k/w/k/../../../etc/passwd"},
            "a name between": {"deep/k": "..", "w": "deep", "z": "w/k/deep/../.."},
            "other case": {"deep/K": "..", "w": "deep", "z": "W/k/.."},
            "backslashes": {"deep/k": "..", "w": "deep", "z": "w\\k\\.."},
            "a period more": {"deep/k": "..", "w": "deep", "z": "w./k/.."},
            "decomposed": {"deep/k": "..", "\u00e4": "deep", "z": "a\u0308/k/.."},
        }.items()
    },
    "H57 too many winding links": (
        [pax({"linkpath": "a/../" * 500 + "b"}), Member("x", type=b"2")]
        + [m for i in range(1000) for m in (pax({"linkpath": "a/../b"}), Member(f"x{i}", type=b"2"))],
        "tar_link",
    ),
    "H57 by long link": ([long_name("/" + "x" * 200, b"K"), Member("a", type=b"2")], "symlink_escape"),
    "H57 by pax": ([pax({"linkpath": "/x"}), Member("a", type=b"2")], "symlink_escape"),
    "H58 directory by name only": ([long_name("a"), Member("b/", type=b"\0")], "tar_path"),
    "H58 same": ([Member("a"), Member("a")], "tar_duplicate"),
    "H58 other spelling": ([Member("a/b"), Member("./a//b")], "tar_duplicate"),
    "H58 file, directory": ([Member("a"), Member("a/", type=b"5")], "tar_duplicate"),
    "H58 file, parent": ([Member("a"), Member("a/b")], "tar_duplicate"),
    "H58 directory, link": ([Member("a", type=b"5"), Member("a", type=b"2", link="b")], "tar_duplicate"),
    "H58 parent, link": ([Member("a/b"), Member("a", type=b"2", link="b")], "tar_duplicate"),
    "H61 checksum": ([Member("a", checksum=b"000001\0 ")], "tar_invalid"),
    "H61 signed checksum": ([Member(b"\xc3\xa4", checksum=b"-00001\0 ")], "tar_invalid"),
    "H61 size": ([Member("a", size=b"0000000009x")], "tar_invalid"),
    "H61 mode": ([Member("a", mode=b"rw-r--r")], "tar_invalid"),
    "H61 no magic": ([Member("a", magic=bytes(8))], "tar_invalid"),
    "H61 prefix in GNU": ([Member("a", magic=b"ustar  \0", prefix=b"p")], "tar_invalid"),
    "H61 cut header": ([Member("a").header()[:300]], "tar_invalid"),
    "H62 goes on": ([bytes(1024), Member("a")], "tar_trailing"),
    "H62 goes on after one": ([bytes(512), Member("a")], "tar_trailing"),
    "H62 garbage": ([bytes(1024), b"x" * (1 << 20)], "tar_trailing"),
    "H62 late garbage": ([bytes(3 << 20), b"x"], "tar_trailing"),
    "H65 conda-meta": ([Member("conda-meta/x.json")], "reserved_path"),
    "H65 Conda-Meta": ([Member("Conda-Meta/x.json")], "reserved_path"),
    **{
        f"H89 {name!r}": ([Member(name, b"x")], "tar_path")
        for name in (
            "info\\paths.json",
            "INFO.\\paths.json",
            ".\\info\\paths.json",
            "conda-meta\\history",
            "x\\y",
            "x/y\\z",
            "conda-meta::$INDEX_ALLOCATION/history",
            "Conda-Meta :$I30:$INDEX_ALLOCATION/history",
            "info::$INDEX_ALLOCATION/paths.json",
        )
    },
    "H89 one path there, two here": ([Member("a/b", b"1"), Member("a\\b", b"2")], "tar_path"),
    "H89 directory": ([Member("conda-meta:x/", type=b"5")], "tar_path"),
    "H89 link": ([Member("conda-meta\\x", type=b"2", link="y")], "tar_path"),
    "H89 by long name": ([long_name("n/" * 60 + "x\\y"), Member("x")], "tar_path"),
}
NO_END = {"H61 cut header"}


@pytest.mark.parametrize("kind", ["conda", "tar.bz2"])
@pytest.mark.parametrize("case", TARS)
def test_tar_payload(case, kind):
    members, expected = TARS[case]
    end = b"" if case in NO_END else b.END_OF_TAR
    if kind == "conda":
        assert code(changed(1, data=zst(b.tar(members, end))), require_paths=False) == expected
    else:
        data = b.tar([*b.tar_members(b.info_files(INDEX)), *members], end)
        assert code(bz2.compress(data), ".tar.bz2") == expected


def in_info(*members: Member | bytes, **files) -> bytes:
    return changed(2, data=zst(b.tar([*b.tar_members(b.info_files(**({"index": INDEX} | files))), *members])))


INFO_TARS = {
    "H58 in info": (in_info(Member("info/a"), Member("info/a")), "tar_duplicate"),
    "H63 index in pkg": (changed(1, data=zst(b.tar([Member("info/index.json", b"{}")]))), "info_in_pkg"),
    "H63 INFO in pkg": (changed(1, data=zst(b.tar([Member("INFO/index.json", b"{}")]))), "info_in_pkg"),
    "H63 info as a link": (changed(1, data=zst(b.tar([Member("info", type=b"2", link="x")]))), "info_in_pkg"),
    "H63 file in info": (in_info(Member("bin/x")), "pkg_in_info"),
    "H64 two indices": (in_info(Member("info/index.json", b"{}")), "tar_duplicate"),
    "H64 two spellings": (in_info(Member("./info/index.json", b"{}")), "tar_duplicate"),
    "H64 none": (in_info(index=None), "index_missing"),
    "H65 record": (in_info(Member("info/repodata_record.json", b"{}")), "reserved_path"),
    "H66 symlink": (in_info(Member("info/index.json", type=b"2", link="x"), index=None), "index_invalid"),
    "H66 hardlink": (
        in_info(Member("info/x", b"{}"), Member("info/index.json", type=b"1", link="info/x"), index=None),
        "index_invalid",
    ),
    "H66 directory": (in_info(Member("info/index.json/", type=b"5"), index=None), "index_invalid"),
    "H66 empty": (in_info(index=b""), "index_invalid"),
    "H66 list": (in_info(index=[1]), "index_invalid"),
    "H68 about": (in_info(about=b" " * (2 << 20)), "metadata_too_large"),
    "H68 index": (in_info(index=b" " * (2 << 20)), "metadata_too_large"),
    "H68 run_exports": (in_info(run_exports=b" " * (5 << 20)), "metadata_too_large"),
    "H68 paths": (in_info(paths=b" " * ((64 << 20) + 1)), "metadata_too_large"),
    "H69 depth": (in_info(index=b'{"a":' * 33 + b"1" + b"}" * 33), "json_depth"),
    "H69 very deep": (in_info(about=b"[" * 100_000), "json_depth"),
    "H70 number": (in_info(index=b'{"build_number": 9007199254740993}'), "json_number"),
    "H71 duplicate key": (in_info(index=b'{"name":"a","name":"b"}'), "json_duplicate_key"),
    "H72 surrogate": (in_info(about=rb'{"a":"\ud800"}'), "json_text"),
    "H72 comma": (in_info(about=b'{"a":1,}'), "json_invalid"),
    **{
        f"H89 in info {name!r}": (in_info(Member(name, b"{}")), "tar_path")
        for name in ("info/.\\paths.json", "info/x\\y", "info/paths.json::$DATA", "info/index.json:x", "info:x/index.json")
    },
    "about is a list": (in_info(about=[]), "json_invalid"),
    "no paths": (in_info(paths=None), "paths_missing"),
    **{
        f"H80 paths {value!r:.60}": (in_info(paths=value), "paths_invalid")
        for value in (
            [],
            {"paths": []},
            {"paths": [], "paths_version": 2},
            {"paths": [], "paths_version": True},
            {"paths": {}, "paths_version": 1},
            *(
                {"paths": entries, "paths_version": 1}
                for entries in (
                    ["x"],
                    [{}],
                    [{"_path": 1, **LINKED}],
                    [{"_path": "../x", **LINKED}],
                    [{"_path": "/x", **LINKED}],
                    [{"_path": "a\\b", **LINKED}],
                    [{"_path": "c:x", **LINKED}],
                    [{"_path": "conda-meta::$INDEX_ALLOCATION/x", **LINKED}],
                    [{"_path": "info/paths.json::$DATA", **LINKED}],
                    [{"_path": "", **LINKED}],
                    [{"_path": "a", **LINKED}, {"_path": "a", **LINKED}],
                    [{"_path": "a", **LINKED}, {"_path": "./a", **LINKED}],
                    [{"_path": "a", "size_in_bytes": -1, **LINKED}],
                    [{"_path": "a", "size_in_bytes": "1", **LINKED}],
                    [{"_path": "a", "size_in_bytes": 2**53, **LINKED}],
                    [{"_path": "a", "path_type": None}],
                    [{"_path": "a", "path_type": "linked"}],
                    [{"_path": "a", "path_type": "hardlink", "sha256": "0"}],
                    [{"_path": "a", "path_type": "hardlink", "sha256": 0}],
                    [{"_path": "a", "path_type": "hardlink", "no_link": "yes"}],
                    [{"_path": "a", "path_type": "hardlink", "no_link": None}],
                )
            ),
        )
    },
    **{
        f"H81 entry point {point!r:.60}": (
            in_info(link={"noarch": {"type": "python", "entry_points": [point]}}),
            "entry_point_invalid",
        )
        for point in ("x = ../../evil:main", "a=b:c\nimport os", "a\n=b:c", "a=b:c;d", "../a=b:c", "a=b", "a=b:", 1, "a=b-c:d")
    },
    "H81 no list": (in_info(link={"noarch": {"entry_points": "a=b:c"}}), "entry_point_invalid"),
    **{
        f"H82 run_exports {value!r:.60}": (in_info(run_exports=value), "run_exports_invalid")
        for value in ("x", 1, {"weak": "x"}, {"weak": [1]}, {"other": ["x"]}, {"weak": [["x"]]}, [1], {"weak": {}})
    },
}  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), INFO_TARS.values(), ids=INFO_TARS)
def test_info(data, expected):
    assert code(data) == expected


def test_h64_other_case_only():
    upper = Member("INFO/index.json", b"{}")
    assert code(bz2.compress(b.tar([upper])), ".tar.bz2") == "index_missing"
    both = b.tar([*b.tar_members(b.info_files(INDEX)), upper])
    assert code(bz2.compress(both), ".tar.bz2") == "tar_duplicate"


def test_h62_no_end_marker():
    for end in (b"", bytes(512)):
        assert code(changed(1, data=zst(b.tar([Member("a", b"x")], end)))) == "archive_truncated"
    cut = b.tar([Member("a", b"x" * 2000)], b"")[:1000]
    assert code(changed(1, data=zst(cut))) == "archive_truncated"


def flood(count: int, folder: bytes = b"") -> bytes:
    """A tar of empty files, compressed in pieces and with one checksum made per file: it must cost less than its test."""
    rest = Member(b"").header()
    base = sum(rest[:148]) + 8 * 32 + sum(rest[156:])
    compressor = zstd.ZstdCompressor(1)
    out = []
    for i in range(count):
        name = folder + b"%06d" % i
        head = name.ljust(148, b"\0")[:100] + rest[100:148] + b"%06o\0 " % (base + sum(name)) + rest[156:]
        out.append(compressor.compress(head))
    return b"".join([*out, compressor.flush()])


def test_h47_too_many_members():
    """The limits of the real world, with their cost: 500,001 members in seconds, in tens of megabytes."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    assert code(changed(1, data=flood(500_001))) == "too_many_members"
    assert time.process_time() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 256 * 1024
    assert code(changed(2, data=flood(20_001, b"info/"))) == "too_many_members"


def test_h47_global_headers_and_directories_count_as_members():
    limits = Limits(payload_members=100)
    globals_ = [pax({"comment": "x"}, everywhere=True)] * 101
    assert code(changed(1, data=zst(b.tar(globals_))), limits=limits) == "too_many_members"
    deep = [member for i in range(5) for member in (long_name(f"{i}" + "/d" * 50), Member("x"))]
    assert code(changed(1, data=zst(b.tar(deep))), limits=limits) == "too_many_members"
