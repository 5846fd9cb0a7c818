"""When things happened in the demo: releases on working days, downloads by the rhythm of a week, both over a year."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DAY_MS = 86_400_000
YEAR_DAYS = 365
BEFORE_DAYS = 40  # accounts and channels are older than the first release
# Monday to Sunday. Day 0 of the Unix calendar was a Thursday.
WEEK = (1.0, 1.08, 1.1, 1.05, 0.9, 0.35, 0.3)
SHARES = {"noarch": 1.0, "linux-64": 0.6, "linux-aarch64": 0.2, "osx-arm64": 0.22, "win-64": 0.14}
PARTS = re.compile(r"(\d+)(?!.*\d)")


def weekday(day: int) -> int:
    """0 for Monday."""
    return (day + 3) % 7


def versions(latest: str, count: int) -> list[str]:
    """`count` versions, the newest last: each is one that could have come before the next."""
    found = [latest]
    while len(found) < count:
        earlier = before(found[-1], len(found))
        if earlier is None:
            break
        found.append(earlier)
    return found[::-1]


def before(version: str, step: int) -> str | None:
    """A version before this one, or none before the first there can be."""
    match = PARTS.search(version)
    if match is None:
        return None
    last = int(match[1])
    head, tail = version[: match.start()], version[match.end() :]
    if last > 0:
        return f"{head}{last - 1}{tail}"
    numbers = [int(part) for part in version.split(".") if part.isdigit()]
    if len(numbers) != version.count(".") + 1:
        return None  # a version with words in it is not counted down past zero
    for place in range(len(numbers) - 2, -1, -1):
        if numbers[place] > 0:
            numbers[place] -= 1
            numbers[place + 1 :] = [1 + (step * 7 + place) % 4 + 5 * (place == 0) for _ in numbers[place + 1 :]]
            return ".".join(map(str, numbers))
    return None


def releases(rng: random.Random, count: int, *, now: int) -> list[int]:
    """When `count` versions of a package came out (ms): spread over the year, each on a working day, in order."""
    today = now // DAY_MS
    first = rng.uniform(0.55, 1.0) * YEAR_DAYS if count > 2 else rng.uniform(0.1, 0.9) * YEAR_DAYS
    last = rng.uniform(1, min(60, first * 0.5))
    moments = []
    for n in range(count):
        share = n / (count - 1) if count > 1 else 1.0
        ago = first + (last - first) * share + rng.uniform(-0.35, 0.35) * first / max(count, 2)
        day = today - max(1, round(ago))
        while weekday(day) > 4:
            day -= 1
        moments.append(day * DAY_MS + rng.randint(8 * 3_600_000, 18 * 3_600_000))
    moments.sort()
    return moments


@dataclass(frozen=True, slots=True)
class Shelved:
    """A published file as its downloads go: from when until when its version was the newest (days)."""

    package: str
    subdir: str
    since: int
    until: int
    fame: float


def downloads(
    rng: random.Random, files: Sequence[tuple[int, Shelved]], *, now: int
) -> Iterator[tuple[tuple[int, int], int]]:
    """`((artifact id, day), count)` for every day on which a file was downloaded, file by file; `files` are by their ids."""
    today = now // DAY_MS
    moods: dict[str, list[float]] = {}
    for artifact_id, file in files:
        mood = moods.get(file.package) or moods.setdefault(file.package, mood_of(file.package))
        for day in range(max(file.since, today - YEAR_DAYS), today + 1):
            count = poisson(rng, expected(file, day, today) * mood[today - day])
            if count:
                yield (artifact_id, day), count


def mood_of(package: str) -> list[float]:
    """How much more or less than usual a package was asked for, by how many days ago: it drifts, and now and then it is
    talked about.
    """
    rng, drift, mood = random.Random(package), 0.0, []
    for _ in range(YEAR_DAYS + 1):
        drift = 0.93 * drift + rng.gauss(0, 0.1)
        mood.append(math.exp(drift + rng.gauss(0, 0.12)))
    for _ in range(rng.randint(1, 4)):
        begin, height = rng.randrange(YEAR_DAYS), rng.uniform(1.4, 3.0)
        for day in range(begin, min(begin + 5, len(mood))):
            mood[day] *= height
    return mood


def expected(file: Shelved, day: int, today: int) -> float:
    """It grows over the year, rests at weekends, is taken up within days of a release and fades after the next one."""
    growth = 0.35 + 0.65 * (1 - (today - day) / YEAR_DAYS)
    taken_up = min(1.0, 0.25 + (day - file.since) / 6)
    faded = 1.0 if day < file.until else 0.02 + 0.6 * math.exp(-(day - file.until) / 9)
    return file.fame * SHARES[file.subdir] * growth * WEEK[weekday(day)] * taken_up * faded


def poisson(rng: random.Random, mean: float) -> int:
    if mean > 30:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, rng.random()
    while product > limit:
        count += 1
        product *= rng.random()
    return count
