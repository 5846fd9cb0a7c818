"""What is accepted as a dependency, rattler can read; what v3 makes of it means the same."""

import re
from unittest import mock

import pytest
import rattler
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway.conda import spec
from fairway.conda.spec import parse
from fairway.errors import PackageRefused
from tests.conda.corpus import needs_corpus, specs


@pytest.mark.parametrize(
    ("text", "bracketed"),
    [
        ("a", "a"),
        ("a 1", 'a[version="==1"]'),
        ("a=1", 'a[version="1.*"]'),
        ("a ==1.0", 'a[version="==1.0"]'),
        ("a 1.2.*", 'a[version="1.2.*"]'),
        ("a 2.7*|3*", 'a[version="2.7.*|3.*"]'),
        ("a >=1,<2", 'a[version=">=1,<2"]'),
        ("a >=1 , <2", 'a[version=">=1,<2"]'),
        ("a >= 1", 'a[version=">=1"]'),
        ("a>=1.*", 'a[version=">=1"]'),
        ("a ==1.*", 'a[version="1.*"]'),
        ("a !=1.*", 'a[version="!=1.*"]'),
        ("a (>=1,<2)|3", 'a[version="(>=1,<2)|==3"]'),
        ("a *", 'a[version="*"]'),
        ("a =*=cpu", 'a[version="*",build="cpu"]'),
        ("a 1 b*", 'a[version="==1",build="b*"]'),
        ("a  =1.2   b*", 'a[version="==1.2",build="b*"]'),
        ("a=1.2.*=b*", 'a[version="1.2.*",build="b*"]'),
        ("a * ^(x|y)$", 'a[version="*",build="^(x|y)$"]'),
        ("A >=1", 'a[version=">=1"]'),
        ("__glibc >=2.17,<3.0.a0", '__glibc[version=">=2.17,<3.0.a0"]'),
        ("a[build_number=1]", 'a[build_number="==1"]'),
        ("a[extras=[x, y]]", "a[extras=[x,y]]"),
        ('a[extras="x"]', "a[extras=[x]]"),
        ("""a[flags=["c",'d:*']]""", "a[flags=[c,d:*]]"),
        ('a>=1[when="b"]', 'a[version=">=1",when="b"]'),
        ("a[when=__unix]", 'a[when="__unix"]'),
        ('a[when="b >=1 and ( c<2 or d=1.2)"]', 'a[when="b>=1 and (c<2 or d=1.2)"]'),
        (
            'a[when="c",flags=[x],extras=[y],build_number=1,build=b,version=1]',
            'a[version="==1",build="b",build_number="==1",extras=[y],flags=[x],when="c"]',
        ),
    ],
)
def test_specs_in_brackets(text, bracketed):
    spec = parse(text)
    assert spec.bracketed() == bracketed
    assert parse(bracketed).bracketed() == bracketed
    assert str(rattler.MatchSpec(text)) == str(rattler.MatchSpec(bracketed))
    assert spec.needs_v3 == any(f"{key}=" in text for key in ("extras", "flags", "when"))


REFUSED = [
    "", " ", "!!! x", "a\nb", "a\tb", "a\x1b[31m", "a\u202eb", "caf\u00e9", "x" * 1_025,
    "https://x/y.conda", "/x/y.conda", "..\\y", "pkg:pypi/flask", "a; rm -rf /", "a@1", "a/b", "a*", "a # why",
    "a >>1", "a >=", "a >=1,", "a |1", "a ^1.*$", "a 1.*.2", "a ()", "a ((1)", "a 1_2-3", "a 1 b c", "a 1 ^(b$", "a 1 b|c", "a 2.**", "a 2*.*",
    "a[]", "a[", "a]", "a[version=1", "a[1]", 'a["version=1"]', "a[version=1,]", "a[version=1,version=2]", "a 1[version=2]",
    "a[md5=00000000000000000000000000000000]", "a[url=b]", 'a[url="https://x"]', "a[channel=b]", "a[name=b]", "a[bar=1]",
    "a[version=[1]]", 'a[version="1 b"]', "a[build_number=x]", 'a[build_number="<=3,>1"]',
    "a[extras=[]]", 'a[extras=""]', "a[extras=X]", "a[extras=[x,]]", "a[flags=X]", "a[flags=[a:b:c]]",
    'a[when=""]', 'a[when="b or"]', 'a[when="or b"]', 'a[when="b c"]', 'a[when="(b"]', 'a[when="b)"]', 'a[when="()"]',
    'a[when="b[when=c]"]', 'a[when="not b"]', 'a[when="b==1=x"]', 'a[when="https://x"]',
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED, ids=[ascii(text)[:30] for text in REFUSED])
def test_what_is_no_dependency(text):
    with pytest.raises(PackageRefused) as caught:
        parse(text)
    assert caught.value.code == "depends_invalid"
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) <= 400


def test_an_exact_wildcard_is_a_wildcard():
    assert parse("python ==2.7.*|>=3.6").bracketed() == 'python[version="2.7.*|>=3.6"]'


def test_v3_has_no_place_for_a_channel():
    spec = parse("conda-forge::a 1")
    assert spec.channel == "conda-forge"
    with pytest.raises(PackageRefused, match="channel"):
        spec.bracketed()


_pieces = st.sampled_from(
    [
        "a",
        "b-c",
        "__unix",
        " ",
        "  ",
        ">=",
        "<",
        "==",
        "=",
        "!=",
        "~=",
        "1",
        "1.2",
        "2.*",
        "*",
        "1a0",
        ",",
        "(",
        ")",
        "[",
        "]",
        '"',
        "'",
        "version=",
        "build=",
        "extras=",
        "flags=",
        "when=",
    ]
)
_number = st.sampled_from(["1", "1.2", "1!2.0", "1.0a1", "2024", "1.0_", "1_2", "1-2", "1.2+x", "a", "0"])
_atom = st.builds(
    lambda op, space, number, star: op + space + number + star,
    st.sampled_from(["", "=", "==", "!=", ">=", "<=", ">", "<", "~=", "^"]),
    st.sampled_from(["", "", " "]),
    _number | st.just("*"),
    st.sampled_from(["", "", ".*", "*", ".*.*"]),
)
_versions = st.lists(st.tuples(_atom, st.sampled_from([",", "|", ", ", " |", ",("])), min_size=1, max_size=3).map(
    lambda pairs: "".join(atom + divider for atom, divider in pairs[:-1]) + pairs[-1][0]
)
_builds = st.sampled_from(
    ["", " b", " b*", " *", "=b", "=b_0", " ^b.*$", " ^(b|c)$", " ^b++$", " b|c", " b c", " h1.2+x"]
)
_condition = st.lists(
    st.tuples(st.sampled_from(["b", "__unix", "b>=1", "b >=1,<2", "b 1.*", "b=1", "(b", "b)", "b[version='1']", "python"]),
              st.sampled_from([" and ", " or ", " AND ", " "])), min_size=1, max_size=3,
).map(lambda pairs: "".join(word + joint for word, joint in pairs[:-1]) + pairs[-1][0])  # fmt: skip
_pair = st.one_of(
    _versions.map('version="{}"'.format), st.just("build=b*"), st.sampled_from(["build_number=1", 'build_number=">=1"']),
    st.sampled_from(["extras=x", "extras=[x,y-1]", "extras=[ x ]", "extras=X", "flags=[a,b:*]", "flags='a'", "md5=0"]),
    _condition.map('when="{}"'.format),
)  # fmt: skip
_brackets = st.just("") | st.lists(_pair, max_size=3).map(lambda pairs: f"[{','.join(pairs)}]")
_spec = st.builds(
    lambda name, gap, version, build, brackets: name + (gap + version + build if version else "") + brackets,
    st.sampled_from(["a", "b-c", "__x", "A_b.c", "x::a", "a1"]), st.sampled_from(["", " ", "  "]),
    st.just("") | _versions, _builds, _brackets,
)  # fmt: skip


@settings(max_examples=1_500, deadline=None)
@given(_spec | st.lists(_pieces, max_size=12).map(lambda pieces: "a" + "".join(pieces)))
def test_what_is_accepted_rattler_reads(text):
    try:
        found = parse(text)
    except PackageRefused:
        return
    rattler.MatchSpec(text)
    if found.channel is None and not re.search(r"==[^,|]*\*", text):  # rattler reads `==1.*` in two ways
        assert str(rattler.MatchSpec(found.bracketed())) == str(rattler.MatchSpec(text))
        assert parse(found.bracketed()) == found


_usual = st.builds(
    lambda atoms, dividers: "a " + "".join(map("".join, zip(atoms, [*dividers, ""], strict=False))),
    st.lists(st.from_regex(spec._USUAL_ATOM, fullmatch=True), min_size=2, max_size=2),
    st.lists(st.sampled_from(",|"), min_size=1, max_size=1),
)


@settings(max_examples=1_000, deadline=None)
@given(_usual | _spec)
def test_what_is_usual_is_read_as_everything_else(text):
    def read():
        try:
            return parse(text)
        except PackageRefused as refusal:
            return refusal.code

    at_once = read()
    with mock.patch.object(spec, "_USUAL", re.compile("(?!)")):
        assert read() == at_once


@pytest.mark.parametrize(
    "text", ["a " + "(" * 500, "a[" * 500, "a " + "1," * 510, 'a[when="' + "(" * 900 + '"]', "a" + "*." * 500]
)
def test_long_and_nested_specs_are_quick(text):
    with pytest.raises(PackageRefused):
        parse(text)


@needs_corpus
def test_real_dependencies_are_refused_only_if_rattler_refuses_them():
    for text in specs():
        try:
            theirs = rattler.MatchSpec(text)
        except Exception:
            with pytest.raises(PackageRefused):
                parse(text)
        else:
            ours = parse(text).bracketed()
            assert "==2.7.*|" in text or str(rattler.MatchSpec(ours)) == str(theirs)
