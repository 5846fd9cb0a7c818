"""What versions ask for, and who asks for a package: bounded, and the same on both databases."""

import pytest

from fairway import errors
from fairway.registry import dependencies, packages, withdraw
from fairway.registry.actor import CONSOLE
from fairway.registry.suppliers import Supplier
from tests.registry.test_listing import reading, walk
from tests.support.builders import conda_package


def test_dependencies_say_what_is_here_and_where_they_differ(world):
    world.put(conda_package("numpy", "2.0"))
    world.put(conda_package("demo", "1.0", subdir="linux-64", depends=["numpy >=1.20", "python >=3.9", "__glibc >=2.17"],
                            index={"constrains": ["pandas <2"]}, run_exports={"weak": ["demo >=1"]}))  # fmt: skip
    world.put(conda_package("demo", "1.0", subdir="win-64", depends=["numpy >=1.20", "vc 14.*"]))
    with reading(world, most=7) as (session, head):
        package = packages.show(session, head, "demo")
        found = dependencies.dependencies(session, CONSOLE, head, package)
    assert found.platforms == ("linux-64", "win-64")
    assert [(one.spec, one.platforms, one.supplier) for one in found.depends] == [
        ("numpy >=1.20", (), Supplier("lab", "this", "2.0", "2.0")),
        ("python >=3.9", ("linux-64",), None),
        ("vc 14.*", ("win-64",), None),
    ]
    assert [one.name for one in found.virtual] == ["__glibc"]
    assert [one.spec for one in found.constrains] == ["pandas <2"]
    assert [one.spec for one in found.run_exports["weak"]] == ["demo >=1"]
    with world.app.database.write() as session:
        withdraw.yank_version(session, CONSOLE, "lab", "demo", "1.0", "broken", now=world.now)
    with reading(world, most=7) as (session, head):
        package = packages.show(session, head, "demo")
        again = dependencies.dependencies(session, CONSOLE, head, package, "1.0")
    assert again.depends == found.depends
    # every file of it is yanked: there is none to get
    assert [(one.spec, one.supplier) for one in again.run_exports["weak"]] == [("demo >=1", None)]
    with pytest.raises(errors.NotFound), reading(world, most=4) as (session, head):
        dependencies.dependencies(session, CONSOLE, head, package, "9.9")


def test_of_a_package_that_is_all_yanked_the_newest_version_is_shown_alone(world):
    for version in ("1.9", "1.10"):
        world.put(conda_package("demo", version, depends=[f"only-for-{version} >=1"]))
        with world.app.database.write() as session:
            withdraw.yank_version(session, CONSOLE, "lab", "demo", version, "broken", now=world.now)
    with reading(world, most=5) as (session, head):
        found = dependencies.dependencies(session, CONSOLE, head, packages.show(session, head, "demo"))
    assert (found.version, [one.spec for one in found.depends]) == ("1.10", ["only-for-1.10 >=1"])


def test_what_very_many_files_need_is_read_and_shown_within_bounds(world):
    """A record has up to 64 KiB, and a version any number of files."""
    for build in range(20):
        specs = [f"need{build}x{number:04} >=1{'.1' * 200}" for number in range(145)]
        world.put(conda_package("demo", build=f"h{build}_{build}", depends=[*specs, "__glibc >=2"]))
    with reading(world, most=7) as (session, head):
        package = packages.show(session, head, "demo")
        found = dependencies.dependencies(session, CONSOLE, head, package)
    with world.app.database.read() as session:
        said, more = dependencies.said_by(session, package, "")
    assert (more, found.more) == (True, True)
    assert dependencies.BYTES_READ < said.size < dependencies.BYTES_READ + (64 << 10)
    assert said.files < 20
    assert [len(found.depends), len(found.virtual)] == [dependencies.SPECS_SHOWN, 1]
    assert found.left_out == {"depends": 145 * said.files - dependencies.SPECS_SHOWN}


def test_dependents_are_those_whose_newest_version_asks(world):
    for name in ("a", "b", "c"):
        world.put(conda_package(name, "1.0", depends=["Base >=1"]))
    world.put(conda_package("c", "2.0", depends=["other"]))
    world.put(conda_package("b", "1.0", build="h1_1", depends=["extra"]))
    with reading(world, most=20) as (session, head):
        rows = walk(
            lambda **more: dependencies.dependents(session, CONSOLE, head, "base", now=world.now, **more), limit=1
        )
        assert [row.name for row in rows] == ["a", "b"]
        assert dependencies.count_dependents(session, CONSOLE, "base") == 2
        assert dependencies.count_dependents(session, CONSOLE, "extra") == 1
        assert dependencies.count_dependents(session, CONSOLE, "nothing") == 0


def test_a_file_that_is_replaced_takes_its_needs_with_it(world):
    world.set(allow_overwrite=True)
    world.put(conda_package("demo", depends=["a", "b"]))
    world.put(conda_package("demo", depends=["b", "c"]), force=True)
    with reading(world, most=3) as (session, _):
        assert [dependencies.count_dependents(session, CONSOLE, name) for name in "abc"] == [0, 1, 1]
