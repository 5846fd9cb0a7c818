"""Named moments at which a server kills itself, for `tests.crash.torture`. Production code knows nothing of this.

The zygote imports it in the child that is about to become a server. Every point wraps a function where it is called from;
one that is not there any more makes the server fail at once, so that a point cannot quietly vanish.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import signal
from typing import Any

VARIABLE = "TORTURE_POINT"  # NAME:N:FILE - at the N-th hit write the name into the file and die

BOTH = {
    "staging.write": "fairway.blobs.staging:write_all",
    "staging.clear": "fairway.blobs.staging:StagingArea.clear_dead",
    "upload.judge": "fairway.registry.publish:judge",
    "upload.reclaim": "fairway.registry.sweep:reclaim",
    "blob.store": "fairway.blobs.local:LocalBlobs._commit",
    "blob.sync": "fairway.blobs.local:LocalBlobs._sync",
    "rows.together": "fairway.registry.committer:Committer._commit",
    "rows.admit": "fairway.registry.admit:publish",
    "rows.packages": "fairway.registry.rows:write_packages",
    "rows.artifacts": "fairway.registry.rows:write_artifacts",
    "rows.contents": "fairway.registry.rows:write_contents",
    "index.shards": "fairway.registry.index:write_shards",
    "index.pointer": "fairway.registry.index:_point",
    "database.commit": "sqlalchemy.orm:Session.commit",
    "delete.rows": "fairway.registry.withdraw:delete",
    "yank.rows": "fairway.registry.withdraw:yank",
    "unyank.rows": "fairway.registry.withdraw:unyank",
    "withdraw.records": "fairway.registry.withdraw:changed",
    "reindex.touch": "fairway.registry.index:touch",
    "reindex.rebuild": "fairway.registry.index:rebuild",
    "flat.build": "fairway.registry.flat:build_flat",
    "flat.finish": "fairway.registry.flat:Pair.finish",
    "flat.flip": "fairway.registry.flat:flip_flat",
    "answer.say": "fairway.web.uploads.intake:as_dict",
}
CLOUD = {"blob.store": "fairway.blobs.cloud:CloudBlobs.put_file", "blob.sync": "fairway.blobs.cloud:CloudBlobs.put"}
POINTS = tuple(f"{name}.{side}" for name in BOTH for side in ("before", "after"))


def install(order: str, *, cloud: bool = False) -> None:
    """Make this process die as `order` says."""
    name, number, path = order.split(":", 2)
    place, side = name.rsplit(".", 1)
    module_name, _, attribute = (BOTH | (CLOUD if cloud else {}))[place].partition(":")
    owner: Any = importlib.import_module(module_name)
    *outer, last = attribute.split(".")
    for part in outer:
        owner = getattr(owner, part)
    real, counter = getattr(owner, last), itertools.count(1)

    def die() -> None:
        if next(counter) == int(number):
            with open(path, "a") as file:  # noqa: PTH123 - nothing more than needed is loaded here
                file.write(name + "\n")
            os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(real)
    def at_point(*arguments: Any, **options: Any) -> Any:
        if side == "before":
            die()
        result = real(*arguments, **options)
        if side == "after":
            die()
        return result

    setattr(owner, last, at_point)
