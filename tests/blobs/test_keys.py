import hashlib

import pytest

from fairway.blobs import keys
from fairway.blobs.keys import MEDIA_TYPES, Cache

SHA = hashlib.sha256(b"x").hexdigest()

ALL = [
    keys.package(SHA),
    keys.shard(7, "linux-64", SHA),
    *(keys.document(7, subdir, kind, SHA) for kind in MEDIA_TYPES for subdir in ("noarch", None)),
]


def test_packages_fan_out_over_two_levels():
    key = keys.package(SHA)
    assert key.path == f"packages/{SHA[:2]}/{SHA[2:4]}/{SHA}"
    assert (key.cache, key.sha256, key.channel_id) == (Cache.IMMUTABLE, SHA, None)


def test_index_objects_live_below_the_number_of_their_channel():
    key = keys.shard(7, "linux-64", SHA)
    assert key.path == f"index/7/linux-64/shards/{SHA[:2]}/{SHA}"
    assert (key.cache, key.media_type, key.channel_id, key.subdir) == (
        Cache.IMMUTABLE, "application/octet-stream", 7, "linux-64",
    )  # fmt: skip
    key = keys.document(7, "noarch", "repodata.json", SHA)
    assert (key.path, key.media_type, key.cache) == (
        f"index/7/noarch/repodata.json/{SHA}", "application/json", Cache.CURRENT,
    )  # fmt: skip
    assert keys.document(7, None, "channeldata.json", SHA).path == f"index/7/-/channeldata.json/{SHA}"


@pytest.mark.parametrize("key", ALL, ids=lambda key: key.path)
def test_parse_is_the_way_back(key):
    assert keys.parse(key.path) == key
    assert len({key.path for key in ALL}) == len(ALL)


@pytest.mark.parametrize(
    "path",
    [
        "",
        SHA,
        f"packages/00/00/{SHA}",
        f"packages/{SHA[:2]}/{SHA}",
        f"packages/{SHA[:2]}/{SHA[2:4]}/{SHA.upper()}",
        f"packages/{SHA[:2]}/{SHA[2:4]}/{SHA}\n",
        f"/packages/{SHA[:2]}/{SHA[2:4]}/{SHA}",
        f"index/07/noarch/repodata.json/{SHA}",
        f"index/0/noarch/repodata.json/{SHA}",
        f"index/7/../repodata.json/{SHA}",
        f"index/7/-/shards/{SHA[:2]}/{SHA}",
        f"index/7/noarch/shards/{SHA}",
        f"index/7/noarch/repodata.json/{SHA[:2]}/{SHA}",
        f"index/7/noarch/passwords.json/{SHA}",
        "lost+found",
    ],
)
def test_what_is_not_ours_has_no_key(path):
    assert keys.parse(path) is None


@pytest.mark.parametrize("sha", ["", "../" * 20, SHA.upper(), SHA[:-1], SHA + "0", SHA[:-1] + "/", SHA + "\n"])
def test_no_key_from_what_is_not_a_hash(sha):
    for make in (
        keys.package,
        lambda sha: keys.shard(1, "noarch", sha),
        lambda sha: keys.document(1, "noarch", "repodata.json", sha),
    ):
        with pytest.raises(ValueError):
            make(sha)


@pytest.mark.parametrize(
    "subdir", ["", "-", ".", "..", "../x", "a/b", "linux-64/", "Linux-64", "x" * 33, "a\0b", "a\n"]
)
def test_no_key_from_what_is_not_a_subdir(subdir):
    with pytest.raises(ValueError):
        keys.shard(1, subdir, SHA)
    with pytest.raises(ValueError):
        keys.document(1, subdir, "repodata.json", SHA)


@pytest.mark.parametrize("number", [0, -1])
def test_no_key_from_what_is_not_a_channel(number):
    with pytest.raises(ValueError):
        keys.shard(number, "noarch", SHA)


def test_no_key_for_an_unknown_document():
    with pytest.raises(ValueError):
        keys.document(1, "noarch", "current_repodata.json", SHA)
    with pytest.raises(ValueError):
        keys.documents_prefix(1, "noarch", "x")


def test_prefixes_cover_their_keys():
    for key in ALL:
        prefixes = {keys.packages_prefix(), keys.index_prefix()}
        assert sum(key.path.startswith(prefix) for prefix in prefixes) == 1
    shard = keys.shard(7, "linux-64", SHA)
    assert shard.path.startswith(keys.shards_prefix(7, "linux-64"))
    assert keys.shards_prefix(7, "linux-64").startswith(keys.subdir_prefix(7, "linux-64"))
    assert keys.subdir_prefix(7, "linux-64").startswith(keys.channel_prefix(7))
    document = keys.document(7, None, "channeldata.json", SHA)
    assert document.path.startswith(keys.documents_prefix(7, None, "channeldata.json"))
