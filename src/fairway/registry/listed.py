"""What a package is listed with: columns of its row that are facts of its newest version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fairway.conda import version
from fairway.conda.names import SUBDIR_NUMBERS
from fairway.db.models import Package

SUMMARY_MAX = 1_000


def bits_of(subdirs: Iterable[str]) -> int:
    """Subdirs as `Package.places` has them."""
    bits = 0
    for subdir in subdirs:
        bits |= 1 << SUBDIR_NUMBERS[subdir]
    return bits


def listed(about: Mapping[str, Any], record: Mapping[str, Any]) -> tuple[str, str]:
    """Summary and licence, as packages are listed with them."""
    summary = str(about.get("summary") or "")
    licence = str(record.get("license") or about.get("license") or "")
    return summary[:SUMMARY_MAX], licence[:SUMMARY_MAX]


def show_newest(package: Package, newest: str, *, about: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Make these the facts a package is listed with."""
    package.version, package.version_key = newest, version.sort_key(newest)
    package.summary, package.licence = listed(about, record)
