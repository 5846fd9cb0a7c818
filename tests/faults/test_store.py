"""An object store that resets, refuses, cuts answers short and loses them: at each request of an upload and a build."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fairway.app import Fairway
from fairway.blobs import cloud
from fairway.registry import fsck
from fairway.settings import load
from tests.conftest import FULL
from tests.crash.harness import eventually
from tests.support.builders import conda_package
from tests.support.faulty import KINDS, Faulty, nothing
from tests.support.s3 import own_s3_server
from tests.support.site import Site

pytestmark = pytest.mark.skipif(not FULL, reason="S3 is for the full run (FAIRWAY_TEST_FULL=1)")
MOST = 60


@pytest.fixture
def faulty(s3) -> Iterator[Faulty]:
    with Faulty(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def site(database_url: str, s3, faulty: Faulty, tmp_path: Path) -> Iterator[Site]:
    options = {
        "data": tmp_path / "data",
        "database_url": database_url,
        "storage_url": f"s3://{s3.fresh_bucket()}",
        "reading_processes": 1,
    }
    app = Fairway(load(options, environ=replace(s3, endpoint=faulty.endpoint).options))
    with Site(app) as site:
        site.channel("lab", "public")
        yield site
    app.close()


def listed(site: Site) -> set[str] | None:
    answer = site.get("/lab/noarch/repodata.json")
    return set(answer.json()["packages.conda"]) if answer.status_code == 200 else None


def whole(site: Site) -> None:
    site.settle()
    found = fsck.check(site.app.database, site.app.blobs, deep=True)
    assert [finding for finding in found if finding.where != "storage"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_one_request_that_fails_is_made_again(site, faulty, kind):
    """Nobody notices."""
    key, wanted = site.key(), set()
    for number in range(1, MOST):
        package = conda_package("demo", f"1.{number}")
        faulty.begin(lambda at, *_, number=number: kind if at == number else "")
        answer = site.put("lab", package, key)
        site.settle()
        made = faulty.count
        faulty.begin(nothing)
        assert answer.status_code == 201, (number, answer.text)
        wanted.add(package[0])
        assert listed(site) == wanted
        if made < number:
            break
    assert 3 < number < MOST
    whole(site)


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_fails_from_the_nth_request_on_is_503_and_nothing_is_half_done(site, faulty, kind):
    key, wanted = site.key(), set()
    for number in range(1, MOST):
        package = conda_package("demo", f"1.{number}")
        before = listed(site)
        faulty.begin(lambda at, *_, number=number: kind if at >= number else "")
        answer = site.put("lab", package, key)
        done = faulty.count < number
        assert answer.status_code in {201, 503}, (number, answer.text)
        assert answer.status_code == 201 or (answer.headers["retry-after"], answer.json()["code"]) == ("5", "busy")
        assert not list(site.app.staging.folder.iterdir())
        index = site.get("/lab/noarch/repodata.json")
        # What is known is served, though a build may be behind. Before the first there is nothing; and a store that takes
        # what it does not give back leaves a new index that cannot be read.
        if number > 1 and kind not in {"half", "unheard"}:
            assert (index.status_code, set(index.json()["packages.conda"])) == (200, before)
        assert index.status_code in {200, 503}
        faulty.begin(nothing)
        assert site.put("lab", package, key).status_code == (200 if answer.status_code == 201 else 201)
        wanted.add(package[0])
        assert eventually(lambda: listed(site) == wanted, seconds=10)
        whole(site)
        if done:
            break
    assert 1 < number < MOST


def test_a_store_that_hangs_is_found_out_while_the_client_waits(database_url, tmp_path):
    """Small requests get ten seconds, where a large part gets a minute."""
    with own_s3_server() as own:
        options = {
            "data": tmp_path / "data",
            "database_url": database_url,
            "storage_url": f"s3://{own.fresh_bucket()}",
            "reading_processes": 1,
        }
        app = Fairway(load(options, environ=own.options))
        with Site(app) as site:
            site.channel("lab", "public")
            key, package = site.key(), conda_package("demo")
            own.pause()
            try:
                begun = time.monotonic()
                answer = site.put("lab", package, key)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
                assert time.monotonic() - begun < cloud.REQUEST_SECONDS / 2
            finally:
                own.resume()
            assert not list(app.staging.folder.iterdir())
            assert site.put("lab", package, key).status_code == 201
        app.close()
