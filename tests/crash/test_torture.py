"""`./dev torture`, briefly: a death at each named moment."""

from __future__ import annotations

import pytest

from tests.crash.harness import Zygote
from tests.crash.points import POINTS
from tests.crash.torture import Torture, summary


@pytest.mark.parametrize("half", [0, 1])
def test_nothing_is_lost_whichever_named_moment_the_server_dies_at(tmp_path, half):
    points = POINTS[half::2]
    torture = Torture(tmp_path, 1, points=points, named=1)
    with Zygote() as zygote:
        torture.epoch(zygote, 0, len(points), {})
        missed = tuple(point for point in points if not torture.tally.points[point])
        if missed:  # on a loaded machine a moment may come too late; once more
            torture.epoch(zygote, 1, len(missed), {})
    summary(torture.tally, points)
    assert [point for point in points if not torture.tally.points[point]] == []
