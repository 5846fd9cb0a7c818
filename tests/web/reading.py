"""A channel with one of everything that can be read, and what is the same for all of it."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import msgspec

from fairway.conda.shards import decompressed
from tests.support.builders import conda_package, tar_bz2_package
from tests.support.site import Site, bearer

DOCUMENTS = (
    "repodata.json",
    "repodata.json.zst",
    "run_exports.json",
    "run_exports.json.zst",
    "repodata_shards.msgpack.zst",
)


@dataclass(frozen=True)
class Channel:
    """What was put into a channel: `paths` are all its files as clients ask for them, below the channel."""

    site: Site
    key: str
    name: str
    conda: tuple[str, bytes]
    bz2: tuple[str, bytes]
    sidecar: bytes
    shard: str

    @property
    def paths(self) -> dict[str, str]:
        filename = self.conda[0]
        sigs = f"noarch/{filename}.sigs"
        return {
            **{name: f"noarch/{name}" for name in DOCUMENTS},
            **{f"empty {name}": f"osx-arm64/{name}" for name in DOCUMENTS},
            "shard": f"noarch/shards/{self.shard}.msgpack.zst",
            "conda": f"noarch/{filename}",
            "tar.bz2": f"linux-64/{self.bz2[0]}",
            "sigs": sigs,
            "sigs.sha256": f"{sigs}.{hashlib.sha256(self.sidecar).hexdigest()}",
            "channeldata": "channeldata.json",
            "notices": "notices.json",
        }

    def get(self, what: str, key: str | None = None, **headers: str) -> Any:
        return self.site.get(f"/{self.name}/{self.paths[what]}", key, **headers)


def filled(site: Site, name: str, visibility: str = "public", **package: Any) -> Channel:
    """Make a channel and put a .conda with an attestation and a .tar.bz2 into it."""
    site.channel(name, visibility)
    key = site.key()
    conda = conda_package("demo", "1.0", run_exports={"weak": ["demo >=1.0"]}, about={"summary": "A demo"}, **package)
    attestation = bundle(*conda)
    form = {"file": (conda[0], conda[1], "application/octet-stream"), "attestation": (None, attestation)}
    answer = site.client.post(f"/api/v1/upload/{name}", files=form, headers=bearer(key))
    assert answer.status_code == 201, answer.text
    bz2 = tar_bz2_package("other", "2.0", subdir="linux-64")
    assert site.put(name, bz2, key).status_code == 201
    site.settle()
    index = unpacked(site.get(f"/{name}/noarch/repodata_shards.msgpack.zst", key).content)
    return Channel(site, key, name, conda, bz2, b"[" + attestation + b"]", index["shards"]["demo"].hex())


def bundle(filename: str, data: bytes, target: str | None = None) -> bytes:
    """A publish attestation (CEP 27) of a file, unsigned as far as anybody here looks."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://schemas.conda.org/attestations-publish-1.schema.json",
        "predicate": {"targetChannel": target},
        "subject": [{"name": filename, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}],
    }
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps({"dsseEnvelope": {"payload": payload, "payloadType": "application/vnd.in-toto+json"}}).encode()


def unpacked(data: bytes) -> Any:
    """The value of a shard or a shard index."""
    return msgspec.msgpack.decode(decompressed(data))


def same(answer: Any, *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """An answer's headers, without what belongs to the single request."""
    leave = {"date", "x-request-id", *without}
    return {name: value for name, value in answer.headers.items() if name not in leave}
