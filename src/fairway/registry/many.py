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
IN_ONE_GO = 25  # go to a reading child together
SMALL = 1 << 20  # bytes; larger files go alone, so that no small one waits for them
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
            arrivals = [arrival for future in coming for arrival in future.result()]
            coming = read(pool, many, islice(rest, TOGETHER))
            with ExitStack() as stack:
                for arrival in arrivals:
                    if arrival.staged is not None:
                        stack.enter_context(arrival.staged)
                yield from store(many, arrivals)


def read(pool: ThreadPoolExecutor, many: Many, paths: Iterable[Path]) -> list[Future[list[Arrival]]]:
    return [pool.submit(arrive, many, group) for group in groups(paths)]


def groups(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """The files in order, those together that go to a reading child together."""
    group: list[Path] = []
    for path in paths:
        if size_of(path) > SMALL:
            if group:
                yield group
            group = []
            yield [path]
            continue
        group.append(path)
        if len(group) == IN_ONE_GO:
            yield group
            group = []
    if group:
        yield group


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # whoever opens it will hear why


def arrive(many: Many, paths: Sequence[Path]) -> list[Arrival]:
    """Stage and judge some files."""
    arrivals = [stage(many, path) for path in paths]
    good = [arrival for arrival in arrivals if arrival.refusal is None]
    arrived = [(arrival.staged, arrival.offer) for arrival in good if arrival.staged and arrival.offer]
    try:
        outcomes = publish.judge_all(many.intake, arrived, now=many.clock())
    except Unavailable as error:
        outcomes = [error] * len(good)
    for arrival, outcome in zip(good, outcomes, strict=True):
        if isinstance(outcome, Received):
            arrival.received = outcome
        else:
            arrival.refusal = outcome
    return arrivals


def stage(many: Many, path: Path) -> Arrival:
    arrival = Arrival(path)
    try:
        arrival.offer = Offer(many.channel, Filename.parse(path.name), force=many.force, same_is_fine=True)
        arrival.staged = many.staging.open(many.limit)
        with path.open("rb", buffering=0) as file:
            while piece := file.read(PIECE):
                arrival.staged.write(piece)
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
