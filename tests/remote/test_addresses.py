# ruff: noqa: RUF001 - characters that look like others are what it is about
"""Which URLs are read, and what may be connected to: 120 ways to reach what nobody should."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from fairway.errors import RemoteRefused
from fairway.remote.addresses import Location, Rules, is_public

# Each of these leads, for some reader, to this machine, its network or its cloud. None may be connected to.
FORBIDDEN = """
http://127.0.0.1/ http://127.0.0.1:80/ http://127.1/ http://127.0.1/ http://127.255.255.254/ http://0/ http://0.0.0.0/
http://0.0.0.0:443/ http://2130706433/ http://017700000001/ http://0x7f000001/ http://0x7f.1/ http://0x7f.0.0.1/
http://0177.0.0.1/ http://0177.0.0.01/ http://127.0.0.01/ http://127.00.0.1/ http://127.0.0.1./ http://127.0.0.0x1/
http://[::1]/ http://[::]/ http://[0:0:0:0:0:0:0:1]/ http://[::1]:443/ http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/
http://[::127.0.0.1]/ http://[0000::1]/ http://[::ffff:10.0.0.1]/ http://[::ffff:169.254.169.254]/ http://[::%31]/
http://10.0.0.1/ http://10.255.255.255/ http://172.16.0.1/ http://172.31.255.255/ http://192.168.0.1/ http://192.168.1.1/
http://100.64.0.1/ http://100.127.255.255/ http://100.100.100.200/ http://169.254.0.1/ http://169.254.169.254/
http://169.254.170.2/ http://168.63.129.16/ http://192.0.0.192/ http://192.0.0.1/ http://192.0.2.1/ http://198.18.0.1/
http://198.51.100.1/ http://203.0.113.1/ http://192.88.99.1/ http://224.0.0.1/ http://239.255.255.250/ http://240.0.0.1/
http://255.255.255.255/ http://3232235521/ http://0xc0a80001/ http://0300.0250.0.1/ http://2852039166/ http://0xa9fea9fe/
http://0251.0376.0251.0376/ http://169.254.43518/ http://169.16689662/ http://0xA9.0xFE.0xA9.0xFE/
http://[fe80::1]/ http://[fe80::1%25eth0]/ http://[fe80::1%eth0]/ http://[fc00::1]/ http://[fd00::1]/ http://[fdff::1]/
http://[fd00:ec2::254]/ http://[fd20:ce::254]/ http://[ff02::1]/ http://[ff0e::1]/ http://[fec0::1]/
http://[64:ff9b::7f00:1]/ http://[64:ff9b::a9fe:a9fe]/ http://[64:ff9b:1::1]/ http://[64:ff9b::10.0.0.1]/
http://[2002:7f00:1::]/ http://[2002:a9fe:a9fe::1]/ http://[2002:c0a8:1::1]/ http://[2001::1]/
http://[2001:0:53aa:64c::1]/ http://[2001:db8::1]/ http://[2001:10::1]/ http://[2001:20::1]/ http://[3fff::1]/
http://[100::1]/ http://[5f00::1]/ http://[4000::1]/ http://[::ffff:0:127.0.0.1]/ http://[3ffe::1]/
http://localhost/ http://LOCALHOST/ http://localhost./ http://a.localhost/ http://internal.example/ http://Internal.Example/
http://metadata/ http://metadata.google.internal/ http://METADATA.google.internal/ http://metadata.goog/
http://instance-data/ http://mixed.example/ http://cgnat.example/ http://six.example/ http://mapped.example/
http://public.example:22/ http://public.example:25/ http://public.example:6379/ http://public.example:8080/
http://8.8.8.8:22/ http://[2606:4700::1]:11211/ http://public.example:0/ http://public.example:65536/
http://user@public.example/ http://user:pw@public.example/ http://public.example@127.0.0.1/ http://127.0.0.1@public.example/
http://public.example%40127.0.0.1/ http://public.example\\@127.0.0.1/ http://127.0.0.1\\.public.example/
http://public.example:80@127.0.0.1/ http://[::1]@public.example/ ftp://public.example/
file:///etc/passwd gopher://127.0.0.1:6379/_INFO dict://127.0.0.1:11211/stat ldap://127.0.0.1/ jar:http://127.0.0.1!/
javascript:alert(1) data:text/plain,x http:127.0.0.1/ http:/127.0.0.1/ http:///127.0.0.1/ //127.0.0.1/ 127.0.0.1 http:// http://:80/
http://①②⑦.⓪.⓪.①/ http://127。0。0。1/ http://１２７.0.0.1/ http://ｌocalhost/ http://public.example:８０/
http://127.0.0.1%00.public.example/ http://127.0.0.1%2f.public.example/ http://public..example/ http://-public.example/
http://.public.example/ http://public.example../ http://[127.0.0.1]/ http://[::1/ http://::1/ http://public.example:+80/
http://public.example:80:80/ http://*.public.example/ http://pub$lic.example/ https://169.254.169.254/latest/meta-data/
""".split()  # noqa: SIM905 - so many are read more easily so
FORBIDDEN += ["http://127.0.0.1 .public.example/", "http://public.example/\r\nHost: x", "http://127.0.0.1\t/", "", "http://public.example/ü"]  # fmt: skip

NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "a.localhost": ["127.0.0.1"],
    "internal.example": ["10.1.2.3"],
    "mixed.example": ["192.168.7.7", "169.254.169.254"],
    "cgnat.example": ["100.64.9.9"],
    "six.example": ["fd12::1", "fe80::1%2"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "metadata": ["8.8.8.8"],
    "metadata.google.internal": ["8.8.8.8"],
    "metadata.goog": ["8.8.8.8"],
    "instance-data": ["8.8.8.8"],
    "public.example": ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"],
    "half.example": ["10.0.0.9", "93.184.216.34"],
}


def resolve(host: str, port: int) -> list[str]:
    if host not in NAMES:
        raise OSError("no such name")
    return NAMES[host]


def refused(rules: Rules, url: str) -> str | None:
    """The sentence with which `url` is refused, by its form or by each address it leads to."""
    try:
        at = Location.parse(url)
        try:
            found = [ip_address(at.host)]
        except ValueError:
            found = [ip_address(text.partition("%")[0]) for text in resolve(at.host, at.port)]
        for ip in found:
            rules.judge(at.host, ip, at.port)
    except RemoteRefused as error:
        return error.detail
    return None


def test_there_are_enough_of_them() -> None:
    assert len(set(FORBIDDEN)) >= 120


@pytest.mark.parametrize("url", FORBIDDEN)
def test_what_nobody_should_reach_is_refused(url: str) -> None:
    detail = refused(Rules(), url)
    assert detail
    assert detail.endswith((".", "..."))
    assert "pw" not in detail


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("https://conda.example.org/conda-forge", "https://conda.example.org", "/conda-forge"),
        ("HTTPS://Conda.Example.ORG:443", "https://conda.example.org", "/"),
        ("http://conda.example.org:443/a", "http://conda.example.org:443", "/a"),
        ("https://93.184.216.34/x", "https://93.184.216.34", "/x"),
        ("https://[2606:4700::1111]/x?y=1#z", "https://[2606:4700::1111]", "/x?y=1"),
        ("https://my_bucket.s3.example.org/a/b%20c;d!e@f", "https://my_bucket.s3.example.org", "/a/b%20c;d!e@f"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example", "/"),
        ("https://3com.example/?q", "https://3com.example", "/?q"),
    ],
)
def test_plain_addresses_are_read(url: str, origin: str, target: str) -> None:
    at = Location.parse(url)
    assert (at.origin, at.target) == (origin, target)
    assert Location.parse(at.url) == at


def test_public_addresses_may_be_asked() -> None:
    for url in ("http://public.example/", "https://public.example/", "http://8.8.8.8/", "https://[2606:4700::1]/"):
        assert refused(Rules(), url) is None
    assert is_public(ip_address("172.32.0.1"))
    assert is_public(ip_address("2a00:1450:4001::1"))


@pytest.mark.parametrize(
    ("allow", "good", "bad"),
    [
        ("10.0.0.0/8", ["http://10.1.2.3/", "https://internal.example/"], ["http://10.1.2.3:8080/", "http://192.168.0.1/"]),
        ("10.1.2.3:8080", ["http://internal.example:8080/"], ["http://internal.example/", "http://10.1.2.4:8080/"]),
        ("10.0.0.0/8:*", ["http://10.1.2.3:1/", "http://10.1.2.3:65535/"], ["http://public.example:8080/"]),
        ("internal.example:81", ["http://internal.example:81/"], ["http://10.1.2.3:81/", "http://internal.example:82/"]),
        ("internal.example", ["http://internal.example/"], ["http://internal.example:82/", "http://10.1.2.3/"]),
        ("*:8443", ["https://public.example:8443/"], ["https://internal.example:8443/", "https://public.example:8444/"]),
        ("[fd00::/8]:8080, 127.0.0.1", ["http://[fd12::1]:8080/", "http://127.0.0.1/"], ["http://[fd12::1]/"]),
        ("fd00::/8", ["http://[fd12::1]/"], ["http://[fd12::1]:8080/", "http://[fc00::1]/"]),
        ("169.254.0.0/16", ["http://169.254.1.1/"], ["http://169.254.169.254/", "http://[fe80::1]/"]),
        ("169.254.169.254", ["http://169.254.169.254/"], ["http://169.254.169.254:8080/"]),
        ("0.0.0.0/0:*", ["http://10.0.0.1:9/"], ["http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://metadata/"]),
        ("::/0", ["http://[fd00::1]/"], ["http://[fd00:ec2::254]/", "http://[::ffff:169.254.169.254]/", "http://10.0.0.1/"]),
    ],
)  # fmt: skip
def test_what_an_administrator_allows(allow: str, good: list[str], bad: list[str]) -> None:
    rules = Rules.parse(allow)
    assert [refused(rules, url) for url in good] == [None] * len(good)
    assert [url for url in bad if refused(rules, url) is None] == []


@pytest.mark.parametrize(
    "text", ["10.0.0.1/8", "*", "a b$", "10.0.0.0/8:99999", "1.2.3", "0x7f.1", "[::1", "http://x/"]
)
def test_a_rule_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Rules.parse(text)


def test_what_is_shown_of_an_address_holds_no_secret() -> None:
    at = Location.parse("https://h.example/t/tk-123/chan/linux-64/x.conda?X-Amz-Signature=abc")
    assert at.shown() == "https://h.example/t/***/chan/linux-64/x.conda"
    assert Location.parse("https://h.example/login/tk-123/x").shown("tk-123") == "https://h.example/login/***/x"
    assert len(Location.parse("https://h.example/" + "x" * 3000).shown()) < 300


def test_a_refusal_does_not_say_where_an_internal_name_leads() -> None:
    detail = refused(Rules(), "http://internal.example/")
    assert detail is not None
    assert "10." not in detail
    assert "upstream_allow" in detail


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("b.json", "https://h.example/a/b.json"),
        ("/b", "https://h.example/b"),
        ("//o.example/b", "https://o.example/b"),
        ("../../../b", "https://h.example/b"),
        ("http://o.example/", "http://o.example/"),
    ],
)
def test_references_are_joined(reference: str, url: str) -> None:
    assert Location.parse("https://h.example/a/x").join(reference).url == url
    with pytest.raises(RemoteRefused):
        Location.parse("https://h.example/a/x").join("http://[::1")
