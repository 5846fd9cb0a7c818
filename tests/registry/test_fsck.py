"""fsck finds each kind of damage, and nothing where nothing is damaged."""

import hashlib

import pytest
from sqlalchemy import delete, update

from fairway.blobs import keys
from fairway.db.models import Artifact, Channel, Package, Pointer, Record, Shard, ShardBytes, Subdir
from fairway.registry import flat, fsck, index, withdraw
from fairway.registry.actor import CONSOLE
from tests.support.builders import conda_package, tar_bz2_package


@pytest.fixture
def lab(world):
    """A channel with something of every kind, published."""
    world.put(conda_package("demo", "1.0"))
    world.put(conda_package("demo", "2.0", run_exports={"weak": ["demo"]}))
    world.put(tar_bz2_package("old", "1.0"))
    world.put(conda_package("new", "1.0", index={"flags": ["cuda"]}))
    gone = world.put(conda_package("gone", "1.0"))
    with world.app.database.write() as session:
        withdraw.delete(session, CONSOLE, "lab", "noarch", gone.filename, now=world.now)
    world.publish_index()
    return world


def found(world, *, deep=False, where=None):
    """Everything, but for objects in the store that a test has taken the last reference from."""
    findings = fsck.check(world.app.database, world.app.blobs, deep=deep)
    return [(f.harm, f.where, f.what) for f in findings if (f.where == "storage") == (where == "storage")]


def only(world, *, deep=False):
    (finding,) = found(world, deep=deep)
    return finding


def change(world, statement):
    with world.app.database.write() as session:
        session.execute(statement)


def file_of(world, key):
    return world.app.settings.data / "blobs" / key.path


def package_file(world, name="demo-1.0-h0_0.conda"):
    with world.app.database.read() as session:
        row = session.query(Artifact).filter_by(filename=name).one()
    return file_of(world, keys.package(row.sha256))


def document_file(world, kind):
    with world.app.database.read() as session:
        pointer = session.query(Pointer).one()
    return file_of(world, keys.document(1, "noarch", kind, pointer.flat[kind][0]))


def test_nothing_is_found_where_all_is_well(lab):
    assert found(lab, deep=True) == []


def test_missing_short_and_damaged_bytes_of_a_file(lab):
    file = package_file(lab)
    data = file.read_bytes()
    file.write_bytes(bytes(len(data)))
    assert found(lab) == []  # only reading it tells
    assert only(lab, deep=True)[:2] == ("error", "lab/noarch/demo-1.0-h0_0.conda")
    file.write_bytes(data[:-1])
    assert only(lab)[2] == f"its bytes are {len(data) - 1} long instead of {len(data)}"
    file.unlink()
    assert "missing" in only(lab)[2]


def test_the_bytes_of_a_deleted_file_count_while_it_can_be_fetched(lab):
    """Damaged ones break whoever fetches it; that it cannot be fetched any more is what deleting it asked for."""
    file = package_file(lab, "gone-1.0-h0_0.conda")
    file.write_bytes(b"x")
    assert only(lab)[:2] == ("error", "lab/noarch/gone-1.0-h0_0.conda")
    file.unlink()
    assert only(lab)[:2] == ("note", "lab/noarch/gone-1.0-h0_0.conda")


def test_wrong_totals(lab):
    change(lab, update(Channel).values(size=Channel.size + 1))
    assert "its totals are 4 files" in only(lab)[2]
    change(lab, update(Channel).values(size=Channel.size - 1, artifacts=5))
    assert "its totals are 5 files" in only(lab)[2]
    change(lab, update(Channel).values(artifacts=4))
    change(lab, update(Package).where(Package.name == "demo").values(live=3))
    assert only(lab) == ("error", "demo", "it counts 3 files instead of 2")


def test_a_file_without_a_record_and_a_record_without_a_file(lab):
    change(lab, delete(Record).where(Record.filename == "demo-1.0-h0_0.conda"))
    assert ("error", "demo-1.0-h0_0.conda", "it has no record to be indexed") in found(lab)
    change(lab, update(Artifact).where(Artifact.filename == "demo-2.0-h0_0.conda").values(deleted_at=1))
    assert ("error", "demo-2.0-h0_0.conda", "it has a record, but is no file of its channel") in found(lab)


@pytest.mark.parametrize("column", ["shards_built", "flat_built"])
def test_an_index_that_is_behind_is_only_worth_a_note(lab, column):
    change(lab, update(Pointer).values({column: 0}))
    assert only(lab)[:2] == ("note", "lab/noarch")
    change(lab, delete(Pointer))
    assert [finding[:2] for finding in found(lab)] == [("note", "lab/noarch")] * 2


@pytest.mark.parametrize("kind", flat.FLAT)
def test_a_missing_and_a_damaged_document(lab, kind):
    file = document_file(lab, kind)
    data = file.read_bytes()
    file.write_bytes(data + b" ")
    assert only(lab) == ("error", "lab/noarch", f"the published {kind} is damaged: reindex it")
    file.unlink()
    assert only(lab) == ("error", "lab/noarch", f"the published {kind} is missing: reindex it")


def publish(world, kind, data):
    """Publish other bytes as a document, whole in themselves."""
    sha256 = hashlib.sha256(data).hexdigest()
    world.app.blobs.put(keys.document(1, "noarch", kind, sha256), data)
    with world.app.database.write() as session:
        pointer = session.query(Pointer).one()
        pointer.flat = {**pointer.flat, kind: [sha256, len(data)]}


def test_documents_that_do_not_say_what_the_rows_say(lab):
    empty = flat.empty_documents("noarch")
    publish(lab, flat.REPODATA_ZST, empty[flat.REPODATA_ZST])
    assert only(lab)[2] == "repodata.json.zst is not repodata.json: reindex it"
    publish(lab, flat.REPODATA, empty[flat.REPODATA])
    assert only(lab)[2] == "repodata.json does not say what the rows say: reindex it"
    lab.app.publisher.wait_flat(1, 1, seconds=1)


def test_a_record_that_changed_without_the_index_is_noticed(lab):
    change(lab, update(Record).where(Record.name == "demo").values(record=b'{"name":"demo"}'))
    assert ("error", "lab/noarch", "repodata.json does not say what the rows say: reindex it") in found(lab)


def test_a_document_nobody_published(lab):
    with lab.app.database.write() as session:
        pointer = session.query(Pointer).one()
        pointer.flat = {kind: found for kind, found in pointer.flat.items() if kind != flat.RUN_EXPORTS}
    assert only(lab)[2] == "no run_exports.json is published: reindex it"


def test_a_missing_and_a_damaged_shard(lab):
    sha256 = lab.shards()["demo"]
    change(lab, update(ShardBytes).where(ShardBytes.sha256 == sha256).values(data=b"other"))
    assert ("error", "lab/noarch", "the shard of demo is damaged: reindex it") in found(lab)
    change(lab, delete(ShardBytes).where(ShardBytes.sha256 == sha256))
    assert ("error", "lab/noarch", "the shard of demo is missing: reindex it") in found(lab)


def test_a_shard_that_lacks_a_record_is_noticed(lab):
    change(lab, update(Shard).where(Shard.name == "demo").values(sha256=lab.shards()["old"]))
    assert only(lab)[2] == "the shards do not hold the records of the rows: reindex it"


def test_a_shard_that_is_due_is_only_worth_a_note(lab):
    change(lab, update(Shard).where(Shard.name == "demo").values(due=True, sha256=None))
    assert only(lab)[:2] == ("note", "lab/noarch")


def test_what_a_crash_left_is_counted_and_not_touched(lab):
    assert found(lab, where="storage") == []
    data = b"never published"
    digest = hashlib.sha256(data).hexdigest()
    left = [keys.package(digest), keys.document(1, "noarch", flat.REPODATA, digest)]
    for key in left:
        lab.app.blobs.put(key, data)
    ((harm, _, what),) = found(lab, where="storage")
    assert harm == "note"
    assert what.startswith("2 objects (30 bytes) belong to no file and no index: leftovers of a crash")
    assert [lab.app.blobs.get(key) for key in left] == [data, data]


def test_what_somebody_else_keeps_in_the_store_is_named(lab):
    file = lab.app.settings.data / "blobs" / "packages" / "readme.txt"
    file.write_text("mine")
    (finding,) = found(lab, where="storage")
    assert finding == ("note", "storage", "1 objects are not Fairway's, such as packages/readme.txt")


def test_reindexing_mends_every_damage_of_an_index(lab):
    for kind in (flat.REPODATA, flat.RUN_EXPORTS_ZST):
        document_file(lab, kind).unlink()
    change(lab, delete(ShardBytes))
    change(lab, delete(Shard).where(Shard.name == "demo"))
    assert len(found(lab)) >= 3
    with lab.app.database.write() as session:
        index.touch(session, session.query(Subdir).one().id)
    lab.publish_index()
    assert found(lab, deep=True) == []
