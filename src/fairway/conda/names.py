r"""What things are called: channels, subdirs, packages and package files (CEP 26).

Each `parse` looks at a text once; whoever holds the type afterwards need not look again. Patterns are matched with
`fullmatch`, because `$` also matches before a trailing newline, and as ASCII, because `\w` and `[a-z]` have
look-alikes in Unicode.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from fairway.conda import version as versions
from fairway.errors import Invalid, Malformed, PackageRefused

NOARCH = "noarch"
CONDA = ".conda"
TAR_BZ2 = ".tar.bz2"
EXTENSIONS = (CONDA, TAR_BZ2)

MAX_CHANNEL_NAME = 128
MAX_PACKAGE_NAME = 64
MAX_BUILD = 64
MAX_FILENAME = 211


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


_SUBDIRS = (
    "noarch",
    "android-32 android-64 android-aarch64 android-armv7a",
    "emscripten-wasm32 emscripten-wasm64",
    "freebsd-32 freebsd-64 freebsd-arm64 freebsd-ppc64 freebsd-ppc64le",
    "ios-arm64 iossimulator-64 iossimulator-arm64",
    "linux-32 linux-64 linux-aarch64 linux-armv6l linux-armv7l linux-loongarch64 linux-ppc linux-ppc64 linux-ppc64le",
    "linux-riscv32 linux-riscv64 linux-s390x",
    "osx-64 osx-arm64",
    "wasi-wasm32",
    "win-32 win-64 win-arm64",
    "zos-z",
)
SUBDIR_NUMBERS: dict[str, int] = {name: number for number, name in enumerate(" ".join(_SUBDIRS).split())}
"""A number for each subdir, below 63. They are kept in databases: new ones are added at the end."""

KNOWN_SUBDIRS: frozenset[str] = frozenset(SUBDIR_NUMBERS)
"""Every subdir that a conda client of 2026 can ask for."""

RESERVED_CHANNEL_NAMES: frozenset[str] = _words(
    # clients, probes and other programs
    "t api label get .well-known notices.json channeldata.json health metrics graphql oauth oidc",
    # browsers and crawlers
    "favicon.ico robots.txt sitemap.xml security.txt humans.txt manifest.webmanifest manifest.json index.html",
    # pages and their parts
    "about admin assets auth channel channels confirm dashboard docs explore help home invitations legal login logout",
    "me new notices notifications org organisation organisations organization organizations orgs package",
    "packages privacy profile search security settings setup signin signout signup static styleguide terms",
    "tokens trash upload uploads user users",
)
"""A channel is the first path segment of the host, so it shares its names with everything else there."""

# Windows keeps these for devices; clients make folders and files called after packages.
RESERVED_PACKAGE_NAMES: frozenset[str] = frozenset(
    ["aux", "con", "nul", "prn", *(f"{device}{digit}" for device in ("com", "lpt") for digit in range(1, 10))]
)

_CHANNEL = re.compile(r"[a-z0-9_][a-z0-9_.-]*", re.ASCII)
# The text of CEP 26, which forbids two separators in a row throughout; its regex lets `_-a` pass.
_PACKAGE = re.compile(r"_?[a-z0-9]+(?:[._-][a-z0-9]+)*[._-]?", re.ASCII)
_BUILD = re.compile(r"[a-zA-Z0-9_.+]+", re.ASCII)
_FILENAME = re.compile(r"[a-zA-Z0-9_.+!-]+", re.ASCII)
_SUBDIR_PREFIXES = tuple(KNOWN_SUBDIRS)


class ChannelName(str):
    """The name of a channel: one path segment of CEP 26, 1 to 128 characters, and nothing a client misreads."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises: Invalid, code `name_invalid` or `name_reserved`, with the rule that is broken in one sentence."""
        if text in RESERVED_CHANNEL_NAMES:
            raise Invalid(
                f"'{text}' is part of this site's own addresses, so no channel can be called that.",
                code="name_reserved",
            )
        if not 1 <= len(text) <= MAX_CHANNEL_NAME:
            raise Invalid(f"A channel name has 1 to {MAX_CHANNEL_NAME} characters.", code="name_invalid")
        if not _CHANNEL.fullmatch(text):
            raise Invalid(
                "A channel name consists of lower-case letters, digits, '_', '-' and '.', "
                "and begins with a letter, a digit or '_'.",
                code="name_invalid",
            )
        if text.startswith(_SUBDIR_PREFIXES):
            # conda looks for a subdir anywhere in the address and would cut `noarchonly` in two.
            raise Invalid(
                "A channel name must not begin with the name of a platform, such as 'noarch' or 'linux-64': "
                "conda would misread its address.",
                code="name_reserved",
            )
        return cls(text)


class Subdir(str):
    """A platform folder of a channel: `noarch` or one of the platforms clients know."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises: Malformed, code `subdir_invalid`."""
        if text not in KNOWN_SUBDIRS:
            raise Malformed(
                f"'{shown(text)}' is not a platform conda clients know; examples are 'noarch' and 'linux-64'.",
                code="subdir_invalid",
            )
        return cls(text)


class PackageName(str):
    """The name of a package somebody can download: lower case, 1 to 64 characters, no two separators in a row."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises: PackageRefused, code `name_invalid` or `name_reserved`."""
        if not 1 <= len(text) <= MAX_PACKAGE_NAME:
            raise PackageRefused(f"A package name has 1 to {MAX_PACKAGE_NAME} characters.", code="name_invalid")
        if not _PACKAGE.fullmatch(text):
            raise PackageRefused(
                f"'{shown(text)}' is not a package name: lower-case letters and digits, divided by single '-', '_' "
                "or '.', with at most one '_' in front.",
                code="name_invalid",
            )
        if text in RESERVED_PACKAGE_NAMES:
            raise PackageRefused(
                f"'{text}' cannot be a package name: Windows keeps it for a device.", code="name_reserved"
            )
        return cls(text)


@dataclass(frozen=True, slots=True)
class Filename:
    """`<name>-<version>-<build><extension>`; the extension is `.conda` or `.tar.bz2`, with its period."""

    name: PackageName
    version: str
    build: str
    extension: str

    @property
    def stem(self) -> str:
        """The distribution string of CEP 26: the file name without its extension."""
        return f"{self.name}-{self.version}-{self.build}"

    @property
    def text(self) -> str:
        return f"{self.name}-{self.version}-{self.build}{self.extension}"

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> Self:
        """Splitting at the last two dashes is unambiguous, since neither version nor build may hold one.

        Raises:
            Malformed: this is not a package file's name at all: code `filename_too_long` (more than 211 characters),
                `filename_invalid` or `extension_unsupported`.
            PackageRefused: one of its three parts is wrong: code `name_invalid`, `name_reserved`, `version_invalid`
                or `build_invalid`.
        """
        if len(text) > MAX_FILENAME:
            raise Malformed(f"A package file's name has at most {MAX_FILENAME} characters.", code="filename_too_long")
        if not _FILENAME.fullmatch(text):
            raise Malformed(
                f"'{shown(text)}' is not a package file's name: it has characters other than letters, digits and "
                "'-', '_', '.', '+', '!'.",
                code="filename_invalid",
            )
        extension = next((known for known in EXTENSIONS if text.endswith(known)), None)
        if extension is None:
            raise Malformed("A conda package file's name ends in '.conda' or '.tar.bz2'.", code="extension_unsupported")
        parts = text.removesuffix(extension).rsplit("-", 2)
        if len(parts) != 3:
            raise Malformed(
                f"'{shown(text)}' is not of the form <name>-<version>-<build>{extension}.", code="filename_invalid"
            )
        name, version, build = parts
        return cls(PackageName.parse(name), versions.parse(version), parse_build(build), extension)


def parse_build(text: str) -> str:
    """The text, if it is a build string. Raises: PackageRefused, code `build_invalid`."""
    if not 1 <= len(text) <= MAX_BUILD or not _BUILD.fullmatch(text):
        raise PackageRefused(
            f"'{shown(text)}' is not a build string: 1 to {MAX_BUILD} letters, digits, '_', '.' and '+'.",
            code="build_invalid",
        )
    return text


def shown(text: str) -> str:
    """A stranger's text, safe to print in an error: at most 80 characters, everything but printable ASCII escaped."""
    return ascii(text[:80])[1:-1]
