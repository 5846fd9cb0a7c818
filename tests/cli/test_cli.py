"""The command line as people and scripts meet it: exit statuses, one sentence, JSON, and what each command does."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, select, update

from fairway.db.engine import Database
from fairway.db.models import Audit, Channel, Package, Upstream
from tests.support.builders import conda_package, tar_bz2_package

KEY = re.compile(r"fwy-u-[0-9A-Za-z]{38}")
PASSWORD = "correct horse battery staple\n"


def write(folder: Path, package: tuple[str, bytes]) -> Path:
    path = folder / package[0]
    path.write_bytes(package[1])
    return path


def refused(done, *words):
    """Exit status 1, and one sentence on stderr that holds these words."""
    assert (done.status, done.stdout) == (1, ""), done
    (line,) = done.stderr.splitlines()
    assert line.startswith("fairway: ")
    for word in words:
        assert word in line
    return line


def test_the_installed_command_and_a_wrong_one(tmp_path):
    fairway = Path(sys.executable).with_name("fairway")
    done = subprocess.run([fairway, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"fairway \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["user", "nonsense"],
        ["user", "create"],
        ["user", "create", "bob"],
        ["user", "create", "bob", "--email", "bob@example.org"],  # no terminal to ask for the password
        ["token", "create", "--user", "admin"],
        ["token", "create", "--user", "admin", "--name", "x", "--scope", "everything"],
        ["channel", "create", "x"],
        ["channel", "create", "x", "--owner", "admin", "--public", "--private"],
        ["channel", "list", "--unknown"],
        ["upload", "lab"],
        ["reindex"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_status_2_on_stderr(fairway_command, arguments):
    done = fairway_command(*arguments)
    assert (done.status, done.stdout) == (2, "")
    assert "Usage: fairway" in done.stderr
    assert "Traceback" not in done.stderr


def test_users_are_made_and_listed(cli):
    done = cli("user", "create", "Bob", "--email", "bob@example.org", "--password-stdin", stdin=PASSWORD)
    assert (done.status, done.stdout) == (0, "Created the user bob.\n")
    rows = cli("user", "list", "--json").json
    assert [(row["name"], row["email"], row["admin"]) for row in rows] == [
        ("admin", "admin@example.org", True), ("bob", "bob@example.org", False),
    ]  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", rows[0]["created"])
    table = cli("user", "list").stdout
    assert table.splitlines()[0].split() == ["name", "email", "admin", "created", "suspended"]
    assert "bob@example.org" in table


def test_refusals_are_exit_status_1_with_one_sentence(cli):
    create = ("user", "create", "bob", "--email")
    refused(cli(*create, "bob@example.org", "--password-stdin", stdin="short\n"), "15")
    refused(cli(*create, "no address", "--password-stdin", stdin=PASSWORD), "no address")
    refused(cli(*create, "admin@example.org", "--password-stdin", stdin=PASSWORD), "already in use")
    refused(cli("channel", "create", "lab", "--owner", "admin"), "lab is already in use")
    refused(cli("channel", "create", "noarchish", "--owner", "admin"), "platform")
    refused(cli("channel", "create", "x", "--owner", "nobody"), "'nobody'")
    refused(cli("channel", "set", "none", "--public"))
    refused(cli("channel", "set", "lab", "--quota", "lots"), "'lots'")
    refused(cli("channel", "members", "none"))
    refused(cli("channel", "member", "lab", "nobody", "--role", "viewer"), "'nobody'")
    refused(cli("channel", "member", "lab", "admin", "--role", "none"), "last owner")
    refused(cli("token", "create", "--user", "nobody", "--name", "x"), "'nobody'")
    refused(cli("token", "create", "--user", "admin", "--name", "x", "--expires", "soon"), "'soon'")
    refused(cli("token", "create", "--user", "admin", "--name", "x", "--channel", "none"))
    refused(cli("token", "revoke", "99"))
    refused(cli("reindex", "none"))
    refused(cli("reindex", "lab", "linux-64"), "linux-64")
    assert len(cli("user", "list", "--json").json) == 1
    assert [row["name"] for row in cli("channel", "list", "--json").json] == ["lab"]


def test_a_key_is_printed_alone_and_never_again(cli):
    done = cli("token", "create", "--user", "admin", "--name", "ci", "--scope", "upload", "--channel", "lab")
    assert (done.status, done.stderr) == (0, "")
    assert KEY.fullmatch(done.stdout.removesuffix("\n"))
    never = cli("token", "create", "--user", "admin", "--name", "for ever", "--expires", "never")
    rows = cli("token", "list", "--json").json
    assert [(row["user"], row["name"], row["scope"], row["channels"]) for row in rows] == [
        ("admin", "ci", "upload", ["lab"]), ("admin", "for ever", "read", []),
    ]  # fmt: skip
    assert (rows[0]["expires"] is None, rows[1]["expires"], rows[1]["used"]) == (False, None, None)
    for shown in (cli("token", "list"), cli("token", "list", "--json")):
        assert done.stdout.strip() not in shown.stdout
        assert never.stdout.strip() not in shown.stdout
    assert cli("token", "revoke", rows[0]["id"]).status == 0
    assert cli("token", "list", "--user", "admin", "--json").json[0]["revoked"] is not None
    assert cli("token", "list", "--user", "nobody", "--json").json == []


def test_relations_are_said_shown_and_taken_away(cli):
    for name in ("forge", "low"):
        assert cli("channel", "create", name, "--owner", "admin", "--public").status == 0
    order = "Clients that know channel relations load, in this order: {}.\n"
    assert cli("channel", "relate", "lab").stdout == order.format("lab")
    assert cli("channel", "relate", "lab", "--base", "forge", "--overrides", "low").stdout == order.format(
        "forge, lab, low"
    )
    assert cli("channel", "relate", "lab", "--no-overrides").stdout == order.format("forge, lab")
    refused(cli("channel", "relate", "forge", "--overrides", "forge"), "itself")
    refused(cli("channel", "relate", "forge", "--base", "lab"), "lab is private")
    assert cli("channel", "relate", "lab", "--base", "forge", "--no-base").status == 2
    assert cli("channel", "set", "forge", "--private").status == 0
    assert cli("channel", "relate", "lab").stdout == order.format("lab") + (
        "Not said to anybody now: forge, which fewer people may read than lab, or which is deleted.\n"
    )


def test_channels_are_made_changed_listed_and_deleted(cli):
    done = cli("channel", "create", "open", "--owner", "ADMIN", "--public", "--description", "For all")
    assert done.stdout == "Created the public channel open\n"
    cli("channel", "create", "inside", "--owner", "admin", "--internal")
    cli("channel", "set", "lab", "--description", "The lab", "--quota", "2K")
    rows = {row["name"]: row for row in cli("channel", "list", "--json").json}
    assert {name: (row["visibility"], row["description"], row["quota"]) for name, row in rows.items()} == {
        "inside": ("internal", "", None),
        "lab": ("private", "The lab", 2048),
        "open": ("public", "For all", None),
    }
    cli("channel", "set", "lab", "--quota", "none", "--internal")
    lab = next(row for row in cli("channel", "list", "--json").json if row["name"] == "lab")
    assert (lab["quota"], lab["visibility"], lab["description"]) == (None, "internal", "The lab")
    assert cli("channel", "delete", "open", stdin="n\n").status == 1
    said = "Deleted open. For 7 days 'fairway channel restore open' brings it back.\n"
    assert cli("channel", "delete", "open", "--yes").stdout == said
    assert sorted(row["name"] for row in cli("channel", "list", "--json").json) == ["inside", "lab"]
    assert cli("channel", "restore", "open").stdout == "open is back.\n"
    assert sorted(row["name"] for row in cli("channel", "list", "--json").json) == ["inside", "lab", "open"]
    assert cli("channel", "restore", "open").status == 1


def test_files_and_versions_are_yanked_and_come_back(cli, tmp_path):
    for subdir in ("noarch", "linux-64"):
        assert cli("upload", "lab", write(tmp_path, conda_package("demo", subdir=subdir)), "--local").status == 0
    for what in ("noarch/demo-1.0-h0_0.conda", "demo/1.0"):
        assert cli("yank", "lab", what, "--reason", "broken").stdout == f"{what} is yanked from lab.\n"
        assert cli("unyank", "lab", what).stdout == f"{what} is in the index of lab again.\n"
        assert cli("unyank", "lab", what).status == 1
    for wrong in ("demo", "/x", "x/", "noarch/a/b", "noarch/none-1-0.conda"):
        assert cli("yank", "lab", wrong, "--reason", "broken").status == 1
    assert cli("yank", "lab", "demo/1.0", "--reason", " ").status == 1
    assert cli("fsck").status == 0


def test_members_are_given_roles(cli):
    cli("user", "create", "bob", "--email", "bob@example.org", "--password-stdin", stdin=PASSWORD)
    assert cli("channel", "member", "lab", "BOB", "--role", "maintainer").stdout == "bob is maintainer of lab.\n"
    rows = cli("channel", "members", "lab", "--json").json
    assert [(row["user"], row["role"]) for row in rows] == [("admin", "owner"), ("bob", "maintainer")]
    cli("channel", "member", "lab", "bob", "--role", "none")
    assert [row["user"] for row in cli("channel", "members", "lab", "--json").json] == ["admin"]


def test_a_local_upload_says_what_the_channel_lacks_and_what_the_file_hides(cli, database_url, tmp_path):
    database = Database(database_url)
    with database.write() as session:
        home = session.scalars(select(Channel).where(Channel.name == "lab")).one()
        session.add(Upstream(channel_id=home.id, url="https://1.1.1.1/up", mode="proxy", every=60, created_at=1))
        session.add(
            Package(channel_id=home.id, name="theirs", created_at=1, updated_at=1, live=0, remote=3, version="1.0")
        )
    database.close()
    path = write(tmp_path, conda_package("theirs", depends=["ghost"]))
    (line, _) = cli("upload", "lab", path, "--local").stdout.splitlines()
    assert "note: it hides 3 files of the same name that the channel's upstream has" in line
    assert "note: neither the channel nor one that it is related to has ghost" in line


def test_a_local_upload_goes_on_after_a_refused_file_and_says_what_became_of_each(cli, tmp_path):
    good, also = write(tmp_path, conda_package("good")), write(tmp_path, tar_bz2_package("also", subdir="linux-64"))
    bad = write(tmp_path, ("bad-1.0-0.conda", b"no package"))
    missing, odd = tmp_path / "missing-1.0-0.conda", write(tmp_path, ("odd.txt", b"text"))
    done = cli("upload", "lab", good, bad, missing, odd, also, "--local")
    assert done.status == 1
    *lines, summary = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [path.name for path in (good, bad, missing, odd, also)]
    assert lines[0].endswith("published in lab/noarch")
    assert lines[4].endswith("published in lab/linux-64")
    for line in lines[1:4]:
        assert "refused: " in line
    assert "cannot be read: No such file or directory" in lines[2]
    assert re.fullmatch(r"2 uploaded \(0\.0 MB in \d+\.\d s\), 3 refused", summary)
    lab = cli("channel", "list", "--json").json[0]
    assert (lab["files"], lab["bytes"]) == (2, good.stat().st_size + also.stat().st_size)
    again = cli("upload", "lab", good, "--local")
    assert (again.status, "already there in lab/noarch" in again.stdout) == (0, True)
    other = write(tmp_path, conda_package("good", files={"x": b"x"}))
    assert "publish a new build number" in cli("upload", "lab", other, "--local").stdout


def test_an_upload_without_a_key_or_a_server_says_so(cli, tmp_path):
    package = write(tmp_path, conda_package())
    refused(cli("upload", "lab", package), "--token")
    done = cli("upload", "none", package, "--local")
    assert (done.status, "0 uploaded" in done.stdout, "1 refused" in done.stdout) == (1, True, True)


def test_reindex_gives_the_same_bytes_and_fsck_finds_nothing(cli, tmp_path):
    cli(
        "upload",
        "lab",
        write(tmp_path, conda_package()),
        write(tmp_path, conda_package("b", subdir="linux-64")),
        "--local",
    )
    assert cli("reindex", "lab").stdout == "Reindexed 2 subdirs of lab.\n"
    blobs = tmp_path / "data" / "blobs" / "index"
    before = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in blobs.rglob("*") if path.is_file()}
    assert len(before) == 8  # four documents in each
    assert cli("reindex", "lab", "noarch").stdout == "Reindexed 1 subdir of lab.\n"
    assert {path: path.name for path in blobs.rglob("*") if path.is_file()} == before
    done = cli("fsck", "--deep")
    assert (done.status, done.stdout) == (0, "Rows, files and index agree.\n")
    assert cli("fsck", "--json").json == []


def test_fsck_says_what_is_broken_and_repairs_an_index_when_asked(cli, tmp_path):
    cli("upload", "lab", write(tmp_path, conda_package()), "--local")
    cli("reindex", "lab")
    (repodata,) = (tmp_path / "data" / "blobs" / "index").rglob("repodata.json/*")
    repodata.unlink()
    done = cli("fsck", "--json")
    assert done.status == 1
    assert done.json == [
        {"harm": "error", "where": "lab/noarch", "what": "the published repodata.json is missing: reindex it"}
    ]
    assert "repodata.json is missing" in cli("fsck").stdout
    done = cli("fsck", "--repair")
    assert (done.status, done.stdout) == (0, "Rows, files and index agree.\n")
    assert repodata.exists()


def test_fsck_counts_anew_when_asked(cli, tmp_path, database_url):
    cli("upload", "lab", write(tmp_path, conda_package()), "--local")
    cli("reindex", "lab")
    engine = create_engine(database_url)
    with engine.begin() as rows:
        rows.execute(update(Package).values(live=7, downloads=3))
        rows.execute(update(Channel).values(packages=9))
        audited = rows.scalar(select(func.count()).select_from(Audit))
    done = cli("fsck", "--json")
    assert (done.status, {one["where"] for one in done.json}) == (1, {"lab", "lab/demo"})
    done = cli("fsck", "--repair")
    assert (done.status, done.stdout) == (0, "Rows, files and index agree.\n")
    with engine.begin() as rows:
        assert rows.execute(select(Package.live, Package.downloads)).all() == [(1, 0)]
        # and nothing else was done
        assert rows.scalar(select(func.count()).select_from(Audit)) == audited + 1
    engine.dispose()


def test_backup_says_which_files_are_not_in_it(cli, tmp_path):
    cli("upload", "lab", write(tmp_path, conda_package()), write(tmp_path, conda_package("b")), "--local")
    file = tmp_path / "data" / "blobs" / "packages"
    (lost,) = file.rglob(hashlib.sha256(conda_package("b")[1]).hexdigest())
    lost.unlink()
    done = cli("backup", tmp_path / "one.tar")
    assert done.status == 1
    assert "and 1 files" in done.stdout
    assert done.stderr == "Not in the backup, because its bytes are missing or damaged: lab/noarch/b-1.0-h0_0.conda\n"
    lost.write_bytes(conda_package("b")[1])
    done = cli("backup", tmp_path / "two.tar")
    assert (done.status, done.stderr, "and 2 files" in done.stdout) == (0, "", True)


def test_sweep_says_what_went(cli):
    assert cli("sweep").stdout == "Swept 0 channels, 0 files, 0 objects.\n"


def test_doctor_checks_the_machine(cli, tmp_path):
    done = cli("doctor")
    assert done.status == 0, done.stdout
    lines = done.stdout.splitlines()[1:]
    assert [line.split(":")[0] for line in lines] == [
        "  good  database", "  good  search", "  good  storage", "  good  room", "  good  reading packages", "  good  secrets",
        "  good  address",
    ]  # fmt: skip
    assert list((tmp_path / "data" / "blobs" / "index").rglob("*.json/*")) == []  # its probe is gone
    done = cli("doctor", env={"FAIRWAY_MAX_FILE_SIZE": str(1 << 60)})
    assert (done.status, "  bad   room: " in done.stdout) == (1, True)


def test_config_show_tells_where_each_value_comes_from(cli, tmp_path):
    (tmp_path / "data" / "fairway.toml").write_text("port = 9000\nkeep_days = 3\n")
    rows = {row["setting"]: row for row in cli("config", "show", "--json", env={"FAIRWAY_PORT": "7"}).json}
    assert (rows["port"]["value"], rows["port"]["from"]) == ("9000", f"file ({tmp_path}/data/fairway.toml)")
    assert (rows["data"]["from"], rows["keep_days"]["value"]) == ("environment (FAIRWAY_DATA)", "3")
    assert rows["host"]["from"] == "default"
    done = cli("config", "show", "--data", tmp_path / "data", env={"FAIRWAY_DATABASE_URL": "postgresql://me:hush@h/db"})
    assert "hush" not in done.stdout
    assert "option" in done.stdout


def test_settings_that_cannot_be_used_are_refused_before_anything_is_made(fairway_command, tmp_path):
    refused(fairway_command("user", "list", env={"FAIRWAY_PORT": "many"}), "port", "FAIRWAY_PORT")
    refused(fairway_command("user", "list", env={"FAIRWAY_DATABASE_URL": "mysql://h/d"}), "sqlite", "postgresql")
    refused(fairway_command("user", "list", env={"FAIRWAY_STORAGE_URL": "ftp://h"}), "storage URL")
    refused(fairway_command("config", "show", "--config", tmp_path / "none.toml"), "none.toml")
    (tmp_path / "data" / "fairway.toml").write_text("prot = 1\n")
    refused(fairway_command("user", "list"), "'prot'")


def test_several_processes_and_workers_need_postgresql(fairway_command, tmp_path):
    sqlite = {"FAIRWAY_DATABASE_URL": f"sqlite:///{tmp_path}/data/fairway.db"}
    refused(fairway_command("serve", "--workers", "2", "--port", "0", env=sqlite), "PostgreSQL")
    refused(fairway_command("worker", env=sqlite), "PostgreSQL")


def test_every_listing_has_json(cli):
    for arguments in (["user", "list"], ["token", "list"], ["channel", "list"], ["channel", "members", "lab"],
                      ["fsck"], ["config", "show"]):  # fmt: skip
        done = cli(*arguments, "--json")
        assert done.status == 0, arguments
        assert isinstance(json.loads(done.stdout), list)


def test_a_folder_is_every_package_in_it_and_below(cli, tmp_path):
    folder = tmp_path / "built" / "linux-64"
    folder.mkdir(parents=True)
    refused(cli("upload", "lab", folder.parent, "--local"), "no .conda and no .tar.bz2")
    packages = [conda_package("many", f"1.{n}", subdir="linux-64") for n in range(30)]
    for package in packages:
        write(folder, package)
    write(folder, ("repodata.json", b"{}"))
    done = cli("upload", "lab", folder.parent, "--local")
    assert (done.status, done.stderr) == (0, "")
    assert re.search(r"^30 uploaded .* 0 refused$", done.stdout, re.MULTILINE)
    assert cli("fsck", "--deep", "--json").json == []  # every document of the index is there, too
    assert cli("channel", "list", "--json").json[0]["files"] == 30


def test_two_files_of_one_name_in_different_folders_are_one_and_a_refusal(cli, tmp_path):
    for folder, content in (("a", b"one"), ("b", b"two")):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, conda_package(files={"x": content}))
    done = cli("upload", "lab", tmp_path / "a", tmp_path / "b", "--local")
    assert done.status == 1
    first, second, _ = done.stdout.splitlines()
    assert first.endswith("published in lab/noarch")
    assert "already exists with other bytes" in second
    assert cli("fsck", "--deep", "--json").json == []
