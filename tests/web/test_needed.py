"""Which channels a package needs, on its page: what is shown to whom, what starts a solver, and what strangers wrote."""

from __future__ import annotations

import pytest
from sqlalchemy import event, select

from fairway.app import Fairway
from fairway.cli.upstreams import run
from fairway.db.models import Channel
from fairway.registry import upstreams
from fairway.registry.actor import CONSOLE
from fairway.registry.solving import WAITING_MOST
from fairway.settings import load as settings
from tests.support import related
from tests.support.browser import Tags
from tests.support.builders import conda_package
from tests.support.rows import load, made, named
from tests.support.site import Site
from tests.support.upstream import Upstream

BIO = "/channels/bio/packages"
ALIGNER = f"{BIO}/aligner"
MOST_STATEMENTS = 8


@pytest.fixture
def bio(site):
    related.fill(site.app)
    return site


class Shown(Tags):
    """The part of the page that says which channels are needed."""

    def __init__(self, answer):
        assert answer.status_code == 200, answer.text[:500]
        assert answer.headers["cache-control"] == "no-store"
        self.html = answer.text.partition('id="needed"')[2].partition("</section>")[0]
        assert self.html
        super().__init__("<div" + self.html)

    @property
    def channels(self):
        """The chips of channels, in their order."""
        return [one["href"].rpartition("/")[2] for one in self.named("a") if "chip" in (one.get("class") or "")]

    @property
    def commands(self):
        return [part.partition("</code>")[0] for part in self.html.split("<pre><code>")[1:]]

    @property
    def asks(self):
        return "hx-get" in self.html


def shown(site, path, key=None):
    return Shown(site.get(path, key))


def test_a_page_asks_for_what_is_not_known_and_shows_what_is(bio):
    base = bio.app.settings.url
    before = shown(bio, ALIGNER)
    assert before.asks
    assert "Finding out which channels are needed" in before.text
    assert before.channels == []
    assert before.commands[1] == f"conda install -c {base}/forge -c {base}/bio aligner"
    assert bio.app.solving.solved == 0  # looking at a page starts no solver
    found = shown(bio, f"{ALIGNER}/needed")
    assert not found.asks
    assert found.channels == ["forge", "bio"]
    assert "Needs these channels, in this order" in found.text
    assert "4 packages, 42\N{NARROW NO-BREAK SPACE}MB to download" in found.text
    assert found.commands == [
        f"pixi workspace channel add {base}/forge {base}/bio\npixi add aligner",
        f"conda install -c {base}/forge -c {base}/bio aligner",
        f"mamba install -c {base}/forge -c {base}/bio aligner",
        f"micromamba install -c {base}/forge -c {base}/bio aligner",
    ]
    assert bio.app.solving.solved == 1
    assert shown(bio, ALIGNER).html == found.html
    assert bio.app.solving.solved == 1


def test_without_a_script_a_link_leads_there(bio):
    links = [
        one["href"] for one in shown(bio, f"{ALIGNER}?glibc=2.31&cuda=").named("a") if one.get("rel") == "nofollow"
    ]
    assert links == [f"{ALIGNER}/needed?glibc=2.31"]
    assert shown(bio, links[0]).channels == ["forge", "bio"]


def test_a_package_that_needs_nothing_else_names_its_channel_alone(bio):
    found = shown(bio, f"{BIO}/alone/needed")
    assert found.channels == ["bio"]
    assert "Needs this channel alone" in found.text
    assert found.commands[1].endswith("-c http://127.0.0.1:8000/bio alone")
    assert "forge" not in found.html


def test_the_platform_can_be_chosen_and_the_machine(bio):
    page = Tags(bio.get(f"{BIO}/anywhere").text)
    assert [one["value"] for one in page.named("option")] == [
        "", "linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64",
    ]  # fmt: skip
    assert "On a machine with glibc 2.28, Linux 4.18, no CUDA" in page.text
    found = shown(bio, f"{BIO}/anywhere/needed?platform=osx-arm64")
    assert "on osx-arm64: 2 packages, 14\N{NARROW NO-BREAK SPACE}MB" in found.text
    mac = Tags(bio.get(f"{BIO}/anywhere?platform=osx-arm64").text)
    assert {one["name"] for one in mac.named("input")} >= {"osx"}
    assert not {"glibc", "cuda"} & {one.get("name") for one in mac.named("input")}
    without = shown(bio, f"{BIO}/fast/needed")
    assert "The system that was asked for does not have: __cuda &gt;=12" in without.html
    assert shown(bio, f"{BIO}/fast/needed?cuda=12.4").channels == ["bio"]
    assert 'details class="machine" open' in bio.get(f"{BIO}/fast?cuda=12.4").text


@pytest.mark.parametrize("query", ["platform=noarch", "platform=../x", "glibc=two", "cuda=12;rm"])
def test_what_cannot_be_asked_is_refused(bio, query):
    assert bio.get(f"{ALIGNER}/needed?{query}").status_code == 400
    assert bio.get(f"{ALIGNER}?{query}").status_code == 400


def test_a_version_that_is_chosen_is_solved_and_named(bio):
    key = bio.key()
    for version, depends in (("1.0", []), ("2.0", ["python"])):
        assert bio.put("bio", conda_package("tool", version, depends=depends), key).status_code == 201
    assert shown(bio, f"{BIO}/tool/needed").channels == ["forge", "bio"]
    found = shown(bio, f"{BIO}/tool/needed?version=1.0")
    assert found.channels == ["bio"]
    assert found.commands[0].endswith("pixi add &#34;tool==1.0&#34;")
    assert bio.get(f"{BIO}/tool/needed?version=9").status_code == 404


def test_of_what_is_yanked_nothing_is_asked(bio):
    key = bio.key()
    bio.put("bio", conda_package("tool", "1.0"), key)
    bio.put("bio", conda_package("tool", "2.0"), key)
    yank = "/api/v1/channels/bio/packages/tool/versions/1.0/yank"
    bio.client.put(yank, json={"reason": "wrong"}, headers={"authorization": f"Bearer {key}"})
    found = shown(bio, f"{BIO}/tool/needed?version=1.0")
    assert not found.asks
    assert bio.app.solving.solved == 0
    assert "1.0 is yanked: wrong" in bio.get(f"{BIO}/tool?version=1.0").text


def test_a_channel_that_is_not_related_is_marked(bio):
    found = shown(bio, f"{BIO}/viewer/needed")
    assert found.channels == ["forge", "bio", "extra"]
    assert found.html.count("not related</span>") == 1
    assert "extra is not related to bio: it only happens to have what is needed." in found.text
    assert "not related" not in shown(bio, f"{ALIGNER}/needed").html


def test_a_private_channel_is_named_to_who_may_read_it(bio):
    bio.user("stranger")
    for key in (None, bio.key("stranger")):
        found = shown(bio, f"{BIO}/sealed/needed", key)
        assert "vault" not in found.html
        assert "secret-codec" in found.html
        assert found.channels == []
    mine = shown(bio, f"{BIO}/sealed/needed", bio.key())
    assert mine.channels == ["forge", "bio", "vault"]
    assert "Only its members see it" in mine.html
    assert mine.commands[1].count("/t/KEY/") == 3
    assert "vault is not for everybody" in mine.text
    # and what was found for one is not shown to another
    for key in (None, bio.key("stranger")):
        assert "vault" not in bio.get(f"{BIO}/sealed", key).text
    assert shown(bio, f"{BIO}/sealed", bio.key()).channels == mine.channels


def test_what_cannot_be_installed_says_why(bio):
    lonely = shown(bio, f"{BIO}/lonely/needed")
    assert (
        "lonely 1.0 cannot be installed on linux-64. No channel that you may read has, for that platform:"
        in lonely.text
    )
    assert '<span class="chip chip-bad">' in lonely.html
    assert "ghost &gt;=2" in lonely.html.partition("What the solver says")[2]
    assert lonely.commands[1].endswith("/forge -c http://127.0.0.1:8000/bio lonely")
    torn = shown(bio, f"{BIO}/torn/needed")
    assert "The dependencies cannot all be met at once" in torn.text
    assert "chip-bad" not in torn.html
    stepped = shown(bio, f"{BIO}/stepped/needed")
    assert (
        "The newest version, 2.0, cannot be installed, so 1.0 is taken. No channel that you may read has, for that platform:"
        in stepped.text
    )
    assert "Installs stepped 1.0" in stepped.text


def test_what_is_decided_by_the_order_is_said(bio):
    load(bio.app, "forge", "linux-64", named(made("aligner", "0.5")))
    load(bio.app, "bio", "linux-64", named(made("zlib", "1.2")))
    found = shown(bio, f"{ALIGNER}/needed")
    assert "forge comes before bio and has a package called aligner too" in found.text
    assert "Keep the order of the channels: aligner, zlib are in several of them" in found.text


def test_sizes_that_nobody_knows_are_not_made_up(bio):
    load(bio.app, "bio", "linux-64", named(made("vague", "1.0", ["zlib"], size=None)))
    assert "2 packages, at least 92\N{NARROW NO-BREAK SPACE}kB" in shown(bio, f"{BIO}/vague/needed").text


def test_what_strangers_wrote_is_text(bio):
    evil = "<img src=x onerror=y>"
    load(bio.app, "bio", "linux-64", named(made("evil", "1.0", [f"{evil} >=1", "python >=9"])))
    found = shown(bio, f"{BIO}/evil/needed")
    assert "&lt;img src=x" in found.html
    assert not found.named("img")
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]


def test_strangers_cannot_use_up_the_solver(tmp_path):
    options = {"data": tmp_path / "few", "reading_processes": 1, "solves_per_minute": 1}
    app = Fairway(settings(options, environ={}))
    with app, Site(app) as site:
        related.fill(app)
        for n in range(20):
            found = shown(site, f"{ALIGNER}/needed?glibc=2.{n + 20}")
        assert app.solving.solved == 10
        assert "You have asked very often in the last minute" in found.text
        assert not found.asks  # nor does the page go on by itself
        assert found.commands[1] == "conda install -c http://127.0.0.1:8000/forge -c http://127.0.0.1:8000/bio aligner"
        assert shown(site, f"{ALIGNER}/needed?glibc=2.20").channels == ["forge", "bio"]  # known, and so not counted
        for n in range(40):
            assert shown(site, f"{ALIGNER}?glibc=3.{n}").asks
        assert app.solving.solved == 10


def test_a_solver_that_is_busy_or_too_slow_says_so(bio):
    solving = bio.app.solving
    for _ in range(WAITING_MOST):
        assert solving._places.acquire(blocking=False)
    found = shown(bio, f"{ALIGNER}/needed")
    assert "Too many are asking which channels a package needs." in found.text
    assert found.commands[1].endswith(" aligner")
    solving._places.release(WAITING_MOST)
    solving.seconds = 0.0
    late = shown(bio, f"{ALIGNER}/needed")
    assert "could not be found out in time" in late.text
    assert [one["href"] for one in late.named("a") if one.get("rel") == "nofollow"] == [f"{ALIGNER}/needed"]


def test_the_page_waits_for_no_solver_and_asks_the_database_little(bio):
    asked = []
    event.listen(bio.app.database.reader, "before_cursor_execute", lambda *a: asked.append(a[2]))

    def statements(path):
        found = []
        for _ in range(3):
            asked.clear()
            shown(bio, path)
            found.append(len([one for one in asked if one != "BEGIN"]))
        return min(found)

    step = 1  # from bio to forge, which is a statement more
    assert statements(ALIGNER) <= MOST_STATEMENTS + step
    for name in ("aligner", "viewer"):
        shown(bio, f"{BIO}/{name}/needed")
    if not bio.app.database.is_sqlite:
        step += 1  # whether what was solved still holds: SQLite is asked that past SQLAlchemy, and uncounted here
    assert statements(ALIGNER) <= MOST_STATEMENTS + step
    assert statements(f"{BIO}/viewer") <= MOST_STATEMENTS + step + 2


def test_a_package_that_only_an_upstream_has(database_url, tmp_path):
    with Upstream() as upstream:
        upstream.add("demo", "1.0", depends=["lib >=1"])
        upstream.add("lib", "1.0")
        upstream.publish()
        options = {"data": tmp_path / "data", "database_url": database_url, "upstream_allow": upstream.allow}
        with Fairway(settings(options, environ={})) as app, Site(app) as site:
            site.channel("lab", "public")
            with app.database.write() as session:
                upstreams.attach(session, CONSOLE, "lab", upstreams.Settings(upstream.url), now=app.now())
                number = session.scalar(select(Channel.id).where(Channel.name == "lab"))
            run(app, number)
            found = shown(site, "/channels/lab/packages/demo/needed")
            assert found.channels == ["lab"]
            assert found.commands[1] == "conda install -c http://127.0.0.1:8000/lab demo"
            assert upstream.url not in found.html
            chosen = shown(site, "/channels/lab/packages/demo/needed?version=1.0")
            assert chosen.commands[1] == "conda install -c http://127.0.0.1:8000/lab demo=1.0"
