"""`fairway upload` to a real server."""

from tests.support.builders import conda_package


def test_an_upload_over_http_goes_on_after_a_refused_file_and_shows_the_servers_words(
    cli, serve, database_url, tmp_path
):
    keys = {
        scope: cli("token", "create", "--user", "admin", "--name", "ci", "--scope", scope).stdout.strip()
        for scope in ("read", "upload")
    }
    server = serve(tmp_path / "data", env={"FAIRWAY_DATABASE_URL": database_url})
    paths = []
    for filename, data in (conda_package("good"), ("bad-1.0-0.conda", b"no package"), conda_package("also")):
        paths.append(tmp_path / filename)
        paths[-1].write_bytes(data)
    done = cli("upload", "lab", *paths, "--server", server.url + "/", "--token", keys["upload"])
    assert done.status == 1
    *lines, summary = done.stdout.splitlines()
    assert lines[0] == "good-1.0-h0_0.conda: published in lab/noarch"
    assert lines[1].startswith("bad-1.0-0.conda: refused: ")
    assert lines[1].endswith("(HTTP 422)")
    assert lines[2] == "also-1.0-h0_0.conda: published in lab/noarch"
    assert summary.startswith("2 uploaded")
    assert summary.endswith("1 refused")
    # the key and the server may come from the environment; the same bytes again are fine
    env = {"FAIRWAY_SERVER": server.url, "FAIRWAY_TOKEN": keys["upload"]}
    again = cli("upload", "lab", paths[0], env=env)
    assert (again.status, "already there in lab/noarch" in again.stdout) == (0, True)
    listed = server.get("/api/v1/channels/lab/packages", keys["read"]).json()["items"]
    assert [package["name"] for package in listed] == ["also", "good"]
    refused = cli("upload", "lab", paths[0], env=env | {"FAIRWAY_TOKEN": keys["read"]})
    assert refused.status == 1
    assert "This API key may only read" in refused.stdout
    assert "(HTTP 403)" in refused.stdout
    assert keys["read"] not in refused.stdout + refused.stderr
    refused = cli("upload", "none", paths[0], env=env)
    assert "There is nothing here, or nothing you may see. (HTTP 404)" in refused.stdout
