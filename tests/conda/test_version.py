"""Keys sort as conda sorts versions; py-rattler says how that is."""

from itertools import pairwise

import pytest
import rattler
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from fairway.conda.version import parse, sort_key
from fairway.errors import PackageRefused
from tests.conda.corpus import needs_corpus, records

# The list of CEP 33, lowest first; versions on one line are equal.
ORDERED = """
0.4 0.4.0
0.4.1.rc 0.4.1.RC
0.4.1+local
0.4.1+0.local
0.4.1 0.4.1+0
0.4.1+1.local
0.5a1
0.5b3
0.5C1
0.5
0.9.6
0.960923
1.0
1.1dev1
1.1a1
1.1.0dev1 1.1.dev1
1.1.a1
1.1.0rc1 1.1.rc1
1.1.0.0 1.1.0 1.1
1.1.post1 1.1.0post1
1.1post1
1996.07.12
1!0.4.1
1!3.1.1.6
2!0.4.1
"""


def test_the_order_of_cep_33():
    before = b""
    for line in ORDERED.split("\n")[1:-1]:
        (key,) = {sort_key(version) for version in line.split()}
        assert before < key, line
        before = key


def test_trailing_underscores():
    # openssl's: below the release, which is below its letters; behind letters it is one more letter (CEP 33, conda).
    assert sort_key("1.0.1_") < sort_key("1.0.1") < sort_key("1.0.1.1") < sort_key("1.0.1post")
    assert sort_key("1.0.1_") < sort_key("1.0.1a")
    assert sort_key("1.0.1a") < sort_key("1.0.1a_") < sort_key("1.0.1b")
    assert sort_key("1-2") == sort_key("1_2") == sort_key("1.2")


def test_keys_are_short():
    assert sort_key("1.2.3") == bytes.fromhex("fd0101 fd0102 fd0103 80 80")


_word = st.sampled_from(["a", "b", "ab", "dev", "post", "rc", "alpha", "DEV", "Post", "devdev", "x"])
_run = _word | st.integers(0, 12).map(str) | st.sampled_from(["00", "01", "999999999999", "18446744073709551615"])
_segment = st.lists(_run, min_size=1, max_size=4).map("".join)
_part = st.builds(
    lambda first, more: first + "".join(divider + segment for divider, segment in more),
    _segment,
    st.lists(st.tuples(st.sampled_from("._"), _segment), max_size=5),
)
_version = st.builds(
    lambda epoch, main, tail, local: epoch + main + tail + local,
    st.sampled_from(["", "", "0!", "1!", "12!"]),
    _part,
    st.sampled_from(["", "", "_"]),
    st.just("") | _part.map("+".__add__),
)


def _agrees(version: str) -> bool:
    """rattler holds the last underscore of `1a_` apart from the letters; CEP 33 and conda do not."""
    main = version.partition("+")[0]
    return not (main.endswith("_") and main[-2:-1].isalpha())


@settings(max_examples=1_000, deadline=None)
@example("1.0", "1.0.0.a")
@example("1.a0.0.b", "1.a0.b")
@example("1+0.0", "1")
@example("0!0a", "a")
@given(_version, _version)
def test_keys_compare_as_rattler_compares(left, right):
    assume(_agrees(left) and _agrees(right))
    try:
        one, other = rattler.Version(left), rattler.Version(right)
    except Exception:  # a number too large for it
        for version in (left, right):
            try:
                sort_key(version)
            except PackageRefused:
                return
        raise
    assert (sort_key(left) < sort_key(right)) == (one < other)
    assert (sort_key(left) == sort_key(right)) == (one == other)


@settings(max_examples=500, deadline=None)
@given(_version | st.text("019a.-_+!zD", max_size=12) | st.text(max_size=6))
def test_what_can_be_published_can_be_read(text):
    try:
        parsed = parse(text)
    except PackageRefused:
        return
    assert parsed == text
    rattler.Version(text)
    assert sort_key(text)


@settings(max_examples=500, deadline=None)
@given(_version | st.text("019a.-_+!zD", max_size=12) | st.text(max_size=6))
def test_what_rattler_reads_has_a_key(text):
    try:
        rattler.Version(text)
    except Exception:
        with pytest.raises(PackageRefused):
            sort_key(text)
    else:
        assert sort_key(text)


@pytest.mark.parametrize("text", ["1.0", "2024a", "1!2.0+cu12", "1.0.1_", "9.3.0.RC1", "0", "v1", "1_2", "1+2"])
def test_versions_a_package_may_have(text):
    assert parse(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "1-0", "1..0", ".1", "1.", "_1", "1__", "1!", "!1", "1!2!3", "1+", "1+2+3", "1.*", "1 ", "1\n", "a!1", "\u0661",
     "1" * 65, "99999999999999999999999", "1+a_", "1/2", "\u212a"],
)  # fmt: skip
def test_versions_no_package_may_have(text):
    with pytest.raises(PackageRefused) as caught:
        parse(text)
    assert caught.value.code == "version_invalid"


@pytest.mark.parametrize("text", ["", "1..2", "1.*", "9" * 5_000, "0." * 100 + "1"])
def test_what_has_no_key(text):
    assert sort_key("1." * 500 + "1")  # long alone is no reason
    with pytest.raises(PackageRefused):
        sort_key(text)


@needs_corpus
def test_all_real_versions_sort_as_rattler_sorts_them():
    texts = sorted({record["version"] for record in records()})
    keys = {text: sort_key(parse(text)) for text in texts}
    oracle = {text: rattler.Version(text) for text in texts}
    by_oracle = sorted((text for text in texts if _agrees(text)), key=oracle.__getitem__)
    for lower, upper in pairwise(by_oracle):
        assert keys[lower] <= keys[upper], (lower, upper)
        assert (keys[lower] == keys[upper]) == (oracle[lower] == oracle[upper]), (lower, upper)
