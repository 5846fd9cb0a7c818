"""The client against a server that answers well, and against one that does everything wrong."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fairway import __version__
from fairway.errors import RemoteDenied, RemoteError, RemoteMissing, RemoteUnavailable, RemoteWrong
from fairway.remote.addresses import Rules
from fairway.remote.client import Client, Validators, Wish
from tests.support import misbehaving as bad
from tests.support.upstream import Upstream

LIMIT = 1 << 20
JSON = "noarch/repodata.json"


def failure(call: Callable[[], object]) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        call()
    return caught.value


def test_a_document_is_read_whole(client: Client, up: Upstream) -> None:
    found = client.document(f"{up.url}/{JSON}", limit=LIMIT)
    assert found is not None
    assert (found.data, found.size) == (up.files[JSON], len(up.files[JSON]))
    (asked,) = up.asked
    assert asked.headers["user-agent"] == f"fairway/{__version__}"
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.headers["host"] == up.allow
    assert {"cookie", "referer", "authorization"}.isdisjoint(asked.headers)


def test_a_document_can_go_into_a_file_and_is_there_once_after_a_second_try(client: Client, up: Upstream) -> None:
    up.fault("*", bad.truncated(), times=1)
    file = io.BytesIO(b"what was there before, and longer than the document" * 100)
    found = client.document(f"{up.url}/{JSON}", limit=LIMIT, into=file)
    assert found is not None
    assert (file.getvalue(), found.data) == (up.files[JSON], b"")
    assert up.count() == 2


def test_what_has_not_changed_is_not_sent_again(client: Client, up: Upstream) -> None:
    found = client.document(f"{up.url}/{JSON}", limit=LIMIT)
    assert found is not None
    assert found.validators.etag
    assert found.validators.modified
    assert client.document(f"{up.url}/{JSON}", limit=LIMIT, validators=found.validators) is None
    assert up.asked[-1].headers["if-none-match"] == found.validators.etag
    assert up.asked[-1].headers["if-modified-since"] == found.validators.modified
    up.add("another")
    up.publish()
    again = client.document(f"{up.url}/{JSON}", limit=LIMIT, validators=found.validators)
    assert again is not None
    assert b"another" in again.data


def test_connections_are_used_again(client: Client, up: Upstream) -> None:
    """Also after an answer that nobody reads."""
    served: set[int] = set()

    def note(handler: Any, body: bytes) -> None:
        served.add(handler.client_address[1])
        handler.send(200 if body else 404, body)

    up.fault("*", note)
    client.document(f"{up.url}/{JSON}", limit=LIMIT)
    assert isinstance(failure(lambda: client.document(f"{up.url}/noarch/none", limit=LIMIT)), RemoteMissing)
    client.document(f"{up.url}/{JSON}", limit=LIMIT)
    assert len(served) == 1


# What an upstream does, with the code and words of the sentence that people read, and how often it is asked.
MISBEHAVIOURS: list[tuple[str, Any, str, str, int]] = [
    ("not there", bad.status(404), "remote_missing", "is not there: HTTP 404, Not Found.", 1),
    ("gone", bad.status(410), "remote_missing", "HTTP 410", 1),
    ("unauthorised", bad.status(401), "remote_denied", "may not be read: HTTP 401", 1),
    ("forbidden", bad.status(403), "remote_denied", "wants a credential", 1),
    ("teapot", bad.status(418), "remote_wrong", "HTTP 418", 1),
    ("an unknown status", bad.status(499), "remote_wrong", "HTTP 499", 1),
    ("partial", bad.status(206), "remote_wrong", "HTTP 206", 1),
    ("broken", bad.status(500), "remote_unavailable", "cannot answer now: HTTP 500", 3),
    ("busy", bad.status(503), "remote_unavailable", "HTTP 503, Service Unavailable", 3),
    ("busy for a second", bad.status(503, retry_after=1), "remote_unavailable", "HTTP 503", 3),
    ("busy for long", bad.status(429, retry_after=3600), "remote_unavailable", "HTTP 429", 1),
    ("a web page", bad.html(), "remote_not_data", "sent a web page instead of data", 1),
    ("a web page as JSON", bad.html("application/json"), "remote_not_data", "sent a web page", 1),
    ("truncated", bad.truncated(), "remote_cut_off", "broke off before the end", 3),
    ("reset", bad.reset(), "remote_cut_off", "broke off before the end", 3),
    ("compressed", bad.encoded(), "remote_encoding", "compressed (gzip)", 1),
    ("compressed oddly", bad.encoded("a\x01b"), "remote_encoding", "compressed (unknown)", 1),
    ("huge, chunked", bad.huge(), "remote_too_large", "larger than 1,048,576 bytes", 1),
    ("huge, without a length", bad.huge(chunked=False), "remote_too_large", "larger than", 1),
    ("huge, and says so", lambda h, _: h.send(200, b"x", length=1 << 40), "remote_too_large", "larger than", 1),
    ("turning in circles", bad.loops(), "remote_redirect", "more than 3 redirects", 4),
    ("an unasked 304", bad.unchanged(), "remote_wrong", "HTTP 304", 1),
    ("no HTTP", bad.raw(b"220 mail.example ESMTP\r\n\r\n"), "remote_wrong", "not HTTP as it should be", 1),
    ("two lengths", bad.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"), "remote_wrong", "not HTTP", 1),
    ("endless headers", bad.raw(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 40_000), "remote_wrong", "not HTTP", 1),
    ("interim answers", bad.raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 200_000), "remote_too_large", "more than it may", 1),
    ("a redirect nowhere", bad.redirects("ftp://x/"), "remote_refused", "redirects to an address that cannot be used", 1),
    ("a redirect that is none", bad.redirects("http://[::1"), "remote_refused", "redirects to", 1),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "code", "words", "times"), [case[1:] for case in MISBEHAVIOURS], ids=[case[0] for case in MISBEHAVIOURS])  # fmt: skip
def test_each_misbehaviour_has_its_sentence(
    client: Client, up: Upstream, fault: Any, code: str, words: str, times: int
) -> None:
    up.fault("*", fault)
    error = failure(lambda: client.document(f"{up.url}/{JSON}", limit=LIMIT))
    assert error.code == code
    assert words in error.detail
    assert error.detail.startswith(f"{up.url}/{JSON}")
    assert error.detail.endswith(".")
    assert up.count() == times
    up.heal()
    assert client.document(f"{up.url}/{JSON}", limit=LIMIT) is not None


def test_nobody_listens(client: Client, up: Upstream) -> None:
    up.down()
    error = failure(lambda: client.document(f"{up.url}/{JSON}", limit=LIMIT))
    assert (type(error), error.code) == (RemoteUnavailable, "remote_unreachable")
    assert "cannot be connected to: connection refused" in error.detail
    assert len(client.pauses) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", [bad.hangs(), bad.hangs(after=10)])
def test_a_server_that_falls_silent_is_given_up(up: Upstream, client_of: Callable[..., Client], fault: Any) -> None:
    client = client_of(up, idle=0.1)
    up.fault("*", fault)
    error = failure(lambda: client.document(f"{up.url}/{JSON}", limit=LIMIT))
    assert error.code == "remote_timeout"
    assert "Nothing came for" in error.detail


@pytest.mark.parametrize("headers", [False, True])
def test_a_server_that_drips_has_only_so_long(client: Client, up: Upstream, headers: bool) -> None:
    up.fault("*", bad.drips(headers=headers))
    error = failure(lambda: client.document(f"{up.url}/{JSON}", limit=LIMIT, seconds=0.3))
    assert (error.code, up.count()) == ("remote_timeout", 1)
    assert "longer than it may" in error.detail


def test_what_passes_is_asked_again(client: Client, up: Upstream) -> None:
    up.fault("*", bad.status(503, retry_after=2), times=1)
    up.fault("*", bad.reset(), times=1)
    assert client.document(f"{up.url}/{JSON}", limit=LIMIT) is not None
    first, second = client.pauses  # type: ignore[attr-defined]
    assert 0 < first <= 1
    assert second == 2
    up.fault("*", bad.status(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), times=1)
    assert client.document(f"{up.url}/{JSON}", limit=LIMIT) is not None
    assert client.pauses[2] == 0  # type: ignore[attr-defined]


def test_who_wants_to_be_left_alone_for_long_says_so_to_the_caller(client: Client, up: Upstream) -> None:
    up.fault("*", bad.status(503, retry_after=86_400_000))
    assert failure(lambda: client.document(f"{up.url}/{JSON}", limit=LIMIT)).seconds == 86_400
    assert client.pauses == []  # type: ignore[attr-defined]


def test_a_body_is_read_while_it_comes_and_can_be_left(client: Client, up: Upstream) -> None:
    up.files["noarch/big.conda"] = bytes(range(256)) * 40_000
    up.fault("*", bad.hangs(after=1000))
    with client.get(f"{up.url}/noarch/big.conda", limit=1 << 30) as answer:
        assert answer.size == 256 * 40_000
        assert next(answer.chunks()) == (bytes(range(256)) * 4)[:1000]
    up.heal()
    with client.get(f"{up.url}/noarch/big.conda", limit=1 << 30) as answer:
        assert b"".join(answer.chunks()) == up.files["noarch/big.conda"]


def test_a_file_whose_server_calls_its_own_form_an_encoding_is_taken_as_it_is(client: Client, up: Upstream) -> None:
    up.files["noarch/a.tar.bz2"] = b"BZh9"
    up.fault("*", lambda handler, body: handler.send(200, body, {"Content-Encoding": "x-bzip2"}))
    found = client.document(f"{up.url}/noarch/a.tar.bz2", limit=LIMIT)
    assert found is not None
    assert found.data == b"BZh9"
    assert failure(lambda: client.document(f"{up.url}/{JSON}", limit=LIMIT)).code == "remote_encoding"


def test_validators_that_cannot_be_sent_back_are_dropped(client: Client, up: Upstream) -> None:
    up.fault("*", lambda handler, body: handler.send(200, body, {"ETag": '"' + "x" * 600 + '"', "Last-Modified": "ü"}))
    found = client.document(f"{up.url}/{JSON}", limit=LIMIT)
    assert found is not None
    assert found.validators == Validators()
    assert not found.validators


# --- many ----------------------------------------------------------------------------------------------------------


def test_many_are_asked_at_once_and_a_failure_is_a_result(client: Client, up: Upstream) -> None:
    for number in range(200):
        up.add(f"pkg{number}")
    up.publish()
    hashes = {path.split("/")[-1].partition(".")[0]: path for path in up.files if "/shards/" in path}
    assert len(hashes) == 201
    first, second, third = list(hashes)[:3]
    up.fault(f"*{first}*", bad.flipped())
    up.fault(f"*{second}*", bad.status(404))
    up.fault(f"*{third}*", bad.truncated(), times=1)
    wishes = [Wish(f"{up.url}/{path}", name, bytes.fromhex(name)) for name, path in hashes.items()]
    found = {wish.key: result for wish, result in client.many(wishes, limit=LIMIT, at_once=8)}
    assert found.keys() == hashes.keys()
    wrong = {name: result for name, result in found.items() if isinstance(result, RemoteError)}
    assert {name: error.code for name, error in wrong.items()} == {first: "remote_mismatch", second: "remote_missing"}
    assert f"{up.url}/{hashes[first]}: the bytes are not those" in wrong[first].detail
    assert all(found[name] == up.files[path] for name, path in hashes.items() if name not in wrong)


def test_who_leaves_many_stops_them(up: Upstream, client_of: Callable[..., Client]) -> None:
    client = client_of(up, idle=60.0)
    up.fault("*slow*", bad.hangs())
    taken = []

    def wishes() -> Any:
        yield Wish(f"{up.url}/{JSON}")
        for number in range(10_000):
            taken.append(number)
            yield Wish(f"{up.url}/slow{number}")

    before = threading.active_count()
    results = client.many(wishes(), limit=LIMIT, at_once=4)
    assert isinstance(next(results)[1], bytes)
    up.wait_for("*slow*", 4)
    results.close()
    assert len(taken) <= 5
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("remote-")] == []
    assert threading.active_count() >= before - 1


def test_a_pause_ends_when_nobody_wants_the_answer(up: Upstream) -> None:
    up.fault("*", bad.status(503, retry_after=25))
    client, wanted = Client(Rules.parse(up.allow)), threading.Event()
    caught: list[RemoteError] = []
    thread = threading.Thread(
        target=lambda: caught.append(
            failure(lambda: client.document(f"{up.url}/{JSON}", limit=LIMIT, over=wanted.is_set))
        )
    )
    thread.start()
    up.wait_for("*")
    wanted.set()
    thread.join(timeout=15)
    client.close()
    assert not thread.is_alive()
    assert (len(caught), up.count()) == (1, 1)


def test_a_broken_list_of_wishes_ends_many(client: Client, up: Upstream) -> None:
    def wishes() -> Any:
        yield Wish(f"{up.url}/{JSON}")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(client.many(wishes(), limit=LIMIT, at_once=3))


def test_closing_the_client_ends_what_is_under_way(up: Upstream, client_of: Callable[..., Client]) -> None:
    client = client_of(up, idle=60.0)
    up.fault("*", bad.hangs())
    caught: list[RemoteError] = []
    thread = threading.Thread(
        target=lambda: caught.append(failure(lambda: client.document(f"{up.url}/{JSON}", limit=LIMIT)))
    )
    thread.start()
    up.wait_for("*")
    client.close()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert caught[0].code == "remote_unavailable"


def test_the_double_speaks_as_a_channel(client: Client, up: Upstream) -> None:
    up.wants = ("Authorization", "Bearer abc")
    assert isinstance(failure(lambda: client.document(f"{up.url}/{JSON}", limit=LIMIT)), RemoteDenied)
    up.wants = None
    index = json.loads(up.files[JSON])
    assert set(index["packages.conda"]) == {"demo-1.0-h0_0.conda"}
    up.remove("demo-1.0-h0_0.conda")
    up.publish()
    assert json.loads(up.files[JSON])["removed"] == ["demo-1.0-h0_0.conda"]
    assert isinstance(failure(lambda: client.document(f"{up.url}/noarch/x", limit=LIMIT)), RemoteMissing)
    assert issubclass(RemoteWrong, RemoteError)
