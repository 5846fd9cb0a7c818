"""What clients fetch: every document, its headers, conditional requests and ranges."""

import hashlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import orjson
import pytest

from fairway.conda.names import KNOWN_SUBDIRS
from fairway.conda.shards import decompressed
from tests.support.builders import conda_package
from tests.web.reading import DOCUMENTS, filled, same, unpacked

SECURITY = {
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "referrer-policy": "strict-origin-when-cross-origin",
}
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"


@pytest.fixture
def lab(site):
    return filled(site, "lab")


def test_each_file_has_its_own_strong_etag_length_and_type_and_is_not_encoded(lab):
    json_ones = {name for name in lab.paths if name.endswith(".json") or name in {"channeldata", "notices"}}
    json_ones |= {"sigs", "sigs.sha256"}
    etags = {}
    for name in lab.paths:
        answer = lab.get(name, accept_encoding="gzip, deflate, br, zstd")
        assert answer.status_code == 200, (name, answer.text)
        assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert answer.headers["accept-ranges"] == "bytes"
        assert "content-encoding" not in answer.headers, name
        wanted = "application/json" if name in json_ones else "application/octet-stream"
        assert answer.headers["content-type"] == wanted, name
        etags[name] = answer.headers["etag"]
    assert etags.pop("sigs") == etags.pop("sigs.sha256")  # the same bytes
    assert len(set(etags.values())) == len(etags)


def test_head_answers_as_get_does_without_a_body(lab):
    for name, path in lab.paths.items():
        get, head = lab.get(name), lab.site.client.head(f"/lab/{path}")
        assert (head.status_code, same(head)) == (get.status_code, same(get)), name
        assert head.content == b""


def test_head_of_what_is_not_there_answers_as_get_does(lab):
    for path in ("/lab/noarch/none-1.0-0.conda", "/lab/linux-65/repodata.json", "/none/noarch/repodata.json"):
        get, head = lab.site.get(path), lab.site.client.head(path)
        assert (head.status_code, same(head)) == (get.status_code, same(get))


def test_a_known_etag_is_answered_with_304_that_repeats_etag_and_cache_control(lab):
    for name in lab.paths:
        first = lab.get(name)
        for tag in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
            again = lab.get(name, if_none_match=tag)
            assert (again.status_code, again.content) == (304, b""), name
            for header in ("etag", "cache-control", "vary"):
                assert again.headers[header] == first.headers[header]
            assert "content-type" not in again.headers


def test_another_documents_etag_is_answered_in_full(lab):
    index = lab.get("repodata_shards.msgpack.zst").headers["etag"]
    tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    # conda offers both headers; the date alone would fit
    answer = lab.get("repodata.json.zst", if_none_match=index, if_modified_since=tomorrow)
    assert answer.status_code == 200


def test_a_date_alone_is_honoured_to_the_second(lab):
    for name in ("repodata.json", "repodata_shards.msgpack.zst", "conda"):
        date = lab.get(name).headers["last-modified"]
        assert lab.get(name, if_modified_since=date).status_code == 304
        earlier = format_datetime(parsedate_to_datetime(date) - timedelta(seconds=1), usegmt=True)
        assert lab.get(name, if_modified_since=earlier).status_code == 200
        assert lab.get(name, if_modified_since="yesterday or so").status_code == 200


RANGES = (
    ("bytes=0-0", 0, 0),
    ("bytes=0-9", 0, 9),
    ("bytes=10-19", 10, 19),
    ("bytes=50-", 50, None),
    ("bytes=-10", -10, None),
    ("bytes=-9999999", 0, None),
    ("bytes=0-9999999", 0, None),
)


def test_a_range_is_answered_with_206_and_just_those_bytes(lab):
    for name in ("conda", "tar.bz2", "repodata_shards.msgpack.zst", "repodata.json", "empty repodata.json"):
        whole = lab.get(name)
        for asked, start, end in RANGES:
            answer = lab.get(name, range=asked)
            wanted = whole.content[start : None if end is None else end + 1]
            assert (answer.status_code, answer.content) == (206, wanted), (name, asked)
            first = len(whole.content) + start if start < 0 else start
            last = first + len(wanted) - 1
            assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole.content)}"
            assert int(answer.headers["content-length"]) == len(wanted)
            for header in ("etag", "cache-control", "content-type"):
                assert answer.headers[header] == whole.headers[header]


def test_a_range_beyond_the_end_is_answered_with_416_that_nobody_may_keep(lab):
    size = len(lab.conda[1])
    for asked in (f"bytes={size}-", f"bytes={size}-{size + 5}", "bytes=99999999-", "bytes=-0"):
        answer = lab.get("conda", range=asked)
        assert (answer.status_code, answer.content) == (416, b""), asked
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert answer.headers["cache-control"] == "no-store"


def test_several_ranges_or_what_is_no_range_mean_the_whole_file(lab):
    for asked in ("bytes=0-1,5-6", "bytes=5-2", "bytes=-", "bytes=a-b", "lines=1-2", "bytes 0-1", "bytes=0-1-2"):
        answer = lab.get("conda", range=asked)
        assert (answer.status_code, answer.content) == (200, lab.conda[1]), asked
        assert "content-range" not in answer.headers


def test_if_range_gives_the_part_only_of_the_very_same_bytes(lab):
    etag = lab.get("conda").headers["etag"]
    assert lab.get("conda", range="bytes=5-9", if_range=etag).content == lab.conda[1][5:10]
    for other in ('"other"', f"W/{etag}", lab.get("conda").headers["last-modified"]):
        answer = lab.get("conda", range="bytes=5-9", if_range=other)
        assert (answer.status_code, answer.content) == (200, lab.conda[1])


def test_every_known_subdir_of_an_empty_channel_has_all_documents(site):
    site.channel("void", "public")
    for subdir in sorted(KNOWN_SUBDIRS):
        documents = {name: site.get(f"/void/{subdir}/{name}") for name in DOCUMENTS}
        assert {answer.status_code for answer in documents.values()} == {200}
        assert documents["repodata.json"].json() == {
            "info": {"subdir": subdir}, "packages": {}, "packages.conda": {}, "removed": [], "repodata_version": 1,
        }  # fmt: skip
        assert decompressed(documents["repodata.json.zst"].content) == documents["repodata.json"].content
        exports = {"info": {"subdir": subdir, "version": 1}, "packages": {}, "packages.conda": {}}
        assert documents["run_exports.json"].json() == exports
        assert orjson.loads(decompressed(documents["run_exports.json.zst"].content)) == exports
        assert unpacked(documents["repodata_shards.msgpack.zst"].content) == {
            "version": 1, "info": {"subdir": subdir, "base_url": "", "shards_base_url": "./shards/"}, "shards": {},
        }  # fmt: skip


ABSENT = (
    *(f"/lab/linux-65/{name}" for name in DOCUMENTS),
    "/lab/linux-65/shards/" + "0" * 64 + ".msgpack.zst",
    "/lab/noarch/shards/" + "0" * 64 + ".msgpack.zst",
    "/lab/noarch/current_repodata.json",
    "/lab/noarch/repodata.json.bz2",
    "/lab/noarch/none-1.0-0.conda",
    "/lab/noarch/none-1.0-0.conda.sigs",
    "/lab/noarch/other-2.0-h0_0.tar.bz2",  # it is in linux-64
    "/lab/noarch/demo-1.0-h0_0.conda.sigs." + "0" * 64,
    "/lab/linux-64/other-2.0-h0_0.tar.bz2.sigs",
    "/lab/repodata.json",
    "/lab/noarch",
    "/lab",
    "/lab/label/dev/noarch/repodata.json",
    "/lab/repodata_shards.msgpack.zst/noarch",  # what conda asks for with an anaconda token file
)


def test_what_is_not_there_is_404_as_problem_json(lab):
    for path in ABSENT:
        answer = lab.site.get(path)
        assert answer.status_code == 404, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["code"] == "not_found"


def test_flat_documents_and_shards_say_the_same(lab):
    flat = lab.get("repodata.json").json()
    assert decompressed(lab.get("repodata.json.zst").content) == lab.get("repodata.json").content
    shard = unpacked(lab.get("shard").content)
    (filename,) = flat["packages.conda"]
    record = dict(flat["packages.conda"][filename])
    assert record["sha256"] == hashlib.sha256(lab.conda[1]).hexdigest()
    assert record["size"] == len(lab.conda[1])
    assert record["attestations_sha256"] == hashlib.sha256(lab.sidecar).hexdigest()
    in_shard = dict(shard["packages.conda"][filename])
    assert record["run_exports"] == {"weak": ["demo >=1.0"]}
    for key in ("md5", "sha256", "attestations_sha256"):
        assert in_shard[key] == bytes.fromhex(record[key])
        in_shard[key] = record[key]
    assert in_shard == record
    assert shard["packages"] == {}


def test_run_exports_list_every_file_also_one_without_any(lab):
    assert lab.get("run_exports.json").json()["packages.conda"] == {
        lab.conda[0]: {"run_exports": {"weak": ["demo >=1.0"]}}
    }
    assert lab.site.get("/lab/linux-64/run_exports.json").json()["packages"] == {lab.bz2[0]: {"run_exports": {}}}
    assert decompressed(lab.get("run_exports.json.zst").content) == lab.get("run_exports.json").content


def test_channeldata_tells_of_the_newest_version_and_follows_uploads(lab):
    data = lab.get("channeldata").json()
    assert (data["channeldata_version"], data["subdirs"]) == (1, ["linux-64", "noarch"])
    assert data["packages"]["demo"]["summary"] == "A demo"
    assert data["packages"]["demo"]["run_exports"] == {"1.0": {"weak": ["demo >=1.0"]}}
    for version in ("1.10", "1.9"):
        lab.site.put("lab", conda_package("demo", version), lab.key)
    demo = lab.get("channeldata").json()["packages"]["demo"]
    assert (demo["version"], demo["subdirs"]) == ("1.10", ["noarch"])


def test_notices_are_an_empty_list(lab):
    assert lab.get("notices").json() == {"notices": []}


def test_attestations_are_served_byte_for_byte(lab):
    assert lab.get("sigs").content == lab.sidecar
    assert lab.get("sigs.sha256").content == lab.sidecar


def test_a_deleted_file_is_listed_as_removed_and_still_downloadable(lab):
    filename, data = lab.conda
    gone = lab.site.client.delete(
        f"/api/v1/channels/lab/artifacts/noarch/{filename}", headers={"Authorization": f"Bearer {lab.key}"}
    )
    assert gone.status_code == 204
    flat = lab.get("repodata.json").json()
    assert (flat["removed"], flat["packages.conda"]) == ([filename], {})
    assert unpacked(lab.get("repodata_shards.msgpack.zst").content)["shards"] == {}
    assert lab.get("conda").content == data
    assert lab.get("shard").status_code == 200  # an older index may name it for days


def test_security_headers_are_on_every_answer(lab):
    asked = [f"/lab/{path}" for path in lab.paths.values()]
    asked += ["/lab/none", "/none", "/api/v1/channels", "/api/v1/none", "/health/live", "/lab/%2f", "/metrics"]
    for path in asked:
        answer = lab.site.get(path)
        assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY, path
        assert answer.headers["content-security-policy"] == DATA_POLICY, path
        assert answer.headers["x-request-id"]
    assert lab.get("repodata.json", if_none_match="*").headers["x-content-type-options"] == "nosniff"
    page = lab.site.get("/channels/lab").headers["content-security-policy"]
    assert "script-src 'self'" in page
    assert "unsafe" not in page


def test_a_proxys_request_id_is_kept_and_anything_else_is_replaced(lab):
    assert lab.get("notices", x_request_id="proxy-0123-abc").headers["x-request-id"] == "proxy-0123-abc"
    for bad in ("short", "a" * 65, "with space in it", 'quo"te-and-more'):
        assert lab.get("notices", x_request_id=bad).headers["x-request-id"] != bad
