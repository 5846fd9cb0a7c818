"""Mirrors: a choice of an upstream's records, and their files fetched ahead."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

import structlog

from fairway.blobs.staging import StagingArea
from fairway.blobs.store import BlobStore
from fairway.conda import choice as choices
from fairway.conda import foreign
from fairway.conda.choice import Choice
from fairway.conda.foreign import Found, Written
from fairway.conda.repodata import key_of
from fairway.db.engine import Database
from fairway.errors import FairwayError, RemoteError, StorageFull
from fairway.registry import copies
from fairway.registry.copies import Offer
from fairway.registry.fetches import Fetches
from fairway.remote.arriving import Wanted
from fairway.remote.channel import Reading
from fairway.remote.client import Client
from fairway.remote.credentials import Credential
from fairway.remote.sharing import State, wait_for_turn
from fairway.remote.transfer import SECONDS

log = structlog.get_logger("fairway.mirror")

AT_ONCE = 4


def narrowed(readings: Mapping[str, Reading], choice: Choice) -> dict[str, Reading]:
    """Readings of an upstream's subdirs with nothing in them but what a mirror wants, each as if the upstream were that.

    Raises: RemoteError, Invalid.
    """

    def records(names: Sequence[str]) -> Iterator[tuple[str, str, Sequence[Found]]]:
        for subdir, reading in readings.items():
            for name, written in reading.fetch([name for name in names if name in reading.sources]):
                yield subdir, name, foreign.records(name, subdir, written)[0]

    names = sorted(set().union(*(reading.sources for reading in readings.values())))
    wanted = choices.chosen(choice, names, records)
    return {subdir: holding(reading, wanted.get(subdir, {})) for subdir, reading in readings.items()}


def holding(reading: Reading, wanted: Mapping[str, Sequence[Found]]) -> Reading:
    """The reading with these records alone."""

    def fetch(names: Sequence[str]) -> Iterator[tuple[str, list[Written]]]:
        for name in names:
            yield name, [written_of(one) for one in wanted[name]]

    sources = {name: hashlib.sha256(foreign.encode(found)).digest() for name, found in wanted.items()}
    return replace(reading, sources=sources, fetch=fetch)


def written_of(one: Found) -> Written:
    record = one.record if one.url is None else one.record | {"url": one.url}
    return Written(one.section, key_of(one.filename, one.section), record)


@dataclass(slots=True)
class Fetched:
    """How far fetching ahead is: files of `total`, their bytes, those that failed and the first reason, in words; whether
    there are `more` for another turn.
    """

    total: int = 0
    files: int = 0
    size: int = 0
    failed: int = 0
    error: str | None = None
    more: bool = False


@dataclass(slots=True)
class Fetching:
    """Files that are in the index of a channel and not here yet, brought in some at a time. What was fetched is kept, so it
    may be broken off at any moment. `tell` is called after each file; `over` says that it is to end, `enough` that no
    other file is to be begun, and `room` raises StorageFull if so many more bytes must not be written.
    """

    database: Database
    blobs: BlobStore
    staging: StagingArea
    client: Client
    channel_id: int
    credential: Credential | None
    now: Callable[[], int]
    tell: Callable[[Fetched], None]
    over: Callable[[], bool]
    enough: Callable[[], bool]
    room: Callable[[int], None]
    fetches: Fetches

    def run(self) -> Fetched:
        done = Fetched(total=copies.count_missing(self.database, self.channel_id))
        offers = copies.missing(self.database, self.channel_id)
        with ThreadPoolExecutor(AT_ONCE, "mirror") as pool:
            under_way: dict[Future[int], Offer] = {}
            full = False
            while not full and not self.over() and not done.more:
                while len(under_way) < 2 * AT_ONCE and (offer := next(offers, None)) is not None:
                    under_way[pool.submit(self._fetch, offer)] = offer
                if not under_way:
                    break
                ended, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in ended:
                    full = self._settle(done, under_way.pop(future), future) or full
                self.tell(done)
                done.more = bool(under_way) and self.enough()
        return done

    def _settle(self, done: Fetched, offer: Offer, future: Future[int]) -> bool:
        """Count a file that has come, or not; whether no other can come either."""
        try:
            done.size += future.result()
            done.files += 1
        except FairwayError as error:
            done.failed += 1
            done.error = done.error or error.detail
            log.warning("mirror.failed", channel=self.channel_id, file=offer.filename, error=error.detail)
            return isinstance(error, StorageFull)
        return False

    def _fetch(self, offer: Offer) -> int:
        """One file, into the store. Not by way of the server's transfers: this is another process, and what the server is
        sending to somebody already is waited for.
        """
        claim = self.fetches.of(offer)
        if claim is None:
            return self._bring(offer, None)
        turn = wait_for_turn(claim, self.over)
        if turn.state is State.GOOD:
            return offer.size
        ended, said = State.FREE, None
        try:
            size = self._bring(offer, turn.owner)
            ended = State.GOOD
        except RemoteError as error:
            if not self.over():
                ended, said = State.FAILED, error
            raise
        finally:
            claim.end(turn.owner, ended, said)
        return size

    def _bring(self, offer: Offer, name: str | None) -> int:
        wanted = Wanted(offer.url or "", sha256=offer.sha256, size=offer.size, credential=self.credential)
        self.room(offer.size)
        with (
            self.staging.open(offer.size, name=name) as staged,
            self.client.get(
                wanted.url, credential=self.credential, limit=offer.size, seconds=SECONDS, over=self.over
            ) as answer,
        ):
            for chunk in answer.chunks():
                staged.write(chunk)
            digest = staged.finish()
            wanted.check(digest, answer.shown)
            copies.keep(self.database, self.blobs, offer, staged, digest, now=self.now())
        return digest.size
