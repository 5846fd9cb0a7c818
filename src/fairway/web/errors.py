"""The one table that turns an error into a status, and the words around it.

The statuses follow what clients do with them: an uploading client stops at 400, 401, 403, 404, 409, 413 and 422 and
shows the text; everything else it sends again, whole. So whatever will not get better by itself is one of these.
"""

from __future__ import annotations

from http import HTTPStatus

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from fairway import errors
from fairway.errors import FairwayError

STATUS: dict[type[FairwayError], HTTPStatus] = {
    errors.AuthRequired: HTTPStatus.UNAUTHORIZED,
    errors.TokenInvalid: HTTPStatus.UNAUTHORIZED,
    errors.NotAllowed: HTTPStatus.FORBIDDEN,
    errors.FeatureOff: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    errors.Malformed: HTTPStatus.BAD_REQUEST,
    errors.Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.PackageRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.QuotaExceeded: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ArtifactExists: HTTPStatus.CONFLICT,
    errors.NameTaken: HTTPStatus.CONFLICT,
    errors.RemoteError: HTTPStatus.BAD_GATEWAY,
    errors.RemoteRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RemoteMissing: HTTPStatus.NOT_FOUND,
    errors.RemoteDenied: HTTPStatus.BAD_GATEWAY,
    errors.RemoteWrong: HTTPStatus.BAD_GATEWAY,
    errors.RemoteUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,  # which every client asks again
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.BlobMissing: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.SecretLost: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.SetupError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

INTERNAL = "Something went wrong on this server; its log has the request id of this answer."
RETRY_AFTER = "5"


def status_of(error: FairwayError) -> HTTPStatus:
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def unreadable(error: RequestValidationError) -> FairwayError:
    """What the framework found wrong with a query, a path or a JSON body: the first of it, in a sentence."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in {"body", "query", "path"})
    return errors.Invalid(f"{where[:80] or 'The body'}: {first['msg']}.", code="request_invalid")


def headers_for(status: int, realm: str) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if status == HTTPStatus.UNAUTHORIZED:
        # Never Basic: a browser would open a dialog. rattler looks for this header before it signs in.
        headers["WWW-Authenticate"] = f'Bearer realm="{realm}"'
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE}:
        headers["Retry-After"] = RETRY_AFTER
    return headers


def again_in(error: FairwayError) -> dict[str, str]:
    """When it may be asked again, if the error knows."""
    return {"Retry-After": str(error.seconds)} if isinstance(error, errors.RateLimited) else {}


def problem_body(status: int, code: str, detail: str) -> bytes:
    """RFC 9457, with `code` first, since some clients show only the beginning, and `message`, which conda shows."""
    title = HTTPStatus(status).phrase
    return orjson.dumps({"code": code, "title": title, "status": int(status), "detail": detail, "message": detail})


def problem(error: FairwayError, *, realm: str) -> Response:
    """The answer of the API and of a channel's files."""
    status = status_of(error)
    return Response(
        problem_body(status, error.code, error.detail),
        status,
        headers_for(status, realm) | again_in(error),
        media_type="application/problem+json",
    )


def plain(error: FairwayError, *, realm: str) -> Response:
    """The answer of the upload dialects: clients show the body as it is, cut at 512 characters."""
    status = status_of(error)
    headers = headers_for(status, realm) | again_in(error) | {"Fairway-Error": error.code}
    return Response(error.detail[:500] + "\n", status, headers, media_type="text/plain")
