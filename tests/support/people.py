"""A channel with somebody in each role."""

from __future__ import annotations

from fairway.registry import channels
from fairway.registry.actor import CONSOLE, Role
from tests.support.site import Site

ROLES = ("viewer", "uploader", "maintainer", "owner")


def populated(site: Site) -> Site:
    """With a private channel "lab" of "owner", somebody in each role, and somebody in none."""
    for user in (*ROLES, "stranger"):
        site.user(user)
    site.channel("lab", owner="owner")
    with site.app.database.write() as session:
        for role in ROLES:
            channels.set_member(session, CONSOLE, "lab", role, Role.of(role), now=1)
    return site
