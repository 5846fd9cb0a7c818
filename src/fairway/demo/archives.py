"""`.conda` files made in memory: what a build tool would write, with contents of no use."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FORMAT = b'{"conda_pkg_format_version": 2}'
ZIP_TIME = (1980, 1, 1, 0, 0, 0)
LEVEL = 3
NOARCH_PYTHON = json.dumps({"noarch": {"type": "python"}, "package_metadata_version": 1}).encode()


@dataclass(frozen=True, slots=True)
class Build:
    """One package file: its identity, the documents of `info/` beside paths.json, and its payload by path."""

    name: str
    version: str
    build: str
    index: Mapping[str, Any]
    about: Mapping[str, Any]
    files: Mapping[str, bytes]
    run_exports: Mapping[str, list[str]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)  # further files of info/: licences, the recipe
    made_at: int = 0  # seconds

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.version}-{self.build}"

    @property
    def filename(self) -> str:
        return f"{self.stem}.conda"


def conda_file(build: Build) -> bytes:
    """The bytes of the file, the same for equal builds."""
    info: dict[str, bytes] = {
        "info/index.json": encoded(build.index),
        "info/about.json": encoded(build.about),
        "info/paths.json": encoded({"paths": paths_of(build.files), "paths_version": 1}),
    }
    if build.run_exports:
        info["info/run_exports.json"] = encoded(build.run_exports)
    if build.index.get("noarch") == "python":
        info["info/link.json"] = NOARCH_PYTHON
    info |= {f"info/{path}": text.encode() for path, text in build.texts.items()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
        for name, data in (
            ("metadata.json", FORMAT),
            (f"pkg-{build.stem}.tar.zst", packed(build.files, build.made_at)),
            (f"info-{build.stem}.tar.zst", packed(info, build.made_at)),
        ):
            file.writestr(zipfile.ZipInfo(name, ZIP_TIME), data)
    return out.getvalue()


def packed(files: Mapping[str, bytes], made_at: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mtime = len(data), made_at
            member.mode = 0o755 if path.startswith(("bin/", "Scripts/")) else 0o644
            archive.addfile(member, io.BytesIO(data))
    return zstd.compress(out.getvalue(), LEVEL)


def paths_of(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    return [
        {
            "_path": path,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(data).hexdigest(),
            "size_in_bytes": len(data),
        }
        for path, data in sorted(files.items())
    ]


def encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode()
