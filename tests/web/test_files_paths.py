"""How a path is understood, who may keep an answer, and what counts as a download."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import select

from fairway.app import Fairway
from fairway.db.models import Download, Token
from fairway.settings import load
from tests.support.builders import conda_package
from tests.support.site import Site, bearer
from tests.web.reading import filled

BAD_KEY = "fwy-u-" + "0" * 38
IMMUTABLE = ("shard", "conda", "tar.bz2", "sigs.sha256")
FOREVER = "max-age=31536000, immutable"


@pytest.fixture
def lab(site):
    return filled(site, "lab")


@pytest.fixture
def mounted(database_url: str, tmp_path: Path) -> Iterator[Site]:
    """A site that people reach at https://conda.example.org/tools."""
    base = "https://conda.example.org/tools"
    options = {"data": tmp_path / "data", "database_url": database_url, "reading_processes": 1, "base_url": base}
    app = Fairway(load(options, environ={}))
    with Site(app) as site:
        yield site
    app.close()


def test_a_public_channel_may_be_kept_by_everybody_and_its_index_for_a_minute(lab):
    for name in lab.paths:
        wanted = f"public, {FOREVER}" if name in IMMUTABLE else "public, max-age=60"
        wanted = "public, no-cache, max-age=0" if name == "sigs" else wanted
        assert lab.get(name).headers["cache-control"] == wanted, name


@pytest.mark.parametrize("header", [{"Authorization": "Bearer nonsense"}, {"X-API-Key": "nonsense"}])
def test_what_a_bad_key_is_told_is_kept_for_nobody_else(lab, header):
    for name in lab.paths:
        answer = lab.site.client.get(f"/lab/{lab.paths[name]}", headers=header)
        assert answer.headers["fairway-credential"] == "invalid", name
        assert next(iter(header)) in answer.headers["vary"].split(", "), name


@pytest.mark.parametrize("visibility", ["private", "internal"])
def test_other_channels_may_be_kept_only_by_who_asked_and_asked_again(site, visibility):
    lab = filled(site, "lab", visibility)
    for name in lab.paths:
        wanted = f"private, {FOREVER}" if name in IMMUTABLE else "private, no-cache, max-age=0"
        answer = lab.get(name, lab.key)
        assert answer.headers["cache-control"] == wanted, name
        assert answer.headers["vary"] == "Authorization, X-API-Key, Cookie"


def test_a_key_in_the_path_makes_every_answer_private_and_keeps_its_address_to_itself(lab):
    for name, path in lab.paths.items():
        answer = lab.site.get(f"/t/{lab.key}/lab/{path}")
        wanted = f"private, {FOREVER}" if name in IMMUTABLE else "private, no-cache, max-age=0"
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == wanted, name
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_where_files_may_be_replaced_a_file_name_does_not_stand_for_ever(lab):
    admin = lab.site.key(scope="admin")
    change = lab.site.client.patch("/api/v1/channels/lab", json={"allow_overwrite": True}, headers=bearer(admin))
    assert change.status_code == 200
    for name in ("conda", "tar.bz2"):
        assert lab.get(name).headers["cache-control"] == "public, max-age=60"
    assert lab.get("shard").headers["cache-control"] == f"public, {FOREVER}"
    other = conda_package("demo", "1.0", files={"share/demo/other.txt": b"other"})
    assert lab.site.put("lab", other, lab.key, force=True).json()["replaced"] is True
    assert lab.get("conda").content == other[1]


def test_the_old_addresses_of_quetz_and_anaconda_give_the_same_files(lab):
    for path in lab.paths.values():
        wanted = lab.site.get(f"/lab/{path}")
        for before in ("/get/lab", "/lab/label/main", "/get/lab/label/main", f"/t/{lab.key}/get/lab"):
            assert lab.site.get(f"{before}/{path}").content == wanted.content, before


def test_plus_in_a_path_is_a_plus_however_it_is_written(site):
    site.channel("lab", "public")
    filename, data = conda_package("demo", "1!2.0+local.1", "py_0")
    assert site.client.put(
        f"/api/v1/channels/lab/artifacts/{quote(filename, safe='')}", content=data, headers=bearer(site.key())
    ).status_code == 201  # fmt: skip
    for written in (filename, filename.replace("+", "%2B"), quote(filename, safe=""), quote(filename, safe="").lower()):
        assert site.get(f"/lab/noarch/{written}").content == data, written
    assert site.get(f"/lab/noarch/{filename.replace('+', '%20')}").status_code == 404


def test_an_encoded_slash_backslash_nul_or_percent_is_400_before_anything_else(lab):
    secret = filled(lab.site, "secret", "private")
    for path in (
        "/lab/noarch%2frepodata.json",
        "/lab/noarch%2Frepodata.json",
        "/lab/%5c../noarch/repodata.json",
        "/lab/noarch/repodata.json%00",
        "/lab/noarch/repodata%252ejson",
        "/api%2fv1/channels",
        f"/t/{secret.key}%2fsecret/noarch/repodata.json",
    ):
        answer = lab.site.get(path)
        assert (answer.status_code, answer.json()["code"]) == (400, "path_encoding"), path
        assert secret.key not in answer.text


def test_other_escapes_are_decoded_once(lab):
    assert lab.site.get("/%6cab/noarch/repo%64ata.json").status_code == 200
    assert lab.site.get("/lab/../lab/noarch/repodata.json").status_code in {200, 404}  # clients resolve the dots


def test_a_key_in_the_path_works_before_and_after_the_mount(mounted):
    mounted.channel("lab")
    mounted.channel("tools")  # called as the mount is
    key = mounted.key()
    for channel, place in (("lab", conda_package("demo")), ("tools", conda_package("hammer"))):
        assert mounted.put(channel, place, key).status_code == 201
    mounted.settle()
    for name, package in (("lab", "demo"), ("tools", "hammer")):
        for path in (f"/t/{key}/tools/{name}", f"/tools/t/{key}/{name}"):
            answer = mounted.get(f"{path}/noarch/repodata.json")
            assert list(answer.json().get("packages.conda", ())) == [f"{package}-1.0-h0_0.conda"], path
        assert mounted.get(f"/tools/{name}/noarch/repodata.json", key).status_code == 200
        assert mounted.get(f"/tools/{name}/noarch/repodata.json").status_code == 401
    assert mounted.get(f"/t/{key}/lab/noarch/repodata.json").status_code == 200  # a proxy that takes the mount off


def test_behind_https_browsers_are_told_to_stay_there(mounted):
    answer = mounted.get("/tools/health/live")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    refused = mounted.get("/tools/none/noarch/repodata.json")
    assert refused.headers["www-authenticate"] == 'Bearer realm="https://conda.example.org/tools"'


def test_a_browser_on_a_channel_is_sent_to_its_page_and_a_client_is_not(lab):
    browser = {"accept": "text/html,application/xhtml+xml"}
    answer = lab.site.get("/lab", **browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/channels/lab")
    assert lab.site.get("/lab/", **browser).headers["location"] == "/channels/lab"
    assert lab.site.get("/lab", accept="*/*").status_code == 404
    # nobody learns from it whether a channel is there, and no name breaks the header
    assert lab.site.get("/none", **browser).headers["location"] == "/channels/none"
    assert lab.site.get("/%0d%0aset-cookie:a=b", **browser).headers["location"] == "/channels/%0D%0Aset-cookie%3Aa%3Db"
    assert lab.site.get("/%E4%BD%A0", **browser).headers["location"] == "/channels/%E4%BD%A0"


def test_a_browser_is_sent_to_a_page_below_the_mount(mounted):
    answer = mounted.get("/tools/lab", accept="text/html")
    assert answer.headers["location"] == "/tools/channels/lab"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_files_can_only_be_read(site, method):
    site.channel("lab", "public")
    for path in ("/lab/noarch/repodata.json", "/lab", "/none/noarch/x-1-0.conda", f"/t/{site.key()}/lab/noarch/x"):
        answer = site.client.request(method, path, content=b"")
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed"), path
        assert answer.headers["allow"] == "GET, HEAD"


def test_a_key_in_the_path_cannot_write(lab):
    filename, data = conda_package("new")
    answer = lab.site.client.put(f"/t/{lab.key}/api/v1/channels/lab/artifacts/{filename}", content=data)
    assert answer.status_code == 405
    assert lab.site.get(f"/lab/noarch/{filename}").status_code == 404


def test_a_bad_credential_reads_a_public_channels_files_as_nobody_and_is_told_so(lab):
    with lab.site.app.database.write() as session:
        session.scalars(select(Token)).one().expires_at = 1
    for name, path in lab.paths.items():
        plain = lab.get(name)
        assert "fairway-credential" not in plain.headers
        for bad in (BAD_KEY, "hello", lab.key):
            answer = lab.get(name, bad)
            assert (answer.status_code, answer.content) == (200, plain.content)
            assert answer.headers["fairway-credential"] == "invalid"
        assert lab.site.get(f"/t/{BAD_KEY}/lab/{path}").headers["fairway-credential"] == "invalid"


def counted(site: Site) -> dict[int, int]:
    site.settle()
    with site.app.database.read() as session:
        return {row.day: row.count for row in session.scalars(select(Download))}


def test_a_download_is_counted_once_whoever_asks_and_however(lab):
    day = 86_400_000
    at = lab.site.app.now() // day
    path = f"/lab/{lab.paths['conda']}"
    etag = lab.get("conda").headers["etag"]  # 1
    lab.get("conda", lab.key)  # 2
    lab.get("conda", range="bytes=0-9")  # 3: the first part
    assert counted(lab.site) == {at: 3}
    lab.site.client.head(path)
    lab.get("conda", range="bytes=10-")  # the rest of one that was broken off
    lab.get("conda", range="bytes=-5")
    lab.get("conda", range="bytes=99999999-")
    lab.get("conda", if_none_match=etag)
    lab.get("sigs")
    lab.get("repodata.json")
    lab.site.get(f"{path}x")
    assert counted(lab.site) == {at: 3}


def test_downloads_add_up_by_day(lab):
    day = 86_400_000
    start = lab.site.app.now()
    for days, times in ((0, 2), (1, 3), (0, 1)):
        lab.site.app.now = lambda days=days: start + days * day
        for _ in range(times):
            lab.get("conda")
        lab.site.settle()
    assert counted(lab.site) == {start // day: 3, start // day + 1: 3}
    listed = lab.site.get(f"/api/v1/channels/lab/artifacts/noarch/{lab.conda[0]}").json()
    assert listed["downloads"] == 6


def test_links_of_pages_stay_below_the_mount(mounted):
    page = mounted.client.get("/tools/").text
    links = re.findall(r'(?:href|src)="(/[^"]*)"', page)
    assert links
    assert all(link.startswith("/tools/") for link in links)
    for link in links:
        assert mounted.client.get(link).status_code == 200, link
