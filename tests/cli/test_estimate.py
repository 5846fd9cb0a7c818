"""`fairway upstream estimate`: how much a mirror would hold."""

from __future__ import annotations

import json

import pytest

from tests.support.upstream import Upstream


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        upstream.add("demo", "1.0")
        upstream.add("demo", "2.0", depends=["lib >=1"], license="MIT")
        upstream.add("lib", "1.0", subdir="linux-64")
        upstream.publish()
        yield upstream


@pytest.fixture
def estimated(cli, upstream):
    """The lines of an estimate of the channel "lab", `{platform: (packages, records)}`."""

    def ask(*options):
        done = cli("upstream", "estimate", "lab", *options, "--json", env=env)
        assert done.status == 0, done.stderr
        return {line["platform"]: (line["packages"], line["records"]) for line in json.loads(done.stdout)}

    env = {"FAIRWAY_UPSTREAM_ALLOW": upstream.allow}
    assert cli("upstream", "set", "lab", upstream.url, env=env).status == 0
    ask.set = lambda *options: cli("upstream", "set", "lab", upstream.url, *options, env=env)
    ask.refresh = lambda: cli("upstream", "refresh", "lab", env=env)
    ask.text = lambda: cli("upstream", "estimate", "lab", env=env).stdout
    return ask


CHOICES = [
    ([], {"linux-64": (1, 1), "noarch": (1, 2)}),
    (["--platform", "linux-64"], {"linux-64": (1, 1)}),
    (["--name", "demo", "--newest", "1"], {"noarch": (1, 1)}),
    (["--name", "demo", "--newest", "1", "--closure"], {"linux-64": (1, 1), "noarch": (1, 1)}),
    (["--spec", "demo <2", "--spec", "lib"], {"linux-64": (1, 1), "noarch": (1, 1)}),
    (["--licence", "mit"], {"noarch": (1, 1)}),
    (["--name", "nothing-*"], {}),
]


def test_it_is_asked_of_the_upstream_before_anything_was_read(estimated, upstream):
    assert [estimated(*options) for options, _ in CHOICES] == [there for _, there in CHOICES]
    assert upstream.count("*.conda") == 0


def test_what_was_read_is_not_asked_for_again(estimated, upstream):
    assert estimated.refresh().status == 0
    asked = upstream.count()
    assert [estimated(*options) for options, _ in CHOICES] == [there for _, there in CHOICES]
    assert upstream.count() == asked
    assert "2 packages, 3 records (a file each), " in estimated.text()


def test_without_a_choice_it_is_of_the_one_that_is_saved(estimated, upstream):
    assert estimated.set("--mirror", "--name", "demo", "--newest", "1").status == 0
    assert estimated() == {"noarch": (1, 1)}
    assert estimated.refresh().status == 0
    asked = upstream.count()
    assert estimated() == {"noarch": (1, 1)}
    assert upstream.count() == asked
    assert estimated("--name", "*") == {"linux-64": (1, 1), "noarch": (1, 2)}  # which the upstream has to say
    assert upstream.count() > asked


def test_what_cannot_be_chosen_is_said_in_a_sentence(cli, estimated, upstream):
    env = {"FAIRWAY_UPSTREAM_ALLOW": upstream.allow}
    done = cli("upstream", "estimate", "lab", "--spec", "demo >>1", env=env)
    assert (done.status, "is no match spec" in done.stderr) == (1, True)
    done = cli("upstream", "estimate", "lab", "--platform", "mars-64", env=env)
    assert (done.status, "There is no platform mars-64" in done.stderr) == (1, True)
