"""What every store must do: one suite over memory, a folder, and a real S3 API (OpenStack Swift)."""

import hashlib
import os
import threading
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from fairway.blobs import open_staging, open_store
from fairway.blobs.keys import document, index_prefix, package, packages_prefix, parse, shard, subdir_prefix
from fairway.errors import BlobMissing
from tests.support.s3 import s3_server
from tests.support.servers import Missing

STORES = ["memory", "local", pytest.param("s3", marks=pytest.mark.xdist_group("s3"))]


@pytest.fixture(params=STORES)
def kind(request):
    return request.param


@pytest.fixture
def store(kind, tmp_path):
    options = {}
    if kind == "s3":
        try:
            server = s3_server()
        except Missing as reason:
            pytest.skip(str(reason))
        url, options = f"s3://{server.fresh_bucket()}/some/prefix", server.options
    else:
        url = {"memory": "memory://", "local": f"file://{tmp_path}/blobs"}[kind]
    opened = open_store(url, data=tmp_path / "data", options=options)
    yield opened
    opened.close()


def key_of(data):
    return package(hashlib.sha256(data).hexdigest())


def test_what_is_put_can_be_got(store):
    for data in (b"hello", b"", bytes(range(256)) * 5000):
        store.put(key_of(data), data)
        assert store.get(key_of(data)) == data
        assert b"".join(store.stream(key_of(data))) == data
        found = store.stat(key_of(data))
        assert found.size == len(data)
        assert found.modified.utcoffset() == timedelta(0)


def test_what_is_missing(store):
    key = key_of(b"never stored")
    for call in (store.get, store.stream):
        with pytest.raises(BlobMissing):
            call(key)
    assert store.stat(key) is None
    assert store.local_path(key) is None
    assert store.delete(key) is False


def test_a_missing_blob_beside_a_stored_one(store):
    store.put(key_of(b"one"), b"one")
    with pytest.raises(BlobMissing):
        store.get(key_of(b"two"))


def test_ranges(store):
    data = os.urandom(3_000_000)
    key = key_of(data)
    store.put(key, data)
    end = len(data)
    for start, length in [(0, 10), (5, 1), (end - 3, None), (end - 3, 100), (7, end), (0, end), (1_000_000, 1_500_000)]:
        wanted = data[start:] if length is None else data[start : start + length]
        assert b"".join(store.stream(key, start, length)) == wanted
    for start, length in [(end, None), (end + 5, 10), (0, 0), (10, 0)]:
        assert list(store.stream(key, start, length)) == []
    parts = list(store.stream(key, 100, 250_000, chunk=100_000))
    assert [len(part) for part in parts] == [100_000, 100_000, 50_000]
    assert all(isinstance(part, bytes) for part in parts)


def test_an_empty_blob_has_an_empty_stream(store):
    key = key_of(b"")
    store.put(key, b"")
    assert list(store.stream(key)) == []
    assert list(store.stream(key, 0, 5)) == []


def test_a_stream_may_be_left_unread(store):
    data = os.urandom(200_000)
    store.put(key_of(data), data)
    store.stream(key_of(data))
    stream = store.stream(key_of(data), chunk=1000)
    assert next(iter(stream)) == data[:1000]
    del stream
    assert store.get(key_of(data)) == data


def test_a_second_put_is_fine_and_makes_the_blob_young(store):
    key = key_of(b"twice")
    store.put(key, b"twice")
    before = store.stat(key).modified
    # S3 counts in seconds
    assert abs(datetime.now(UTC) - before) < timedelta(seconds=5)
    store.put(key, b"twice")
    assert store.stat(key).modified >= before
    assert store.get(key) == b"twice"


@pytest.mark.parametrize("size", [0, 1000, 20_000_000])
def test_put_file(store, tmp_path, size):
    data = os.urandom(size)
    area = open_staging(store, data=tmp_path / "data")
    for _ in range(2):
        with area.open(limit=size) as staged:
            for begin in range(0, size, 1 << 20):
                staged.write(data[begin : begin + (1 << 20)])
            digest = staged.finish()
            assert staged.path.read_bytes() == data
            store.put_file(package(digest.sha256), staged.path)
    assert digest == (type(digest))(hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest(), size)
    assert store.get(key_of(data)) == data
    assert list(area.folder.iterdir()) == []


def test_delete(store):
    key = key_of(b"short-lived")
    store.put(key, b"short-lived")
    assert store.delete(key) is True
    assert store.delete(key) is False
    assert store.stat(key) is None
    with pytest.raises(BlobMissing):
        store.get(key)
    store.put(key, b"short-lived")
    assert store.get(key) == b"short-lived"


def test_list(store):
    sha = [hashlib.sha256(bytes([n])).hexdigest() for n in range(6)]
    keys = [
        package(sha[0]),
        package(sha[1]),
        shard(1, "linux-64", sha[2]),
        shard(12, "linux-64", sha[2]),
        document(1, "linux-64", "repodata.json.zst", sha[3]),
        document(1, "noarch", "repodata.json", sha[4]),
        document(1, None, "channeldata.json", sha[5]),
    ]
    for number, key in enumerate(keys):
        store.put(key, b"x" * number)

    def listed(prefix):
        found = list(store.list(prefix))
        assert all(parse(entry.path).path == entry.path for entry in found)
        assert all(abs(datetime.now(UTC) - entry.modified) < timedelta(minutes=1) for entry in found)
        return {entry.path: entry.size for entry in found}

    sizes = {key.path: number for number, key in enumerate(keys)}
    assert listed("") == sizes
    assert listed(packages_prefix()) == {path: n for path, n in sizes.items() if n < 2}
    assert listed(index_prefix()) == {path: n for path, n in sizes.items() if n >= 2}
    assert listed(subdir_prefix(1, "linux-64")) == {keys[2].path: 2, keys[4].path: 4}
    assert listed("index/1/") == {keys[n].path: n for n in (2, 4, 5, 6)}
    assert listed("index/3/") == {}
    for wrong in ("index/1", "/index/", "../", "index/../packages/"):
        with pytest.raises(ValueError):
            list(store.list(wrong))


def test_sixteen_threads_put_and_read_the_same_blobs(store, kind):
    rounds = 3 if kind == "s3" else 25
    blobs = [os.urandom(10_000) for _ in range(5)]
    wrong = []
    barrier = threading.Barrier(16)

    def work():
        barrier.wait()
        try:
            for _ in range(rounds):
                for data in blobs:
                    store.put(key_of(data), data)
                    if store.get(key_of(data)) != data or store.stat(key_of(data)).size != len(data):
                        wrong.append("other bytes")
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(list(store.list(""))) == 5


def test_local_path_or_presigned_url_or_neither(store, kind):
    data = b"to be sent by others"
    key = key_of(data)
    store.put(key, data)
    url = store.presign(key, 60, filename="a b-1.0-0.conda", media_type="application/x-test")
    path = store.local_path(key)
    assert (path is not None) is (kind == "local")
    assert (url is not None) is (kind == "s3")
    if path is not None:
        assert path.read_bytes() == data
    if url is not None:
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == data
            assert answer.headers["Content-Type"] == "application/x-test"
            assert "a%20b-1.0-0.conda" in answer.headers["Content-Disposition"]


def test_check(store):
    store.check()
    assert list(store.list("")) == []


@pytest.mark.parametrize("count", [0, 3, 40])
def test_put_many_files(store, tmp_path, count):
    area = open_staging(store, data=tmp_path / "data")
    for _ in range(2):
        bodies = [b"file %d" % number for number in range(count)]
        staged = [area.open(limit=100) for _ in bodies]
        for file, body in zip(staged, bodies, strict=True):
            file.write(body)
        store.put_files([(key_of(body), file.path) for file, body in zip(staged, bodies, strict=True)])
        for file in staged:
            file.close()
        assert [store.get(key_of(body)) for body in bodies] == bodies
    assert list(area.folder.iterdir()) == []
