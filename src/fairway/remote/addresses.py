"""Which address may be asked: a URL read strictly, and the rules for what its name leads to.

A URL comes from a channel's owner or from another server, and this server stands inside somebody's network. So only what
is plainly meant is accepted, and whatever a name leads to is judged as an address, at the moment of connecting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self
from urllib.parse import urljoin

from fairway.errors import Invalid, RemoteRefused

Ip = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_LENGTH = 8_192  # the signed addresses of object stores have up to 3,000 characters
USUAL_PORTS = {"http": 80, "https": 443}
ADMINISTRATOR = "an administrator of this server can allow it (the setting upstream_allow)"

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?:#.*)?")
_PLAIN = re.compile(r"[!-\[\]-~]*")  # ASCII that can be seen, without the backslash, which some take for a slash
_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a name that ends like this is an IPv4 address to resolvers and browsers
_TOKEN = re.compile(r"/t/[^/?#]+")
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})?")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")  # what is the same whether it is percent-encoded or not (RFC 3986, 2.3)
_KEY = re.compile(r"/t/[^/]", re.IGNORECASE)

# Names under which machines in a cloud find their own credentials, wherever they lead.
METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"})  # fmt: skip
# The addresses of the same; one is refused inside an allowed network too, unless it is allowed by itself.
METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Google, Azure, OpenStack, DigitalOcean
        "169.254.170.2",  # AWS, containers
        "169.254.170.23",
        "168.63.129.16",  # Azure
        "192.0.0.192",  # Oracle
        "100.100.100.200",  # Alibaba
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
    )
)
# What is not public of IPv4: the IANA registry of special addresses, with what was reserved once.
_SPECIAL_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/3", "168.63.129.16/32",
    )
)  # fmt: skip
# Of IPv6 only 2000::/3 is public, so that mapped (::ffff:0:0/96) and translated (64:ff9b::/96) addresses, ULA, link-local
# and multicast are not; and not these of it, some of which carry an IPv4 address within them.
_PUBLIC_6 = IPv6Network("2000::/3")
_SPECIAL_6 = tuple(
    IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "3ffe::/16")
)


@dataclass(frozen=True, slots=True)
class Location:
    """A URL in its parts. `host` is in lower case and an IPv6 address without brackets; `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL. Raises `RemoteRefused` for what is no plain http(s) URL."""
        if len(url) > URL_LENGTH:
            raise RemoteRefused(f"An address has at most {URL_LENGTH} characters.")
        found = _URL.fullmatch(url) if _PLAIN.fullmatch(url) else None
        if found is None:
            raise RemoteRefused(
                "That is not a web address: it begins with https:// and has no spaces or odd characters."
            )
        scheme = found["scheme"].lower()
        if scheme not in USUAL_PORTS:
            raise RemoteRefused("Only addresses that begin with https:// or http:// can be used.")
        if "@" in found["host"]:
            raise RemoteRefused("An address holds no user name or password; they are given as a credential.")
        host, port = _host(found["host"])
        return cls(scheme, host, port or USUAL_PORTS[scheme], (found["path"] or "/") + (found["query"] or ""))

    def join(self, reference: str) -> Location:
        """Where a reference found here leads. Raises `RemoteRefused`."""
        try:
            return Location.parse(urljoin(self.url, reference))
        except ValueError:
            raise RemoteRefused("That is not a web address.") from None

    @property
    def origin(self) -> str:
        """What a credential is bound to: scheme, host and port, as in a URL."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == USUAL_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole URL, with whatever secrets are in it: never to be shown."""
        return self.origin + self.target

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def shown(self, *secrets: str) -> str:
        """The URL as people and logs may see it: without its query, where signatures are, and without keys."""
        path = _TOKEN.sub("/t/***", self.path)
        for secret in filter(None, secrets):
            path = path.replace(secret, "***")
        if len(path) > 160:
            path = f"{path[:80]}...{path[-60:]}"
        return self.origin + path


def spelled(url: str) -> str:
    """A channel's address in its one spelling: percent-encoded is only what has to be. What else an address may hold has no
    meaning for a channel, and is refused: the address is kept in clear, and shown to whoever may read our channel, and a key
    must not stand where nobody looks for one. Raises: Invalid, RemoteRefused.
    """
    if "?" in url or "#" in url:
        raise Invalid(
            "An upstream's address has nothing from a question mark or a # on; give a key as a credential.",
            code="upstream_invalid",
        )
    at = Location.parse(url)
    path = _ENCODED.sub(_decoded, at.path).rstrip("/")
    if any(part in {"", ".", ".."} for part in path.split("/")[1:]):
        raise Invalid("An upstream's address has no empty parts and no dots for one.", code="upstream_invalid")
    if "@" in path or ";" in path:
        raise Invalid("An upstream's address has no @ and no semicolon.", code="upstream_invalid")
    return at.origin + path


def _decoded(found: re.Match[str]) -> str:
    code = int(found[1] or "25", 16)
    if code <= 0x1F or code == 0x7F or chr(code) in "/?#%@:;\\":
        # servers do not agree on what these part from each other
        raise Invalid(
            "An upstream's address has no percent-encoded slash or other sign that parts it.", code="upstream_invalid"
        )
    return chr(code) if _UNRESERVED.fullmatch(chr(code)) else found[0].upper()


def channel_address(url: str) -> str:
    """The same of an address that has no key in it any more. Raises: Invalid, RemoteRefused."""
    bare = spelled(url)
    if _KEY.search(Location.parse(bare).path):
        raise Invalid(
            "The key in the address (/t/KEY/) cannot be told from the rest of it; give it as a credential.",
            code="upstream_invalid",
        )
    return bare


def _host(text: str) -> tuple[str, int | None]:
    """Host and port of a URL. Only the usual spelling of an address is one: resolvers and browsers also take octal,
    hexadecimal and single numbers, and whoever writes these means to get past somebody.
    """
    found = _HOST.fullmatch(text)
    if found is None:
        raise RemoteRefused("The address has no host name that can be used; international names are written as xn--...")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65536:
        raise RemoteRefused("The address has a port that there is not.")
    try:
        if found["v6"]:
            return IPv6Address(found["v6"]).compressed, port
        name = found["name"].lower()
        labels = name.split(".")
        if _NUMBER.fullmatch(labels[-1]):
            return str(IPv4Address(name)), port
    except ValueError:
        raise RemoteRefused("The address has numbers for a host that are no usual IP address.") from None
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise RemoteRefused("The address has no host name that can be used.")
    return name, port


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that an administrator allows. `network`, `name` or neither (any public address); `port` 0 is any."""

    network: Network | None
    name: str | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """`10.0.0.0/8`, `10.1.2.3:8080`, `[fd00::/8]:8080`, `repo.example.org:8443`, `*:8443`, `10.0.0.0/8:*`."""
        found = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<plain>[^:]+)|(?P<bare>[0-9A-Fa-f:./]+))(?::(?P<port>[0-9]{1,5}|\*))?", text)  # fmt: skip
        if found is None:
            raise ValueError(f"{text!r} is not an address, a network or a host name, with or without a port")
        port = None if found["port"] is None else 0 if found["port"] == "*" else int(found["port"])
        if port is not None and port > 65535:
            raise ValueError(f"{text!r} has a port that there is not")
        host = found["v6"] or found["plain"] or found["bare"]
        if host == "*":
            if port is None:
                raise ValueError("'*' needs a port, as in *:8443")
            return cls(None, None, port)
        try:
            return cls(ip_network(host), None, port)
        except ValueError:
            if not all(_LABEL.fullmatch(label) for label in host.lower().split(".")) or _NUMBER.fullmatch(
                host.lower().rpartition(".")[2]
            ):
                raise ValueError(f"{text!r} is not an address, a network or a host name") from None
            return cls(None, host.lower(), port)

    def opens(self, port: int) -> bool:
        return port in USUAL_PORTS.values() if self.port is None else self.port in {0, port}

    @property
    def any(self) -> bool:
        return self.network is None and self.name is None

    def meets(self, host: str, ip: Ip) -> bool:
        if self.network is not None:
            return ip.version == self.network.version and ip in self.network
        return self.any or self.name == host


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be connected to: the public internet at the usual ports, and what an administrator allows besides."""

    allowed: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Rules with commas or spaces between them. Raises `ValueError` with one that cannot be read."""
        return cls(tuple(Rule.parse(part) for part in text.replace(",", " ").split()))

    def judge(self, host: str, ip: Ip, port: int) -> None:
        """Return if `host`, which leads to `ip`, may be connected to at `port`. Raises `RemoteRefused`, with a sentence
        that does not say where an internal name leads.
        """
        ours = [rule for rule in self.allowed if rule.meets(host, ip)]
        inner = ip.ipv4_mapped if isinstance(ip, IPv6Address) and ip.ipv4_mapped else ip
        if inner in METADATA or host in METADATA_NAMES:
            if any(rule.network is not None and rule.network.num_addresses == 1 and rule.opens(port) for rule in ours):
                return
            raise RemoteRefused(f"{host} is where a cloud keeps the credentials of its machines; it is never asked.")
        public = is_public(ip)
        if not public:
            ours = [rule for rule in ours if not rule.any]
            if not ours:
                raise RemoteRefused(
                    f"{host} leads into a private or reserved network, which this server does not ask; {ADMINISTRATOR}."
                )
        if not (public and port in USUAL_PORTS.values()) and not any(rule.opens(port) for rule in ours):
            raise RemoteRefused(f"{host} is not asked at port {port}; {ADMINISTRATOR}.")


def is_public(ip: Ip) -> bool:
    """Whether an address is on the internet and nowhere else."""
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _SPECIAL_4)
    return ip in _PUBLIC_6 and not any(ip in network for network in _SPECIAL_6)
