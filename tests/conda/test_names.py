"""Names are looked at once, and everything that is not one is refused with the code that says why."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rattler import PackageName as RattlerName

from fairway.conda import names
from fairway.conda.names import ChannelName, Filename, PackageName, Subdir
from fairway.errors import FairwayError, Invalid, Malformed, PackageRefused
from tests.conda.corpus import needs_corpus, records


def refusal(parse, text) -> tuple[type[FairwayError], str]:
    with pytest.raises(FairwayError) as caught:
        parse(text)
    assert caught.value.detail.isascii()
    assert caught.value.detail.isprintable()
    return type(caught.value), caught.value.code


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("demo-1.0-h0_0.conda", ("demo", "1.0", "h0_0", ".conda")),
        ("_libgcc_mutex-0.1-conda_forge.tar.bz2", ("_libgcc_mutex", "0.1", "conda_forge", ".tar.bz2")),
        ("a-b-c-1!2.0+cu12-h123_0.conda", ("a-b-c", "1!2.0+cu12", "h123_0", ".conda")),
        ("r-base-4.4.1-h1+x.2_0.conda", ("r-base", "4.4.1", "h1+x.2_0", ".conda")),
        ("foo--1-0.conda", ("foo-", "1", "0", ".conda")),
    ],
)
def test_a_file_name_has_its_parts(text, parts):
    filename = Filename.parse(text)
    assert (filename.name, filename.version, filename.build, filename.extension) == parts
    assert filename.text == str(filename) == text
    assert filename.stem == text.removesuffix(parts[3])


LONG = "a" * 65
REFUSED = [
    # H01 to H06: not a file name at all
    ("../../etc/passwd-1-0.conda", Malformed, "filename_invalid"),
    ("..%2f..%2fetc-1-0.conda", Malformed, "filename_invalid"),
    ("a\\b-1-0.conda", Malformed, "filename_invalid"),
    *((f"fo{control}o-1.0-0.conda", Malformed, "filename_invalid") for control in "\0\r\n\t\x1b\x7f"),
    ("foo-1.0-0.conda\n", Malformed, "filename_invalid"),
    *((f"{alike}oo-1.0-0.conda", Malformed, "filename_invalid") for alike in "\u212a\u017f\uff46\u0430\u202e\u200d"),
    ("cafe\u0301-1.0-0.conda", Malformed, "filename_invalid"),
    ("caf\u00e9-1.0-0.conda", Malformed, "filename_invalid"),
    ("foo-\u0661-0.conda", Malformed, "filename_invalid"),
    # H07
    ("Foo-1.0-0.conda", PackageRefused, "name_invalid"),
    # H08
    *((f"{device}-1-0.conda", PackageRefused, "name_reserved") for device in ("con", "aux", "nul", "com1", "lpt9")),
    ("foo-1-0.conda.", Malformed, "extension_unsupported"),
    ("foo-1-0.conda ", Malformed, "filename_invalid"),
    # H09
    ("a" * 205 + "-.conda", Malformed, "filename_too_long"),
    (f"{LONG}-1-0.conda", PackageRefused, "name_invalid"),
    (f"a-{'1' * 65}-0.conda", PackageRefused, "version_invalid"),
    (f"a-1-{LONG}.conda", PackageRefused, "build_invalid"),
    # H10
    ("__x-1-0.conda", PackageRefused, "name_invalid"),
    ("a__x-1-0.conda", PackageRefused, "name_invalid"),
    ("a..b-1-0.conda", PackageRefused, "name_invalid"),
    ("-a-1-0.conda", PackageRefused, "name_invalid"),
    ("-1-0.conda", PackageRefused, "name_invalid"),
    ("..-1-0.conda", PackageRefused, "name_invalid"),
    ("a--0.conda", PackageRefused, "version_invalid"),
    ("a-1-.conda", PackageRefused, "build_invalid"),
    ("a-1-b!c.conda", PackageRefused, "build_invalid"),
    ("a-1..0-0.conda", PackageRefused, "version_invalid"),
    # H12
    *(
        (f"foo-1-0{extension}", Malformed, "extension_unsupported")
        for extension in (".CONDA", ".conda.exe", ".tar.gz", ".whl", "", ".tar.bz2.sig")
    ),
    # too few parts
    ("foo.conda", Malformed, "filename_invalid"),
    ("foo-1.conda", Malformed, "filename_invalid"),
    (".conda", Malformed, "filename_invalid"),
    ("", Malformed, "filename_invalid"),
]


@pytest.mark.parametrize(("text", "kind", "code"), REFUSED, ids=[ascii(text)[:40] for text, _, _ in REFUSED])
def test_what_is_not_a_package_file_name_is_refused(text, kind, code):
    assert refusal(Filename.parse, text) == (kind, code)


def test_the_longest_file_name_is_accepted():
    text = f"{'a' * 64}-{'1' * 19}.{'2' * 19}.{'3' * 19}.{'4' * 4}-{'b' * 64}.tar.bz2"
    assert len(text) < names.MAX_FILENAME
    assert Filename.parse(text).text == text


def test_five_thousand_names_come_back_as_they_were():
    rng = random.Random(5)

    def word(alphabet: str, most: int) -> str:
        return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, most)))

    for _ in range(5_000):
        low = string.ascii_lowercase + string.digits
        name = rng.choice(["", "_"]) + rng.choice("-_.").join(word(low, 8) for _ in range(rng.randint(1, 5)))
        version = ".".join(word(low, 4) for _ in range(rng.randint(1, 4)))
        build = word(low + "_.+", 20)
        extension = rng.choice(names.EXTENSIONS)
        if name in names.RESERVED_PACKAGE_NAMES:
            continue
        filename = Filename.parse(f"{name}-{version}-{build}{extension}")
        assert (filename.name, filename.version, filename.build, filename.extension) == (
            name, version, build, extension,
        )  # fmt: skip


@given(st.text(max_size=230) | st.from_regex(r"[A-Za-z_.+!-]+-[0-9.]+-[0-9a-z]+\.(conda|tar\.bz2)", fullmatch=True))
def test_any_text_is_parsed_or_refused(text):
    try:
        filename = Filename.parse(text)
    except (Malformed, PackageRefused):
        return
    assert filename.text == text
    assert RattlerName(filename.name).normalized == filename.name


@pytest.mark.parametrize("text", ["a", "7zip", "_x", "_libgcc_mutex", "ruamel.yaml", "font-ttf-x", "a" * 64, "foo_"])
def test_package_names(text):
    assert PackageName.parse(text) == text
    assert isinstance(PackageName.parse(text), str)


@pytest.mark.parametrize("text", ["", "_", "__glibc", "_-a", "a b", "A", "a" * 65, "a--b", "a._b", "\u00e4", "a\n"])
def test_what_is_not_a_package_name(text):
    assert refusal(PackageName.parse, text) == (PackageRefused, "name_invalid")


def test_every_subdir_of_the_clients_is_known():
    from typing import get_args

    from rattler.platform import SubdirLiteral

    assert set(get_args(SubdirLiteral)) == names.KNOWN_SUBDIRS


@pytest.mark.parametrize("text", ["Linux_64", "linux-64/..", "repodata.json", "", "linux", "noarch\n", "linux-65", "t"])
def test_what_is_not_a_subdir(text):
    assert refusal(Subdir.parse, text) == (Malformed, "subdir_invalid")
    assert Subdir.parse("linux-64") == "linux-64"


@pytest.mark.parametrize("text", ["main", "conda-forge", "_x", "0", "my.team_1", "a" * 128, "tea", "apis", "mynoarch"])
def test_channel_names(text):
    assert ChannelName.parse(text) == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *(
            (text, "name_invalid")
            for text in ("", "-a", ".a", "A", "a b", "a/b", "a" * 129, "ch\u00e4n", "a\n", "a%2fb")
        ),
        *((text, "name_reserved") for text in ("noarch", "linux-64", "noarchonly", "linux-64x", "osx-arm64.old")),
        *(
            (text, "name_reserved")
            for text in ("t", "api", "get", "label", ".well-known", "channels", "login", "users")
        ),
        *((text, "name_reserved") for text in ("favicon.ico", "robots.txt", "graphql", "metrics", "styleguide")),
    ],
)
def test_what_is_not_a_channel_name(text, code):
    assert refusal(ChannelName.parse, text) == (Invalid, code)


@needs_corpus
def test_every_real_name_is_accepted():
    for record in records():
        filename = f"{record['name']}-{record['version']}-{record['build']}.conda"
        assert Filename.parse(filename).text == filename
