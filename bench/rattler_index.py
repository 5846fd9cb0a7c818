"""py-rattler's indexer in a process of its own: `python -m bench.rattler_index FOLDER`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from rattler.index import index_fs


def main() -> None:
    cpu, wall = time.process_time(), time.perf_counter()
    asyncio.run(index_fs(Path(sys.argv[1]), write_zst=True, write_shards=True))
    result = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "rss": high_water()}
    print(json.dumps(result), flush=True)
    os._exit(0)  # its threads may crash the interpreter's own end


def high_water() -> float:
    """The largest resident memory of this process so far, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1_000_000


if __name__ == "__main__":
    main()
