"""What an archive holds, packed and read again."""

from fairway.conda import listing


def test_entries_come_back_in_the_order_of_their_paths():
    given = [
        ("share/b", 12, "hardlink"),
        ("bin/a", -1, "softlink"),
        ("share/\ttab\nline", 0, "hardlink"),
        ("share/\u202eعربي 🚤", 1 << 40, "hardlink"),
        ("share/empty", 0, "directory"),
    ]
    found = [(entry.path, entry.size, entry.kind) for entry in listing.entries(listing.packed(given))]
    assert found == sorted((path, size, kind[0]) for path, size, kind in given)
    assert list(listing.entries(listing.packed([]))) == []


def test_of_very_many_some_are_kept():
    packed = listing.packed((f"f{number}", number, "hardlink") for number in range(listing.MOST + 10))
    assert len(list(listing.entries(packed))) == listing.MOST
    assert len(packed) < 1 << 20
