"""py-rattler's solver over documents in memory: the only module that knows py-rattler.

Records go to it as a repodata.json, since rattler reads that itself: what it then knows of a record is what every client
of its family knows, `v3` included, and a Python object for each record would take two to three times as long
(docs/decisions/0037).

Imported only where it is used: it costs 15 MB and 70 ms. It may take all memory or not come to an end, so it is run in
a child process (`sandbox.solving`).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Sequence
from datetime import timedelta

import rattler
from rattler.channel.channel_priority import ChannelPriority
from rattler.exceptions import SolverError
from rattler.package import BuildString
from rattler.solver import solve_with_sparse_repodata

from fairway.conda.question import Chosen, Virtual

# No name of a host: nothing is ever fetched. It is taken out of what the solver says.
ADDRESS = "https://channel.invalid/"
CANCELLED = "cancelled"
HEADING = "Cannot solve the request because of: "
CHANNEL = re.compile(r" ?\[channel=\"[^\"]*\"\]")


class Unsolvable(Exception):
    """There is no solution; the message is the solver's."""


class TookTooLong(Exception):
    """The solver was told to stop."""


class Unreadable(Exception):
    """A record that the solver needs is none that it can read; the message says why."""


class Document:
    """A subdir of a channel, or the part of it that matters, as the solver holds it."""

    def __init__(self, channel: str, subdir: str, pieces: Iterable[bytes]) -> None:
        """`pieces` make up a repodata.json. Raises: Unreadable."""
        place = os.memfd_create("repodata", os.MFD_CLOEXEC)
        try:
            with os.fdopen(place, "wb", closefd=False) as file:
                file.writelines(pieces)
            try:
                self.inner = rattler.SparseRepoData(
                    rattler.Channel(ADDRESS + channel), subdir, f"/proc/self/fd/{place}"
                )
            except Exception as error:
                raise Unreadable(str(error)) from error
        finally:
            os.close(place)


def solve(
    spec: str, documents: Sequence[Document], virtual: Iterable[Virtual], *, seconds: float, strict: bool = True
) -> list[Chosen]:
    """What has to be there for a match spec, the first documents before the others: a name is taken from the channel
    that first has it, and from no other, unless not `strict`. `CHANNEL::NAME` in a spec (see `of_channel`) is the
    exception.

    Raises: Unsolvable, TookTooLong, Unreadable.
    """
    try:
        found = asyncio.run(_solve(spec, documents, virtual, seconds, strict=strict))
    except SolverError as error:
        if CANCELLED in str(error):
            raise TookTooLong from error
        raise Unsolvable(str(error)) from error
    except Exception as error:
        raise Unreadable(str(error)) from error
    return [
        Chosen(
            name=record.name.normalized,
            version=str(record.version),
            build=str(record.build),
            channel=record.channel.removeprefix(ADDRESS).strip("/"),
            subdir=record.subdir,
            filename=record.file_name,
            size=record.size,
        )
        for record in found
    ]


async def _solve(
    spec: str, documents: Sequence[Document], virtual: Iterable[Virtual], seconds: float, *, strict: bool
) -> list[rattler.RepoDataRecord]:
    return await solve_with_sparse_repodata(
        [rattler.MatchSpec(spec)],
        [document.inner for document in documents],
        virtual_packages=[
            rattler.GenericVirtualPackage(
                rattler.PackageName(one.name), rattler.Version(one.version), BuildString(one.build)
            )
            for one in virtual
        ],
        timeout=timedelta(seconds=seconds),
        channel_priority=ChannelPriority.Strict if strict else ChannelPriority.Disabled,
    )


def of_channel(channel: str, spec: str) -> str:
    """The spec, to be met by this channel whatever comes before it."""
    return f"{ADDRESS}{channel}::{spec}"


def plain(text: str) -> str:
    """What the solver says, with the names of channels instead of their addresses."""
    text = text.removeprefix(HEADING).replace(ADDRESS, "")
    return "\n".join(line.rstrip() for line in CHANNEL.sub("", text).replace("/'", "'").splitlines()).strip()
