"""Every error Fairway raises on purpose.

An error is a fact, named for what is the case (`ArtifactExists`, not `Conflict`). It carries a `code` from a closed
list (docs/reference/errors.md, tested) and one sentence a person can act on. It knows nothing of HTTP: `web.errors`
is the one table that turns a class into a status.
"""


class FairwayError(Exception):
    """Something was refused, or could not be done now."""

    code = "error"

    def __init__(self, detail: str | None = None, *, code: str | None = None) -> None:
        self.detail = detail or (self.__doc__ or "").split("\n", 1)[0]
        if code is not None:
            self.code = code
        super().__init__(self.detail)


# --- who is asking -------------------------------------------------------------------------------------------------


class AuthRequired(FairwayError):
    """This channel does not exist or needs a sign-in: send an API key, for example as 'Authorization: Bearer KEY'."""

    code = "auth_required"


class TokenInvalid(FairwayError):
    """The API key is not valid: it may be mistyped, expired or revoked."""

    code = "token_invalid"


class NotAllowed(FairwayError):
    """You may see this, but not change it."""

    code = "scope_missing"


class RateLimited(FairwayError):
    """That is too often; try again later."""

    code = "rate_limited"

    def __init__(self, detail: str | None = None, *, code: str | None = None, seconds: int = 5) -> None:
        super().__init__(detail, code=code)
        self.seconds = seconds


class NotFound(FairwayError):
    """There is nothing here, or nothing you may see."""

    code = "not_found"


# --- what was sent -------------------------------------------------------------------------------------------------


class Malformed(FairwayError):
    """The request itself cannot be read: its path, its name, its body's framing."""

    code = "request_invalid"


class Invalid(FairwayError):
    """What was sent was understood and breaks a rule: a package, a name, a value."""

    code = "invalid"


class PackageRefused(Invalid):
    """The package breaks a rule of its format; `code` says which."""


class TooLarge(FairwayError):
    """The body is larger than the limit of this server."""

    code = "file_too_large"


class QuotaExceeded(TooLarge):
    """The channel has no room left for this file."""

    code = "quota_exceeded"


class ArtifactExists(FairwayError):
    """A file of this name is already in the channel."""

    code = "file_exists"


class NameTaken(FairwayError):
    """This name is already in use."""

    code = "name_taken"


class FeatureOff(FairwayError):
    """The channel's settings do not allow this."""

    code = "v3_not_allowed"


# --- what failed on another server ---------------------------------------------------------------------------------


class RemoteError(FairwayError):
    """Another server could not be used."""

    code = "remote_failed"

    def __init__(self, detail: str | None = None, *, code: str | None = None, seconds: int | None = None) -> None:
        """`seconds` is how long that server wants to be left alone, if it said so."""
        super().__init__(detail, code=code)
        self.seconds = seconds


class RemoteRefused(RemoteError):
    """This is no address that this server asks."""

    code = "remote_refused"


class RemoteMissing(RemoteError):
    """The other server does not have it."""

    code = "remote_missing"


class RemoteDenied(RemoteError):
    """The other server wants a credential for it, or another one."""

    code = "remote_denied"


class RemoteWrong(RemoteError):
    """What the other server sent is not what it should be. Asking again at once would not help."""

    code = "remote_wrong"


class RemoteUnavailable(RemoteError):
    """The other server does not answer now, or not whole. It may later."""

    code = "remote_unavailable"


# --- what failed on our side ---------------------------------------------------------------------------------------


class StorageFull(FairwayError):
    """The disk of this server is full; nothing was stored. Try again when its administrator has made room."""

    code = "storage_full"


class Unavailable(FairwayError):
    """A part this server needs does not answer right now; nothing was changed. Try again in a moment."""

    code = "busy"


class BlobMissing(FairwayError):
    """The store does not have the bytes it should have."""

    code = "blob_missing"


class SecretLost(FairwayError):
    """A stored secret cannot be opened: the key it was sealed with is not there. Enter it again."""

    code = "secret_lost"


class SetupError(FairwayError):
    """Fairway cannot start or run this command as it is set up."""

    code = "setup"
