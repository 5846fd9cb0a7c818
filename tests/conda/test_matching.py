"""Does a version satisfy a spec? As rattler says, over many of both, and where nobody can say."""

from __future__ import annotations

import random

import pytest
from rattler import BuildString, MatchSpec, NamelessMatchSpec, PackageRecord, Version, VersionSpec

from fairway.conda import matching, version

PARTS = ["0", "1", "2", "10", "0a1", "1b", "rc1", "post1", "dev", "1.0", "01", "2_1"]
OPERATORS = [">=", "<=", ">", "<", "==", "!=", "~=", "", "="]


def some_version(chance: random.Random) -> str:
    first = chance.choice(["0", "1", "2", "10", "1!1"])
    return ".".join([first, *chance.choices(PARTS, k=chance.randint(0, 3))])


def some_atom(chance: random.Random) -> str:
    operator, number = chance.choice(OPERATORS), some_version(chance)
    star = ".*" if operator in ("", "!=") and chance.random() < 0.7 else ""
    return operator + number + star


@pytest.mark.parametrize("seed", range(4))
def test_versions_are_matched_as_rattler_matches_them(seed):
    chance = random.Random(seed)
    compared = matched = 0
    for _ in range(5_000):
        number = some_version(chance)
        spec = "".join(f"{some_atom(chance)}{chance.choice(',|')}" for _ in range(chance.randint(0, 2)))
        spec += some_atom(chance)
        if any(len(one.rstrip(".*").split(".")) > len(number.split(".")) for one in spec.replace("|", ",").split(",")):
            continue  # a series longer than the version: rattler then also looks into the version's last part
        test = matching.fits(f"tool {spec}")
        assert test is not None, spec
        expected = VersionSpec(spec if spec[0] in "<>=!~" or "*" in spec else f"=={spec}")
        wanted = expected.matches(Version(number))
        assert test(number, "", 0) is wanted, (spec, number)
        compared += 1
        matched += wanted
    assert compared > 1_000
    assert 200 < matched < compared


@pytest.mark.parametrize(
    ("spec", "number", "build", "fits"),
    [
        ("tool", "1.0", "h0_0", True),
        ("tool *", "1.0", "h0_0", True),
        ("tool >=3.10,<3.11.0a0", "3.10.13", "h0_0", True),
        ("tool >=3.10,<3.11.0a0", "3.11.0", "h0_0", False),
        ("tool 1.*|3.*", "3.2", "h0_0", True),
        ("tool (>=1,<2)|>=3", "2.5", "h0_0", False),
        ("tool 1.0 py*", "1.0", "py39_0", True),
        ("tool 1.0 py*", "1.0", "h0_0", False),
        ("tool * *_cpython", "1.0", "h1_cpython", True),
        ("tool=1.0=h0_0", "1.0", "h0_0", True),
        ("tool[version='>=2',build_number='>=7']", "2.1", "h0_7", True),
        ("tool[version='>=2',build_number='>=8']", "2.1", "h0_7", False),
        ("forge::tool >=2", "2.1", "h0_0", True),
    ],
)
def test_builds_and_brackets(spec, number, build, fits):
    test = matching.fits(spec)
    assert test is not None
    assert test(number, build, 7) is fits
    record = PackageRecord("tool", number, BuildString(build), 7, "noarch", None, None)
    assert NamelessMatchSpec.from_match_spec(MatchSpec(spec)).matches(record) is fits


def test_what_cannot_be_read_is_neither_fit_nor_unfit():
    for spec in ("", "tool >=", "tool 1.*.*x", "tool >=1 ,, <2", "tool[x=1]"):
        assert matching.fits(spec) is None
    test = matching.fits("tool >=1")
    assert test is not None
    assert test("no version at all", "", 0) is False


@pytest.mark.parametrize(
    ("prefix", "there"), [("1", True), ("1.2", True), ("1.2.0", False), ("1.20", False), ("2", False)]
)
def test_a_series_is_made_of_whole_components(prefix, there):
    assert version.starts_with("1.2.3", prefix) is there
    assert version.starts_with("1!1.2.3", prefix) is False


def test_what_would_take_for_ever_is_not_begun():
    """All of them in well under the time that one of them took."""
    for build in ("^(a+)+$", "^(a|a)*c$"):
        assert matching.fits(f"tool * {build}") is None
    test = matching.fits(f"tool * {'*a' * 20}*b")
    assert test is not None
    assert test("1.0", "a" * 64, 0) is False
    assert matching.fits(f"tool {'(' * 490}1.0{')' * 490}") is None
    test = matching.fits(f"tool {'(1|' * 200}1.0{')' * 200}")
    assert test is None or test("3", "", 0) is False
