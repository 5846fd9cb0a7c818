"""The system a package is to be installed on: what clients find out about their own machine, and we have to be told."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fairway.conda.names import NOARCH, Subdir, shown
from fairway.conda.question import Virtual
from fairway.errors import Malformed

# What pixi takes for a machine nobody described: a system of 2019 and later.
LINUX, GLIBC, OSX, WINDOWS = "4.18", "2.28", "13.0", "10.0"
VERSION = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,3}", re.ASCII)
NONE = "none"
ARCHITECTURES = {
    "32": "x86",
    "64": "x86_64",
    "aarch64": "aarch64",
    "armv6l": "armv6l",
    "armv7l": "armv7l",
    "ppc64le": "ppc64le",
    "ppc64": "ppc64",
    "riscv64": "riscv64",
    "s390x": "s390x",
}


@dataclass(frozen=True, slots=True)
class System:
    """`virtual` are its virtual packages."""

    platform: str
    virtual: tuple[Virtual, ...]

    @property
    def subdirs(self) -> tuple[str, str]:
        """Where what installs on it is."""
        return self.platform, NOARCH


def system(
    platform: str,
    *,
    glibc: str | None = None,
    linux: str | None = None,
    osx: str | None = None,
    cuda: str | None = None,
) -> System:
    """A system of that platform, with these versions instead of the usual ones; "none" for without. What the platform
    cannot have is left out. There is no CUDA unless one is named.

    Raises: Malformed, codes `subdir_invalid` and `virtual_invalid`.
    """
    if platform == NOARCH:
        raise Malformed("Nothing runs on 'noarch': name a platform, for example 'linux-64'.", code="subdir_invalid")
    kind, _, machine = Subdir.parse(platform).partition("-")
    found: dict[str, str | None] = {}
    if kind == "linux":
        found = {"__unix": "0", "__linux": linux or LINUX, "__glibc": glibc or GLIBC}
    elif kind == "osx":
        found = {"__unix": "0", "__osx": osx or OSX}
    elif kind == "win":
        found = {"__win": WINDOWS}
    elif kind in {"freebsd", "emscripten", "wasi", "zos"}:
        found = {"__unix": "0"}
    if kind in {"linux", "win"}:
        found["__cuda"] = cuda or NONE
    virtual = [Virtual(name, checked(name, version)) for name, version in found.items() if version and version != NONE]
    build = "m1" if platform == "osx-arm64" else ARCHITECTURES.get(machine)
    if build is not None:
        virtual.append(Virtual("__archspec", "1", build))
    return System(platform, tuple(sorted(virtual, key=lambda one: one.name)))


def checked(name: str, version: str) -> str:
    if not VERSION.fullmatch(version):
        raise Malformed(
            f"'{shown(version)}' is no version of {name}: numbers with points between, or 'none'.",
            code="virtual_invalid",
        )
    return version
