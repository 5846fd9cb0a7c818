"""Index documents of other channels: what they say, with what nobody could install or would trust left out.

A record stays as it came, keys that we do not know included, but for what says where its file is (`url`: everybody
fetches it from us) and what would have to be beside the file (`attestations_sha256`). A record whose name, version or
build is not its file's, or that has no SHA-256 or size to check a file with, is dropped and counted: one bad record must
not cost a whole channel.

Nothing here trusts a size: whoever reads documents from the network has bounded them before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import orjson

from fairway.conda import shards
from fairway.conda.names import CONDA, TAR_BZ2, Filename, PackageName
from fairway.conda.record import LAST_MILLISECOND, MAX_DEPENDENCIES, MAX_RECORD, Section
from fairway.conda.repodata import V3 as V3_SECTIONS
from fairway.conda.repodata import key_of
from fairway.conda.text import one_line
from fairway.errors import FairwayError, Invalid, PackageRefused

MAX_SIZE = 1 << 40  # bytes of a file
MAX_SHARD = 32 << 20
"""Bytes of a name's records, as JSON: whoever looks at the name reads all of them. The largest of real data has 0.5 MB."""
HASHES = {"sha256": 32, "md5": 16, "legacy_bz2_md5": 16}
# where a file is, and what would have to be beside it: ours to say
NOT_TAKEN = ("url", "fn", "channel", "attestations_sha256", "base_url")
V3 = {"conda": (Section.V3_CONDA, CONDA), "tar.bz2": (Section.V3_TAR_BZ2, TAR_BZ2)}


class Found(NamedTuple):
    """A record of another channel, with its hashes as bytes. `url` if its file is not where the others are."""

    section: int
    filename: str
    record: dict[str, Any]
    url: str | None

    @property
    def sha256(self) -> bytes:
        digest: bytes = self.record["sha256"]
        return digest


class Written(NamedTuple):
    """A record as it stands in repodata.json; `data` is its JSON, not looked at yet."""

    section: int
    key: str
    data: Any  # msgspec.Raw, or a map of a shard


@dataclass(frozen=True, slots=True)
class Index:
    """A shard index (CEP 16): the SHA-256 of each name's shard, and where shards and files are, relative to it. `dropped`
    names are no package's.
    """

    shards: Mapping[str, bytes]
    base_url: str
    shards_base_url: str
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Flat:
    """A repodata.json, by package names. `base_url` is relative to it, or empty. `dropped` records are of names that are
    no package's.
    """

    names: Mapping[str, Sequence[Written]]
    base_url: str
    dropped: int = 0


class _Info(msgspec.Struct, frozen=True):
    subdir: str | None = None
    base_url: str | None = None
    shards_base_url: str | None = None


class _Index(msgspec.Struct):
    shards: dict[str, bytes]
    info: _Info = _Info()


class _Repodata(msgspec.Struct):
    info: _Info | None = None
    packages: dict[str, msgspec.Raw] = {}
    packages_conda: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict, name="packages.conda")
    v3: dict[str, dict[str, msgspec.Raw]] = {}


class _Shard(msgspec.Struct):
    packages: dict[str, dict[str, Any]] = {}
    packages_conda: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict, name="packages.conda")
    v3: dict[str, dict[str, dict[str, Any]]] = {}


class About(NamedTuple):
    """What a channel says of a package."""

    summary: str
    licence: str


class _ChannelData(msgspec.Struct):
    packages: dict[str, msgspec.Raw] = {}


class _Exports(msgspec.Struct):
    packages: dict[str, msgspec.Raw] = {}
    packages_conda: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict, name="packages.conda")


_decode_index = msgspec.msgpack.Decoder(_Index).decode
_decode_shard = msgspec.msgpack.Decoder(_Shard).decode
_decode_repodata = msgspec.json.Decoder(_Repodata).decode
_decode_exports = msgspec.json.Decoder(_Exports).decode
_decode_channel_data = msgspec.json.Decoder(_ChannelData).decode


def shard_index(data: bytes, subdir: str) -> Index:
    """From the msgpack of a shard index. Raises: Invalid, code `upstream_invalid`."""
    try:
        index = _decode_index(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _invalid("its shard index cannot be read") from None
    _same_subdir(index.info, subdir)
    if any(len(digest) != 32 for digest in index.shards.values()):
        raise _invalid("its shard index has hashes that are none")
    named = {name: digest for name, digest in index.shards.items() if is_name(name)}
    return Index(
        named, index.info.base_url or "", index.info.shards_base_url or "", dropped=len(index.shards) - len(named)
    )


def shard(data: bytes) -> list[Written]:
    """The records in the msgpack of a shard. Raises: Invalid, code `upstream_invalid`."""
    try:
        found = _decode_shard(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _invalid("one of its shards cannot be read") from None
    written = [Written(Section.PACKAGES, key, record) for key, record in found.packages.items()]
    written += [Written(Section.PACKAGES_CONDA, key, record) for key, record in found.packages_conda.items()]
    for extension, (section, _) in V3.items():
        written += [Written(section, key, record) for key, record in found.v3.get(extension, {}).items()]
    return written


def flat(data: bytes | bytearray | memoryview, subdir: str) -> Flat:
    """From a repodata.json, whose records are neither copied nor read yet: `data` must stay. Raises: Invalid, code
    `upstream_invalid`.
    """
    try:
        found = _decode_repodata(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _invalid("its repodata.json cannot be read") from None
    _same_subdir(found.info, subdir)
    names: dict[str, list[Written]] = {}
    sections = [(Section.PACKAGES, found.packages), (Section.PACKAGES_CONDA, found.packages_conda)]
    sections += [(section, found.v3.get(extension, {})) for extension, (section, _) in V3.items()]
    for section, records in sections:
        number = int(section)
        for key, raw in records.items():
            # the rest of it is checked when the record is read
            names.setdefault(key.rsplit("-", 2)[0], []).append(Written(number, key, raw))
    dropped = sum(len(names.pop(name)) for name in [name for name in names if not is_name(name)])
    return Flat(names, (found.info.base_url if found.info else None) or "", dropped)


def is_name(text: str) -> bool:
    """Whether a package can be called that. Not even a row is made of anything else."""
    try:
        PackageName.parse(text)
    except PackageRefused:
        return False
    return True


def digest(written: Iterable[Written]) -> bytes:
    """A hash by which to see that the records of a name have changed, of records of a repodata.json."""
    seen = hashlib.sha256()
    for section, key, data in written:
        seen.update(b"%d %b " % (section, key.encode()))
        seen.update(data)
    return seen.digest()


def exports(data: bytes | bytearray | memoryview) -> dict[str, bytes]:
    """From a run_exports.json (CEP 12): each name's `{file name: run exports}` as JSON, of those that export something.

    Raises: Invalid, code `upstream_invalid`.
    """
    try:
        found = _decode_exports(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _invalid("its run_exports.json cannot be read") from None
    names: dict[str, dict[str, Any]] = {}
    for records in (found.packages, found.packages_conda):
        for filename, raw in records.items():
            if len(raw) > 32 and (said := _run_exports(bytes(raw))):
                names.setdefault(filename.rsplit("-", 2)[0], {})[filename] = said
    return {name: orjson.dumps(files, option=orjson.OPT_SORT_KEYS) for name, files in names.items()}


def channel_data(data: bytes) -> dict[str, About]:
    """What a channeldata.json (CEP 38) says of each package that it says something of, fit to be shown in a line.

    Raises: Invalid, code `upstream_invalid`.
    """
    try:
        packages = _decode_channel_data(data).packages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _invalid("its channeldata.json cannot be read") from None
    found = {}
    for name, raw in packages.items():
        try:
            said = orjson.loads(bytes(raw))
        except orjson.JSONDecodeError:  # what msgspec skips need not be JSON through and through
            continue
        texts = (said.get(key) if isinstance(said, dict) else None for key in ("summary", "license"))
        about = About(*(one_line(text) if isinstance(text, str) else "" for text in texts))
        if about.summary or about.licence:
            found[name] = about
    return found


def _run_exports(raw: bytes) -> dict[str, list[str]]:
    value = orjson.loads(raw)
    said = value.get("run_exports") if isinstance(value, dict) else None
    if not isinstance(said, dict):
        return {}
    return {
        kind: specs
        for kind, specs in said.items()
        if isinstance(specs, list) and specs and all(isinstance(spec, str) for spec in specs)
    }


def records(name: str, subdir: str, written: Iterable[Written]) -> tuple[list[Found], int]:
    """The records of a package name in the order of a shard, and how many were dropped."""
    found: dict[tuple[int, str], Found] = {}
    hashes: dict[str, bytes] = {}
    dropped = size = 0
    for one in written:
        try:
            record = _record(name, subdir, one)
            # Also whether it can be written: JSON may be deeper when read, and a shard may hold what JSON cannot. One such
            # record would stop every repodata.json of its subdir for ever.
            length = 0 if record is None else len(as_json(record.record))
        except (FairwayError, ValueError, TypeError, RecursionError):
            record = None
        if (
            record is None
            or length > MAX_RECORD * 4
            or size + length > MAX_SHARD
            or (record.section, record.filename) in found
            # a file may be in two sections, with one content
            or hashes.setdefault(record.filename, record.sha256) != record.sha256
        ):
            dropped += 1
        else:
            size += length
            found[record.section, record.filename] = record
    return [found[place] for place in sorted(found)], dropped


def _record(name: str, subdir: str, written: Written) -> Found | None:
    """None for one that cannot be taken."""
    section, key, data = written
    record = data if isinstance(data, dict) else orjson.loads(bytes(data))
    if not isinstance(record, dict):
        return None
    extension = Section(section).extension
    filename = key + extension if section in (Section.V3_CONDA, Section.V3_TAR_BZ2) else key
    file = Filename.parse(filename)
    if file.extension != extension or file.name != name:
        return None
    same = (record.get("name"), record.get("version"), record.get("build")) == (file.name, file.version, file.build)
    length, built = record.get("size"), record.get("build_number")
    if not same or type(length) is not int or not 0 <= length <= MAX_SIZE or type(built) is not int:
        return None
    record["subdir"] = subdir  # where its file is, whatever it says: real channels have noarch records elsewhere
    for kind in ("depends", "constrains"):
        texts = record.setdefault(kind, [])
        if not isinstance(texts, list) or len(texts) > MAX_DEPENDENCIES or not all(isinstance(t, str) for t in texts):
            return None
    for kind, digits in HASHES.items():
        value = record.get(kind)
        if isinstance(value, str):
            value = record[kind] = bytes.fromhex(value)
        if value is not None and (not isinstance(value, bytes) or len(value) != digits):
            return None
        if value is None:
            record.pop(kind, None)
    if "sha256" not in record:
        return None
    seen = record.get("indexed_timestamp")
    if seen is not None and (type(seen) is not int or not 0 < seen <= LAST_MILLISECOND):
        del record["indexed_timestamp"]
    url = record.get("url")
    if isinstance(url, str):
        urlsplit(url)  # raises for what cannot be joined to another
    for kind in NOT_TAKEN:
        record.pop(kind, None)
    return Found(section, filename, record, url if isinstance(url, str) and url else None)


def encode(found: Sequence[Found]) -> bytes:
    """The shard of these records, which are in its order."""
    sections: dict[int, dict[str, Any]] = {}
    for section, filename, record, _ in found:
        sections.setdefault(section, {})[key_of(filename, section)] = record
    return shards.encoded(sections)


def decode(data: bytes) -> list[Found]:
    """The records of a shard that we wrote. Raises: Invalid, code `upstream_invalid`: it has been damaged since."""
    try:
        plain = shards.decompressed(data)
    except (shards.ZstdError, EOFError):
        raise _invalid("a shard that was made of it is damaged") from None
    found = [
        Found(
            one.section,
            one.key + Section(one.section).extension if one.section in V3_SECTIONS else one.key,
            one.data,
            None,
        )
        for one in shard(plain)
    ]
    return sorted(found, key=lambda one: one[:2])


def as_json(record: Mapping[str, Any]) -> bytes:
    """A record of a shard as it stands in repodata.json. Raises: TypeError: it has what JSON has not."""
    plain = {key: value.hex() if isinstance(value, bytes) else value for key, value in record.items()}
    return orjson.dumps(plain, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _same_subdir(info: _Info | None, subdir: str) -> None:
    said = info.subdir if info is not None else None
    if said is not None and said != subdir:
        raise _invalid(f"what it has at {subdir} says that it is another platform's")


def _invalid(what: str) -> Invalid:
    return Invalid(f"The upstream is no conda channel that can be read: {what}.", code="upstream_invalid")
