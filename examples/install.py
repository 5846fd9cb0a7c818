"""Install a package from a channel into a folder, with py-rattler: install.py CHANNEL PACKAGE KEY FOLDER.

It does what `pixi`, `conda` and `micromamba` do, on a machine that has none of them yet. A public channel needs no key:
say - instead.
"""
# ruff: noqa: T201, INP001

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import rattler


async def install(channel: str, package: str, folder: str) -> None:
    client = rattler.Client.default_client()
    gateway = rattler.Gateway(client=client)
    platforms = [rattler.Subdir.current(), rattler.Subdir("noarch")]
    records = await rattler.solve([rattler.Channel(channel)], [package], gateway=gateway, platforms=platforms)
    await rattler.install(records, folder, client=client, show_progress=False)
    for record in records:
        print(f"installed {record.name.normalized} {record.version} into {folder}")


def main() -> None:
    channel, package, key, folder = sys.argv[1:]
    with tempfile.TemporaryDirectory() as kept:
        keys = Path(kept) / "keys.json"
        keys.write_text(json.dumps({} if key == "-" else {urlsplit(channel).hostname: {"BearerToken": key}}))
        os.environ["RATTLER_AUTH_FILE"] = str(keys)
        asyncio.run(install(channel, package, folder))


if __name__ == "__main__":
    main()
