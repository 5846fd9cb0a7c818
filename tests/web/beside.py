"""A channel "lab" of somebody called owner beside an upstream, over HTTP: `from tests.web.beside import site, upstream` for the
fixtures.
"""

from __future__ import annotations

import pytest

from fairway.app import Fairway
from fairway.cli.upstreams import run
from fairway.db.models import Channel
from fairway.db.models import Upstream as Row
from fairway.settings import load
from tests.support.site import Site, bearer
from tests.support.upstream import Upstream

API = "/api/v1/channels/lab/upstream"
SETTINGS = "/channels/lab/settings/upstream"


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        upstream.add("demo", "1.0")
        upstream.add("demo", "2.0", depends=["lib >=1"])
        upstream.add("lib", "1.0", subdir="linux-64")
        upstream.publish()
        yield upstream


@pytest.fixture
def site(database_url, tmp_path, upstream):
    options = {"data": tmp_path / "data", "database_url": database_url, "upstream_allow": upstream.allow}
    with Fairway(load(options, environ={})) as app, Site(app) as site:
        site.user("owner")
        site.channel("lab", "public", owner="owner")
        yield site


def put(site, key=None, /, **body):
    return site.client.put(API, json=body, headers=bearer(key or site.key("owner", "admin")))


def look(site):
    with site.app.database.read() as session:
        number = session.query(Channel.id).filter_by(name="lab").scalar()
    return run(site.app, number)


def row(site):
    with site.app.database.read() as session:
        return session.query(Row).one_or_none()


def fields(upstream, **others):
    return {"url": upstream.url, "every": "1800", "keep": "1", "platforms": "", **others}
