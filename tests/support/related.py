"""Channels that need each other: one with tools builds on one with what everybody needs, and others are there as well.

`bio` builds on `forge`; `extra` is related to neither; `vault` is private to its owner and builds on `forge`. In `bio`:
`aligner` needs bio and forge; `alone` needs bio alone; `viewer` needs `extra` too; `sealed` needs what only `vault` has;
`lonely` what nobody has; `torn` can never be solved; the newest `stepped` cannot be installed; `fast` needs CUDA.
"""

from __future__ import annotations

from fairway.app import Fairway
from fairway.registry import channels
from fairway.registry.actor import CONSOLE, Visibility
from tests.support.rows import load, made, named

VISIBILITIES = {"forge": "public", "bio": "public", "extra": "public", "vault": "private"}
MEGA = 1_000_000


def fill(app: Fairway, owner: str = "admin") -> None:
    with app.database.write() as session:
        for name, visibility in VISIBILITIES.items():
            channels.create_channel(
                session, CONSOLE, name, owner=owner, visibility=Visibility(visibility), now=app.now()
            )
        for name in ("bio", "vault"):
            channels.update_channel(session, CONSOLE, name, channels.Change(base="forge"), now=app.now())
    load(
        app, "forge", "linux-64",
        named(made("python", "3.12.1", ["zlib"], size=31 * MEGA), made("python", "3.9.0", ["zlib"], size=27 * MEGA),
              made("zlib", "1.3", size=92_000), made("numpy", "2.1", ["python >=3.10"], size=8 * MEGA)),
    )  # fmt: skip
    load(app, "forge", "osx-arm64", named(made("python", "3.12.1", size=14 * MEGA, subdir="osx-arm64")))
    load(
        app, "bio", "linux-64",
        named(made("aligner", "2.0", ["python >=3.10", "numpy", "__glibc >=2.17"], size=3 * MEGA),
              made("aligner", "1.0", size=2 * MEGA), made("alone", "1.4", size=512_000),
              made("viewer", "0.3", ["python", "canvas"]), made("sealed", "1.0", ["python", "secret-codec"]),
              made("lonely", "1.0", ["ghost >=2", "python"]), made("torn", "1.0", ["python >=9", "zlib"]),
              made("stepped", "2.0", ["ghost"]), made("stepped", "1.0", ["zlib"]),
              made("fast", "1.0", ["__cuda >=12"])),
    )  # fmt: skip
    load(app, "bio", "noarch", named(made("anywhere", "1.0", ["python"], subdir="noarch", noarch="python")))
    load(app, "extra", "linux-64", named(made("canvas", "5.0", size=4 * MEGA)))
    load(app, "vault", "linux-64", named(made("secret-codec", "1.0"), made("aligner", "9.0", ["python"])))
