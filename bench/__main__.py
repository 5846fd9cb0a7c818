"""`./dev bench [NAME...]`: run benches, print their tables."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from bench import report
from bench.client import ROOT
from bench.context import Context
from bench.suites import (
    big,
    busy,
    crowd,
    download,
    get,
    growth,
    index,
    local,
    memory,
    page,
    pages,
    solvable,
    solve,
    upload,
    upstream,
)

BENCHES = {
    "upload": upload.run,
    "solvable": solvable.run,
    "index": index.run,
    "growth": growth.run,
    "local": local.run,
    "get": get.run,
    "download": download.run,
    "busy": busy.run,
    "crowd": crowd.run,
    "big": big.run,
    "page": page.run,
    "memory": memory.run,
    "pages": pages.run,
    "solve": solve.run,
    "upstream": upstream.run,
}
DOCUMENT = ROOT / "docs" / "performance.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure Fairway beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHES)}; all by default")
    parser.add_argument(
        "--size", nargs="+", type=int, metavar="N", help="records (or MB for big and page) instead of the usual"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each measurement is repeated")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long one measurement takes at most")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.relative_to(ROOT)}")
    parser.add_argument("--work", type=Path, help="where to work; by default the folder for temporary files")
    options = parser.parse_args()
    names = options.names or list(BENCHES)
    for name in names:
        if name not in BENCHES:
            parser.error(f"there is no bench {name!r}: {', '.join(BENCHES)}")
    os.umask(0o077)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # who installs Fairway has it compiled
    arguments = [] if options.size is None else ["--size", *map(str, options.size)]
    for name in ("rounds", "seconds"):
        if (value := getattr(options, name)) != parser.get_default(name):
            arguments += [f"--{name}", f"{value:g}"]
    with tempfile.TemporaryDirectory(prefix="fairway-bench-", dir=options.work) as work:
        context = Context(Path(work), options.size, options.rounds, options.seconds)
        for name in names:
            started = time.monotonic()
            tables = BENCHES[name](context)
            print(f"\n## {name}\n\n" + "\n".join(table.markdown() for table in tables), flush=True)
            if options.write:
                report.write(DOCUMENT, name, tables, arguments=arguments)
            context.say(f"{name} took {time.monotonic() - started:.0f} s")
    print(report.machine())


if __name__ == "__main__":
    main()
