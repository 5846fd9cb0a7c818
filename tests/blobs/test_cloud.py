"""What is particular to object stores: they are elsewhere, and may be down, slow, full or closed to us."""

import hashlib
import json
import logging
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fairway.blobs.cloud import CloudBlobs
from fairway.blobs.keys import document, package
from fairway.blobs.presign import Signer, disposition
from fairway.errors import BlobMissing, SetupError, Unavailable
from tests.support.s3 import own_s3_server, s3_server
from tests.support.servers import Missing

pytestmark = pytest.mark.xdist_group("s3")

DATA = b"some bytes"
KEY = package(hashlib.sha256(DATA).hexdigest())
THIS = Path(__file__)
THIS_KEY = package(hashlib.sha256(THIS.read_bytes()).hexdigest())

CALLS = {
    "put": lambda store: store.put(KEY, DATA),
    "put_file": lambda store: store.put_file(THIS_KEY, THIS),
    "get": lambda store: store.get(KEY),
    "stream": lambda store: store.stream(KEY),
    "stat": lambda store: store.stat(KEY),
    "delete": lambda store: store.delete(KEY),
    "list": lambda store: list(store.list("")),
    "check": lambda store: store.check(),
}


@pytest.fixture(scope="module")
def server():
    try:
        return s3_server()
    except Missing as reason:
        pytest.skip(str(reason))


def open_bucket(server, **options):
    return CloudBlobs.from_url(f"s3://{server.fresh_bucket()}/p", {**server.options, **options})


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_secret_is_unavailable_and_told_nobody(server, call, caplog):
    caplog.set_level(logging.DEBUG)
    secret = "wrong-secret-of-this-test"
    store = open_bucket(server, AWS_SECRET_ACCESS_KEY=secret)
    with pytest.raises(Unavailable) as caught:
        CALLS[call](store)
    said = f"{caught.value!r} {caught.value.detail} {caught.value.__cause__!r} {caplog.text} {store._store!r}"
    assert secret not in said
    assert secret not in repr(store._store.config) + repr(store._signer)
    assert server.access_key not in said
    # a HEAD has no body that could say why
    assert "access key" in caught.value.detail or call == "stat"


@pytest.mark.parametrize("call", ["put", "put_file", "get", "stream", "list", "check"])
def test_a_bucket_that_does_not_exist(server, call):
    store = CloudBlobs.from_url("s3://no-such-bucket-here/p", server.options)
    with pytest.raises(Unavailable, match="bucket"):
        CALLS[call](store)


def test_the_environment_plays_no_part(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "other")
    monkeypatch.setenv("AWS_REGION", "mars-north-1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    store = open_bucket(server)
    store.put(KEY, DATA)
    assert store.get(KEY) == DATA


def test_two_prefixes_of_one_bucket_do_not_meet(server):
    bucket = server.fresh_bucket()
    one, two = (CloudBlobs.from_url(f"s3://{bucket}/{prefix}", server.options) for prefix in ("a/b", "a/c"))
    whole = CloudBlobs.from_url(f"s3://{bucket}", server.options)
    one.put(KEY, DATA)
    assert two.stat(KEY) is None
    with pytest.raises(BlobMissing):
        two.get(KEY)
    assert [entry.path for entry in one.list("")] == [KEY.path]
    assert [entry.path for entry in whole.list("")] == [f"a/b/{KEY.path}"]


# --- a store that is down ----------------------------------------------------------------------------------------


def test_nobody_listens():
    """Refused connections end within the retries: three of at most two seconds."""
    store = CloudBlobs.from_url("s3://bucket/p", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "k",
                                                  "AWS_SECRET_ACCESS_KEY": "a-secret"})  # fmt: skip
    for call in CALLS.values():
        begin = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            call(store)
        assert time.monotonic() - begin < 15


def test_a_host_that_drops_packets():
    """An address of a network kept for documentation (RFC 5737): refused, unroutable or silent, it ends in time."""
    store = CloudBlobs.from_url("s3://bucket", {"AWS_ENDPOINT_URL": "http://192.0.2.1", "AWS_ACCESS_KEY_ID": "k",
                                                "AWS_SECRET_ACCESS_KEY": "a-secret"},
                                connect=0.5, request=1.0, retries=1)  # fmt: skip
    begin = time.monotonic()
    with pytest.raises(Unavailable):
        store.check()
    assert time.monotonic() - begin < 10


def test_a_store_that_hangs_then_dies():
    try:
        with own_s3_server() as server:
            url, options = f"s3://{server.fresh_bucket()}", server.options
            store, hasty = CloudBlobs.from_url(url, options), CloudBlobs.from_url(url, options, request=0.5)
            store.put(KEY, DATA)
            stream = store.stream(KEY, chunk=1)
            server.pause()
            for call in CALLS.values():
                begin = time.monotonic()
                with pytest.raises(Unavailable):
                    call(hasty)
                assert time.monotonic() - begin < 8
            assert b"".join(stream) == DATA  # its window had been read
            server.resume()
            assert store.get(KEY) == DATA
            server.kill()
            for call in CALLS.values():
                with pytest.raises(Unavailable):
                    call(hasty)
    except Missing as reason:
        pytest.skip(str(reason))


# --- big files ---------------------------------------------------------------------------------------------------

BIG = """
import hashlib, json, os, resource, sys
from pathlib import Path
from fairway.blobs.cloud import CloudBlobs
from fairway.blobs.keys import package
url, options, path = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
store = CloudBlobs.from_url(url, options)
store.put(package("0" * 64), b"warm")
before = peak()
with path.open("rb") as file:
    wanted = hashlib.file_digest(file, "sha256").hexdigest()
store.put_file(package(wanted), path)
up = peak()
digest = hashlib.sha256()
for piece in store.stream(package(wanted)):
    assert len(piece) <= 1 << 20
    digest.update(piece)
assert digest.hexdigest() == wanted
print(json.dumps([up - before, peak() - up]))
"""


def test_200_mb_go_up_and_come_down_in_constant_memory(server, tmp_path):
    path = tmp_path / "big"
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(200):
            file.write(number.to_bytes(8) + block[8:])
    url = f"s3://{server.fresh_bucket()}/p"
    command = [sys.executable, "-c", BIG, url, json.dumps(server.options), path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    up, down = json.loads(done.stdout)
    print(f"200 MiB: {up} MiB more while going up, {down} MiB more while coming down")
    assert up < 100
    assert down < 50


# --- presigned URLs ----------------------------------------------------------------------------------------------


def get(url):
    with urllib.request.urlopen(url) as answer:
        return answer.read(), answer.headers


def test_a_presigned_url_is_for_one_object_and_some_time(server):
    store = open_bucket(server)
    store.put(KEY, DATA)
    other = document(1, "noarch", "repodata.json", hashlib.sha256(b"{}").hexdigest())
    store.put(other, b"{}")
    url = store.presign(KEY, 60, media_type=KEY.media_type)
    assert server.secret_key not in url
    assert get(url)[0] == DATA
    for changed in (url.replace(KEY.path, other.path), url[:-1] + ("0" if url[-1] != "0" else "1"), url.split("?")[0]):
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(changed)
        assert caught.value.code in {400, 403}
        caught.value.close()
    url = store.presign(KEY, 1, media_type=KEY.media_type)
    time.sleep(2.5)
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(url)
    assert caught.value.code == 403
    caught.value.close()


def test_stored_objects_know_their_type_and_policy(server):
    store = open_bucket(server)
    for key, policy in ((KEY, "immutable"), (document(1, "noarch", "repodata.json", "0" * 64), "no-cache")):
        store.put(key, DATA)
        body, headers = get(store.presign(key, 60, media_type=key.media_type))
        assert (body, headers["Content-Type"]) == (DATA, key.media_type)
        assert policy in headers["Cache-Control"]


def test_our_signature_is_the_one_of_the_documentation():
    """The example of AWS's "Authenticating Requests: Using Query Parameters"."""
    signer = Signer(
        "https://examplebucket.s3.amazonaws.com", "us-east-1",
        "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    )  # fmt: skip
    url = signer.url("GET", "test.txt", seconds=86400, now=datetime(2013, 5, 24, tzinfo=UTC))
    assert url.endswith("Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")
    assert "EXAMPLEKEY" not in repr(signer)


def test_names_in_content_disposition():
    assert disposition("a-1.0-0.conda") == 'attachment; filename="a-1.0-0.conda"'
    assert disposition('x";\r\n y') == "attachment; filename=\"x_____y\"; filename*=UTF-8''x%22%3B%0D%0A%20y"


# --- setting it up -----------------------------------------------------------------------------------------------


def test_other_clouds_are_opened_by_their_urls():
    google = CloudBlobs.from_url("gs://bucket/prefix", {"GOOGLE_SKIP_SIGNATURE": "true", "AWS_REGION": "x"})
    assert "GCSStore" in repr(google._store)
    azure = CloudBlobs.from_url(
        "az://container/prefix", {"AZURE_STORAGE_ACCOUNT_NAME": "me", "AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0"}
    )
    assert "AzureStore" in repr(azure._store)


def test_options_that_make_no_sense_are_setup_errors():
    with pytest.raises(SetupError):
        CloudBlobs.from_url("az://container/prefix", {"AZURE_NO_SUCH_THING": "secret-value"})
    with pytest.raises(SetupError):
        CloudBlobs.from_url("s3://bucket", {"AWS_CA_BUNDLE": "/nowhere/ca.pem"})
    with pytest.raises(SetupError, match="without keys"):
        CloudBlobs.from_url("s3://key:secret@bucket/p", {})
