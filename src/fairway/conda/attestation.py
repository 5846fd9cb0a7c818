"""Publish attestations (CEP 27): does a Sigstore bundle speak of this file, and of this channel?

The statement is checked, not the signature: who signed is for clients and for trusted publishing to judge, and nothing
here raises anybody's rights. The bundle is kept and served byte for byte (CEP 50).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Never

from fairway.conda import jsontext
from fairway.errors import FairwayError, PackageRefused

SIZE_MAX = 256 << 10
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://schemas.conda.org/attestations-publish-1.schema.json"


def check(bundle: bytes, *, filename: str, sha256: str, channel_url: str) -> None:
    """Pass if the bundle attests this file for this channel, or for no channel in particular.

    Raises: PackageRefused: code `attestation_invalid`, with what does not fit.
    """
    if len(bundle) > SIZE_MAX:
        _refuse(f"it is larger than {SIZE_MAX} bytes")
    envelope = _member(_loads(bundle), "dsseEnvelope")
    if _member(envelope, "payloadType") != PAYLOAD_TYPE:
        _refuse(f"its payload is not {PAYLOAD_TYPE}")
    try:
        payload = base64.b64decode(str(_member(envelope, "payload")), validate=True)
    except (binascii.Error, ValueError):
        _refuse("its payload is not base64")
    statement = _loads(payload)
    if _member(statement, "_type") != STATEMENT or _member(statement, "predicateType") != PREDICATE:
        _refuse(f"it is not an in-toto statement of the type {PREDICATE}")
    subjects = _member(statement, "subject")
    if not isinstance(subjects, list) or len(subjects) != 1:
        _refuse("it does not have exactly one subject")
    if _member(subjects[0], "name") != filename:
        _refuse(f"its subject is not {filename}")
    if _member(_member(subjects[0], "digest"), "sha256") != sha256:
        _refuse(f"its subject does not have the sha256 {sha256}")
    predicate = statement.get("predicate") or {}
    target = predicate.get("targetChannel") if isinstance(predicate, dict) else "?"
    if target is not None and str(target).rstrip("/") != channel_url:
        _refuse(f"its target channel is not {channel_url}")


def sidecar(bundles: Sequence[bytes]) -> bytes:
    """The array that clients fetch beside the package (CEP 50); each bundle keeps its bytes."""
    return b"[" + b",".join(bundle.strip() for bundle in bundles) + b"]"


def _loads(data: bytes) -> Any:
    try:
        return jsontext.loads(data)
    except FairwayError as error:
        _refuse(f"it cannot be read: {error.detail}")


def _member(value: Any, name: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        _refuse(f"it has no {name}")
    return value[name]


def _refuse(why: str) -> Never:
    raise PackageRefused(f"The attestation does not fit the file: {why}.", code="attestation_invalid")
