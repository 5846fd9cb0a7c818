"""What is in the packages of the demo: files that look like what they are called, and hold nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from fairway.demo.archives import Build
from fairway.demo.catalogue import BIG, HOSTILE, SCRIPTED, Pack

Files = dict[str, bytes]

COMPANY, GROUP = "https://saltmarsh.example", "https://polar-ocean.example"
# What compiled packages need beside what they name
RUNTIME = {
    "linux-64": ("__glibc >=2.17,<3.0.a0", "libgcc >=13", "libstdcxx >=13"),
    "linux-aarch64": ("__glibc >=2.17,<3.0.a0", "libgcc >=13", "libstdcxx >=13"),
    "osx-arm64": ("__osx >=11.0", "libcxx >=18"),
    "win-64": ("ucrt >=10.0.20348.0", "vc14_runtime >=14.38"),
}
SYSTEMS = {"linux-64": ("linux", "x86_64"), "linux-aarch64": ("linux", "aarch64"), "osx-arm64": ("osx", "arm64")}
COMPILED = frozenset(("library", "extension", "tool", "robot"))
MODULES = ("core", "io", "model", "tables", "checks", "cli", "units", "plots", "readers", "errors", "geometry", "clock")
SCRIPT = b'#!/bin/sh\n# Runs when the package is installed.\necho "${PKG_NAME} ${PKG_VERSION} is ready" >> "${PREFIX}/.messages.txt"\n'


def make(pack: Pack, version: str, subdir: str, *, channel: str, number: int, at: int) -> Build:
    """One file of a package, built at `at` (s)."""
    rng = random.Random(f"{channel}/{pack.name}/{version}/{subdir}")
    digest = f"{rng.getrandbits(28):07x}"
    builds = {"python": f"pyh{digest}_{number}", "extension": f"py312h{digest}_{number}"}
    build = f"{number}_cp312" if pack.name == "python_abi" else builds.get(pack.kind, f"h{digest}_{number}")
    index: dict[str, object] = {
        "name": pack.name,
        "version": version,
        "build": build,
        "build_number": number,
        "depends": needs(pack, version, subdir),
        "license": pack.licence,
        "subdir": subdir,
        "timestamp": at * 1000,
    }
    if subdir == "noarch":
        index["noarch"] = "python" if pack.kind == "python" else "generic"
    else:
        index["platform"], index["arch"] = SYSTEMS.get(subdir, ("win", "x86_64"))
    if pack.kind == "extension":
        index["constrains"] = ["numba >=0.59"]
    files = PAYLOADS[pack.kind](Making(pack, version, subdir, rng))
    if pack.name in SCRIPTED:
        files[f"bin/.{pack.name}-post-link.sh"] = SCRIPT
    about = about_of(pack, channel)
    texts = {
        "licenses/LICENSE.txt": licence_text(pack),
        "recipe/recipe.yaml": recipe(pack, version, number, index, about),
    }
    return Build(pack.name, version, build, index, about, files, run_exports(pack, version), texts, at)


def needs(pack: Pack, version: str, subdir: str) -> list[str]:
    named = [need.replace("=this", f"=={version}") for need in pack.needs.split("; ") if need]
    more = RUNTIME.get(subdir, ()) if pack.kind in COMPILED else ()
    if pack.kind == "extension":
        more = (*more, "python_abi 3.12.* *_cp312")
    return sorted((*named, *more))


def run_exports(pack: Pack, version: str) -> dict[str, list[str]]:
    """Who is built against a library needs it at run time, up to the next major version."""
    if pack.kind != "library":
        return {}
    major = version.split(".", maxsplit=1)[0]
    return {"weak": [f"{pack.name} >={version},<{int(major) + 1}.0a0"]}


def about_of(pack: Pack, channel: str) -> dict[str, object]:
    site = GROUP if channel.startswith("polar") else COMPANY
    home = f"{site}/{pack.name}"
    about: dict[str, object] = {
        "summary": pack.summary,
        "description": pack.description
        or f"{pack.summary}. Part of the channel {channel}; its pages say how it is used.",
        "license": pack.licence,
        "license_file": ["LICENSE.txt"],
        "home": home,
        "dev_url": f"https://git.{site.partition('://')[2]}/{pack.name}",
        "doc_url": f"{home}/manual",
        "extra": {"recipe-maintainers": ["yuki", "adaeze"] if site == COMPANY else ["ingrid", "adaeze"]},
    }
    if pack.name == HOSTILE:
        about |= {
            "home": "javascript:alert(document.domain)",
            "dev_url": "data:text/html,<script>alert(1)</script>",
            "doc_url": 'https://saltmarsh.example/"><script>alert(1)</script>',
            "extra": {"recipe-maintainers": ["<img src=x onerror=alert(1)>"]},
        }
    return about


def licence_text(pack: Pack) -> str:
    return f"{pack.name} is part of a demonstration and does not exist.\n\nIts licence would be: {pack.licence}\n"


def recipe(pack: Pack, version: str, number: int, index: dict[str, object], about: dict[str, object]) -> str:
    depends = index["depends"]
    lines = [
        "context:",
        f'  version: "{version}"',
        "package:",
        f"  name: {pack.name}",
        "  version: ${{ version }}",
        "source:",
        f"  url: {about['dev_url']}/archive/v${{{{ version }}}}.tar.gz",
        "build:",
        f"  number: {number}",
        "requirements:",
        "  run:",
        *(f"    - {need}" for need in (depends if isinstance(depends, list) else [])),
        "about:",
        f"  license: {pack.licence}",
    ]
    return "\n".join(lines) + "\n"


# --- payloads --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Making:
    """What a payload is made of. Equal numbers of `rng` make equal bytes."""

    pack: Pack
    version: str
    subdir: str
    rng: random.Random


def bulk(rng: random.Random, kilobytes: float) -> bytes:
    """Bytes that do not get smaller, as those of programs and pictures hardly do; some more or less than asked for."""
    return rng.randbytes(int(kilobytes * 1000 * rng.uniform(0.7, 1.5)))


def module_of(pack: Pack) -> str:
    return pack.name.replace("-", "_").replace(".", "_")


def python(making: Making) -> Files:
    return modules(making, "site-packages")


def modules(making: Making, place: str) -> Files:
    module = module_of(making.pack)
    files = {
        f"{place}/{module}/__init__.py": f'"""{making.pack.name}"""\n\n__version__ = "{making.version}"\n'.encode()
    }
    for name in making.rng.sample(MODULES, making.rng.randint(3, 9)):
        lines = "".join(f"ROW_{n} = {making.rng.random()!r}\n" for n in range(making.rng.randint(20, 160)))
        files[f"{place}/{module}/{name}.py"] = f'"""{name} of {making.pack.name}"""\n\n{lines}'.encode()
    files[f"{place}/{module}/py.typed"] = b""
    metadata = f"Metadata-Version: 2.1\nName: {making.pack.name}\nVersion: {making.version}\n".encode()
    return files | {f"{place}/{module}-{making.version}.dist-info/METADATA": metadata}


def extension(making: Making) -> Files:
    place = "Lib/site-packages" if making.subdir == "win-64" else "lib/python3.12/site-packages"
    ending = "cp312-win_amd64.pyd" if making.subdir == "win-64" else "cpython-312-linux-gnu.so"
    files = modules(making, place)
    return files | {f"{place}/{module_of(making.pack)}/_native.{ending}": bulk(making.rng, 60)}


def library(making: Making) -> Files:
    short = making.pack.name.removeprefix("lib")
    ending = "dylib" if making.subdir.startswith("osx") else "so"
    files = {
        f"lib/lib{short}.{ending}.{making.version}": bulk(making.rng, 50),
        f"lib/pkgconfig/{short}.pc": f"Name: {short}\nVersion: {making.version}\n".encode(),
    }
    files |= {
        f"include/{short}/{name}.hpp": f"#pragma once\n// {name} of {short}\n".encode() * 12
        for name in making.rng.sample(MODULES, 6)
    }
    return files | {f"lib/cmake/{short}/{short}-config.cmake": f"set({short}_VERSION {making.version})\n".encode()}


def tool(making: Making) -> Files:
    program = f"Library/bin/{making.pack.name}.exe" if making.subdir == "win-64" else f"bin/{making.pack.name}"
    page = f".TH {making.pack.name.upper()} 1\n.SH NAME\n{making.pack.name}\n".encode()
    return {program: bulk(making.rng, 70), f"share/man/man1/{making.pack.name}.1": page}


def robot(making: Making) -> Files:
    service = (
        f"[Unit]\nDescription={making.pack.name}\n\n[Service]\nExecStart=/opt/robot/bin/{making.pack.name}\n".encode()
    )
    return tool(making) | {f"etc/systemd/system/{making.pack.name}.service": service}


def data(making: Making) -> Files:
    place = f"share/{making.pack.name}"
    if making.pack.name == BIG:
        return {
            f"{place}/grid-{n // 100:02d}/case-{n % 100:02d}.csv": f"x,y,h\n0,0,{making.rng.random():.4f}\n1,0,{making.rng.random():.4f}\n".encode()
            for n in range(1999)
        } | {
            f"{place}/CITATION.cff": f"cff-version: 1.2.0\ntitle: {making.pack.name}\nversion: {making.version}\n".encode()
        }
    files = {f"{place}/{name}.bin": bulk(making.rng, 25) for name in making.rng.sample(MODULES, 3)}
    return files | {f"{place}/README.txt": f"{making.pack.summary}.\n".encode()}


def meta(_: Making) -> Files:
    return {}


PAYLOADS: dict[str, Callable[[Making], Files]] = {
    "python": python,
    "extension": extension,
    "library": library,
    "tool": tool,
    "robot": robot,
    "data": data,
    "meta": meta,
}
