"""From what a package says of itself to its repodata record (CEP 34, 36, 43 to 45, 47, 48).

A record that one client cannot read hides every package of its shard from that client, and a whole subdir in
repodata.json. So every field that a client reads by type is checked here, and nothing is let in that py-rattler's own
indexer would stop at. Fields no client reads are passed through.
"""

from __future__ import annotations

import enum
import re
from typing import Any, Never

import orjson

from fairway.conda import spec as specs
from fairway.conda import version as versions
from fairway.conda.artifact import Artifact, Contents
from fairway.conda.names import CONDA, KNOWN_SUBDIRS, NOARCH, TAR_BZ2, Filename, PackageName, parse_build, shown
from fairway.conda.text import clean_about, has_control
from fairway.errors import PackageRefused

MAX_BUILD_NUMBER = (1 << 31) - 1
MAX_DEPENDENCIES = 2_000
MAX_KEYS = 200
# Each upload reads and encodes all records of its name anew, and each client of the channel downloads them. The largest
# of 119,707 real records has 12,120 bytes with what the server adds, and 2,000 usual dependencies would have 64,000.
MAX_RECORD = 64 * 1024
SCHEMA_VERSION = 3
FUTURE_TOLERANCE_MS = 24 * 60 * 60 * 1000
# Up to here (the year 9999) conda and rattler read seconds, above milliseconds.
LAST_SECOND = 253_402_300_799
# A day less than the year 9999, so that no client's time type overflows in any time zone.
LAST_MILLISECOND = 253_402_200_000_000

# What only the server knows, or what a client writes into its own copy of a record: never taken from a package.
# `legacy_bz2_*` belong here too: no package can know the hash of the archive it once was in; mirrors carry them.
SERVER_KEYS: frozenset[str] = frozenset(
    [
        *("md5", "sha256", "size", "indexed_timestamp", "attestations_sha256", "legacy_bz2_md5", "legacy_bz2_size"),
        *("url", "base_url", "channel", "schannel", "fn", "signatures", "revoked", "run_exports", "repodata_revision"),
        *("package_type", "metadata", "metadata_signature_status", "paths_data", "files", "link", "auth", "date"),
        *("requested_spec", "requested_specs", "extracted_package_dir", "package_tarball_full_path"),
        *("__proto__", "constructor", "prototype"),
    ]
)

_HASHES = ("md5", "sha256", "attestations_sha256", "legacy_bz2_md5")
_TEXTS = ("arch", "platform", "license", "license_family", "features", "python_site_packages_path", "preferred_env")
_NEVER_NULL = ("depends", "constrains", "track_features", "flags", "extra_depends")
_SAYS_NOTHING: dict[str, Any] = {
    "constrains": [],
    "extra_depends": {},
    "flags": [],
    "track_features": [],
    "noarch": False,
}
_PURL = re.compile(
    r"pkg:[a-z]+(?:/[A-Za-z0-9._~+-]+)+(?:@[A-Za-z0-9._~+!-]+)?(?:\?[a-z_]+=[A-Za-z0-9._~+/:-]+(?:&[a-z_]+=[A-Za-z0-9._~+/:-]+)*)?"
)


class Section(enum.IntEnum):
    """Where in repodata a record stands. Numbers are stored: never renumber."""

    PACKAGES = 0
    PACKAGES_CONDA = 1
    V3_TAR_BZ2 = 2
    V3_CONDA = 3

    def key(self, filename: Filename) -> str:
        """The record's key there: the file name, or under `v3` the file name without its extension (CEP 48)."""
        return filename.stem if self >= Section.V3_TAR_BZ2 else filename.text

    @property
    def extension(self) -> str:
        """`.conda` or `.tar.bz2`."""
        return CONDA if self in (Section.PACKAGES_CONDA, Section.V3_CONDA) else TAR_BZ2


def section_of(extension: str, needs_v3: bool) -> Section:
    """The section of a package file; `extension` is `.conda` or `.tar.bz2`, with its period."""
    if needs_v3:
        return Section.V3_CONDA if extension == CONDA else Section.V3_TAR_BZ2
    return Section.PACKAGES_CONDA if extension == CONDA else Section.PACKAGES


def json_bytes(record: dict[str, Any]) -> bytes:
    """The record as JSON: UTF-8, no spaces, keys sorted, so equal records are equal bytes."""
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def shard_value(record: dict[str, Any]) -> dict[str, Any]:
    """The record as a shard holds it (CEP 16): a copy with its hashes as bytes instead of hexadecimal text."""
    value = dict(record)
    for key in _HASHES:
        if isinstance(written := value.get(key), str):
            value[key] = bytes.fromhex(written)
    return value


def needs_v3(index: dict[str, Any]) -> bool:
    """Whether older clients would misread this `index.json` or record, so that it may only stand under `v3`.

    CEP 43 to 45 say so by `schema_version: 3`; rattler-build writes `repodata_revision: 3` instead. Specs that cannot
    be read count as old ones.
    """
    if any(
        isinstance(index.get(key), int) and index[key] >= SCHEMA_VERSION
        for key in ("schema_version", "repodata_revision")
    ):
        return True
    if index.get("extra_depends") or index.get("flags"):
        return True
    lists = [index.get(key) for key in ("depends", "constrains")]
    return any(_has_v3_keys(text) for texts in lists if isinstance(texts, list) for text in texts)


def artifact_of(contents: Contents, filename: Filename, *, subdir: str | None, now_ms: int | None) -> Artifact:
    """Judges what an archive holds and gives its record and everything else that is kept of it.

    Args:
        contents: what the archive reader found.
        filename: the name the file came under; `index.json` must say the same.
        subdir: the subdir the uploader named in the URL, or None to go by `index.json` alone.
        now_ms: the present in milliseconds since 1970, or None to accept any timestamp.

    Returns:
        The artifact. Its record has every key of `index.json` except SERVER_KEYS, nulls, empty optional lists and `noarch: false`;
        under v3 its specs are in bracket form. Warnings are codes: `noarch_generic_on_platform`, `noarch_legacy`,
        `depends_missing`, `timestamp_future`.

    Raises:
        PackageRefused: code `index_schema`, `name_invalid`, `name_reserved`, `version_invalid`, `build_invalid`,
            `filename_mismatch`, `subdir_invalid`, `subdir_mismatch`, `timestamp_invalid`, `depends_invalid` or
            `text_control` or `metadata_too_large`.
    """
    warnings = list(contents.warnings)
    index = _taken(contents.index)
    _check_identity(index, filename)
    index["subdir"] = _subdir(index, subdir)
    warnings += _check_noarch(index)
    _check_fields(index)
    warnings += _check_timestamp(index, now_ms)
    if "depends" not in index:
        index["depends"] = []
        warnings.append("depends_missing")
    v3 = _check_dependencies(index, v3=needs_v3(contents.index))
    for key, nothing in _SAYS_NOTHING.items():
        if index.get(key) == nothing:
            del index[key]
    _check_size("index.json", index)
    _check_size("run_exports.json", contents.run_exports)
    return Artifact(
        filename=filename.text,
        name=index["name"],
        version=index["version"],
        build=index["build"],
        build_number=index["build_number"],
        subdir=index["subdir"],
        record=index,
        about=clean_about(contents.about),
        run_exports=contents.run_exports,
        paths=contents.paths,
        needs_v3=v3,
        licences=contents.licences,
        recipe=contents.recipe,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _taken(index: dict[str, Any]) -> dict[str, Any]:
    """The keys that are ours to keep. A null says as much as an absent key, and some clients stop at it; where rattler
    stops at it in the package itself, it is refused.
    """
    if len(index) > MAX_KEYS:
        _refuse(f"index.json has more than {MAX_KEYS} keys.")
    for key in ("schema_version", "repodata_revision"):
        if not _is_int(index.get(key, 0), SCHEMA_VERSION) and index[key] is not None:
            _refuse(f"{key} in index.json is not a number from 0 to {SCHEMA_VERSION}.")
    for key in _NEVER_NULL:
        if key in index and index[key] is None:
            _refuse(f"{key} in index.json is null; leave it out, or say an empty one.")
    if has_control(index):
        raise PackageRefused(
            "index.json has control characters, or characters that change the direction of text.", code="text_control"
        )
    return {key: value for key, value in index.items() if value is not None and key not in SERVER_KEYS}


def _check_identity(index: dict[str, Any], filename: Filename) -> None:
    for key in ("name", "version", "build"):
        if not isinstance(index.get(key), str):
            _refuse(f"{key} in index.json is not text.")
    if not _is_int(index.get("build_number"), MAX_BUILD_NUMBER):
        _refuse(f"build_number in index.json is not a whole number from 0 to {MAX_BUILD_NUMBER}.")
    # By themselves first: a version with a dash could agree with a file name that is split elsewhere.
    said = (PackageName.parse(index["name"]), versions.parse(index["version"]), parse_build(index["build"]))
    if said != (filename.name, filename.version, filename.build):
        raise PackageRefused(
            f"The file is called '{filename.stem}', but its index.json says '{'-'.join(said)}'.",
            code="filename_mismatch",
        )


def _subdir(index: dict[str, Any], expected: str | None) -> str:
    said = index.get("subdir", expected)
    if not isinstance(said, str) or said not in KNOWN_SUBDIRS:
        what = f"'{shown(said)}'" if isinstance(said, str) else "nothing readable"
        raise PackageRefused(
            f"index.json says {what} as subdir; conda clients know 'noarch' and platforms such as 'linux-64'.",
            code="subdir_invalid",
        )
    if expected is not None and said != expected:
        raise PackageRefused(
            f"The file was sent to '{shown(expected)}', but its index.json says '{said}'.", code="subdir_mismatch"
        )
    return said


def _check_noarch(index: dict[str, Any]) -> list[str]:
    noarch = index.get("noarch", False)
    if noarch not in ("generic", "python") and not isinstance(noarch, bool):
        _refuse("noarch in index.json is neither 'generic' nor 'python'.")
    if index["subdir"] == NOARCH:
        if noarch is False:
            _refuse("A package of the subdir noarch needs 'noarch': 'generic' or 'python' in index.json.")
        return ["noarch_legacy"] if noarch is True else []
    # `python` on a platform is an abi3 package (CEP 20); `generic` there is an oddity clients install nevertheless.
    return [] if noarch in (False, "python") else ["noarch_generic_on_platform"]


def _check_fields(index: dict[str, Any]) -> None:
    for key in _TEXTS:
        if not isinstance(index.get(key, ""), str):
            _refuse(f"{key} in index.json is not text.")
    features = index.get("track_features", "")
    if not isinstance(features, str) and not _is_texts(features):
        _refuse("track_features in index.json is neither text nor a list of texts.")
    purls = index.get("purls", [])
    if not _is_texts(purls) or not all(_PURL.fullmatch(purl) for purl in purls):
        _refuse("purls in index.json is not a list of package URLs (pkg:type/name).")
    flags = index.get("flags", [])
    if not _is_texts(flags) or not all(specs.FLAG.fullmatch(flag) for flag in flags):
        _refuse("flags in index.json is not a list of flags, each like 'cuda' or 'blas:mkl' (CEP 45).")
    extras = index.get("extra_depends", {})
    if not isinstance(extras, dict) or not all(specs.EXTRA.fullmatch(name) for name in extras):
        _refuse("extra_depends in index.json is not a map of extras named in a-z, 0-9, '_', '.', '+', '-' (CEP 44).")


def _check_timestamp(index: dict[str, Any], now_ms: int | None) -> list[str]:
    timestamp = index.get("timestamp", 0)
    if not _is_int(timestamp, LAST_MILLISECOND):
        raise PackageRefused(
            "timestamp in index.json is not a time in milliseconds since 1970.", code="timestamp_invalid"
        )
    if now_ms is None:
        return []
    ahead = (timestamp * 1000 if timestamp <= LAST_SECOND else timestamp) - now_ms
    if ahead > FUTURE_TOLERANCE_MS:
        raise PackageRefused(
            "timestamp in index.json lies more than a day in the future; is the build machine's clock right?",
            code="timestamp_invalid",
        )
    return ["timestamp_future"] if ahead > 0 else []


def _check_dependencies(index: dict[str, Any], *, v3: bool) -> bool:
    """Reads every spec; under v3 also writes them anew. Gives whether the record stands under v3."""
    extras: dict[str, Any] = index.get("extra_depends", {})
    lists = [index["depends"], index.get("constrains", []), *extras.values()]
    if not all(_is_texts(texts) for texts in lists):
        _refuse("depends, constrains or extra_depends in index.json is not made of lists of texts.")
    if sum(map(len, lists)) > MAX_DEPENDENCIES:
        raise PackageRefused(
            f"A package has at most {MAX_DEPENDENCIES} dependencies and constraints.", code="depends_invalid"
        )
    read = [[specs.parse(text) for text in texts] for texts in lists]
    if not v3:
        return False
    # Builders write the short form here too; CEP 48 leaves it to the indexer to write the other.
    depends, constrains, *more = ([spec.bracketed() for spec in parsed] for parsed in read)
    index["depends"] = depends
    if constrains:
        index["constrains"] = constrains
    if extras:
        index["extra_depends"] = dict(zip(extras, more, strict=True))
    return True


def _check_size(what: str, published: dict[str, Any]) -> None:
    """Of what goes into the documents that clients download: the file itself may hold what is not published."""
    size = len(json_bytes(published))
    if size > MAX_RECORD:
        raise PackageRefused(
            f"What {what} brings into the index has {size} bytes; at most {MAX_RECORD} are allowed.",
            code="metadata_too_large",
        )


def _has_v3_keys(text: Any) -> bool:
    if not isinstance(text, str) or "[" not in text:
        return False
    try:
        return specs.parse(text).needs_v3
    except PackageRefused:
        return False


def _is_int(value: Any, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _refuse(detail: str) -> Never:
    raise PackageRefused(detail, code="index_schema")
