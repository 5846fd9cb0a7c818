"""H17 to H83: what is wrong inside the file. Most are the archives that the tests of the reader are made of."""

from __future__ import annotations

import bz2
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from tests.conda.test_hostile_archive import BZ2, CONDA, END64, ZIP, ZSTD, zeros
from tests.conda.test_hostile_tar import INFO_TARS, NO_END, TARS, flood, in_info
from tests.hostile.asking import Answer, Ask, Case, put
from tests.support import builders as b
from tests.support.builders import Member, zst
from tests.support.hostile import INDEX, STEM, changed

NAME, OLD_NAME = f"{STEM}.conda", f"{STEM}.tar.bz2"
NOW_MS = 1_763_000_000_000
GOOD: Answer = (201, "")
LISTED_OTHERWISE = ("paths_mismatch",)


def refused(data: bytes, code: str, *, old: bool = False) -> tuple[Ask, Answer]:
    return put(OLD_NAME if old else NAME, data), (422, code)


def numbered(cases: Mapping[str, tuple[bytes, str]], *, old: bool = False) -> Iterator[Case]:
    """Those of a table whose names begin with a number of the corpus."""
    for name, (data, code) in cases.items():
        if name.startswith("H"):
            yield Case(int(name[1:3]), name[4:], *refused(data, code, old=old))


def archives() -> Iterator[Case]:
    yield from numbered(ZIP)
    for size in range(1, len(CONDA), 37):
        yield Case(18, f"{size} bytes", *refused(CONDA[:size], "archive_truncated"))
    claimed = END64[:24] + struct.pack("<2Q", 10**6, 10**6) + END64[40:]
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, CONDA.rindex(b"PK\5\6"), 1)
    million = CONDA[:-22] + claimed + locator + b.zip_end(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    yield Case(33, "a million claimed", *refused(million, "conda_members"))
    bombs = {
        "share/bomb.bz2": bz2.compress(bytes(1 << 24)),
        "share/x.conda": CONDA,
        "share/x.zip": b.zip_file([b.Entry("x.zip", CONDA)]),
    }
    yield Case(37, "bombs as payload", accepted("nested", files=bombs), GOOD)
    for at, part in ((1, "pkg"), (2, "info")):
        for name, (data, code) in ZSTD.items():
            if name.startswith("H"):
                yield Case(int(name[1:3]), f"{part}: {name[4:]}", *refused(changed(at, data=data), code))
    yield Case(38, "4 GiB of zeros in info", *refused(changed(2, data=zeros(4 << 30)), "decompressed_too_large"))
    yield Case(38, "64 GiB of zeros in pkg", *refused(changed(1, data=zeros(64 << 30)), "ratio_exceeded"))
    yield Case(
        42, "300 MiB of zeros", put(OLD_NAME, lambda: bz2.compress(bytes(300 << 20))), (422, "decompressed_too_large")
    )
    yield from numbered(BZ2, old=True)


def tars() -> Iterator[Case]:
    for name, (members, code) in TARS.items():
        data = b.tar([*b.tar_members(b.info_files(INDEX)), *members], b"" if name in NO_END else b.END_OF_TAR)
        yield Case(int(name[1:3]), name[4:], *refused(bz2.compress(data), code, old=True))
    for name, (members, code) in TARS.items():
        data = zst(b.tar(members, b"" if name in NO_END else b.END_OF_TAR))
        yield Case(int(name[1:3]), f"{name[4:]}, in pkg", *refused(changed(1, data=data), code))
    yield Case(47, "500,001 files", put(NAME, lambda: changed(1, data=flood(500_001))), (422, "too_many_members"))
    yield Case(
        47, "20,001 in info", put(NAME, lambda: changed(2, data=flood(20_001, b"info/"))), (422, "too_many_members")
    )
    for subdir, notes in (("noarch", ["case_collision"]), ("win-64", ["case_collision"]), ("linux-64", [])):
        yield Case(59, subdir, accepted(f"cases-{subdir}", *notes, subdir=subdir, files={"x/A": b"", "x/a": b""}), GOOD)
    yield from on_windows()
    odd = [
        Member("bin/su", b"x", mode=0o6755),
        Member("a", mode=0, uid=2**31, mtime=-1),
        Member("b", mtime=253402300799),
    ]
    yield Case(60, "odd modes and times", accepted("modes", *LISTED_OTHERWISE, "setuid", members=odd), GOOD)
    for what, end in {"no end marker": b"", "half an end marker": bytes(512)}.items():
        yield Case(62, what, *refused(changed(1, data=zst(b.tar([Member("a", b"x")], end))), "archive_truncated"))
    yield from numbered(INFO_TARS)
    yield Case(
        64, "INFO only", *refused(bz2.compress(b.tar([Member("INFO/index.json", b"{}")])), "index_missing", old=True)
    )
    both = b.tar([*b.tar_members(b.info_files(INDEX)), Member("INFO/index.json", b"{}")])
    yield Case(64, "INFO beside info", *refused(bz2.compress(both), "tar_duplicate", old=True))
    yield Case(67, "index.json after 100,000 files", last_of_many, GOOD)


def on_windows() -> Iterator[Case]:
    """Letters that are letters on Linux."""
    man, unit = "share/man/man3/Foo::Bar.3", "lib/systemd/system/dev-sda\\x2d1.device"
    for subdir, path in (("noarch", man), ("linux-64", man), ("linux-64", unit), ("osx-arm64", unit)):
        what = f"{path} for {subdir}"
        name = f"letters-{subdir}" + ("-unit" if path == unit else "")
        yield Case(89, what, accepted(name, *LISTED_OTHERWISE, subdir=subdir, members=[Member(path)]), GOOD)
    for subdir, path in (("win-64", man), ("win-64", unit), ("noarch", unit)):
        made = b.conda_package("letters", subdir=subdir, members=[Member(path)])
        yield Case(89, f"{path} for {subdir}", put(*made), (422, "tar_path"))
    unsaid = b.conda_package("letters", subdir="win-64", index={"subdir": None}, members=[Member(man)])
    yield Case(89, "its subdir only in the address", put(*unsaid, "win-64"), (422, "tar_path"))
    listed = b.conda_package("letters", subdir="win-64", paths=b.paths_json({man: b""}))
    yield Case(89, "in paths.json for win-64", put(*listed), (422, "paths_invalid"))


def large() -> Iterator[Case]:
    """Small files that would leave megabytes."""
    yield Case(90, "index.json", index(unknown="x" * 70_000), (422, "metadata_too_large"))
    for exports in (["x" * 70_000], {"weak": ["demo >=1"] * 10_000}):
        yield Case(90, f"{len(exports)} run exports", *refused(in_info(run_exports=exports), "metadata_too_large"))
    scripts = {f"bin/.{i}-post-link.sh": b"" for i in range(1_001)}
    yield Case(90, "scripts listed", *refused(in_info(paths=b.paths_json(scripts)), "paths_invalid"))
    held = b.conda_package("scripts", files=scripts, paths=b.paths_json({}))
    yield Case(90, "scripts held", put(*held), (422, "too_many_members"))
    about = {f"{i}": "x" * 30_000 for i in range(30)}
    yield Case(91, "about.json", accepted("about", about=about), GOOD)
    names = ["info/licenses" + ("/" + "x" * 250) * 15 + f"/{i:04}" for i in range(5_000)]
    licences = [part for name in names for part in (b.long_name(name), Member("x", b"1"))]
    yield Case(91, "names of licences", accepted("licences", info_members=licences), GOOD)


def last_of_many(lab: Any) -> Answer:
    files = b"".join(bytes(Member(f"d{i % 100:02d}/{i:06d}")) for i in range(100_000))
    info = b.tar_members(b.info_files(b.index_json("late", "1.0", "h0_0")))
    return told_of(lab, "late-1.0-h0_0.tar.bz2", bz2.compress(b.tar([files, *info]), 1), LISTED_OTHERWISE)


# --- what is accepted ----------------------------------------------------------------------------------------------


def accepted(name: str, *notes: str, **options: Any) -> Ask:
    """A package of a name of its own that is published, with these notes on it."""
    return lambda lab: told_of(lab, *b.conda_package(name, **options), notes)


def told_of(lab: Any, filename: str, data: bytes, notes: tuple[str, ...]) -> Answer:
    answer: Answer = lab.put(filename, data)
    if answer == GOOD:
        again = lab.client.put(f"/api/v1/channels/open/artifacts/{filename}", content=data)
        assert tuple(again.json()["warnings"]) == notes, again.text
    return answer


# --- what it says of itself ----------------------------------------------------------------------------------------


def index(**changes: Any) -> Ask:
    return put(NAME, in_info(index={**INDEX, **changes}))


def metadata() -> Iterator[Case]:
    for what, text in {"33 levels": b"[" * 33 + b"]" * 33, "100,000 levels": b"[" * 100_000}.items():
        yield Case(69, what, *refused(in_info(index=b'{"a":' + text + b"}"), "json_depth"))
    for text in (b"NaN", b"Infinity", b"1e400", b"9" * 5000):
        yield Case(70, text[:9].decode(), *refused(in_info(index=b'{"a":' + text + b"}"), "json_number"))
    yield Case(70, "-0", accepted("zero", index={"a": -0.0}), GOOD)
    for text in (rb'"\u0000"', b'"\xff"'):
        yield Case(72, ascii(text), *refused(in_info(about=b'{"a":' + text + b"}"), "json_text"))
    yield Case(72, "UTF-16", *refused(in_info(about="{}".encode("utf-16")), "json_text"))
    yield Case(72, "byte order mark", *refused(in_info(about=b"\xef\xbb\xbf{}"), "json_text"))
    yield Case(72, "comment", *refused(in_info(about=b"{} // x"), "json_invalid"))
    for value in ([], "x", None):
        yield Case(73, f"{value!r}", *refused(in_info(index=b.json_bytes(value or b"null")), "index_invalid"))
    wrong: dict[str, tuple[Any, ...]] = {
        "name": (1, ["a"], None), "depends": ("a", {"a": 1}, None), "build_number": (-1, 2**40, "0", True, 1.0),
    }  # fmt: skip
    for key, values in wrong.items():
        for value in values:
            yield Case(73, f"{key} {value!r}", index(**{key: value}), (422, "index_schema"))
    for specs in (["a"] * 100_000, ["x" * 500_000], ["a\nb"], ["a;b"], ["https://x/a.conda"], ["a[md5=0]"]):
        yield Case(74, f"{specs[0][:20]!r} x {len(specs)}", index(depends=specs), (422, "depends_invalid"))
    for value in (-1, 10**15, "1", 4_000_000_000_000):
        yield Case(75, f"{value!r}", index(timestamp=value), (422, "timestamp_invalid"))
    yield Case(75, "10^18", index(timestamp=10**18), (422, "json_number"))
    yield Case(75, "seconds", accepted("seconds", index={"timestamp": NOW_MS // 1000}), GOOD)
    yield from large()
    yield from texts()


FOREIGN = {
    **dict.fromkeys(("sha256", "md5", "url", "fn", "channel", "base_url", "__proto__", "constructor"), "x"),
    "size": 1, "signatures": {}, "indexed_timestamp": 1,
}  # fmt: skip
SCRIPTS = {
    "summary": "<script>alert(1)</script>", "home": "javascript:alert(1)", "license": '" onmouseover=alert(1) x="',
    "doc_url": "data:text/html,<script>", "dev_url": "//evil", "description": "![x](javascript:y) <img src=x onerror=z>",
}  # fmt: skip


def texts() -> Iterator[Case]:
    yield Case(76, "keys of the server", foreign_keys, GOOD)
    yield Case(77, "markup", markup, GOOD)
    for text in ("\x1b[31m", "\u202e", "\u2028"):
        yield Case(78, f"{text!a} in the index", index(license=text), (422, "text_control"))
    loud = "A \x1b[31mred\u202e line\u2028 e" + "\u0301" * 10_000 + "x" * 500_000
    yield Case(78, "in about.json", summary_of("loud", loud), GOOD)
    yield Case(79, "other languages", summary_of("inert", "=cmd() {{7*7}} %s ${jndi:ldap://x}"), GOOD)
    missing = b.paths_json({"share/listed/hello.txt": b"hello\n", "missing": b""})
    yield Case(80, "a missing file", accepted("listed", *LISTED_OTHERWISE, paths=missing), GOOD)
    longer = b.paths_json({"share/longer/hello.txt": b"hello, longer\n"})
    yield Case(80, "a wrong size", accepted("longer", *LISTED_OTHERWISE, paths=longer), GOOD)
    hashed = b.paths_json({"share/hashed/hello.txt": b"HELLO\n"})
    yield Case(80, "a wrong hash", accepted("hashed", paths=hashed), GOOD)
    many = b.paths_json({})
    many["paths"] = [{"_path": f"{i}", "path_type": "hardlink"} for i in range(500_001)]
    yield Case(80, "500,001 entries", *refused(in_info(paths=many), "paths_invalid"))
    yield Case(
        83,
        "compiled files in noarch",
        accepted("native", index={"noarch": "python"}, files={"lib/x.so": b"\x7fELF"}),
        GOOD,
    )


def foreign_keys(lab: Any) -> Answer:
    filename, data = b.conda_package("foreign", index=FOREIGN)
    answer: Answer = lab.put(filename, data)
    record = lab.client.get("/open/noarch/repodata.json").json()["packages.conda"][filename]
    assert record["size"] == len(data)
    assert len(record["sha256"]) == 64
    assert record["indexed_timestamp"] > NOW_MS
    assert not {"url", "fn", "channel", "signatures", "base_url", "__proto__", "constructor"} & set(record)
    return answer


def markup(lab: Any) -> Answer:
    answer: Answer = lab.put(*b.conda_package("markup", about=SCRIPTS, index={"license": SCRIPTS["license"]}))
    page = lab.client.get("/channels/open", headers={"Accept": "text/html"}).text
    assert "markup" in page
    assert not [text for text in ("<script>alert", 'href="javascript:', "<img src=x", '" onmouseover=') if text in page]
    return answer


def summary_of(name: str, text: str) -> Ask:
    def ask(lab: Any) -> Answer:
        answer: Answer = lab.put(*b.conda_package(name, about={"summary": text}))
        told = lab.client.get(f"/api/v1/channels/open/packages/{name}").json()["package"]["summary"]
        assert len(told) <= 1_000
        assert told.isprintable() or "\u0301" in told
        assert "\u0301" * 5 not in told
        assert not set("\x1b\u202e\u2028") & set(told)
        return answer

    return ask
