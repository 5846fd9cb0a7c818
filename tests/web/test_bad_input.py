"""Uploads that must fail: each says why in the words of its dialect, leaves nothing behind, and disturbs no reader."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import func, select

from fairway.blobs import keys
from fairway.db.models import Artifact, Attestation, Channel, Detail, Package, Pointer, Record, Retired, Shard, Subdir
from fairway.registry import channels, fsck, tokens
from fairway.registry.actor import CONSOLE, Role
from fairway.web.app import create
from tests.support.builders import conda_package, tar_bz2_package
from tests.support.site import Site
from tests.web.dialects import DIALECTS, Refusal, Request, ask_slowly, form, refusal, request
from tests.web.slowly import HastyLoop

ROWS = (Artifact, Attestation, Detail, Package, Pointer, Record, Shard, Subdir)
CONTENT = {"share/demo/data": random.Random(1).randbytes(5_000)}  # does not compress: a half is cut in the middle of it
PACKAGE = conda_package("demo", files=CONTENT)
OLD_PACKAGE = tar_bz2_package("olddemo", files=CONTENT)
THERE = conda_package("there", "1.0")
NONE = "0" * 64


@dataclass
class Lab:
    """A site with a public and a private channel, in both of which one file is published."""

    site: Site
    key: str

    def send(self, asked: Request) -> Any:
        return self.site.client.request(asked.method, asked.path, headers=asked.headers, content=asked.body)

    def state(self) -> dict[str, object]:
        """Everything an upload may leave: rows, the channels' counters, staged files, blobs that will stay."""
        app = self.site.app
        with app.database.read() as session:
            found: dict[str, object] = {
                table.__tablename__: session.scalar(select(func.count()).select_from(table)) for table in ROWS
            }
            counters = select(Channel.name, Channel.artifacts, Channel.size, Channel.quota).order_by(Channel.name)
            found["counters"] = [tuple(row) for row in session.execute(counters)]
            swept = set(session.scalars(select(Retired.path)))
        found["staged"] = sorted(path.name for path in app.staging.folder.iterdir())
        found["blobs"] = sorted({entry.path for entry in app.blobs.list(keys.packages_prefix())} - swept)
        return found

    def readable(self) -> None:
        """What was there before can be read as before."""
        filename, data = THERE
        for channel in ("open", "closed"):
            assert self.site.get(f"/{channel}/noarch/{filename}", self.key).content == data
            listed = self.site.get(f"/{channel}/noarch/repodata.json", self.key).json()
            assert list(listed["packages.conda"]) == [filename]


@pytest.fixture
def lab(site: Site) -> Iterator[Lab]:
    """The state at the end of the test is the one at its beginning."""
    site.user("owner")
    site.channel("open", "public", owner="owner")
    site.channel("closed", owner="owner")
    lab = Lab(site, site.key("owner"))
    for channel in ("open", "closed"):
        assert site.put(channel, THERE, lab.key).status_code == 201
    site.settle()
    before = lab.state()
    assert before["artifacts"] == 2
    yield lab
    lab.readable()
    assert lab.state() == before
    site.settle()
    assert not list(fsck.check(site.app.database, site.app.blobs, deep=True))


def refused(
    lab: Lab, dialect: str, channel: str, package: tuple[str, bytes], key: str | None, **options: str
) -> Refusal:
    answer = lab.send(request(dialect, channel, package, key, **options))
    return refusal(dialect, answer.status_code, answer.headers, answer.content)


def cut(package: tuple[str, bytes], size: int) -> tuple[str, bytes]:
    return package[0], package[1][:size]


# --- the file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_wrong_checksum_is_refused(lab, dialect):
    found = refused(lab, dialect, "open", PACKAGE, lab.key, sha256=NONE)
    assert (found.status, found.code) == (422, "digest_mismatch")
    assert NONE in found.sentence
    found = refused(lab, dialect, "open", PACKAGE, lab.key, sha256="nonsense")
    assert found == Refusal(422, "digest_mismatch", "The announced sha256 is not 64 hexadecimal digits.")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("package", [PACKAGE, OLD_PACKAGE], ids=["conda", "tar.bz2"])
def test_a_truncated_file_is_refused(lab, dialect, package):
    for size in (0, 1, 100, len(package[1]) // 2, len(package[1]) - 1):
        found = refused(lab, dialect, "open", cut(package, size), lab.key)
        assert found.status == 422, (size, found)
        assert found.code in {"archive_truncated", "format_mismatch"}, (size, found)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("filename", "package", "status", "code"),
    [
        ("demo-2.0-h0_0.conda", PACKAGE, 422, "filename_mismatch"),
        ("olddemo-2.0-h0_0.tar.bz2", OLD_PACKAGE, 422, "filename_mismatch"),
        ("demo-1.0-h0_0.tar.bz2", PACKAGE, 422, "format_mismatch"),
        ("olddemo-1.0-h0_0.conda", OLD_PACKAGE, 422, "format_mismatch"),
        ("demo-1.0-h0_0.zip", PACKAGE, 400, "extension_unsupported"),
        ("demo.conda", PACKAGE, 400, "filename_invalid"),
    ],
)
def test_a_renamed_file_is_refused(lab, dialect, filename, package, status, code):
    found = refused(lab, dialect, "open", (filename, package[1]), lab.key)
    assert (found.status, found.code) == (status, code)


def test_a_wrong_subdir_is_refused(lab):
    found = refused(lab, "put", "open", PACKAGE, lab.key, subdir="linux-64")
    sentence = "The file was sent to 'linux-64', but its index.json says 'noarch'."
    assert found == Refusal(422, "subdir_mismatch", sentence)
    found = refused(lab, "put", "open", PACKAGE, lab.key, subdir="amiga-68k")
    assert (found.status, found.code) == (400, "subdir_invalid")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_file_beyond_the_quota_is_refused(lab, dialect):
    with lab.site.app.database.write() as session:
        used = session.scalars(select(Channel.size).where(Channel.name == "open")).one()
        channels.set_quota(session, CONSOLE, "open", used + 100, now=lab.site.app.now())
    found = refused(lab, dialect, "open", PACKAGE, lab.key)
    assert (found.status, found.code) == (413, "quota_exceeded")
    assert str(used) in found.sentence
    with lab.site.app.database.write() as session:
        channels.set_quota(session, CONSOLE, "open", None, now=lab.site.app.now())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_other_bytes_under_a_name_that_exists_are_refused(lab, dialect):
    filename, _ = THERE
    other = filename, conda_package("there", "1.0", files=CONTENT)[1]
    for params in ({}, {"force": "true"}):
        found = refused(lab, dialect, "open", other, lab.key, **params)
        assert (found.status, found.code) == (409, "file_exists")
        assert filename in found.sentence


# --- who sends it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_unknown_channel_is_refused(lab, dialect):
    assert refused(lab, dialect, "nowhere", PACKAGE, lab.key) == Refusal(
        404, "not_found", "There is nothing here, or nothing you may see."
    )
    nobody = refused(lab, dialect, "nowhere", PACKAGE, None)
    assert (nobody.status, nobody.code) == (401, "auth_required")
    assert nobody == refused(lab, dialect, "closed", PACKAGE, None)  # private and missing look alike
    assert nobody == refused(lab, dialect, "open", PACKAGE, None)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_somebody_without_the_right_is_refused(lab, dialect):
    site = lab.site
    site.user("guest")
    stranger = site.key("guest")
    found = refused(lab, dialect, "closed", PACKAGE, stranger)
    assert found == Refusal(404, "not_found", "There is nothing here, or nothing you may see.")
    sentence = "You may not upload to {}: that needs the role 'uploader' in it."
    assert refused(lab, dialect, "open", PACKAGE, stranger) == Refusal(403, "scope_missing", sentence.format("open"))
    with site.app.database.write() as session:
        channels.set_member(session, CONSOLE, "closed", "guest", Role.VIEWER, now=site.app.now())
    viewer = refused(lab, dialect, "closed", PACKAGE, stranger)
    assert viewer == Refusal(403, "scope_missing", sentence.format("closed"))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_key_with_too_little_is_refused(lab, dialect):
    site = lab.site
    reading = refused(lab, dialect, "closed", PACKAGE, site.key("owner", "read"))
    assert (reading.status, reading.code) == (403, "scope_missing")
    assert "scope 'upload'" in reading.sentence
    bound = site.key("owner", channels=["closed"])
    elsewhere = refused(lab, dialect, "open", PACKAGE, bound)
    assert elsewhere == Refusal(403, "scope_missing", "This API key is not for the channel open.")
    unseen = refused(lab, dialect, "closed", PACKAGE, site.key("owner", channels=["open"]))
    assert (unseen.status, unseen.code) == (404, "not_found")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("channel", ["open", "closed", "nowhere"])
def test_a_dead_key_is_refused(lab, dialect, channel):
    site = lab.site
    revoked = site.key("owner")
    with site.app.database.write() as session:
        (last,) = [view.id for view in tokens.list_tokens(session, "owner")][-1:]
        tokens.revoke_token(session, CONSOLE, last, now=site.app.now())
    dead = {"revoked": revoked, "expired": site.key("owner", lives_ms=-1), "mistyped": lab.key[:-1], "odd": "nonsense"}
    for kind, key in dead.items():
        found = refused(lab, dialect, channel, PACKAGE, key)
        sentence = "The API key is not valid: it may be mistyped, expired or revoked."
        assert found == Refusal(401, "token_invalid", sentence), kind


# --- the request ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_body_that_is_announced_too_large_is_refused(lab, dialect):
    asked = request(dialect, "open", PACKAGE, lab.key)
    asked.headers["Content-Length"] = str(lab.site.app.settings.max_file_size + (2 << 20))
    answer = lab.send(asked)
    found = refusal(dialect, answer.status_code, answer.headers, answer.content)
    assert (found.status, found.code) == (413, "file_too_large")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        form(*PACKAGE, {"X-File-Name": PACKAGE[0]})[:-30],
        form(*PACKAGE, {"X-File-Name": PACKAGE[0]})[:200],
        form(*PACKAGE, {"X-File-Name": PACKAGE[0]}).replace(b'name="file"', b'name="fyle"', 1),
    ],
    ids=["empty", "text", "cut at the end", "cut in the file", "another field"],
)
def test_a_broken_form_is_refused(lab, body):
    asked = request("multipart", "open", PACKAGE, lab.key)
    answer = lab.send(Request(asked.method, asked.path, asked.headers, body))
    found = refusal("multipart", answer.status_code, answer.headers, answer.content)
    assert (found.status, found.code) == (400, "multipart_invalid")


def test_a_mistake_of_ours_tells_nothing_of_it(lab):
    counts, lab.site.app.counts = lab.site.app.counts, None  # something the code does not expect
    answer = lab.send(request("put", "open", PACKAGE, lab.key))
    lab.site.app.counts = counts
    found = refusal("put", answer.status_code, answer.headers, answer.content)
    sentence = "Something went wrong on this server; its log has the request id of this answer."
    assert found == Refusal(500, "internal", sentence)
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_idle_client_is_given_up(lab, dialect):
    asked = request(dialect, "open", PACKAGE, lab.key)
    asked.headers["Content-Length"] = str(len(asked.body))
    half = {"type": "http.request", "body": asked.body[: len(asked.body) // 2], "more_body": True}
    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        answer = runner.run(ask_slowly(create(lab.site.app, background=False), asked, [half]))
    found = refusal(dialect, *answer)
    assert found == Refusal(400, "upload_timeout", "Nothing arrived for 30 seconds; the upload was given up.")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_client_that_goes_away_leaves_nothing(lab, dialect):
    asked = request(dialect, "open", PACKAGE, lab.key)
    half = {"type": "http.request", "body": asked.body[: len(asked.body) // 2], "more_body": True}
    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        app = create(lab.site.app, background=False)
        answer = runner.run(ask_slowly(app, asked, [half, {"type": "http.disconnect"}]))
    found = refusal(dialect, *answer)
    assert found == Refusal(400, "body_length", "The connection ended before the file did.")
