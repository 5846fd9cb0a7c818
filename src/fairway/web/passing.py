"""Files of an upstream for who asks first: sent while they arrive, and kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus

from anyio.to_thread import run_sync

from fairway.app import Fairway
from fairway.registry import copies
from fairway.registry.copies import Offer
from fairway.remote.arriving import Follower, Wanted
from fairway.web.conditional import Slice
from fairway.web.protection import Headers
from fairway.web.reply import Reply


async def reply(app: Fairway, offer: Offer, head: Headers, part: Slice | None) -> Reply | None:
    """The answer with a file, or a part of it, that is being fetched; none if it is in the store by now. Raises as
    `RemoteError`, while there can still be a status: before the first byte has come.
    """
    follower = await run_sync(partial(follow, app, offer))
    if follower is None:
        return None
    try:
        if not await follower.ready_async():
            follower.close()
            return None
    except BaseException:
        follower.close()
        raise
    start, length = (0, None) if part is None else (part.start, part.length)
    status = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
    return Reply(status, head, stream=sent(follower, start, length), size=offer.size if length is None else length)


async def sent(follower: Follower, start: int, length: int | None) -> AsyncIterator[bytes]:
    with follower:
        async for chunk in follower.stream(start, length):
            yield chunk


def follow(app: Fairway, offer: Offer) -> Follower | None:
    """One fetch, however many ask of however many processes. Raises: RemoteRefused, RemoteUnavailable."""
    credential = app.credential_of(offer.channel_id)
    wanted = Wanted(offer.url or "", sha256=offer.sha256, size=offer.size, credential=credential)
    return app.transfers.follow(
        (offer.subdir_id, offer.filename, offer.sha256),
        wanted,
        lambda staged, digest: copies.keep(app.database, app.blobs, offer, staged, digest, now=app.now()),
        app.fetches.of(offer),
    )
