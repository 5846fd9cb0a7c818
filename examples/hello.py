"""Write a small conda package with nothing but the standard library: hello-fairway-1.0-0.tar.bz2 in this folder.

It puts one script into the environment, bin/hello-fairway. Real packages are made by rattler-build, pixi build or
conda-build; this shows that there is no magic in one.
"""
# ruff: noqa: T201, INP001

import hashlib
import io
import json
import tarfile
from pathlib import Path

SCRIPT = b"#!/bin/sh\necho 'Hello from a channel of our own.'\n"

index = {
    "name": "hello-fairway",
    "version": "1.0",
    "build": "0",
    "build_number": 0,
    "depends": [],
    "license": "BSD-3-Clause",
    "noarch": "generic",
    "subdir": "noarch",
}
paths = {
    "paths_version": 1,
    "paths": [
        {
            "_path": "bin/hello-fairway",
            "path_type": "hardlink",
            "sha256": hashlib.sha256(SCRIPT).hexdigest(),
            "size_in_bytes": len(SCRIPT),
        }
    ],
}
members = {
    "info/index.json": json.dumps(index).encode(),
    "info/paths.json": json.dumps(paths).encode(),
    "info/about.json": json.dumps({"summary": "Says hello", "license": "BSD-3-Clause"}).encode(),
    "bin/hello-fairway": SCRIPT,
}

path = Path("hello-fairway-1.0-0.tar.bz2")
with tarfile.open(path, "w:bz2") as archive:
    for name, data in members.items():
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), 0o755 if name.startswith("bin/") else 0o644
        archive.addfile(member, io.BytesIO(data))
print(f"wrote {path}")
