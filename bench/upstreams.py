"""One refresh of a channel from its upstream, in a process of its own: `python -m bench.upstreams DATA URL`; the figures as
JSON on stdout. The channel is made where there is none.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from bench.load import make_admin, make_channel
from bench.measure import MB, clock
from fairway import logs
from fairway.app import Fairway
from fairway.registry import upstreams
from fairway.registry.actor import CONSOLE
from fairway.registry.flat import behind, build_flat
from fairway.registry.refresh import Refresh
from fairway.settings import load

SUBDIR = "linux-64"
KIB = 1024


def peak() -> float:
    """The largest resident memory of this process so far, in MB. (What getrusage says may be its parent's.)"""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * KIB / MB


def main() -> None:
    data, url = Path(sys.argv[1]), sys.argv[2]
    logs.configure("json", "warning")
    new = not data.exists()
    with Fairway(load({"data": data, "upstream_allow": urlsplit(url).netloc}, {})) as app:
        if new:
            make_admin(app)
            make_channel(app, "theirs", "public")
            with app.database.write() as session:
                settings = upstreams.Settings(url, subdirs=(SUBDIR,))
                upstreams.attach(session, CONSOLE, "theirs", settings, now=app.now())
        with app.database.read() as session:
            (channel_id,) = upstreams.channels_with(session)
            subdirs, upstream = app.upstream_of(session, channel_id)
        with clock(os.getpid()) as read:
            done = Refresh(app.database, upstream, channel_id, app.now).run(subdirs)
        memory = peak()
        if done.errors:
            raise RuntimeError(str(done.errors))
        with app.database.read() as session:
            due = behind(session)
        with clock(os.getpid()) as flat:
            for subdir_id in due:
                build_flat(app.database, app.blobs, app.staging, subdir_id, now=app.now())
    print(
        json.dumps(
            {
                "names": done.names,
                "records": done.records,
                "wall": read.wall,
                "cpu": read.cpu,
                "mb": memory,
                "flat_wall": flat.wall,
                "flat_cpu": flat.cpu,
                "all_mb": peak(),
            }
        )
    )


if __name__ == "__main__":
    main()
