"""What related channels and unmet dependencies cost: a channel of 100,000 packages that depend on 500,000 names, another
that has what it lacks, and fifty small ones. `python -m bench.relations [--database URL] [--packages N]`; CPU time is of
this process, so on PostgreSQL look at the wall clock of an idle machine.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.orm import Session

from fairway.db import migrate
from fairway.db.engine import Database
from fairway.db.models import Channel, Need, Package, Relation, Want
from fairway.registry import listing, needs, relations
from fairway.registry.actor import CONSOLE, NOBODY

AT_ONCE = 10_000
ROUNDS = 7


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rows(session: Session, model: type[Any], values: list[dict[str, Any]]) -> None:
    for begin in range(0, len(values), AT_ONCE):
        session.execute(insert(model), values[begin : begin + AT_ONCE])


def fill(database: Database, packages: int) -> None:
    """Names are asked for as in a real channel: few of them by many, most by hardly any."""
    chance = random.Random(1)
    with database.write() as session:
        names = ["big", "base", *(f"small{number}" for number in range(50))]
        channels = [
            {
                "id": number,
                "name": name,
                "visibility": "public",
                "created_at": 1,
                "allow_v3": True,
                "allow_overwrite": False,
            }
            for number, name in enumerate(names, 1)
        ]
        rows(session, Channel, channels)
        rows(session, Relation, [{"channel_id": 1, "base_id": 2, "overrides_id": None}])
        made: list[dict[str, Any]] = []

        def add(channel: int, name: str) -> None:
            number = len(made) + 1
            made.append(
                {
                    "id": number,
                    "channel_id": channel,
                    "name": name,
                    "created_at": 1,
                    "updated_at": 1,
                    "live": 1,
                    "version": "1",
                }
            )

        for number in range(packages):
            add(1, f"pkg-{number:06}")
        for number in range(0, packages // 2, 2):
            add(2, f"lib-{number:06}")
        for channel in range(3, 53):
            for number in range(200):
                add(channel, f"own{channel}-{number:03}")
        needed = {package["id"]: {common(chance, packages) for _ in range(5)} for package in made}
        rows(session, Package, made)
        count = func.count()
        session.execute(
            update(Channel).values(
                packages=select(count).where(Package.channel_id == Channel.id).scalar_subquery(),
            )
        )
        begin = time.perf_counter()
        for first in range(0, len(made), AT_ONCE):
            some = made[first : first + AT_ONCE]
            needs.write(session, fresh={package["id"]: needed[package["id"]] for package in some})
        seconds = time.perf_counter() - begin
        print(
            f"{len(made)} packages, {sum(map(len, needed.values()))} needs written in {seconds:.1f} s, counting included"
        )
        if not database.is_sqlite:
            session.execute(text("ANALYZE"))


def common(chance: random.Random, packages: int) -> str:
    number = int(chance.paretovariate(0.35)) % (packages // 2)
    return f"pkg-{number:06}" if chance.random() < 0.7 else f"lib-{number:06}"


def timed(what: str, do: Callable[[], Any]) -> None:
    walls, cpus = [], []
    for _ in range(ROUNDS):
        begin, used = time.perf_counter(), cpu()
        do()
        walls.append(time.perf_counter() - begin)
        cpus.append(cpu() - used)
    print(f"{what:<64} {min(walls) * 1000:8.1f} ms wall {min(cpus) * 1000:8.1f} ms CPU")


def measure(database: Database) -> None:
    with database.read() as session:
        counts = {
            model.__tablename__: session.scalar(select(func.count()).select_from(model))
            for model in (Package, Need, Want)
        }
        lacking = session.scalar(select(func.count()).select_from(Want).where(~Want.here, Want.channel_id == 1))
        print(counts, f"{lacking} lacking in the largest")
    direct = text(
        "SELECT count(DISTINCT n.name) FROM needs n JOIN packages p ON p.id = n.package_id WHERE p.channel_id = 1 "
        "AND NOT EXISTS (SELECT 1 FROM packages q WHERE q.channel_id = 1 AND q.name = n.name AND q.version <> '')"
    )

    def read(function: Callable[..., Any], channel: str, actor: Any = NOBODY, **options: Any) -> Callable[[], Any]:
        def do() -> Any:
            with database.read() as session:
                return function(session, actor, listing.enter(session, CONSOLE, channel), **options)

        return do

    def plain() -> None:
        with database.read() as session:
            session.execute(direct).all()

    timed("needs x packages, without the table: what one channel lacks", plain)
    for channel in ("big", "base", "small0"):
        timed(f"related({channel})", read(relations.related, channel))
        timed(f"unmet({channel})", read(relations.unmet, channel))
    print(read(relations.related, "big")())


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--database", default="")
    asked.add_argument("--packages", type=int, default=100_000)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(options.database or f"sqlite:///{Path(folder) / 'bench.db'}")
        migrate.upgrade(database)
        fill(database, options.packages)
        measure(database)
        database.close()


if __name__ == "__main__":
    main()
