"""A short run of what `./dev fuzz` does at length: mutants are refused in words, or read alike by everybody."""

from __future__ import annotations

import collections

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.campaign import SHALLOW, Tally, attempt
from tests.fuzz.choices import Consumed, Drawn, Seeded
from tests.fuzz.mutate import MUTATIONS, Mutant, mutant

COUNT = 600


def held(made: Mutant) -> str:
    """Any other exception than an intended refusal is a failure, and so is a disagreement."""
    return attempt(made, Tally())[1]


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_mutants_that_hypothesis_chooses(data: st.DataObject) -> None:
    held(mutant(Drawn(data)))


def test_mutants_of_a_seed_reach_every_layer() -> None:
    codes: collections.Counter[str] = collections.Counter()
    told: set[str] = set()
    for case in range(COUNT):
        made = mutant(Seeded(f"suite:{case}"))
        told.update(made.story)
        codes[held(made)] += 1
    assert codes["accepted"] > COUNT // 10
    assert sum(number for code, number in codes.items() if code not in SHALLOW) > COUNT // 2
    assert len(codes) > 25, codes
    assert told == {mutation.__name__ for mutation in MUTATIONS}


def test_a_case_is_the_same_bytes_each_time() -> None:
    assert [mutant(Seeded(f"7:{case}")) for case in range(20)] == [mutant(Seeded(f"7:{case}")) for case in range(20)]
    assert mutant(Seeded("7:1")) != mutant(Seeded("8:1"))


def test_any_bytes_make_a_mutant() -> None:
    """As a coverage-guided fuzzer hands them in."""
    for size in (0, 1, 10, 100, 1000):
        held(mutant(Consumed(b"\xa7\x03" * size)))
