"""Runs in a process of its own: does what JSON lines on standard input ask, with py-rattler and py-rattler-build.

A new Gateway for each line, so that what one line leaves to the next is what lies in the cache folder, as between two
runs of a program. It ends without Python's own ending, in which py-rattler now and then crashes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

CACHE = Path(os.environ["RATTLER_CACHE_DIR"])
LOCKED: list[Any] = []


def gateway(ask: dict[str, Any]) -> Any:
    from rattler import Client, Gateway, SourceConfig

    config = SourceConfig(sharded_enabled=ask.get("sharded", True), zstd_enabled=ask.get("zstd", True))
    return Gateway(cache_dir=CACHE / "repodata", default_config=config, client=Client.default_client())


def shown(record: Any) -> dict[str, Any]:
    return {**json.loads(record.to_json()), "fn": record.file_name, "url": record.url, "channel": record.channel}


async def solved(ask: dict[str, Any]) -> list[Any]:
    from rattler import BuildString, GenericVirtualPackage, PackageName, Version, solve

    linux = GenericVirtualPackage(PackageName("__linux"), Version("6.1"), BuildString("0"))
    found: list[Any] = await solve(
        ask["channels"],
        ask["specs"],
        gateway=gateway(ask),
        platforms=ask.get("platforms", ["linux-64", "noarch"]),
        virtual_packages=[linux],
        channel_relations=ask.get("relations"),
    )
    return found


async def solve(ask: dict[str, Any]) -> Any:
    return [shown(record) for record in await solved(ask)]


async def query(ask: dict[str, Any]) -> Any:
    """Every record of some names, without solving."""
    platforms = ask.get("platforms", ["linux-64", "noarch"])
    answer = await gateway(ask).query(ask["channels"], platforms, ask["specs"], recursive=False)
    return [shown(record) for records in answer for record in records]


async def install(ask: dict[str, Any]) -> Any:
    """Without specs: what was solved last, as from a lock file."""
    from rattler import Client, Subdir, install

    if ask["specs"]:
        LOCKED[:] = await solved(ask)
    await install(
        LOCKED,
        ask["prefix"],
        cache_dir=CACHE / "pkgs",
        platform=Subdir(ask.get("platforms", ["linux-64"])[0]),
        show_progress=False,
        client=Client.default_client(),
    )
    return [shown(record) for record in LOCKED]


async def inspect(ask: dict[str, Any]) -> Any:
    """What a package says of itself, read from its address without all of its payload."""
    from rattler import Client, IndexJson
    from rattler.package import RunExportsJson

    client = Client.default_client()
    index = await IndexJson.from_remote_url(client, ask["url"])
    exports = await RunExportsJson.from_remote_url(client, ask["url"])
    return {"name": index.name.normalized if index else None, "weak": exports.weak if exports else None}


async def index(ask: dict[str, Any]) -> Any:
    from rattler.index import index_fs

    await index_fs(ask["folder"], write_zst=True, write_shards=True, force=True, **ask.get("options", {}))


async def upload(ask: dict[str, Any]) -> Any:
    from rattler_build.upload import upload_package_to_prefix

    await asyncio.to_thread(
        upload_package_to_prefix, ask["files"], ask["url"], ask["channel"], **ask.get("options", {})
    )


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the clients print is not an answer
    for line in sys.stdin:
        ask = json.loads(line)
        work = {work.__name__: work for work in (solve, query, install, inspect, index, upload)}[ask["do"]]
        try:
            answer = {"answer": asyncio.run(work(ask))}
        except Exception as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)


main()
