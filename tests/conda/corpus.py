"""Real repodata records, where they are at hand beside the checkout."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT.parent / "shared" / "data" / "corpus.jsonl.zst"
PACKAGES = sorted((ROOT.parent / "shared" / "data" / "packages").glob("*/*"))

needs_corpus = pytest.mark.skipif(not CORPUS.exists(), reason="the shared records are not here")
needs_packages = pytest.mark.skipif(not PACKAGES, reason="the shared packages are not here")


@cache
def records() -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in zstd.decompress(CORPUS.read_bytes()).splitlines()]


@cache
def specs() -> list[str]:
    return sorted({text for record in records() for text in (*record["depends"], *record.get("constrains", []))})
