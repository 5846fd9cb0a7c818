"""`./dev fuzz --guided [-runs=N] [-seed=N] [CORPUS_FOLDER]`: the same mutations, chosen by coverage (atheris, libFuzzer).

The reader's branches are what guides it; conda and rattler are asked about what is accepted. It stops at a finding.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["fairway.conda"]):
    from fairway.errors import FairwayError
    from tests.fuzz import oracle
    from tests.fuzz.campaign import KEPT
    from tests.fuzz.choices import Consumed
    from tests.fuzz.mutate import mutant


def attempt(data: bytes) -> None:
    made = mutant(Consumed(data))
    try:
        accepted = oracle.accept(made.filename, made.data)
    except FairwayError:
        return
    oracle.compare(made.filename, made.data, accepted)


if __name__ == "__main__":
    KEPT.mkdir(parents=True, exist_ok=True)
    atheris.Setup([*sys.argv, f"-artifact_prefix={KEPT}/"], attempt)
    atheris.Fuzz()
