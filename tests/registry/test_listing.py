"""What pages show: the right rows in the right order, for who may see them, in a bounded number of statements."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest
from sqlalchemy import event, select, text, update

from fairway import errors
from fairway.db.models import Audit, Package
from fairway.registry import browse, contents, listing, oversight, packages, theirs, withdraw
from fairway.registry.access import Action
from fairway.registry.actor import CONSOLE, NOBODY, Role
from fairway.registry.listing import Sort, Which
from fairway.registry.paging import encoded
from fairway.registry.statistics import DAY_MS
from tests.support.builders import conda_package


@contextmanager
def asked(world) -> Iterator[list[str]]:
    """The statements that are sent in this block, without those that begin and end a transaction."""
    said: list[str] = []

    def note(*arguments):
        said.append(arguments[2])

    event.listen(world.app.database.reader, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(world.app.database.reader, "before_cursor_execute", note)
        said[:] = [one for one in said if not one.startswith(("BEGIN", "PRAGMA"))]


@contextmanager
def reading(world, actor=CONSOLE, channel="lab", *, most):
    """A session and a channel's head, and what may be asked of it in this block."""
    with world.app.database.read() as session:
        head = listing.enter(session, actor, channel)
        with asked(world) as said:
            yield session, head
        assert len(said) <= most, said


def walk(page_of, **options):
    """All items of a listing, forwards, and the proof that walking back shows the same."""
    pages, cursor = [], ""
    while True:
        page = page_of(cursor=cursor, **options)
        pages.append(page)
        if page.cursor is None:
            break
        cursor = page.cursor
    back = [pages[-1]]
    while back[-1].previous is not None:
        back.append(page_of(cursor=back[-1].previous, **options))
    assert [page.items for page in reversed(back)] == [page.items for page in pages]
    return [item for page in pages for item in page.items]


def count(world, filename, number, *, day=0, subdir="noarch"):
    with world.app.database.read() as session:
        file = browse.one_file(session, CONSOLE, "lab", subdir, filename)
    for _ in range(number):
        world.app.counts.download(file.id, now=world.now - day * DAY_MS)
    world.app.counts.flush(world.app.database)


def explained(session, statement):
    """How the database would answer: with its indexes wherever they would do, since a handful of rows needs none."""
    if session.get_bind().dialect.name == "sqlite":
        return session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", ()).all()
    session.execute(text("SET LOCAL enable_seqscan = off"))
    return session.connection().exec_driver_sql(f"EXPLAIN {statement}", {}).all()


@pytest.fixture
def many(world):
    """Seven packages, each a minute later than the one before, the last for linux-64 alone."""
    for number in range(7):
        subdir = "linux-64" if number == 6 else "noarch"
        world.put(conda_package(f"pack-{number}", about={"summary": f"number {number}"}, subdir=subdir))
        world.now += 60_000
    return world


def test_packages_by_name_change_and_downloads_a_page_at_a_time(many):
    count(many, "pack-2-1.0-h0_0.conda", 5)
    count(many, "pack-4-1.0-h0_0.conda", 7, day=2)
    names = [f"pack-{number}" for number in range(7)]
    wanted = {
        Sort.NAME: names,
        Sort.UPDATED: names[::-1],
        Sort.DOWNLOADS: ["pack-4", "pack-2", "pack-6", "pack-5", "pack-3", "pack-1", "pack-0"],
    }
    for sort, expected in wanted.items():
        for limit in (1, 2, 3, 7, 50):
            with reading(many, most=60) as (session, head):
                rows = walk(
                    lambda sort=sort, session=session, head=head, **more: listing.packages(
                        session, head, sort=sort, now=many.now, **more
                    ),
                    limit=limit,
                )
            assert [row.name for row in rows] == expected
    with reading(many, most=2) as (session, head):
        row = listing.packages(session, head, sort=Sort.DOWNLOADS, now=many.now).items[0]
    assert (row.version, row.summary, row.platforms, row.downloads) == ("1.0", "number 4", ("noarch",), 7)
    assert (row.recent[-3:], sum(row.recent), len(row.recent)) == ((7, 0, 0), 7, 30)


def test_packages_are_filtered_by_text_and_platform(many):
    def found(**options):
        with reading(many, most=2) as (session, head):
            return [row.name for row in listing.packages(session, head, now=many.now, **options).items]

    assert found(text=" ACK-3") == ["pack-3"]
    assert found(text="%") == found(text="pack_3") == []
    assert len(found(platform="linux-64")) == 7  # noarch installs there too
    assert len(found(platform="osx-64")) == 6
    assert found(platform="nonsense") == []
    with reading(many, most=1) as (session, head):
        assert listing.subdirs(session, head) == ("noarch", "linux-64")


def told(cursor):
    """The numbers in a cursor."""
    values = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))[2:]
    return {value for value in values if isinstance(value, int)}


def test_cursors_tell_nothing_of_what_happens_elsewhere(many):
    """Two ids with time between them would tell how much was uploaded to channels that one may not read."""
    for version in range(9):  # of one package, at one moment
        many.put(conda_package("other", f"1.{version}", build=f"h{version}_0"))
    many.channel("another")
    many.channel("third")
    with many.app.database.read() as session:
        head = listing.enter(session, CONSOLE, "lab")
        package = packages.show(session, head, "other")
        pages = [
            listing.packages(session, head, sort=Sort.UPDATED, limit=2, now=many.now),
            listing.packages(session, head, sort=Sort.DOWNLOADS, limit=2, now=many.now),
            listing.cards(session, CONSOLE, sort=Sort.UPDATED, limit=1, now=many.now),
            packages.files(session, package, limit=2),
            packages.history(session, package, limit=2),
            oversight.channel_audit(session, head, limit=2),
        ]
        times = {at for (at,) in session.execute(select(Audit.at))} | set(session.scalars(select(Package.updated_at)))
    assert [page.cursor for page in pages if page.cursor is None or told(page.cursor) - times - {0}] == []


def test_a_name_in_a_cursor_is_looked_for_only_where_one_may_look(many):
    """Else a made-up cursor would tell whether a hidden channel has a package, and whether it is older."""
    many.channel("hidden")
    many.put(conda_package("secret"), channel="hidden")
    with many.app.database.read() as session:
        head = listing.enter(session, CONSOLE, "lab")
        for number in range(7):
            row = listing.packages(session, head, text=f"pack-{number}", now=many.now).items[0]
            answers = [
                listing.packages(session, head, sort=Sort.UPDATED, now=many.now, cursor=encoded(place, back=back))
                for place in ([row.updated_at, "secret"], [row.updated_at, "nothing"])
                for back in (False, True)
            ]
            assert answers[:2] == answers[2:]


@pytest.mark.parametrize(
    "cursor", ["x", "W10", "0", "é", "A" * 10_000, "WzAsInMiXQ", "WzIsInMiLCJhIl0", "W1tdLCJzIiwiYSJd"]
)
def test_a_cursor_of_somebody_else_is_refused(many, cursor):
    with pytest.raises(errors.Malformed) as caught, reading(many, most=9) as (session, head):
        listing.packages(session, head, cursor=cursor, now=many.now)
    assert caught.value.code == "cursor_invalid"


def test_who_enters_a_channel_learns_what_they_may_do(world):
    world.channel("open", "public")
    known = {user: world.actor(user) for user in ("viewer", "owner")}
    with world.app.database.read() as session:
        with asked(world) as said:
            viewer = listing.enter(session, known["viewer"], "lab")
            owner = listing.enter(session, known["owner"], "lab")
            nobody = listing.enter(session, NOBODY, "open")
        assert len(said) == 3
        for actor, refusal in ((NOBODY, errors.AuthRequired), (world.actor("stranger"), errors.NotFound)):
            for name in ("lab", "none"):
                with pytest.raises(refusal):
                    listing.enter(session, actor, name)
        with pytest.raises(errors.NotAllowed):
            listing.enter(session, world.actor("viewer"), "lab", Action.UPLOAD)
    assert (viewer.role, viewer.allowed) == (Role.VIEWER, frozenset({Action.READ}))
    assert (owner.role, owner.allowed) == (Role.OWNER, frozenset(Action))
    assert (nobody.role, nobody.allowed, nobody.may(Action.UPLOAD)) == (None, frozenset({Action.READ}), False)


def test_channels_are_listed_for_who_may_see_them(world):
    world.channel("open", "public")
    world.channel("inside", "internal")
    world.put()

    def names(actor, which, **options):
        with world.app.database.read() as session:
            with asked(world) as said:
                cards = walk(lambda **more: listing.cards(session, actor, which, now=world.now, **more), **options)
            assert len(said) <= 2 or options
        return [card.name for card in cards]

    assert names(NOBODY, Which.ALL) == ["open"]
    assert names(NOBODY, Which.MINE) == []
    stranger, viewer, admin = (world.actor(user) for user in ("stranger", "viewer", "admin"))
    assert names(stranger, Which.ALL) == names(stranger, Which.OTHERS) == ["inside", "open"]
    assert (names(viewer, Which.MINE), names(viewer, Which.OTHERS)) == (["lab"], ["inside", "open"])
    assert (names(admin, Which.MINE), names(admin, Which.ALL)) == ([], ["inside", "lab", "open"])
    assert names(admin, Which.ALL, limit=1, sort=Sort.UPDATED) == ["open", "lab", "inside"]
    assert names(admin, Which.ALL, text="PE") == ["open"]
    count(world, "demo-1.0-h0_0.conda", 4, day=29)
    count(world, "demo-1.0-h0_0.conda", 9, day=30)
    with world.app.database.read() as session:
        (card,) = listing.cards(session, viewer, Which.MINE, now=world.now).items
    assert (card.packages, card.artifacts, card.role, card.downloads) == (1, 1, Role.VIEWER, 4)
    assert (card.recent[0], len(card.recent)) == (4, 30)


def test_what_was_published_last_is_shown_to_who_may_see_it(many):
    many.channel("open", "public")
    many.put(conda_package("shown"), channel="open")
    with many.app.database.write() as session:
        home = session.scalar(select(Package.channel_id).where(Package.name == "shown"))
        session.add(theirs.fresh_package(home, "of-an-upstream", many.now * 2))
        session.flush()
        session.execute(
            update(Package)
            .where(Package.name == "of-an-upstream")
            .values(remote=1, version="1", updated_at=many.now * 2)
        )
    with many.app.database.read() as session:
        for actor, expected in (
            (NOBODY, ["shown"]),
            (many.actor("stranger"), ["shown"]),
            (many.actor("viewer"), ["shown", "pack-6", "pack-5"]),
        ):
            with asked(many) as said:
                rows = listing.recently(session, actor, limit=3)
            assert [row.name for row in rows] == expected
            assert len(said) <= 2
        assert {row.channel for row in rows} == {"open", "lab"}
        mine = "SELECT id FROM packages WHERE channel_id = 1 AND live > 0 ORDER BY updated_at DESC, id DESC LIMIT 3"
        assert "ix_packages_own" in str(explained(session, mine))


ABOUT = {
    "summary": "A demo",
    "description": "Long",
    "home": "https://example.org",
    "dev_url": ["javascript:alert(1)", "https://x"],
    "doc_url": "http://docs.example.org/a b",
    "repository": "https://git.example.org/demo",
}


def test_a_package_has_a_head_versions_files_and_an_order(world):
    for version in ("1.10", "1.9", "1.2"):
        for subdir in ("linux-64", "osx-arm64"):
            world.put(conda_package("demo", version, subdir=subdir, about=ABOUT, index={"license": "MIT"}))
    with world.app.database.write() as session:
        withdraw.yank_version(session, CONSOLE, "lab", "demo", "1.10", "broken", now=world.now)
        withdraw.delete(session, CONSOLE, "lab", "linux-64", "demo-1.2-h0_0.conda", now=world.now)
    count(world, "demo-1.9-h0_0.conda", 3, subdir="linux-64")
    with reading(world, most=2) as (session, head):
        package = packages.show(session, head, "demo")
    assert (package.version, package.summary, package.description, package.licence) == ("1.9", "A demo", "Long", "MIT")
    assert (package.platforms, package.files, package.downloads) == (("linux-64", "osx-arm64"), 5, 3)
    assert package.links == {"home": "https://example.org", "source": "https://git.example.org/demo"}
    with reading(world, most=1) as (session, head):
        assert list(packages.versions(session, package)) == ["1.10", "1.9", "1.2"]
    with reading(world, most=3) as (session, head):
        matrix = packages.matrix(session, package)
    assert matrix.platforms == ("linux-64", "osx-arm64")
    newest, middle, oldest = matrix.versions.items
    assert (newest.version, newest.yanked, newest.yank_reason, newest.files) == ("1.10", True, "broken", 0)
    assert (middle.yanked, middle.files, middle.downloads) == (False, 2, 3)
    assert (oldest.cells["linux-64"].deleted, oldest.cells["osx-arm64"].files) == (1, 1)
    with reading(world, most=99) as (session, head):
        rows = walk(lambda **more: packages.matrix(session, package, **more).versions, limit=1)
        assert [row.version for row in rows] == ["1.10", "1.9", "1.2"]
        files = walk(lambda **more: packages.files(session, package, **more), limit=2)
    assert [file.version for file in files] == ["1.10", "1.10", "1.9", "1.9", "1.2", "1.2"]
    assert [file.listed for file in files] == [False, False, True, True, True, False]
    with reading(world, most=2) as (session, head):
        (file,) = packages.files(session, package, version="1.9", subdir="linux-64").items
        assert (file.downloads, file.yank_reason, file.uploaded_by) == (3, None, None)
    with reading(world, most=2) as (session, head):
        assert len(packages.files(session, package, deleted=False).items) == 5
    with pytest.raises(errors.NotFound), reading(world, most=2) as (session, head):
        packages.show(session, head, "none")


def test_contents_are_shown_a_folder_at_a_time(world):
    files = {f"share/demo/f{number:02}.txt": b"x" * number for number in range(30)}
    files |= {"bin/.demo-post-link.sh": b"#!/bin/sh\n", "top.txt": b"12345"}
    world.put(conda_package("demo", files=files))
    with world.app.database.read() as session:
        file = browse.one_file(session, CONSOLE, "lab", "noarch", "demo-1.0-h0_0.conda")
    with reading(world, most=1) as (session, _):
        top = contents.contents(session, file)
    assert (top.known, top.files, top.cut, top.folder) == (True, 32, False, "")
    assert [(one.name, one.files, one.scripts) for one in top.folders] == [("bin", 1, 1), ("share", 30, 0)]
    assert [(item.name, item.size, item.script) for item in top.items] == [("top.txt", 5, False)]
    assert top.scripts == ("bin/.demo-post-link.sh",)
    with reading(world, most=4) as (session, _):
        inner = contents.contents(session, file, folder="share/demo", limit=20)
        rest = contents.contents(session, file, folder="/share/demo/", limit=20, cursor=inner.cursor)
        assert contents.contents(session, file, folder="bin").items[0].script
        assert contents.contents(session, file, folder="sha").items == ()
    assert [item.name for item in inner.items + rest.items] == [f"f{number:02}.txt" for number in range(30)]
    assert (rest.cursor, inner.items[3].size) == (None, 3)


def test_what_a_file_says_of_itself_and_its_history(world):
    world.put(conda_package(about=ABOUT, info={"info/recipe/meta.yaml": b"package:\n", "info/licenses/L": b"terms"}))
    with world.app.database.write() as session:
        withdraw.yank(session, CONSOLE, "lab", "noarch", "demo-1.0-h0_0.conda", "why not", now=world.now + 1)
    world.put(conda_package("other"))
    with reading(world, most=20) as (session, head):
        package = packages.show(session, head, "demo")
        file = packages.one_file(session, package, "noarch", "demo-1.0-h0_0.conda")
        about = packages.about(session, file)
        events = walk(lambda **more: packages.history(session, package, **more), limit=1)
    assert (about.about["home"], about.recipe, about.licences) == (
        "https://example.org",
        "package:\n",
        (("L", "terms"),),
    )
    assert [(event.action, event.details.get("reason")) for event in events] == [
        ("artifact.yank", "why not"),
        ("artifact.publish", None),
    ]


def test_statistics_of_a_package_by_day_version_and_platform(world):
    for version in ("1.0", "2.0"):
        world.put(conda_package("demo", version, subdir="linux-64"))
    count(world, "demo-1.0-h0_0.conda", 2, day=1, subdir="linux-64")
    count(world, "demo-2.0-h0_0.conda", 5, subdir="linux-64")
    count(world, "demo-2.0-h0_0.conda", 9, day=100, subdir="linux-64")
    with reading(world, most=4) as (session, head):
        package = packages.show(session, head, "demo")
        found = packages.show_statistics(session, package, days=90, now=world.now)
    assert (found.days[-2:], len(found.days), found.total) == ((2, 5), 90, 16)
    assert [(one.version, one.downloads) for one in found.versions] == [("2.0", 5), ("1.0", 2)]
    assert found.platforms == {"linux-64": 7}


def test_what_an_administrator_sees_is_for_administrators(world):
    world.put(actor=world.actor("uploader", "upload"))
    admin = world.actor("admin")
    with world.app.database.read() as session:
        for actor, refusal in (
            (NOBODY, errors.AuthRequired),
            (world.actor("owner"), errors.NotAllowed),
            (world.actor("admin", "upload"), errors.NotAllowed),
        ):
            for ask in (oversight.users, oversight.storage, oversight.audit):
                with pytest.raises(refusal):
                    ask(session, actor)
            for ask in (oversight.channels, oversight.jobs):
                with pytest.raises(refusal):
                    ask(session, actor, now=world.now)
        users = walk(lambda **more: oversight.users(session, admin, **more), limit=2)
        assert [user.name for user in users] == sorted(
            ["admin", "owner", "maintainer", "uploader", "viewer", "stranger"]
        )
        assert {user.name: (user.channels, user.is_admin) for user in users}["owner"] == (1, False)
        assert [user.name for user in oversight.users(session, admin, state="admin").items] == ["admin"]
        assert [user.name for user in oversight.users(session, admin, text="LOADER@ex").items] == ["uploader"]
        (row,) = oversight.channels(session, admin, now=world.now).items
        assert (row.name, row.owners, row.packages, row.artifacts) == ("lab", ("owner",), 1, 1)
        assert oversight.channels(session, admin, deleted=True, now=world.now).items == []
        with asked(world) as said:
            storage = oversight.storage(session, admin)
        plans = "".join(str(plan) for one in said for plan in explained(session, one))
        assert ("ix_artifacts_sha256" in plans, "ix_artifacts_out" in plans) == (True, True), plans
        assert (storage.files, storage.size, storage.yanked, storage.stored) == (1, row.size, 0, row.size)
        lines = walk(lambda **more: oversight.audit(session, admin, **more), limit=4)
        assert [line.id for line in lines] == sorted((line.id for line in lines), reverse=True)
        assert {line.action for line in oversight.audit(session, admin, action="artifact").items} == {
            "artifact.publish"
        }
        (line,) = oversight.audit(session, admin, by="Uploader", channel="lab").items
        assert (line.subject, line.channel) == ("noarch/demo-1.0-h0_0.conda", "lab")
        assert oversight.audit(session, admin, action="artifact.yank").items == []
        assert oversight.audit(session, admin, channel="none").items == []


def test_so_many_names_may_be_asked_for_as_files_depend_on(world):
    world.put()
    with world.app.database.read() as session:
        head = listing.enter(session, CONSOLE, "lab")
        names = ["demo", *(f"none-{n}" for n in range(300_000))]
        assert listing.packages_of(session, head.id, names) == {"demo": "1.0"}
