"""A folder of packages into a channel: what an upload does, a few hundred at a time.

Each file passes the same checks and gets the same rows as alone; what is shared is what one file would wait for: the
disk is synced twice for each few hundred, there is one transaction for them, and the next few hundred are read while
it commits. The order is that of `registry.publish`: durable bytes first, then rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fairway.blobs import keys
from fairway.blobs.staging import Digest, StagedFile, StagingArea
from fairway.conda.names import Filename
from fairway.errors import FairwayError, Unavailable
from fairway.registry import admit, publish, sweep
from fairway.registry.actor import Actor
from fairway.registry.publish import Intake, Offer, Published, Received, Submission

TOGETHER = 400  # each is an open file until it is stored, and as many are read ahead
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Many:
    """What bringing a folder in needs: who brings it to which channel, and whether files that exist are replaced."""

    intake: Intake
    staging: StagingArea
    actor: Actor
    channel: str
    force: bool
    limit: int  # bytes of a file
    threads: int
    clock: Callable[[], int]  # ms


@dataclass(slots=True)
class Arrival:
    """One file on its way in: staged and judged, or refused."""

    path: Path
    offer: Offer | None = None
    staged: StagedFile | None = None
    received: Received | None = None
    refusal: Exception | None = None


def accept_many(many: Many, paths: Iterable[Path]) -> Iterator[tuple[Path, Published | Exception]]:
    """What became of each file, in order: published, or the FairwayError or OSError that kept it out."""
    rest = iter(paths)
    with ThreadPoolExecutor(many.threads, "many") as pool:
        coming = read(pool, many, islice(rest, TOGETHER))
        while coming:
            arrivals = [future.result() for future in coming]
            coming = read(pool, many, islice(rest, TOGETHER))
            with ExitStack() as stack:
                for arrival in arrivals:
                    if arrival.staged is not None:
                        stack.enter_context(arrival.staged)
                yield from store(many, arrivals)


def read(pool: ThreadPoolExecutor, many: Many, paths: Iterable[Path]) -> list[Future[Arrival]]:
    return [pool.submit(arrive, many, path) for path in paths]


def arrive(many: Many, path: Path) -> Arrival:
    """Stage and judge one file."""
    arrival = Arrival(path)
    try:
        name = Filename.parse(path.name)
        arrival.offer = Offer(many.channel, name, force=many.force, same_is_fine=True)
        arrival.staged = many.staging.open(many.limit)
        with path.open("rb", buffering=0) as file:
            while piece := file.read(PIECE):
                arrival.staged.write(piece)
        arrival.received = publish.judge(many.intake, arrival.staged, arrival.offer, now=many.clock())
    except (FairwayError, OSError) as refusal:
        arrival.refusal = refusal
    return arrival


def store(many: Many, arrivals: Sequence[Arrival]) -> Iterator[tuple[Path, Published | Exception]]:
    """Store and publish what may come in. No two for one place go together: the second has to see the first."""
    batch: list[Arrival] = []
    places: set[tuple[str, str]] = set()
    for arrival in arrivals:
        if arrival.received is not None:
            place = (arrival.received.facts.subdir, arrival.received.facts.filename)
            if place in places:
                yield from bring_in(many, batch)
                batch, places = [], set()
            places.add(place)
        batch.append(arrival)
    yield from bring_in(many, batch)


def bring_in(many: Many, arrivals: Sequence[Arrival]) -> Iterator[tuple[Path, Published | Exception]]:
    good = [arrival for arrival in arrivals if arrival.refusal is None]
    outcomes: dict[int, Published | Exception] = {}
    refused: list[Digest] = []
    try:
        files = [
            (keys.package(arrival.received.digest.sha256), arrival.staged.path)
            for arrival in good
            if arrival.received is not None and arrival.staged is not None
        ]
        sweep.reclaim(many.intake.database, [key.path for key, _ in files])
        many.intake.blobs.put_files(files)
        submissions = [
            Submission(arrival.received, many.actor, arrival.offer, many.clock())
            for arrival in good
            if arrival.received is not None and arrival.offer is not None
        ]
        with many.intake.database.write() as session:
            published = admit.publish(session, many.channel, submissions)
        outcomes = {id(arrival): outcome for arrival, outcome in zip(good, published, strict=True)}
        refused += [
            submission.received.digest
            for submission, outcome in zip(submissions, published, strict=True)
            if isinstance(outcome, FairwayError)
        ]
    except FairwayError as error:
        outcomes = {id(arrival): error for arrival in good}
    publish.abandon(many.intake.database, refused, now=many.clock())
    for arrival in arrivals:
        yield arrival.path, arrival.refusal or outcomes.get(id(arrival)) or Unavailable()
