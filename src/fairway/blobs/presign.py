"""Presigned requests for S3 (AWS Signature Version 4 in the query) that also say how the answer is to be labelled.

obstore signs URLs too, but without `response-content-disposition`: browsers would save a package under its hash.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, urlsplit


@dataclass(frozen=True, slots=True)
class Signer:
    """What it takes to sign for one bucket. `base` is its URL without a trailing slash; `repr` shows no secret."""

    base: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    def url(
        self, method: str, path: str, *, seconds: int, now: datetime, answer: Mapping[str, str] | None = None
    ) -> str:
        """The URL with which anyone may send `method` to the object `path` (relative to the bucket, "" for the bucket
        itself) for `seconds` from `now` (UTC).

        `answer` maps the name of a response header in lower case, as `content-type`, to the value it shall have.
        """
        parts = urlsplit(self.base)
        stamp = f"{now:%Y%m%dT%H%M%SZ}"
        scope = f"{now:%Y%m%d}/{self.region}/s3/aws4_request"
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.access_key}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
            **{f"response-{name}": value for name, value in (answer or {}).items()},
        }
        if self.session_token:
            query["X-Amz-Security-Token"] = self.session_token
        search = "&".join(f"{quote(name, safe='')}={quote(query[name], safe='')}" for name in sorted(query))
        target = f"{parts.path}/{quote(path, safe='/')}" if path else parts.path or "/"
        request = f"{method}\n{target}\n{search}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = self._sign(scope, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}")
        return f"{parts.scheme}://{parts.netloc}{target}?{search}&X-Amz-Signature={signature}"

    def _sign(self, scope: str, text: str) -> str:
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()


def disposition(filename: str) -> str:
    """The `Content-Disposition` that saves an answer under `filename`, whatever characters that has (RFC 6266)."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-+!") else "_" for c in filename)
    extended = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='')}"
    return f'attachment; filename="{plain}"{extended}'
