"""Where a mutant's decisions come from: a seed, hypothesis, or a coverage-guided fuzzer. The mutations do not know."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Choices(Protocol):
    def number(self, low: int, high: int) -> int:
        """A whole number, both ends included."""

    def data(self, size: int) -> bytes: ...


def pick(choices: Choices, options: Sequence[T]) -> T:
    return options[choices.number(0, len(options) - 1)]


def chance(choices: Choices, percent: int) -> bool:
    return choices.number(1, 100) > 100 - percent


class Seeded:
    """From a seed: case 17 of seed 3 is the same bytes on every machine."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def number(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def data(self, size: int) -> bytes:
        return self._random.randbytes(size)


class Drawn:
    """From hypothesis, which makes a failing mutant smaller."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def number(self, low: int, high: int) -> int:
        return int(self._data.draw(st.integers(low, high)))

    def data(self, size: int) -> bytes:
        return bytes(self._data.draw(st.binary(min_size=size, max_size=size)))


class Consumed:
    """From the bytes of a fuzzer such as atheris; all zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, low: int, high: int) -> int:
        width = ((high - low).bit_length() + 7) // 8
        return low + int.from_bytes(self.data(width), "little") % (high - low + 1)

    def data(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece.ljust(size, b"\0")
