"""Any number of records that compress as badly as real ones: real records where the shared corpus is there, then clones of
them with another version tail, build hash, digests, size and time, every sixth generation under another name.
"""

from __future__ import annotations

import io
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import packages

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CORPUS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "corpus.jsonl.zst"
SUBDIR = "linux-64"
KEPT = ("build", "build_number", "depends", "constrains", "license", "license_family", "name", "noarch", "size",
        "subdir", "timestamp", "track_features", "version", "md5", "sha256")  # fmt: skip


def base() -> list[dict[str, Any]]:
    """Records to clone."""
    if not CORPUS.is_file():
        return [dict(packages.package(number).index, subdir=SUBDIR) for number in range(20_000)]
    with zstd.open(CORPUS, "rb") as file:
        found = [json.loads(line) for line in io.TextIOWrapper(file, encoding="utf-8")]
    return [
        {key: record[key] for key in KEPT if key in record} | {"extension": extension_of(record["fn"])}
        for record in sorted(found, key=lambda record: (record["fn"], record["channel"]))
        if record["subdir"] == SUBDIR and "-" not in record["version"] + record["build"]
    ]


def extension_of(filename: str) -> str:
    return ".tar.bz2" if filename.endswith(".tar.bz2") else ".conda"


def records(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """File names and records; the same for the same count."""
    dice = random.Random(1)
    originals, seen, generation = base(), set(), 0
    while True:
        tail = f"-{generation}" if generation % 6 == 5 else ""
        for original in originals:
            record = dict(original)
            extension = record.pop("extension", ".conda")
            record["name"] += tail
            if generation and record["version"][-1:].isdigit():
                record["version"] += f".{generation}"
            record["build"] = f"h{dice.getrandbits(28):07x}_{record['build_number']}"
            record["md5"], record["sha256"] = dice.randbytes(16).hex(), dice.randbytes(32).hex()
            record["size"] = max(1000, int(record.get("size", 100_000) * dice.uniform(0.9, 1.1)))
            filename = f"{record['name']}-{record['version']}-{record['build']}{extension}"
            if filename in seen:
                continue
            seen.add(filename)
            yield filename, record
            if len(seen) == count:
                return
        generation += 1
