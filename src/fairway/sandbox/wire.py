"""What passes between the server and a reading child: frames of four length bytes (big endian) and a msgpack value.

The child sends READY once, then one Reply for each Job. It gets its Setup first.
"""

from __future__ import annotations

import struct

import msgspec

from fairway.conda.artifact import Artifact, Limits

READY = b"ready"
HEADER = struct.Struct("!I")


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for every job of a child. Memory in bytes, CPU in seconds."""

    limits: Limits
    memory: int
    files: int


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One package file to read: an absolute path as bytes, and what `artifact_of` needs. `cpu` in whole seconds."""

    path: bytes
    filename: str
    subdir: str | None
    now_ms: int | None
    mirrored: bool
    cpu: int


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The artifact, or why there is none: a refusal (a class of `fairway.errors`, its code and detail), an errno of
    the file system, or a fault of our own (a traceback). All None: the memory was not enough.

    `spent` asks for a new child: this one may hold memory it cannot give back.
    """

    artifact: Artifact | None = None
    refusal: tuple[str, str, str] | None = None
    errno: int | None = None
    fault: str | None = None
    spent: bool = False


def frame(payload: bytes) -> bytes:
    return HEADER.pack(len(payload)) + payload
