"""py-rattler-build and curl upload to a live server, and show their users our sentence when it is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.clients import Client, ClientError, bearer
from tests.clients.live import Channel, Live, Package
from tests.support.builders import conda_package, tar_bz2_package

Start = Callable[..., Client]

OLD = conda_package("tool", files={"share/tool/hello.txt": b"old\n"})
NEW = conda_package("tool", files={"share/tool/hello.txt": b"new\n"})
FILENAME = OLD[0]
INVALID = "The API key is not valid: it may be mistyped, expired or revoked."


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Package], Path]:
    def write(package: Package) -> Path:
        path = tmp_path / package[0]
        path.write_bytes(package[1])
        return path

    return write


Write = Callable[[Package], Path]


def stored(channel: Channel) -> bytes:
    return channel.get(f"noarch/{FILENAME}").content


def listed(channel: Channel) -> list[str]:
    document = channel.get("noarch/repodata.json").json()
    return sorted([*document["packages"], *document["packages.conda"]])


# --- py-rattler-build, the prefix.dev dialect ----------------------------------------------------------------------


def test_a_new_package_is_published(live: Live, client: Start, written: Write) -> None:
    channel = live.channel()
    client().upload(live.url, channel.name, written(NEW), api_key=live.key)
    assert listed(channel) == [FILENAME]
    assert stored(channel) == NEW[1]


def test_the_address_may_end_with_a_slash(live: Live, client: Start, written: Write) -> None:
    channel = live.channel()
    client().upload(f"{live.url}/", channel.name, written(NEW), api_key=live.key)
    assert listed(channel) == [FILENAME]


def test_the_key_may_come_from_a_sign_in(live: Live, client: Start, written: Write) -> None:
    channel = live.channel()
    builder = client(bearer(live.key))
    builder.upload(live.url, channel.name, written(NEW), auth_file=str(builder.home / "auth.json"))
    assert listed(channel) == [FILENAME]


def test_many_files_of_both_formats_and_several_subdirs(live: Live, client: Start, written: Write) -> None:
    channel = live.channel()
    packages = [
        conda_package("tool", "1!2.0+cu12"),
        tar_bz2_package("tool"),
        conda_package("_engine", subdir="linux-64"),
        conda_package("_engine", subdir="osx-arm64", build="h1_0"),
    ]
    client().upload(live.url, channel.name, *map(written, packages), api_key=live.key)
    assert listed(channel) == ["tool-1!2.0+cu12-h0_0.conda", "tool-1.0-h0_0.tar.bz2"]
    for subdir, build in (("linux-64", "h0_0"), ("osx-arm64", "h1_0")):
        assert list(channel.get(f"{subdir}/repodata.json").json()["packages.conda"]) == [f"_engine-1.0-{build}.conda"]


@pytest.mark.parametrize(("package", "words"), [(OLD, "with the same bytes"), (NEW, "with other bytes")])
def test_a_duplicate_is_refused_in_words(
    live: Live, client: Start, written: Write, package: Package, words: str
) -> None:
    channel = live.channel("private", OLD)
    with pytest.raises(ClientError, match="already exists") as caught:
        client().upload(live.url, channel.name, written(package), api_key=live.key)
    assert f"{FILENAME} in {channel.name} already exists {words}: publish a new build number." in str(caught.value)
    assert stored(channel) == OLD[1]


def test_skip_existing_passes_over_what_is_there(live: Live, client: Start, written: Write) -> None:
    channel = live.channel("private", OLD)
    paths = [written(NEW), written(conda_package("tool", "2.0"))]
    client().upload(live.url, channel.name, *paths, api_key=live.key, skip_existing=True)
    assert listed(channel) == [FILENAME, "tool-2.0-h0_0.conda"]
    assert stored(channel) == OLD[1]


def test_force_replaces_nothing_unless_the_channel_allows_it(live: Live, client: Start, written: Write) -> None:
    channel = live.channel("private", OLD)
    builder, path = client(), written(NEW)
    with pytest.raises(
        ClientError, match="already exists with other bytes and this channel does not allow overwriting"
    ):
        builder.upload(live.url, channel.name, path, api_key=live.key, force=True)
    assert stored(channel) == OLD[1]
    live.server.cli("channel", "set", channel.name, "--overwrite")
    builder.upload(live.url, channel.name, path, api_key=live.key, force=True)
    assert stored(channel) == NEW[1]
    assert listed(channel) == [FILENAME]


def test_who_may_upload_may_not_yet_replace(live: Live, client: Start, written: Write) -> None:
    live.user("colleague")
    channel = live.channel("private", OLD)
    live.change(channel, allow_overwrite=True)
    live.member(channel, "colleague", "uploader")
    with pytest.raises(
        ClientError, match=rf"already exists\. You may not replace files in {channel.name}: .*maintainer"
    ):
        client().upload(live.url, channel.name, written(NEW), api_key=live.new_key("colleague"), force=True)
    assert stored(channel) == OLD[1]


def test_force_with_the_same_bytes_is_no_harm(live: Live, client: Start, written: Write) -> None:
    channel = live.channel("private", OLD)
    client().upload(live.url, channel.name, written(OLD), api_key=live.key, force=True)
    assert listed(channel) == [FILENAME]


def test_a_deleted_name_is_not_given_to_other_bytes(live: Live, client: Start, written: Write) -> None:
    channel = live.channel("private", OLD)
    channel.delete("noarch", FILENAME)
    with pytest.raises(ClientError, match="was deleted, and a name is not given to other bytes"):
        client().upload(live.url, channel.name, written(NEW), api_key=live.key)


def refused(live: Live, builder: Client, channel: str, path: Path, key: str) -> str:
    """What the user is told; and that the client believed it, rather than to try again."""
    before = len(live.asked("/api/v1/upload"))
    with pytest.raises(ClientError) as caught:
        builder.upload(live.url, channel, path, api_key=key)
    assert len(live.asked("/api/v1/upload")) - before == 1
    return str(caught.value)


def test_a_key_that_is_no_good_is_named_as_the_reason(live: Live, client: Start, written: Write) -> None:
    channel = live.channel()
    builder, path = client(), written(NEW)
    expired = live.new_key(lives_ms=1)
    mistyped = live.key[:-1] + ("a" if live.key[-1] != "a" else "b")
    for key in (expired, mistyped, "nonsense"):
        said = refused(live, builder, channel.name, path, key)
        assert "401" in said
        assert INVALID in said
    assert listed(channel) == []


def test_a_revoked_key_is_no_good_at_once(live: Live, client: Start, written: Write) -> None:
    channel = live.channel()
    builder, key = client(), live.new_key()
    builder.upload(live.url, channel.name, written(NEW), api_key=key)
    keys = json.loads(live.server.cli("token", "list", "--json").stdout)
    live.server.cli("token", "revoke", str(max(entry["id"] for entry in keys)))
    assert INVALID in refused(live, builder, channel.name, written(conda_package("tool", "2.0")), key)


def test_a_key_for_reading_says_which_key_is_needed(live: Live, client: Start, written: Write) -> None:
    channel = live.channel()
    said = refused(live, client(), channel.name, written(NEW), live.new_key(scope="read"))
    assert "403" in said
    assert f"This API key may only read; to upload to {channel.name} make one with the scope 'upload'." in said


def test_a_key_for_another_channel_says_so(live: Live, client: Start, written: Write) -> None:
    """On a public channel, which the key's user may see; a private one is not even there for it."""
    bound = live.channel()
    key = live.new_key(channels=[bound.name])
    builder, path = client(), written(NEW)
    builder.upload(live.url, bound.name, path, api_key=key)
    other = live.channel("public")
    assert f"This API key is not for the channel {other.name}." in refused(live, builder, other.name, path, key)
    assert "nothing you may see" in refused(live, builder, live.channel().name, path, key)


def test_a_channel_that_is_not_there_says_so(live: Live, client: Start, written: Write) -> None:
    said = refused(live, client(), "no-such-channel", written(NEW), live.key)
    assert "404" in said
    assert "There is nothing here, or nothing you may see." in said


def test_a_viewer_is_told_which_role_it_takes(live: Live, client: Start, written: Write) -> None:
    live.user("watcher")
    channel = live.channel()
    live.member(channel, "watcher", "viewer")
    said = refused(live, client(), channel.name, written(NEW), live.new_key("watcher"))
    assert f"You may not upload to {channel.name}: that needs the role 'uploader' in it." in said


PATHS = {"paths": [{"_path": "../../etc/passwd", "path_type": "hardlink"}], "paths_version": 1}
BROKEN = [
    ((FILENAME, b"PK\x03\x04 no package"), "zip"),
    ((FILENAME, NEW[1][:-400]), "zip"),
    (("other-1.0-h0_0.conda", NEW[1]), "was renamed"),
    (conda_package("tool", depends=["a >=="]), "a >=="),
    (conda_package("tool", index={"subdir": "moon-64"}), "moon-64"),
    (conda_package("tool", paths=PATHS), "leads upwards"),
]


@pytest.mark.parametrize(("package", "word"), BROKEN, ids=["no zip", "cut", "renamed", "spec", "subdir", "paths"])
def test_a_broken_package_is_refused_with_the_reason(
    live: Live, client: Start, written: Write, package: Package, word: str
) -> None:
    channel = live.channel()
    sentence = live.server.put(channel.name, package[0], package[1], live.key)
    assert sentence.status_code == 422
    assert word.lower() in sentence.json()["detail"].lower()
    said = refused(live, client(), channel.name, written(package), live.key)
    assert "422" in said
    assert sentence.json()["detail"][:400] in said


def test_a_channel_without_v3_says_so(live: Live, client: Start, written: Write) -> None:
    channel = live.channel()
    package = conda_package("tool", index={"flags": ["cuda"]})
    live.change(channel, allow_v3=False)
    assert "does not allow; its owner can switch them on" in refused(
        live, client(), channel.name, written(package), live.key
    )


# --- curl ----------------------------------------------------------------------------------------------------------

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


def curl(*arguments: str | Path, key: str) -> tuple[int, str]:
    """Status and body."""
    command = ["curl", "-sS", "-H", f"Authorization: Bearer {key}", "-w", "\n%{http_code}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env={"NO_PROXY": "*"})
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


@needs_curl
def test_curl_puts_a_file(live: Live, written: Write) -> None:
    channel = live.channel()
    folder = f"{live.url}/api/v1/channels/{channel.name}/artifacts/"
    assert curl("-T", written(NEW), folder, key=live.key)[0] == 201
    assert curl("-T", written(NEW), folder, key=live.key)[0] == 200  # again is no harm
    status, body = curl("-T", written(OLD), f"{folder}noarch/", key=live.key)
    assert status == 409
    assert "already exists with other bytes" in body
    assert stored(channel) == NEW[1]


@needs_curl
@pytest.mark.parametrize("chunked", [False, True])
def test_curl_sends_a_form(live: Live, written: Write, chunked: bool) -> None:
    channel = live.channel()
    url = f"{live.url}/api/v1/upload/{channel.name}"
    extra = ["-H", "Transfer-Encoding: chunked"] if chunked else []
    assert curl(*extra, "-F", f"file=@{written(NEW)}", url, key=live.key)[0] == 201
    status, body = curl(*extra, "-F", f"file=@{written(OLD)}", url, key=live.key)
    assert status == 409
    assert body.rstrip("\n") == (
        f"{FILENAME} in {channel.name} already exists with other bytes: publish a new build number."
    )
    assert stored(channel) == NEW[1]


@needs_curl
def test_curl_sends_a_large_file_without_saying_how_large(live: Live, written: Write) -> None:
    """In pieces from standard input, as through a pipe; and each way a client has to name the file."""
    channel = live.channel()
    filename, data = conda_package("large", files={"share/large": bytes(range(256)) * 40_000}, level=1)
    path = written((filename, data + b""))
    chunked = ["-H", "Transfer-Encoding: chunked", "-T", str(path)]
    url = f"{live.url}/api/v1/channels/{channel.name}/artifacts/noarch/{filename}"
    assert curl(*chunked, url, key=live.key)[0] == 201
    raw = ["-H", f"X-File-Name: {filename}", "-H", "Expect:", "--data-binary", f"@{path}"]
    status, body = curl(*raw, f"{live.url}/api/v1/upload/{channel.name}", key=live.key)
    assert (status, "with the same bytes" in body) == (409, True)
    assert channel.get(f"noarch/{filename}").content == data


@needs_curl
def test_curl_learns_the_reason_before_it_has_sent_everything(live: Live, tmp_path: Path) -> None:
    channel = live.channel()
    path = tmp_path / FILENAME
    with path.open("wb") as file:
        file.truncate(32 << 20)
    for way in (
        ["-T", path, f"{live.url}/api/v1/channels/{channel.name}/artifacts/"],
        ["-F", f"file=@{path}", f"{live.url}/api/v1/upload/{channel.name}"],
    ):
        status, body = curl(*way, key="nonsense")
        assert status == 401
        assert INVALID in body
