"""Relations of channels over HTTP: what clients fetch, the API, and the form in the settings."""

from __future__ import annotations

import re

import orjson
import pytest

from fairway.conda.shards import decompressed
from fairway.registry import channels, trash
from fairway.registry.actor import CONSOLE
from tests.registry.world import unpacked
from tests.support.builders import conda_package
from tests.support.site import bearer

SETTINGS = "/channels/mine/settings/relations"


@pytest.fixture
def two(site):
    """The public channels `mine` (of "owner") and `forge`, with nothing in them."""
    site.user("owner")
    site.channel("mine", "public", owner="owner")
    site.channel("forge", "public")
    return site


def told(site, channel="mine", subdir="noarch"):
    """What the documents say, which all must say alike."""
    flat = site.get(f"/{channel}/{subdir}/repodata.json").json()["info"]
    packed = decompressed(site.get(f"/{channel}/{subdir}/repodata.json.zst").content)
    assert orjson.loads(packed)["info"] == flat
    index = unpacked(site.get(f"/{channel}/{subdir}/repodata_shards.msgpack.zst").content)["info"]
    assert index.get("channel_relations") == flat.get("channel_relations")
    assert index["subdir"] == flat["subdir"] == subdir
    exports = site.get(f"/{channel}/{subdir}/run_exports.json").json()["info"]
    assert exports == {"subdir": subdir, "version": 1}
    return flat.get("channel_relations")


def patch(site, key=None, /, channel="mine", **body):
    return site.client.patch(f"/api/v1/channels/{channel}", json=body, headers=bearer(key or site.key(scope="admin")))


def test_relations_are_read_from_an_empty_channel(two):
    assert told(two) is None
    before = two.get("/mine/noarch/repodata.json").headers["etag"]
    assert patch(two, base="forge").json()["base"] == "forge"
    for subdir in ("noarch", "linux-64", "win-arm64"):
        assert told(two, subdir=subdir) == {"base": "../forge"}
    answer = two.get("/mine/noarch/repodata.json", if_none_match=before)
    assert answer.status_code == 200
    assert told(two, "forge") is None


def test_relations_are_read_where_packages_are_and_where_none_are(two):
    key = two.key()
    two.put("mine", conda_package("tool"), key)
    assert told(two) is None
    patch(two, base="forge")
    assert told(two) == told(two, subdir="osx-64") == {"base": "../forge"}
    two.put("mine", conda_package("tool", "2.0"), key)
    assert told(two) == {"base": "../forge"}
    with two.app.database.write() as session:
        channels.delete_channel(session, CONSOLE, "forge", now=two.app.now())
    assert told(two) is told(two, subdir="osx-64") is None


def test_the_api_says_sets_and_takes_away(two):
    two.channel("low", "public")
    assert two.get("/api/v1/channels/mine").json()["base"] is None
    answer = patch(two, base="forge", overrides="low", description="text")
    assert (answer.json()["base"], answer.json()["overrides"]) == ("forge", "low")
    assert patch(two, description="other").json()["base"] == "forge"
    listed = {one["name"]: one["base"] for one in two.get("/api/v1/channels").json()["items"]}
    assert listed == {"mine": "forge", "forge": None, "low": None}
    answer = patch(two, base=None)
    assert (answer.json()["base"], answer.json()["overrides"]) == (None, "low")
    assert patch(two, overrides="").json()["overrides"] is None
    answer = patch(two, base="mine")
    assert (answer.status_code, answer.json()["code"]) == (422, "relation_invalid")
    assert patch(two, two.key("owner", "admin"), base="forge").status_code == 200
    assert patch(two, two.key("owner"), base="").status_code == 403


def test_a_channel_that_is_hidden_is_not_there(two):
    """Named or not, private or missing: the same words."""
    two.channel("secret")
    key = two.key("owner", "admin")
    words = [patch(two, key, base=name).json()["detail"].replace(name, "X") for name in ("secret", "nothing")]
    assert words[0] == words[1]
    assert patch(two, two.key(scope="admin"), base="secret").json()["detail"].startswith("secret is private")


def test_the_form_says_what_is_so_and_what_is_wrong(two):
    browser = two.browser("owner")
    assert browser.get(SETTINGS).status_code == 200
    answer = browser.post(SETTINGS, {"base": " forge ", "overrides": ""})
    assert (answer.status_code, answer.headers["location"]) == (303, SETTINGS)
    page = browser.get(SETTINGS).text
    assert 'value="forge"' in page
    assert told(two) == {"base": "../forge"}
    answer = browser.post(SETTINGS, {"base": "forge", "overrides": "nothing<b>"})
    assert answer.status_code == 422
    assert "There is no channel nothing&lt;b&gt; here" in answer.text
    assert 'id="f-overrides-error"' in answer.text
    assert 'value="forge"' in answer.text
    two.channel("within", "internal")
    with two.app.database.write() as session:
        channels.update_channel(
            session, CONSOLE, "forge", channels.Change(visibility=channels.Visibility.INTERNAL), now=two.app.now()
        )
    assert "Clients are not told of forge now" in browser.get(SETTINGS).text
    assert browser.post(SETTINGS, {"base": "", "overrides": ""}).status_code == 303
    assert told(two) is None


def shown(page):
    """What a browser sends of the form as it was shown."""
    return dict(re.findall(r'name="(base|overrides|base-shown|overrides-shown)"[^>]* value="([^"]*)"', page.text))


def test_a_field_that_is_left_as_it_was_shown_says_nothing(two):
    """Of a channel in the trash the form shows nothing, and may not take that for the owner's word."""
    browser = two.browser("owner")
    two.channel("fixed", "public")
    assert browser.post(SETTINGS, {"base": "forge", "base-shown": ""}).status_code == 303
    with two.app.database.write() as session:
        channels.delete_channel(session, CONSOLE, "forge", now=two.app.now())
    form = shown(browser.get(SETTINGS))
    assert form == {"base": "", "base-shown": "", "overrides": "", "overrides-shown": ""}
    assert browser.post(SETTINGS, form | {"overrides": "fixed"}).status_code == 303
    assert told(two) == {"overrides": "../fixed"}
    with two.app.database.write() as session:
        trash.restore_channel(session, CONSOLE, "forge", now=two.app.now(), keep_ms=1 << 50)
    two.settle()
    assert told(two) == {"base": "../forge", "overrides": "../fixed"}
    form = shown(browser.get(SETTINGS))
    refused = browser.post(SETTINGS, form | {"base": "", "overrides": "nothing"})
    assert refused.status_code == 422
    again = shown(refused)
    assert again == {"base": "", "base-shown": "forge", "overrides": "nothing", "overrides-shown": "fixed"}
    assert browser.post(SETTINGS, again | {"overrides": "fixed"}).status_code == 303
    assert told(two) == {"overrides": "../fixed"}
