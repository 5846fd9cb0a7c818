"""The lines to copy for each client, with this server's address in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

NEEDS_KEY = "KEY"
STRICT = "The channel is named because one before it has the name too. With channel_priority strict, some versions refuse that."


class Line(NamedTuple):
    """What stands under one client's tab: the lines, and a sentence about them if they need one."""

    client: str
    text: str
    note: str | None = None


def use_channel(channels: Sequence[str], *, private: bool) -> list[Line]:
    """How each client reads from channels, given by their whole addresses, the first before the others. If they are not all
    for everybody (`private`), every client is told a key first, for all that are on the server of the first.
    """
    host = root_of(channels[0])
    conda = " ".join(f"-c {channel}" for channel in channels)
    pixi = " ".join(channels)
    keyed = " ".join(f"-c {with_key(channel) if root_of(channel) == host else channel}" for channel in channels)
    return [
        Line("pixi", lines(private and f"pixi auth login {host} --token {NEEDS_KEY}", f"pixi workspace channel add {pixi}")),
        Line(
            "conda",
            lines(f"conda install {keyed if private else conda} PACKAGE"),
            "conda reads the key from the channel's address; the shell's history does, too." if private else None,
        ),
        Line(
            "mamba",
            lines(f"mamba install {keyed if private else conda} PACKAGE"),
        ),
        Line(
            "micromamba",
            lines(
                private and f"micromamba auth login {host} --bearer {NEEDS_KEY}", f"micromamba install {conda} PACKAGE"
            ),
        ),
    ]  # fmt: skip


def install(
    package: str, version: str | None, channels: Sequence[str], *, private: bool, of: str | None = None
) -> list[Line]:
    """How each client installs a package, with all the channels it needs. `of` is the package's own channel, where clients
    would take what another one has under its name.

    All of them read `channel::name`, also with a whole address. rattler and pixi then look in that channel alone; conda and
    mamba do so unless the order of channels is strict, where some versions find no solution (mamba's issue 2810).
    """
    pinned = f"{package}={version}" if version else package
    exactly = f"{package}=={version}" if version else package
    note = None
    if of is not None:
        pinned, exactly = f"{of}::{pinned}", f"{of}::{exactly}"
        note = STRICT
    host = root_of(channels[0])
    conda = " ".join(f"-c {channel}" for channel in channels)
    keyed = " ".join(f"-c {with_key(channel) if root_of(channel) == host else channel}" for channel in channels)
    wanted = f'"{exactly}"' if version else exactly
    return [
        Line(
            "pixi",
            lines(
                private and f"pixi auth login {host} --token {NEEDS_KEY}",
                f"pixi workspace channel add {' '.join(channels)}",
                f"pixi add {wanted}",
            ),
        ),
        Line("conda", lines(f"conda install {keyed if private else conda} {pinned}"), note),
        Line("mamba", lines(f"mamba install {keyed if private else conda} {pinned}"), note),
        Line(
            "micromamba",
            lines(
                private and f"micromamba auth login {host} --bearer {NEEDS_KEY}", f"micromamba install {conda} {pinned}"
            ),
            note,
        ),
    ]  # fmt: skip


def fill(url: str, channel: str) -> list[Line]:
    """How packages get into a channel."""
    return [
        Line("fairway", f"fairway upload {channel} my-package-1.0-0.conda --server {url} --token {NEEDS_KEY}"),
        Line(
            "pixi", f"pixi upload prefix --url {url} --channel {channel} --api-key {NEEDS_KEY} my-package-1.0-0.conda"
        ),
        Line(
            "rattler-build",
            f"rattler-build upload prefix --url {url} --channel {channel} --api-key {NEEDS_KEY} output/*/*.conda",
        ),
        Line(
            "curl",
            f'curl -T my-package-1.0-0.conda -H "Authorization: Bearer {NEEDS_KEY}" '
            f"{url}/api/v1/channels/{channel}/artifacts/my-package-1.0-0.conda",
        ),
    ]


def lines(*texts: str | bool | None) -> str:
    """Those that are there, one below the other."""
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def root_of(channel: str) -> str:
    """The server a channel's address begins with."""
    return channel.rpartition("/")[0]


def with_key(channel: str) -> str:
    """A channel's address as conda takes a key in it."""
    root, _, name = channel.rpartition("/")
    return f"{root}/t/{NEEDS_KEY}/{name}"
