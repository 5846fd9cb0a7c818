"""Three servers: a channel elsewhere, ours that serves it as well, and py-rattler, which knows nothing but ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.clients.clients import Client, ClientError, bearer
from tests.support.builders import conda_package
from tests.support.server import Server
from tests.support.upstream import Upstream
from tests.support.waiting import eventually

Start = Callable[..., Client]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Elsewhere:
    """A folder over HTTP, as `python -m http.server` serves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write(self, documents: list[str]) -> None:
        """A channel called `up` with an engine, which needs a motor, in the old way and in the new."""
        made = Upstream(documents=documents)
        made.add("engine", "2.5", subdir="linux-64", depends=["motor >=3"], real=True)
        made.add("motor", "3.1", real=True)
        made.publish()
        for path, body in made.files.items():
            place = self.folder / "up" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(body)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    served = Elsewhere(tmp_path / "elsewhere")
    yield served
    served.stop()


def reads(server: Server, channel: str, key: str | None = None) -> dict[str, object]:
    answer = server.get(f"/{channel}/linux-64/repodata.json", key)
    return answer.json()["packages.conda"] if answer.status_code == 200 else {}


def installed(prefix: Path) -> set[str]:
    return {json.loads(path.read_text())["name"] for path in (prefix / "conda-meta").glob("*.json")}


@pytest.mark.parametrize("documents", [["zst", "json"], ["shards", "json"]], ids=["flat", "shards"])
def test_a_private_package_installs_with_what_it_needs_of_an_upstream_that_is_away(
    serve: Callable[..., Server], client: Start, elsewhere: Elsewhere, tmp_path: Path, documents: list[str]
) -> None:
    elsewhere.write(documents)
    server = serve(env={"FAIRWAY_UPSTREAM_ALLOW": elsewhere.address})
    server.make_admin()
    server.cli(
        "channel", "create", "forge", "--owner", "admin", "--public", "--upstream", f"http://{elsewhere.address}/up"
    )
    server.make_channel("lab", "--private")
    key = server.key("upload")
    filename, data = conda_package("tool", depends=["engine >=2"])
    assert server.put("lab", filename, data, key).status_code == 201
    eventually(lambda: reads(server, "forge"))
    channels = [f"{server.url}/lab", f"{server.url}/forge"]
    client(bearer(key)).install(channels, "tool", prefix=tmp_path / "first")
    assert installed(tmp_path / "first") == {"tool", "engine", "motor"}
    elsewhere.stop()
    client(bearer(key)).install(channels, "tool", prefix=tmp_path / "second", sharded=False)
    assert installed(tmp_path / "second") == {"tool", "engine", "motor"}
    assert server.cli("upstream", "refresh", "forge", check=False).returncode == 1
    client(bearer(key)).install(channels, "tool", prefix=tmp_path / "third")
    assert installed(tmp_path / "third") == {"tool", "engine", "motor"}


def test_a_private_channel_of_another_fairway_is_served_with_a_key_that_nobody_sees(
    serve: Callable[..., Server], client: Start, tmp_path: Path
) -> None:
    there = serve(tmp_path / "there")
    there.make_admin()
    there.make_channel("theirs", "--private")
    secret = there.key("read")
    filename, data = conda_package("engine")
    assert there.put("theirs", filename, data, there.key("upload")).status_code == 201
    here = serve(tmp_path / "here", env={"FAIRWAY_UPSTREAM_ALLOW": there.url.split("//")[1]})
    here.make_admin()
    address = there.url.replace("://", "://reader:" + secret + "@")
    here.make_channel("forge", "--private", "--upstream", f"{address}/theirs")
    key = here.key("read")
    eventually(lambda: "engine" in here.get("/forge/noarch/repodata.json", key).text)
    client(bearer(key)).install([f"{here.url}/forge"], "engine", prefix=tmp_path / "env")
    assert installed(tmp_path / "env") == {"engine"}
    with pytest.raises(ClientError):
        client().install([f"{here.url}/forge"], "engine", prefix=tmp_path / "other")
    shown = here.cli("upstream", "show", "forge").stdout
    assert there.url in shown
    for text in (shown, here.log.read_text(), (here.data / "fairway.db").read_bytes().decode("latin-1")):
        assert secret not in text
