"""What the client never does: connect where it must not, follow where it must not, tell a secret to anybody else.

Every connection of this process is seen by an audit hook, below all of our code and every library.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from fairway.errors import Invalid, RemoteError
from fairway.remote.addresses import Location, is_public
from fairway.remote.client import Client
from fairway.remote.credentials import Credential
from tests.remote.test_addresses import FORBIDDEN, NAMES, resolve
from tests.support import misbehaving as bad
from tests.support.certificates import serving, trusting
from tests.support.upstream import Upstream

LIMIT = 1 << 20
JSON = "noarch/repodata.json"
SECRET = "sk-very-secret-1234"  # no underscore: conda cuts a token there


class Seen:
    """Where this process connected to while `on`."""

    def __init__(self) -> None:
        self.on = False
        self.connections: list[Any] = []
        self.lookups: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event == "socket.connect":
            self.connections.append(arguments[1])
        if self.on and event == "socket.getaddrinfo":
            self.lookups.append(arguments[0])


SEEN = Seen()
sys.addaudithook(SEEN)  # which nobody can take away again


@pytest.fixture
def seen() -> Iterator[Seen]:
    SEEN.connections.clear()
    SEEN.lookups.clear()
    SEEN.on = True
    yield SEEN
    SEEN.on = False


@pytest.fixture
def other() -> Iterator[Upstream]:
    with Upstream() as upstream:
        upstream.add("demo")
        upstream.publish()
        yield upstream


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(tls=serving(tmp_path, "127.0.0.1", "conda.example")) as upstream:
        upstream.add("demo")
        upstream.publish()
        yield upstream


def failure(client: Client, url: str, **options: Any) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        client.document(url, limit=LIMIT, **options)
    return caught.value


# --- where it connects ---------------------------------------------------------------------------------------------


def test_the_hook_sees_a_connection(client: Client, up: Upstream, seen: Seen) -> None:
    client.document(f"{up.url}/{JSON}", limit=LIMIT)
    assert seen.connections == [(up.host, up.port)]
    assert seen.lookups == []  # an address is not looked up


@pytest.mark.parametrize("url", FORBIDDEN)
def test_nothing_forbidden_is_connected_to(client_of: Callable[..., Client], seen: Seen, url: str) -> None:
    client = client_of(resolve=resolve)
    failure(client, url)
    with pytest.raises(RemoteError):
        client.check(url)
    assert seen.connections == []


@pytest.mark.parametrize("url", FORBIDDEN)
def test_nothing_forbidden_is_reached_by_a_redirect(
    client_of: Callable[..., Client], up: Upstream, seen: Seen, url: str
) -> None:
    if "\r" in url or not url.isascii():
        pytest.skip("no header can say it")
    client = client_of(up, resolve=resolve)
    up.fault("*", bad.redirects(url))
    if "://" in url and not url.startswith(("http:///", "http://:")):
        failure(client, f"{up.url}/{JSON}")
    else:
        with pytest.raises(RemoteError):
            client.document(f"{up.url}/{JSON}", limit=LIMIT)
    assert set(seen.connections) <= {(up.host, up.port)}


def test_an_answer_that_changes_gains_nothing(client_of: Callable[..., Client], up: Upstream, seen: Seen) -> None:
    """Rebinding: the name is good when it is looked at and bad when it is connected to. It is asked for once."""
    answers = [["93.184.216.34"], ["127.0.0.1"], ["127.0.0.1"]]
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    client = client_of(resolve=rebinding)
    client.check("http://rebind.example/")  # when the settings are saved
    error = failure(client, f"http://rebind.example:80/{JSON}", tries=1)
    assert error.code == "remote_refused"
    assert seen.connections == []
    assert len(asked) == 2
    assert up.asked == []


def test_each_connection_goes_to_the_address_that_was_judged(
    client_of: Callable[..., Client], up: Upstream, seen: Seen
) -> None:
    """A name with good and bad addresses: only the good are tried, and nobody looks the name up a second time."""
    client = client_of(
        allow=f"127.0.0.1:{up.port}", resolve=lambda host, port: ["10.0.0.9", "::1", "169.254.169.254", "127.0.0.1"]
    )
    client.document(f"http://mixed.example:{up.port}/up/{JSON}", limit=LIMIT)
    assert seen.connections == [("127.0.0.1", up.port)]
    assert seen.lookups == []
    assert up.asked[0].headers["host"] == f"mixed.example:{up.port}"


def test_a_public_address_is_what_is_public() -> None:
    for addresses in NAMES.values():
        for text in addresses:
            ip = ip_address(text.partition("%")[0])
            assert is_public(ip) == (ip.is_global and not ip.is_multicast)


@pytest.mark.parametrize("problem", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_a_name_that_cannot_be_found_is_said(client_of: Callable[..., Client], problem: Exception) -> None:
    def failing(host: str, port: int) -> list[str]:
        raise problem

    error = failure(client_of(resolve=failing), "https://conda.exampel.org/x")
    assert error.detail == "https://conda.exampel.org/x: Its name cannot be found."
    empty = failure(client_of(resolve=lambda host, port: []), "https://conda.exampel.org/x")
    assert empty.detail.endswith("Its name has no address.")


def test_a_name_server_that_hangs_is_not_waited_for(client_of: Callable[..., Client]) -> None:
    released = threading.Event()

    def hanging(host: str, port: int) -> list[str]:
        released.wait(30)
        return []

    error = failure(client_of(resolve=hanging), "https://slow.example/x", seconds=0.2)
    released.set()
    assert error.code == "remote_timeout"


def test_proxies_of_the_environment_are_not_asked(
    client: Client, up: Upstream, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    client.document(f"{up.url}/{JSON}", limit=LIMIT)
    assert seen.connections == [(up.host, up.port)]


# --- TLS and redirects ---------------------------------------------------------------------------------------------


def test_a_name_is_what_the_certificate_has_to_say(client_of: Callable[..., Client], tls: Upstream) -> None:
    """The connection goes to the judged address; the certificate and Host are of the name."""
    client = client_of(tls, trust=trusting(), resolve=lambda host, port: ["127.0.0.1"])
    client.document(f"https://conda.example:{tls.port}/up/{JSON}", limit=LIMIT)
    assert tls.asked[0].headers["host"] == f"conda.example:{tls.port}"
    error = failure(client, f"https://other.example:{tls.port}/up/{JSON}")
    assert error.code == "remote_tls"
    assert "certificate is not trusted: Hostname mismatch" in error.detail


def test_certificates_nobody_vouches_for(client_of: Callable[..., Client], tls: Upstream, tmp_path: Path) -> None:
    error = failure(client_of(tls), f"{tls.url}/{JSON}")
    assert (error.code, len(tls.asked)) == ("remote_tls", 0)
    assert "unable to get local issuer certificate" in error.detail
    with Upstream(tls=serving(tmp_path, days=-1)) as over:
        error = failure(client_of(over, trust=trusting()), f"{over.url}/{JSON}")
    assert "certificate has expired" in error.detail


def test_tls_with_a_server_that_has_none(client_of: Callable[..., Client], up: Upstream, tls: Upstream) -> None:
    error = failure(client_of(up, trust=trusting()), f"https://{up.allow}/{JSON}")
    assert error.code == "remote_tls"
    assert "TLS cannot be agreed on" in error.detail
    assert failure(client_of(tls), f"http://{tls.allow}/{JSON}").code in {"remote_cut_off", "remote_wrong"}


@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
def test_redirects_are_followed_three_times(client: Client, up: Upstream, number: int) -> None:
    for hop in range(4):
        up.fault(f"/up/hop{hop}", bad.redirects(f"hop{hop + 1}" if hop < 3 else f"/up/{JSON}", number))
    assert failure(client, f"{up.url}/hop0").code == "remote_redirect"
    assert up.count() == 4
    found = client.document(f"{up.url}/hop1", limit=LIMIT)
    assert found is not None
    assert found.data == up.files[JSON]


def test_https_never_leads_to_http(
    client_of: Callable[..., Client], up: Upstream, tls: Upstream, other: Upstream
) -> None:
    client = client_of(up, tls, other, trust=trusting())
    tls.fault("*", bad.redirects(f"{up.url}/{JSON}"))
    error = failure(client, f"{tls.url}/{JSON}")
    assert (error.code, up.asked) == ("remote_redirect", [])
    assert "from https to http" in error.detail
    tls.heal()
    other.fault("*", bad.redirects(f"{tls.url}/{JSON}"))
    assert client.document(f"{other.url}/{JSON}", limit=LIMIT) is not None


# --- secrets -------------------------------------------------------------------------------------------------------

KINDS = ["bearer", "basic", "header", "path"]


def told(upstream: Upstream) -> bool:
    """Whether a server was told the secret, in whatever form."""
    basic = "bWU6" + "c2stdmVyeS1zZWNyZXQtMTIzNA"
    return any(text in str(one) for one in upstream.asked for text in (SECRET, basic))


@pytest.mark.parametrize("kind", KINDS)
def test_a_credential_is_told_to_its_server(client: Client, up: Upstream, kind: str) -> None:
    up.wants = {
        "bearer": ("Authorization", f"Bearer {SECRET}"),
        "basic": ("Authorization", "Basic bWU6c2stdmVyeS1zZWNyZXQtMTIzNA=="),
        "header": ("X-API-Key", SECRET),
        "path": (f"/t/{SECRET}/", ""),
    }[kind]
    credential = Credential.make(kind, SECRET, f"{up.url}/", "me" if kind == "basic" else "")
    assert failure(client, f"{up.url}/{JSON}").code == "remote_denied"
    assert client.document(f"{up.url}/{JSON}", limit=LIMIT, credential=credential) is not None
    assert Credential.unpack(credential.pack(), up.url) == credential


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["directly", "redirected", "back again", "https"])
def test_a_credential_is_told_to_nobody_else(
    client_of: Callable[..., Client], up: Upstream, other: Upstream, tls: Upstream, kind: str, how: str
) -> None:
    """Another port is another server, and so is another scheme."""
    client = client_of(up, other, tls, trust=trusting())
    bound = other if how == "back again" else up
    credential = Credential.make(kind, SECRET, bound.url, "me" if kind == "basic" else "")
    strangers, start = [other, tls], f"{up.url}/{JSON}"
    if how == "directly":
        start = f"{other.url}/{JSON}"
    elif how == "redirected":
        up.fault("*", bad.redirects(f"{other.url}/{JSON}"))
    elif how == "https":
        up.fault("*", bad.redirects(f"{tls.url}/{JSON}"))
    else:  # the stranger sends the client back to where the credential is good: it has been left behind
        other.fault(f"*/up/{JSON}", bad.redirects(f"{up.url}/{JSON}"))
        up.fault("*", bad.redirects(f"{other.url}/noarch/repodata.json.zst"))
        start, strangers = f"{other.url}/{JSON}", [up]
    assert client.document(start, limit=LIMIT, credential=credential) is not None
    assert [stranger for stranger in strangers if told(stranger)] == []
    if how == "back again":
        assert [SECRET in str(one) or "authorization" in one.headers for one in other.asked] == [True, False]


@pytest.mark.parametrize("kind", KINDS)
def test_a_challenge_is_not_followed(
    client_of: Callable[..., Client], up: Upstream, other: Upstream, kind: str
) -> None:
    """The upstream chose the realm (GHSA-78h6): nothing is asked there, and nothing told."""
    client = client_of(up, other)
    up.fault("*", lambda handler, _: handler.send(401, b"", {"WWW-Authenticate": f'Bearer realm="{other.url}/token"'}))
    credential = Credential.make(kind, SECRET, up.url)
    assert failure(client, f"{up.url}/{JSON}", credential=credential).code == "remote_denied"
    assert other.asked == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_sentence_and_no_log_line_has_a_secret(
    client: Client, up: Upstream, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    credential = Credential.make(kind, SECRET, up.url)
    up.wants = (f"/t/{SECRET}/", "") if kind == "path" else None
    leaks = [
        bad.status(404), bad.status(401), bad.status(503), bad.html(), bad.reset(), bad.truncated(), bad.encoded(),
        bad.redirects(f"/t/{SECRET}/x?token={SECRET}"), bad.redirects(f"/login/{SECRET}/x"), bad.redirects(f"ftp://{SECRET}/"),
        bad.redirects(f"http://me:{SECRET}@{up.allow}/"), bad.redirects(f"http://{SECRET}.example.invalid./"),
    ]  # fmt: skip
    for fault in leaks:
        up.heal()
        up.fault("*", fault)
        with pytest.raises(RemoteError) as caught:
            client.document(f"{up.url}/{JSON}?sig={SECRET}", limit=LIMIT, credential=credential)
        assert SECRET not in caught.value.detail + repr(caught.value) + str(caught.value)
    assert SECRET not in caplog.text
    assert SECRET not in repr(credential) + str(credential)


def test_a_copied_address_is_taken_apart() -> None:
    bare, credential = Credential.out_of("https://me:p%40ss@conda.example.org/private")
    assert bare == "https://conda.example.org/private"
    assert credential is not None
    assert (credential.kind, credential.user, credential.secret) == ("basic", "me", "p@ss")
    bare, credential = Credential.out_of("https://conda.example.org/t/tk-12/private")
    assert bare == "https://conda.example.org/private"
    assert credential is not None
    assert (credential.kind, credential.secret) == ("path", "tk-12")
    assert credential.origin == "https://conda.example.org"
    assert Credential.out_of("https://conda.example.org/t") == ("https://conda.example.org/t", None)


@pytest.mark.parametrize(
    ("kind", "secret", "user"),
    [
        ("bearer", "", ""), ("bearer", "a b", ""), ("bearer", "a\r\nX: y", ""), ("header", "ü", ""), ("path", "a/b", ""),
        ("path", "..%2f", ""), ("basic", "a\nb", "me"), ("basic", "abc", "m:e"), ("cookie", "abc", ""), ("bearer", "x" * 5000, ""),
    ],
)  # fmt: skip
def test_credentials_that_cannot_be_sent(kind: str, secret: str, user: str) -> None:
    with pytest.raises(Invalid) as caught:
        Credential.make(kind, secret, "https://conda.example.org/", user)
    assert caught.value.code == "credential_invalid"
    assert not secret or secret not in caught.value.detail
    with pytest.raises(Invalid):
        Credential.unpack(b"{}", "https://conda.example.org/")


def test_a_token_stands_before_the_path_once() -> None:
    credential = Credential.make("path", "tk", "https://h.example/chan")
    assert credential.target(Location.parse("https://h.example/chan/x?y")) == "/t/tk/chan/x?y"
    assert credential.target(Location.parse("https://h.example/t/other/chan")) == "/t/other/chan"
    assert credential.target(Location.parse("https://h.example:8443/chan")) == "/chan"
