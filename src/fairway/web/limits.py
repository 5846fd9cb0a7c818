"""How often somebody may ask for what costs much. Reading a channel is never limited: clients ask in bursts, and conda
tries a 429 again at once.

Counted in this process: with several workers each counts its own, so the whole server allows as many times more.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from fairway.errors import RateLimited
from fairway.settings import Settings

PERIODS = {60: "a minute", 300: "in five minutes", 3600: "an hour"}
REMEMBERED = 10_000  # callers; who was not seen for longest is forgotten, which is to their advantage

Network = IPv4Network | IPv6Network


class Limit:
    """At most `burst` at once, and `many` in each `seconds` from then on; none at all if `many` is 0. Thread-safe."""

    def __init__(
        self, what: str, many: int, seconds: float, burst: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._many, self._seconds, self._burst, self._clock = what, many, seconds, burst, clock
        self._each = seconds / many if many else 0.0
        self._lock = threading.Lock()
        # when each caller's allowance will be whole again: one number is the whole bucket
        self._whole_at: OrderedDict[Hashable, float] = OrderedDict()

    def take(self, who: Hashable) -> None:
        """Count one for this caller. Raises: RateLimited, and then it is not counted."""
        if not self._many:
            return
        now = self._clock()
        with self._lock:
            whole_at = max(self._whole_at.pop(who, now), now)
            wait = whole_at + self._each - self._burst * self._each - now
            self._whole_at[who] = whole_at if wait > 0 else whole_at + self._each
            if len(self._whole_at) > REMEMBERED:
                self._whole_at.popitem(last=False)
        if wait > 0:
            period = PERIODS.get(int(self._seconds), f"in {self._seconds:g} seconds")
            raise RateLimited(
                f"That is more than {self._many} {self._what} {period}; try again in {math.ceil(wait)} seconds.",
                seconds=math.ceil(wait),
            )

    def give_back(self, who: Hashable) -> None:
        """What was taken turned out not to count."""
        with self._lock:
            if who in self._whole_at:
                self._whole_at[who] -= self._each


class Limits:
    """The limits of one process."""

    def __init__(self, settings: Settings) -> None:
        self.trusted = settings.proxies
        self.searches = Limit("searches", settings.searches_per_minute, 60, max(30, settings.searches_per_minute // 6))
        # each may keep a core busy for some seconds
        self.solves = Limit("solves", settings.solves_per_minute, 60, max(10, settings.solves_per_minute // 3))
        self.estimates = Limit("estimates", 20, 60, 5)
        # each has a server elsewhere asked, perhaps for all it has
        self.settings = Limit("changes of upstreams", 30, 300, 30)
        self.channels = Limit("new channels", settings.channels_per_hour, 3600, settings.channels_per_hour)
        # a build farm sends what it has made at once
        self.uploads = Limit("uploads", settings.uploads_per_minute, 60, 3 * settings.uploads_per_minute)
        self.passwords = Passwords()
        self.accounts = Limit("new accounts or changed addresses from one address", 10, 3600, 10)
        self.invitations = Limit("invitations", 60, 3600, 60)


class Passwords:
    """How often a password may be tried: by name, by address, and in all. Who gave the right one was not guessing, so only
    the last of these counts it.

    Strangers can use up what a name has from many addresses, for as long as they like. So a browser that somebody signed in
    with before (`passwords.is_known`) is counted by itself, and only by that: it is not kept out with them.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = Limit("wrong passwords for one name", 10, 300, 10, clock=clock)
        self._address = Limit("wrong passwords from one address", 10, 300, 10, clock=clock)
        self._browser = Limit("wrong passwords from one browser", 10, 300, 10, clock=clock)
        self._all = Limit("sign-ins", 1_000, 300, 1_000, clock=clock)

    def take(self, name: str, address: str, browser: str | None = None) -> None:
        """`browser` is what a known one showed. Raises: RateLimited, and then nothing is counted."""
        taken: list[tuple[Limit, str]] = []
        try:
            for limit, who in self._counted(name, address, browser):
                limit.take(who)
                taken.append((limit, who))
            if browser is None:
                self._all.take("")
        except RateLimited:
            # who waits for a name that strangers have used up must not use up their own address by it
            for limit, who in taken:
                limit.give_back(who)
            raise

    def right(self, name: str, address: str, browser: str | None = None) -> None:
        for limit, who in self._counted(name, address, browser):
            limit.give_back(who)

    def take_code(self, address: str) -> None:
        """For the code of the set-up: of 100 random bits, so that only who asks is slowed. Raises: RateLimited."""
        self._address.take(address)

    def _counted(self, name: str, address: str, browser: str | None) -> list[tuple[Limit, str]]:
        if browser is not None:
            return [(self._browser, browser)]
        return [(self._address, address), (self._name, name.strip().lower()[:256])]


def caller(client: str, forwarded: Iterable[str], trusted: Sequence[Network]) -> str:
    """Who is to be counted: an address, or the /64 that one customer has of IPv6."""
    address = peer(client, forwarded, trusted)
    if address is None:
        return "unknown"
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address)


def peer(client: str, forwarded: Iterable[str], trusted: Sequence[Network]) -> IPv4Address | IPv6Address | None:
    """Where a request comes from, if that can be said.

    `X-Forwarded-For` is believed only as far as our own proxies wrote it: from the right, skipping them, the first
    other address counts. Whatever stands further left anybody could have sent.
    """
    address = parsed(client)
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    while hops and address is not None and any(address in network for network in trusted):
        following = parsed(hops.pop())
        if following is None:
            break
        address = following
    return address


def parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it: with a port, in brackets, mapped into IPv6, or not at all."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
