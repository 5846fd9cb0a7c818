"""What publishing and withdrawing leave behind: rows, counters, audit lines, refusals."""

import hashlib
import threading

import orjson
import pytest
from sqlalchemy import select
from sqlalchemy.sql.elements import BinaryExpression

from fairway import errors
from fairway.blobs import keys
from fairway.conda.names import Filename
from fairway.db.models import Artifact, Attestation, Audit, Channel, Detail, Package, Record, Subdir
from fairway.registry import admit, browse, channels, many, publish, sweep, withdraw
from fairway.registry.actor import CONSOLE
from tests.support.builders import conda_package, tar_bz2_package
from tests.web.reading import bundle

OTHER_BYTES = conda_package(files={"share/demo/other.txt": b"other"})


def rows(world, model, **where):
    query = select(model)
    for name, value in where.items():
        query = query.where(getattr(model, name) == value)
    with world.app.database.read() as session:
        return list(session.scalars(query))


def one(world, model, **where):
    (row,) = rows(world, model, **where)
    return row


def package(world, name="demo"):
    return one(world, Package, name=name)


def remove(world, filename, subdir="noarch", actor=CONSOLE):
    with world.app.database.write() as session:
        return withdraw.delete(session, actor, "lab", subdir, filename, now=world.now)


def refusal(world, *arguments, **options):
    """The error of an upload, and the proof that nothing changed but perhaps a blob nobody knows."""
    models = (Artifact, Record, Detail, Audit, Package, Subdir, Attestation)
    before = [len(rows(world, model)) for model in models], totals(world)
    with pytest.raises(errors.FairwayError) as caught:
        world.put(*arguments, **options)
    assert ([len(rows(world, model)) for model in models], totals(world)) == before
    return caught.value


def totals(world, channel="lab"):
    row = one(world, Channel, name=channel)
    return row.artifacts, row.size


def test_an_upload_makes_every_row_and_one_audit_line(world):
    filename, data = conda_package(
        depends=["python >=3.9"],
        index={"license": "MIT"},
        about={"summary": "A demo", "home": "https://example.org"},
        run_exports={"weak": ["demo >=1"]},
        info={"info/licenses/LICENSE.txt": b"the terms"},
    )
    uploader = world.actor("uploader", "upload")
    done = world.put((filename, data), actor=uploader)
    sha256, md5 = hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest()
    assert (done.channel, done.subdir, done.filename, done.created, done.replaced) == (
        "lab", "noarch", filename, True, False,
    )  # fmt: skip
    assert (done.sha256, done.size, done.indexed_timestamp, done.change) == (sha256, len(data), world.now, 1)
    row = one(world, Artifact)
    assert (row.filename, row.name, row.version, row.build, row.build_number) == (filename, "demo", "1.0", "h0_0", 0)
    assert (row.sha256, row.md5, row.size, row.indexed_at) == (sha256, md5, len(data), world.now)
    assert (row.uploaded_by, row.deleted_at, row.purged_at) == (uploader.user_id, None, None)
    record = one(world, Record)
    written = orjson.loads(record.record)
    assert (written["sha256"], written["md5"], written["size"]) == (sha256, md5, len(data))
    assert (written["depends"], written["indexed_timestamp"]) == (["python >=3.9"], world.now)
    assert orjson.loads(record.run_exports) == {"weak": ["demo >=1"]}
    detail = one(world, Detail)
    assert detail.about["home"] == "https://example.org"
    assert detail.licences[0][1] == "the terms"
    found = package(world)
    assert (found.version, found.summary, found.licence, found.live) == ("1.0", "A demo", "MIT", 1)
    assert totals(world) == (1, len(data))
    line = one(world, Audit, action="artifact.publish")
    assert (line.actor, line.user_id, line.token_id) == ("uploader", uploader.user_id, uploader.token_id)
    assert (line.at, line.subject) == (world.now, f"noarch/{filename}")
    assert line.details == {"sha256": sha256, "size": len(data)}
    assert world.app.blobs.get(keys.package(sha256)) == data


def test_the_same_bytes_in_two_channels_are_stored_once(world):
    world.channel("other")
    world.put()
    world.put(channel="other")
    assert len(list(world.app.blobs.list(keys.packages_prefix()))) == 1
    assert totals(world) == totals(world, "other")


def test_the_announced_hash_must_be_that_of_the_bytes(world):
    assert world.put(sha256=hashlib.sha256(conda_package()[1]).hexdigest().upper()).created
    assert refusal(world, conda_package("late"), sha256="0" * 64).code == "digest_mismatch"


def test_the_subdir_of_the_address_must_be_the_packages(world):
    assert refusal(world, subdir="linux-64").code == "subdir_mismatch"


def test_identical_bytes_are_refused_or_fine_as_the_dialect_wishes(world):
    world.put()
    error = refusal(world)
    assert (type(error), error.code) == (errors.ArtifactExists, "file_exists")
    again = world.put(same_is_fine=True)
    assert (again.created, again.replaced, again.change) == (False, False, 1)
    assert world.put(force=True).created is False  # nothing to replace, so nobody's leave is needed
    assert len(rows(world, Audit, action="artifact.publish")) == 1
    assert rows(world, Audit, action="artifact.replace") == []


def test_other_bytes_under_a_taken_name_are_refused(world):
    world.put()
    for options in ({}, {"same_is_fine": True}, {"force": True}):
        assert refusal(world, OTHER_BYTES, **options).code == "file_exists"


@pytest.mark.parametrize(("user", "may"), [("uploader", False), ("maintainer", True), ("owner", True), ("admin", True)])
def test_replacing_needs_force_a_channel_that_allows_it_and_a_maintainer(world, user, may):
    first = world.put()
    world.set(allow_overwrite=True)
    assert refusal(world, OTHER_BYTES).code == "file_exists"
    actor = world.actor(user, "upload")
    if not may:
        assert isinstance(refusal(world, OTHER_BYTES, force=True, actor=actor), errors.NotAllowed)
        return
    world.now += 5
    done = world.put(OTHER_BYTES, force=True, actor=actor)
    assert (done.created, done.replaced, done.change) == (True, True, 2)
    row = one(world, Artifact)
    assert (row.sha256, row.indexed_at, row.uploaded_by) == (done.sha256, world.now, actor.user_id)
    assert totals(world) == (1, len(OTHER_BYTES[1]))
    assert package(world).live == 1
    assert one(world, Audit, action="artifact.replace").actor == user
    world.publish_index()
    record = orjson.loads(world.documents()["repodata.json"])["packages.conda"][row.filename]
    assert (record["sha256"], record["indexed_timestamp"]) == (done.sha256, world.now)
    assert done.sha256 != first.sha256


@pytest.mark.parametrize(("user", "may"), [("stranger", False), ("viewer", False), ("uploader", True), ("owner", True)])
def test_only_uploaders_publish_whatever_was_found_out_before(world, user, may):
    actor = world.actor(user, "upload")
    if may:
        assert world.put(actor=actor).created
    else:
        assert isinstance(refusal(world, actor=actor), errors.NotAllowed | errors.NotFound)


def test_a_deleted_name_is_not_given_to_other_bytes(world):
    filename = world.put().filename
    remove(world, filename)
    assert (totals(world), package(world).live) == ((0, 0), 0)
    for data, options in (
        (OTHER_BYTES, {}),
        (None, {}),
        (None, {"same_is_fine": True}),
        (OTHER_BYTES, {"force": True}),
    ):
        assert refusal(world, data, **options).code == "filename_retired"
    world.set(allow_overwrite=True)
    assert refusal(world, OTHER_BYTES).code == "filename_retired"
    assert world.put(OTHER_BYTES, force=True).replaced
    assert (totals(world), package(world).live) == ((1, len(OTHER_BYTES[1])), 1)
    assert one(world, Artifact).deleted_at is None


def test_deleting_keeps_the_row_the_bytes_and_says_who(world):
    done = world.put()
    world.now += 7
    gone = remove(world, done.filename, actor=world.actor("maintainer", "upload"))
    assert gone.change == 2
    row = one(world, Artifact)
    assert (row.deleted_at, row.purged_at) == (world.now, None)
    assert rows(world, Record) == []
    assert world.app.blobs.stat(keys.package(done.sha256)) is not None
    assert one(world, Audit, action="artifact.delete").actor == "maintainer"
    for filename, subdir in ((done.filename, "noarch"), ("none-1.0-0.conda", "noarch"), (done.filename, "linux-64")):
        with pytest.raises(errors.NotFound):
            remove(world, filename, subdir)


def test_a_quota_bounds_the_bytes_of_live_files(world):
    first = conda_package()
    with world.app.database.write() as session:
        channels.set_quota(session, CONSOLE, "lab", len(first[1]) + 10, now=world.now)
    world.put(first)
    error = refusal(world, conda_package("late"))
    assert (error.code, "has no room" in error.detail) == ("quota_exceeded", True)
    remove(world, first[0])
    assert world.put(conda_package("late", files={})).created
    with world.app.database.write() as session:
        channels.set_quota(session, CONSOLE, "lab", None, now=world.now)
    assert world.put(conda_package("later")).created


def test_a_first_upload_that_is_refused_leaves_the_subdir_as_if_nobody_had_asked(world):
    with world.app.database.write() as session:
        channels.set_quota(session, CONSOLE, "lab", 10, now=world.now)
    assert refusal(world).code == "quota_exceeded"
    assert not rows(world, Subdir)
    with world.app.database.write() as session:
        channels.set_quota(session, CONSOLE, "lab", None, now=world.now)
    assert world.put().created


def test_a_refusal_stands_when_its_bytes_cannot_be_let_go_of(world, monkeypatch):
    with world.app.database.write() as session:
        channels.set_quota(session, CONSOLE, "lab", 10, now=world.now)

    def full(*_, **__):
        raise errors.StorageFull

    monkeypatch.setattr(sweep, "retire", full)
    assert refusal(world).code == "quota_exceeded"


def test_a_folder_is_published_even_if_what_was_refused_cannot_be_let_go_of(world, tmp_path, monkeypatch):
    paths = []
    for version in ("1.0", "2.0"):
        filename, data = conda_package("demo", version)
        paths.append(tmp_path / filename)
        paths[-1].write_bytes(data)
    with world.app.database.write() as session:
        channels.set_quota(session, CONSOLE, "lab", paths[0].stat().st_size + 10, now=world.now)

    def full(*_, **__):
        raise errors.Unavailable

    monkeypatch.setattr(sweep, "retire", full)
    app = world.app
    folder = many.Many(app.intake, app.staging, CONSOLE, "lab", False, 1 << 20, 2, lambda: world.now)
    outcomes = dict(many.accept_many(folder, paths))
    assert [type(outcomes[path]) for path in paths] == [publish.Published, errors.QuotaExceeded]


def test_replacing_counts_only_the_difference_against_the_quota(world):
    world.set(allow_overwrite=True)
    first = world.put()
    with world.app.database.write() as session:
        channels.set_quota(session, CONSOLE, "lab", max(first.size, len(OTHER_BYTES[1])), now=world.now)
    assert world.put(OTHER_BYTES, force=True).replaced


def test_v3_packages_need_the_channels_leave(world):
    v3 = conda_package("demo", "1.0", index={"flags": ["cuda"]})
    world.set(allow_v3=False)
    error = refusal(world, v3)
    assert (type(error), error.code) == (errors.FeatureOff, "v3_not_allowed")
    world.set(allow_v3=True)
    world.put(v3)
    world.publish_index()
    flat = orjson.loads(world.documents()["repodata.json"])
    assert (flat["packages.conda"], list(flat["v3"]["conda"])) == ({}, ["demo-1.0-h0_0"])


def test_a_package_shows_the_facts_of_its_newest_version_by_conda_order(world):
    for version in ("1.9", "1.10", "1.10rc1", "1.2"):
        world.put(
            conda_package("demo", version, about={"summary": f"says {version}"}, index={"license": f"L{version}"})
        )
    assert (package(world).version, package(world).summary, package(world).licence) == ("1.10", "says 1.10", "L1.10")
    world.put(conda_package("demo", "1!0.1", about={"summary": "an epoch"}))
    assert (package(world).version, package(world).summary) == ("1!0.1", "an epoch")
    remove(world, "demo-1!0.1-h0_0.conda")
    assert (package(world).version, package(world).summary, package(world).licence) == ("1.10", "says 1.10", "L1.10")
    remove(world, "demo-1.10-h0_0.conda")
    assert (package(world).version, package(world).live) == ("1.10rc1", 3)
    with world.app.database.read() as session:
        _, files = browse.package_files(session, CONSOLE, "lab", "demo")
    assert [file.version for file in files] == ["1!0.1", "1.10", "1.10rc1", "1.9", "1.2"]


def test_a_package_without_files_is_listed_no_more(world):
    filename = world.put().filename
    remove(world, filename)
    with world.app.database.read() as session:
        assert browse.list_packages(session, CONSOLE, "lab", after="", limit=10).items == []
        assert browse.channel_counts(session, one(world, Channel, name="lab").id) == {"packages": 0, "files": 0}
    assert package(world).version == ""


def test_both_formats_of_one_build_live_beside_each_other(world):
    world.put(conda_package())
    world.put(tar_bz2_package())
    world.publish_index()
    flat = orjson.loads(world.documents()["repodata.json"])
    assert (list(flat["packages"]), list(flat["packages.conda"])) == (
        ["demo-1.0-h0_0.tar.bz2"],
        ["demo-1.0-h0_0.conda"],
    )
    assert package(world).live == 2


def test_an_attestation_must_fit_the_file_and_is_named_by_the_record(world):
    filename, data = conda_package()
    url = f"{world.app.settings.url}/lab"
    for wrong in (
        bundle("other-1.0-h0_0.conda", data),
        bundle(filename, data + b"x"),
        bundle(filename, data, "https://elsewhere.example/lab"),
        b"{}",
        b"not json",
    ):
        assert refusal(world, (filename, data), attestation=wrong).code == "attestation_invalid"
    world.put((filename, data), attestation=bundle(filename, data, url + "/"))
    kept = one(world, Attestation)
    assert kept.sidecar == b"[" + bundle(filename, data, url + "/") + b"]"
    assert orjson.loads(one(world, Record).record)["attestations_sha256"] == kept.sha256
    world.set(allow_overwrite=True)
    world.put(OTHER_BYTES, force=True)
    assert rows(world, Attestation) == []
    assert "attestations_sha256" not in orjson.loads(one(world, Record).record)


def test_many_at_once_get_one_row_each_and_true_totals(world):
    packages = [conda_package(name, version) for name in ("a", "b") for version in ("1", "2", "3")]
    failures = []

    def upload(package):
        try:
            world.put(package)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=upload, args=(package,)) for package in packages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert totals(world) == (6, sum(len(data) for _, data in packages))
    assert 1 <= one(world, Subdir).changed <= 6  # those who came together are one change
    assert {found.name: (found.live, found.version) for found in rows(world, Package)} == {"a": (3, "3"), "b": (3, "3")}


def test_of_two_uploads_of_one_name_at_once_one_wins(world):
    outcomes = []

    def upload(package):
        try:
            world.put(package)
            outcomes.append("published")
        except errors.ArtifactExists:
            outcomes.append("exists")

    threads = [threading.Thread(target=upload, args=(package,)) for package in (conda_package(), OTHER_BYTES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["exists", "published"]
    assert one(world, Artifact).size == totals(world)[1]


def test_publishing_makes_no_statement(world, monkeypatch):
    """All are made once and kept: making one costs several times what running it does."""
    world.put(conda_package("demo", "1.0"))
    filename, data = conda_package("demo", "2.0", depends=["other"])
    offer = publish.Offer("lab", Filename.parse(filename))
    with world.app.staging.open(1 << 20) as staged:
        staged.write(data)
        received = publish.receive(world.app.intake, staged, offer, now=world.now)
    made = []
    first = BinaryExpression.__init__
    monkeypatch.setattr(BinaryExpression, "__init__", lambda *given, **named: made.append(1) or first(*given, **named))
    with world.app.database.write() as session:
        (outcome,) = admit.publish(session, "lab", [publish.Submission(received, CONSOLE, offer, world.now)])
    assert isinstance(outcome, publish.Published)
    assert made == []
