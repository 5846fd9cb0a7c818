"""Uploads that arrive together share a transaction.

The first who comes for a channel writes for everybody who waits there, then hands on to the next: alone one waits for
nobody, and the more wait, the more each commit carries. (Databases call it group commit.)
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from fairway.db.engine import BUSY, Database
from fairway.errors import StorageFull, Unavailable
from fairway.registry import admit
from fairway.registry.publish import Published, Submission

TOGETHER = 64


@dataclass(slots=True)
class Waiting:
    """One submission in the queue, and what became of it. `leads` tells its thread to write for everybody."""

    submission: Submission
    wake: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    outcome: Published | BaseException | None = None


class Committer:
    """Thread-safe: every upload's own thread comes here and leaves with its outcome."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._queues: dict[str, deque[Waiting]] = {}  # by channel; there while somebody leads

    def publish(self, submission: Submission) -> Published:
        """Write the rows of a received package. Raises what `admit.publish` refuses, StorageFull, Unavailable."""
        mine = Waiting(submission)
        channel = submission.offer.channel
        with self._lock:
            if (queue := self._queues.get(channel)) is None:
                queue = self._queues[channel] = deque()
                mine.leads = True
            queue.append(mine)
        if not mine.leads:
            mine.wake.wait()
        if mine.leads:
            self._lead(channel, queue)
        if isinstance(mine.outcome, Published):
            return mine.outcome
        raise mine.outcome or AssertionError("a submission was left without an outcome")

    def _lead(self, channel: str, queue: deque[Waiting]) -> None:
        batch: list[Waiting] = []
        try:
            with self._lock:
                batch = take(queue)
            self._commit(channel, batch)
        finally:
            with self._lock:
                if batch and isinstance(batch[0].outcome, Unavailable):
                    # whoever came meanwhile would wait as long again, and those behind them longer still
                    batch += give_up(queue)
                if queue:
                    queue[0].leads = True
                    queue[0].wake.set()
                else:
                    del self._queues[channel]
            for waiting in batch:
                waiting.wake.set()

    def _commit(self, channel: str, batch: list[Waiting]) -> None:
        try:
            with self._database.write() as session:
                outcomes = admit.publish(session, channel, [waiting.submission for waiting in batch])
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.outcome = outcome
        except (Unavailable, StorageFull) as error:
            for waiting in batch:
                waiting.outcome = type(error)(error.detail, code=error.code)  # each thread raises one of its own
        except BaseException as error:  # noqa: BLE001 - raised in the thread it belongs to
            if len(batch) == 1:
                batch[0].outcome = error
                return
            for waiting in batch:  # a fault of one must not be the fault of all
                self._commit(channel, [waiting])


def give_up(queue: deque[Waiting]) -> list[Waiting]:
    """All who wait, told that the database is busy."""
    batch = list(queue)
    queue.clear()
    for waiting in batch:
        waiting.outcome = Unavailable(BUSY)
    return batch


def take(queue: deque[Waiting]) -> list[Waiting]:
    """The next who can go together: in order, no two for the same place, where the second has to see the first."""
    batch: list[Waiting] = []
    places = set()
    while queue and len(batch) < TOGETHER and queue[0].submission.place not in places:
        places.add(queue[0].submission.place)
        batch.append(queue.popleft())
    return batch
