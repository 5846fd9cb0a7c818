"""channeldata.json (CEP 38): a channel's packages in a word each. No installer asks for it; conda-build and pages do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

ABOUT = (
    "description",
    "dev_url",
    "doc_source_url",
    "doc_url",
    "home",
    "license",
    "license_family",
    "source_url",
    "summary",
)


@dataclass(frozen=True, slots=True)
class Newest:
    """A package's newest version: `about` is its about.json, `timestamp` its build time in ms if known."""

    name: str
    version: str
    about: dict[str, Any]
    subdirs: Sequence[str]
    timestamp: int | None
    run_exports: dict[str, list[str]]


def channeldata(subdirs: Iterable[str], packages: Iterable[Newest]) -> bytes:
    """The document; keys sorted, so the same channel gives the same bytes."""
    entries = {}
    for package in packages:
        entry: dict[str, Any] = {key: package.about.get(key) for key in ABOUT}
        entry["version"] = package.version
        entry["subdirs"] = sorted(package.subdirs)
        entry["timestamp"] = None if package.timestamp is None else package.timestamp // 1000
        entry["run_exports"] = {package.version: package.run_exports} if package.run_exports else {}
        entries[package.name] = entry
    document = {"channeldata_version": 1, "packages": entries, "subdirs": sorted(subdirs)}
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
