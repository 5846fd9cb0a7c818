"""Which channels a package needs, over HTTP."""

import asyncio
import shlex

import pytest
from rattler import Channel, ChannelPriority, MatchSpec, SparseRepoData, solve_with_sparse_repodata

from fairway.app import Fairway
from fairway.registry import channels
from fairway.registry.actor import CONSOLE
from fairway.settings import load as settings
from tests.support.rows import load, made, named
from tests.support.site import Site

SOLVE = "/api/v1/channels/own/packages/app/solve"


@pytest.fixture
def site(site):
    site.channel("own", "public")
    site.channel("libs", "public")
    load(site.app, "own", "linux-64", named(made("app", "1.0", ["lib"]), made("app", "0.9")))
    load(site.app, "own", "osx-arm64", named(made("app", "1.0", ["lib"], subdir="osx-arm64")))
    load(site.app, "libs", "linux-64", named(made("lib", "3.1", size=None)))
    return site


def test_the_answer_has_the_channels_the_packages_and_the_lines_to_copy(site):
    found = site.get(SOLVE).json()
    base = site.app.settings.url
    assert found["solvable"]
    assert found["channels"] == [
        {"name": "own", "url": f"{base}/own", "visibility": "public", "related": True},
        {"name": "libs", "url": f"{base}/libs", "visibility": "public", "related": False},
    ]
    assert [(one["name"], one["version"], one["channel"], one["size"]) for one in found["packages"]] == [
        ("app", "1.0", "own", 1000),
        ("lib", "3.1", "libs", None),
    ]
    assert (found["version"], found["newest"], found["platform"], found["size"]) == ("1.0", "1.0", "linux-64", 1000)
    lines = {one["client"]: one["text"] for one in found["commands"]}
    assert lines == {
        "pixi": f"pixi workspace channel add {base}/own {base}/libs\npixi add app",
        "conda": f"conda install -c {base}/own -c {base}/libs app",
        "mamba": f"mamba install -c {base}/own -c {base}/libs app",
        "micromamba": f"micromamba install -c {base}/own -c {base}/libs app",
    }


def test_a_version_that_is_named_is_in_the_lines(site):
    found = site.get(f"{SOLVE}?version=0.9").json()
    assert [one["name"] for one in found["channels"]] == ["own"]
    assert {one["client"]: one["text"] for one in found["commands"]}["conda"].endswith(" app=0.9")


def test_a_key_stands_in_the_lines_if_a_channel_needs_one(site):
    site.channel("vault")
    load(site.app, "vault", "osx-arm64", named(made("lib", subdir="osx-arm64")))
    question = f"{SOLVE}?platform=osx-arm64"
    assert not site.get(question).json()["solvable"]
    found = site.get(question, site.key()).json()
    conda = next(one["text"] for one in found["commands"] if one["client"] == "conda")
    assert conda.count("/t/KEY/") == 2


def test_no_is_an_answer(site):
    found = site.get(f"{SOLVE}?platform=osx-arm64").json()
    assert (found["solvable"], found["decided"], found["commands"], found["channels"]) == (False, True, [], [])
    assert found["reason"] == "These dependencies are met by no channel you may read: lib."
    assert found["unmet"] == ["lib"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("platform=noarch", 400, "subdir_invalid"),
        ("platform=../linux", 400, "subdir_invalid"),
        ("glibc=2.x", 400, "virtual_invalid"),
        ("cuda=12;rm", 400, "virtual_invalid"),
        ("version=1..0", 422, "version_invalid"),
        ("version=" + "1" * 65, 422, "request_invalid"),
    ],
)
def test_what_cannot_be_asked(site, query, status, code):
    answer = site.get(f"{SOLVE}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_who_may_ask(site):
    site.channel("vault")
    load(site.app, "vault", "linux-64", named(made("app")))
    hidden = SOLVE.replace("own", "vault")
    assert site.get(hidden).status_code == 401
    assert site.get(hidden).content == site.get(SOLVE.replace("own", "nothing")).content
    site.user("stranger")
    assert site.get(hidden, site.key("stranger")).status_code == 404
    assert site.get(SOLVE.replace("app/", "none/")).status_code == 404


def test_questions_that_were_not_answered_yet_are_counted(tmp_path):
    options = {"data": tmp_path / "few", "reading_processes": 1, "solves_per_minute": 1}
    app = Fairway(settings(options, environ={}))
    with app, Site(app) as site:
        site.channel("own", "public")
        load(app, "own", "linux-64", named(*(made("app", f"{n}.0") for n in range(20))))
        for _ in range(30):
            assert site.get(SOLVE).status_code == 200
        answers = [site.get(f"{SOLVE}?version={n}.0") for n in range(15)]
        assert [one.status_code for one in answers].count(200) == 9
        refused = answers[-1]
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert site.get(SOLVE).status_code == 200
        assert app.solving.solved == 10


def test_the_lines_name_the_channel_where_one_before_it_has_the_name_too(site, tmp_path):
    """As rattler takes them, with its strict priority: without the channel it takes the other package."""
    site.channel("base", "public")
    load(site.app, "own", "linux-64", named(made("tool", "1.0", ["python"])))
    load(site.app, "base", "linux-64", named(made("tool", "5.0"), made("python")))
    with site.app.database.write() as session:
        channels.update_channel(session, CONSOLE, "own", channels.Change(base="base"), now=site.app.now())
    base = site.app.settings.url
    for version, pinned, exactly in (("", "tool", "tool"), ("?version=1.0", "tool=1.0", "tool==1.0")):
        found = site.get(f"/api/v1/channels/own/packages/tool/solve{version}").json()
        assert (found["hidden_by"], found["version"]) == ("base", "1.0")
        lines = {one["client"]: one["text"] for one in found["commands"]}
        both = f"-c {base}/base -c {base}/own"
        wanted = {
            client: f"{client} install {both} {base}/own::{pinned}" for client in ("conda", "mamba", "micromamba")
        }
        quoted = f'"{base}/own::{exactly}"' if version else f"{base}/own::{exactly}"
        assert lines == wanted | {"pixi": f"pixi workspace channel add {base}/base {base}/own\npixi add {quoted}"}
        notes = {one["client"]: one["note"] for one in found["commands"]}
        assert notes["pixi"] is None
        assert all("strict" in notes[client] for client in ("conda", "mamba", "micromamba"))
        for spec, expected in ((shlex.split(lines["pixi"])[-1], ("1.0", "own")), ("tool", ("5.0", "base"))):
            assert taken_by_rattler(site, tmp_path, spec) == expected


def taken_by_rattler(site, folder, spec):
    """The version of tool and its channel."""
    documents = []
    site.settle()
    for name in ("base", "own"):
        path = folder / f"{name}.json"
        path.write_bytes(site.client.get(f"/{name}/linux-64/repodata.json").content)
        documents.append(SparseRepoData(Channel(f"{site.app.settings.url}/{name}"), "linux-64", path))
    solved = asyncio.run(
        solve_with_sparse_repodata([MatchSpec(spec)], documents, channel_priority=ChannelPriority.Strict)
    )
    (tool,) = (one for one in solved if one.name.normalized == "tool")
    return str(tool.version), tool.channel.rstrip("/").rpartition("/")[2]
