"""Small objects in memory: bounded in bytes, the least wanted goes first."""

from fairway.blobs.hot import Hot


def test_what_was_asked_for_lately_stays_and_the_rest_goes():
    hot = Hot(size=30, largest=10)
    for name in ("a", "b", "c"):
        hot.put(name, name.encode() * 10)
    assert hot.get("a") == b"a" * 10
    hot.put("d", b"d" * 10)
    assert [name for name in "abcd" if hot.get(name) is not None] == ["a", "c", "d"]


def test_large_ones_are_not_kept_and_the_same_one_counts_once():
    hot = Hot(size=30, largest=10)
    hot.put("large", bytes(11))
    assert hot.get("large") is None
    for _ in range(5):
        hot.put("a", bytes(10))
    hot.put("b", bytes(10))
    assert hot.get("a") is not None
    assert hot.get("b") is not None
