"""An upstream as an owner asks for it, by the API or with a form, made into settings that can be kept."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from fairway.app import Fairway
from fairway.registry import upstreams
from fairway.registry.upstreams import Settings


@dataclass(frozen=True, slots=True)
class Secret:
    """What the upstream's server wants to see: a kind of `remote.credentials`."""

    kind: str
    secret: str
    user: str = ""


SECRETIVE = re.compile(r"[@?#%;]|/t/|//.*//", re.IGNORECASE)


def may_hold_secret(address: str) -> bool:
    """Whether an address, as somebody wrote it, is not to be shown again: a page that is sent back stays in a browser."""
    return SECRETIVE.search(address) is not None


def settings(app: Fairway, wanted: Settings, secret: Secret | None = None) -> Settings:
    """The same with its address looked up, and its secret sealed. `wanted.url` may also be the name of a preset, or have
    a secret in it as people copy it. Blocks while names are looked up: not for the event loop, nor in a transaction.

    Raises: Invalid, RemoteRefused, RemoteUnavailable.
    """
    from fairway.remote.credentials import Credential  # noqa: PLC0415 - few requests need what it brings

    preset = next((one for one in upstreams.PRESETS if one.name == wanted.url), None)
    url, credential = app.remote_credentials(wanted.url if preset is None else preset.url)
    wanted = upstreams.checked(replace(wanted, url=url, credential=credential))
    if secret is not None:
        made = Credential.make(secret.kind, secret.secret, wanted.url, secret.user)
        wanted = replace(wanted, credential=app.seal(made.pack(), wanted.url))
    app.remote.check(wanted.url)
    return wanted
