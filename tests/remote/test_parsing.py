"""Whatever URL is accepted, other readers see the same server in it: a guard that reads it otherwise guards nothing."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx2 as httpx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairway.errors import RemoteRefused
from fairway.remote.addresses import USUAL_PORTS, Location

HOSTS = st.one_of(
    st.sampled_from(["example.org", "127.0.0.1", "[::1]", "10.1", "0x7f.1", "a_b.example", "[::ffff:1.2.3.4]", "xn--a.example"]),
    st.text("abcZ019.-_:[]%@\\ /?#~x", max_size=16),
    st.ip_addresses().map(lambda ip: f"[{ip}]" if ip.version == 6 else str(ip)),
)  # fmt: skip
URLS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["http://", "https://", "HTTP://", "http:/", "http:", "ftp://", "//", ""]),
        st.sampled_from(
            ["", "", "", "user@", "a:b@", "@", "example.org\\@", "example.org#@", "example.org?@", "127.0.0.1/@"]
        ),
        HOSTS,
        st.sampled_from(["", "", ":80", ":8080", ":", ":0", ":65536", ":8 0", ":080"]),
        st.text("/abc.%2e?#@:\\;=&~!$'()*+, []é\r\n\t\0", max_size=20),
    ),
)


@settings(max_examples=3000, deadline=None)
@given(URLS)
@example("http://example.org\\@127.0.0.1/")
@example("http://example.org#@127.0.0.1/")
@example("http://127.0.0.1:80:80/")
@example("http://1.1.1.1 &@2.2.2.2# @3.3.3.3/")
def test_all_readers_see_the_same_server(url: str) -> None:
    try:
        at = Location.parse(url)
    except RemoteRefused:
        return
    for address in (url, at.url):
        parts, other = urlsplit(address), httpx.URL(address)
        port = parts.port or USUAL_PORTS[parts.scheme]
        assert (parts.scheme, same(parts.hostname or ""), port) == (at.scheme, at.host, at.port)
        assert (other.scheme, same(other.host), other.port or USUAL_PORTS[other.scheme]) == (
            at.scheme,
            at.host,
            at.port,
        )
        assert not other.userinfo
    again = Location.parse(at.url)
    assert again == at
    assert not set(at.target) & set(" \\\r\n\t\0")
    assert at.target.startswith("/")


def same(host: str) -> str:
    """A host as we write it: IPv6 in its short form."""
    host = host.lower()
    return ip_address(host).compressed if ":" in host else host
