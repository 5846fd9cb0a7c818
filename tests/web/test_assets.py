"""Scripts, styles and pages on the wire: packed, kept as long as they may be, and in every wheel."""

import gzip
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fairway.errors import SetupError
from fairway.web import assets
from tests.conftest import ROOT
from tests.support.site import bearer

NAMES = ("fairway.js", "theme.js", "fairway.css", "inter-latin-wght-normal.woff2")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_named_after_its_content_is_kept_for_ever(site, name):
    answer = site.get(assets.address("", name))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert site.get(assets.address("", "mark.svg")).headers["cache-control"] == "no-cache"


def test_texts_are_sent_packed_to_those_who_can_read_it(site):
    address = assets.address("", "fairway.css")
    plain = site.get(address, accept_encoding="identity")
    assert "content-encoding" not in plain.headers
    assert plain.headers["content-type"].startswith("text/css")
    for accepted, expected in (("gzip", "gzip"), ("gzip, deflate, br, zstd", "br"), ("gzip;q=0.5", "gzip")):
        with site.client.stream("GET", address, headers={"accept-encoding": accepted}) as packed:
            body = b"".join(packed.iter_raw())
        assert packed.headers["content-encoding"] == expected
        assert packed.headers["content-type"] == plain.headers["content-type"]
        assert packed.headers["vary"] == "Accept-Encoding"
        assert len(body) < len(plain.content) / 3
        if expected == "gzip":
            assert gzip.decompress(body) == plain.content
    tag = plain.headers["etag"]
    assert site.get(address, accept_encoding="identity", if_none_match=tag).status_code == 304


def test_pages_are_sent_packed_with_a_size_that_says_little(site):
    site.channel("lab", "public")
    plain = site.get("/", accept_encoding="identity")
    assert "content-encoding" not in plain.headers
    sizes = set()
    for _ in range(20):
        with site.client.stream("GET", "/", headers={"accept-encoding": "gzip"}) as packed:
            body = b"".join(packed.iter_raw())
        assert packed.headers["vary"] == "Accept-Encoding"
        assert gzip.decompress(body) == plain.content
        sizes.add(len(body))
    assert len(sizes) > 3


def test_a_server_without_its_bundle_says_what_to_do(tmp_path):
    with pytest.raises(SetupError, match=r"not built: run '\./dev setup'"):
        assets.bundle(tmp_path)


def test_the_style_page_is_for_development(site):
    assert site.get("/styleguide").status_code == 404
    assert site.get("/styleguide", site.key()).status_code == 404
    wrong = [site.client.get(path, headers=bearer("x")) for path in ("/styleguide", "/no-such-channel")]
    assert [answer.status_code for answer in wrong] == [401, 401]  # as for any address: the key is looked at first


def test_a_wheel_and_a_source_distribution_hold_the_bundle(tmp_path):
    """Both are made without node, since the bundle is there and fresh."""
    for target in ("wheel", "sdist"):
        command = [Path(sys.executable).with_name("hatchling"), "build", "--target", target, "--directory", tmp_path]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={"PATH": ""})
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for name in NAMES:
        assert f"fairway/web{assets.address('', name)}" in held
        assert name.endswith("woff2") or f"fairway/web{assets.address('', name)}.br" in held
    assert not [name for name in held if "node_modules" in name or "/.dist-" in name]
    (source,) = tmp_path.glob("*.tar.gz")
    listed = subprocess.run(["tar", "-tzf", source], check=True, capture_output=True, text=True).stdout
    assert re.search(r"/static/dist/manifest\.json$", listed, re.MULTILINE)
    assert "node_modules" not in listed
