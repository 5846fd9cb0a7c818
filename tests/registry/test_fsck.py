"""fsck finds each kind of damage, and nothing where nothing is damaged."""

import hashlib
import json
import tracemalloc

import pytest
from sqlalchemy import delete, insert, literal, select, update

from fairway.blobs import keys
from fairway.conda.shards import compressed
from fairway.db.models import (
    Artifact,
    Channel,
    ChannelDay,
    Need,
    Package,
    PackageDay,
    Pointer,
    Record,
    Shard,
    ShardBytes,
    Subdir,
    Withheld,
)
from fairway.registry import flat, fsck, index, tally, withdraw
from fairway.registry.actor import CONSOLE
from fairway.registry.statistics import DAY_MS
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
    assert f"its bytes are {len(data) - 1} long instead of {len(data)}" in only(lab)[2]
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
    assert only(lab) == ("error", "lab/demo", "it counts 3 files instead of 2")


def test_a_file_without_a_record_and_a_record_without_a_file(lab):
    change(lab, delete(Record).where(Record.filename == "demo-1.0-h0_0.conda"))
    assert ("error", "demo-1.0-h0_0.conda", "it has no record to be indexed") in found(lab)
    change(lab, update(Artifact).where(Artifact.filename == "demo-2.0-h0_0.conda").values(deleted_at=1))
    assert ("error", "demo-2.0-h0_0.conda", "it has a record, but is no file of its channel") in found(lab)


def test_what_packages_are_listed_with(lab):
    change(lab, update(Package).where(Package.name == "demo").values(places=1 << 5))
    assert only(lab) == ("error", "lab/demo", "the platforms it is listed for are not those of its files")
    change(lab, update(Package).where(Package.name == "demo").values(places=1, version="1.0", version_key=b"x"))
    assert only(lab) == ("error", "lab/demo", "its newest version is said to be 1.0, which is not so")


def first_file(lab):
    with lab.app.database.read() as session:
        return session.scalars(select(Artifact).where(Artifact.filename == "demo-1.0-h0_0.conda")).one()


DRIFTS = {
    "files": update(Channel).values(artifacts=Channel.artifacts + 2),
    "bytes": update(Channel).values(size=1),
    "packages": update(Channel).values(packages=0),
    "files of a package": update(Package).where(Package.name == "demo").values(live=7),
    "newest": update(Package).where(Package.name == "demo").values(version="1.0", version_key=b"x"),
    "nothing in the index": update(Package).where(Package.name == "demo").values(version="", version_key=b""),
    "platforms": update(Package).where(Package.name == "demo").values(places=6),
    "a need too few": delete(Need).where(Need.name == "numpy"),
    "a need too many": insert(Need).from_select(["package_id", "name"], select(Package.id, literal("extra"))),
    "downloads": update(Package).where(Package.name == "demo").values(downloads=1),
    "a day of a package": update(PackageDay).values(count=PackageDay.count + 1),
    "no days of a package": delete(PackageDay),
    "a day too many of a package": insert(PackageDay).from_select(
        ["package_id", "day", "count"], select(Package.id, literal(7), literal(7))
    ),
    "a day of a channel": update(ChannelDay).values(count=1),
    "no days of a channel": delete(ChannelDay),
    "a day too many of a channel": insert(ChannelDay).from_select(
        ["channel_id", "day", "count"], select(Channel.id, literal(7), literal(7))
    ),
}


def state(lab):
    """Every row that counts others."""
    with lab.app.database.read() as session:
        channels = select(Channel.artifacts, Channel.size, Channel.packages)
        packages = select(
            Package.name, Package.live, Package.version, Package.version_key, Package.places, Package.downloads
        )
        tables = [Need.__table__, PackageDay.__table__, ChannelDay.__table__]
        return [sorted(map(tuple, session.execute(one))) for one in (channels, packages, *map(select, tables))]


@pytest.mark.parametrize("drift", DRIFTS)
def test_whatever_is_counted_wrongly_is_found_and_counted_anew(lab, drift):
    lab.put(conda_package("demo", "2.0", build="h1_1", depends=["numpy >=1", "__glibc"]))
    for day in range(3):
        for _ in range(2):
            lab.app.counts.download(first_file(lab).id, now=lab.now + day * DAY_MS)
    lab.app.counts.flush(lab.app.database)
    lab.publish_index()
    assert found(lab) == []
    before = state(lab)
    change(lab, DRIFTS[drift])
    wrong = found(lab)
    assert wrong
    assert {where for _, where, _ in wrong} <= {"lab", "lab/demo", "lab/old", "lab/new", "lab/gone"}
    with lab.app.database.read() as session:
        drifts = list(tally.drifted(session))
    assert [("error", one.where, one.what) for one in drifts] == wrong
    with lab.app.database.write() as session:
        packages = {one.package_id for one in drifts} - {None}
        tally.recount(session, drifts[0].channel_id, packages, now=lab.now)
    assert found(lab) == []
    assert state(lab) == before


def test_nothing_has_to_agree_in_a_deleted_channel(lab):
    for statement in DRIFTS.values():
        change(lab, statement)
    change(lab, update(Channel).values(deleted_at=lab.now))
    assert [one for one in found(lab) if one[0] == "error"] == []


def test_a_wrong_number_of_packages(lab):
    change(lab, update(Channel).values(packages=9))
    assert "it counts 9 packages instead of" in only(lab)[2]


def test_a_yanked_file_whose_record_was_not_kept(lab):
    with lab.app.database.write() as session:
        withdraw.yank(session, CONSOLE, "lab", "noarch", "demo-1.0-h0_0.conda", "broken", now=lab.now)
    lab.publish_index()
    assert found(lab, deep=True) == []
    change(lab, delete(Withheld))
    assert ("error", "demo-1.0-h0_0.conda", "it was yanked, and its record was not kept: it cannot come back") in found(
        lab
    )


def test_a_file_in_the_index_whose_record_is_kept_as_if_it_were_not(lab):
    with lab.app.database.write() as session:
        artifact = session.scalars(select(Artifact).where(Artifact.filename == "demo-1.0-h0_0.conda")).one()
        session.add(Withheld(artifact_id=artifact.id, record=b"{}"))
    assert only(lab) == ("error", "demo-1.0-h0_0.conda", "it is in the index, and its record is kept as if it were not")


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


def say(lab, plain):
    """Publish a repodata.json, and its compressed twin."""
    publish(lab, flat.REPODATA, plain)
    publish(lab, flat.REPODATA_ZST, compressed(plain, 3))


def test_other_words_for_the_same_records_are_right(lab):
    """Another version of Fairway may have written them."""
    document = json.loads(lab.documents()[flat.REPODATA])
    say(lab, json.dumps(document, indent=1, sort_keys=True).encode())
    assert found(lab) == []


def without(document, section):
    entries = document["v3"]["conda"] if section == "v3" else document[section]
    del entries[min(entries)]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: without(document, "packages"),
        lambda document: without(document, "packages.conda"),
        lambda document: without(document, "v3"),
        lambda document: document["packages"].update({"more-1.0-0.tar.bz2": {}}),
        lambda document: document["v3"]["conda"].update({"more-1.0-0": {}}),
        lambda document: document["packages.conda"]["demo-1.0-h0_0.conda"].update(size=1),
        lambda document: document.pop("packages"),
    ],
)
def test_a_record_too_few_too_many_or_another_is_noticed(lab, spoil):
    document = json.loads(lab.documents()[flat.REPODATA])
    spoil(document)
    say(lab, json.dumps(document).encode())
    assert only(lab)[2] == "repodata.json does not say what the rows say: reindex it"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda packed: b"",
        lambda packed: packed[:-1],
        lambda packed: packed + packed,
        lambda packed: packed + b"x",
        lambda packed: b"no zstd",
    ],
)
def test_a_compressed_document_that_is_not_one_whole_frame_is_noticed(lab, spoil):
    publish(lab, flat.REPODATA_ZST, spoil(lab.documents()[flat.REPODATA_ZST]))
    assert only(lab)[2] == "repodata.json.zst is not repodata.json: reindex it"


def test_a_large_subdir_is_checked_in_little_memory(lab):
    """It grew by three to five kilobytes a record once."""
    with lab.app.database.write() as session:
        about = {"depends": ["python >=3.11,<3.12.0a0", "numpy >=1.21"], "license": "MIT", "md5": "0" * 32, "size": 1}
        rows = [
            {
                "subdir_id": 1,
                "section": 1,
                "name": f"many{number // 20}",
                "filename": f"many{number // 20}-{number % 20}-0.conda",
                "record": json.dumps({"name": f"many{number // 20}", "sha256": f"{number:064x}", **about}).encode(),
                "run_exports": None,
            }
            for number in range(20_000)
        ]
        session.execute(insert(Record), rows)
        index.touch(session, 1)
    lab.publish_index()
    tracemalloc.start()
    try:
        findings = list(fsck.check_index(lab.app.database, lab.app.blobs, 1, "lab/noarch"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert findings == []
    assert peak < 40_000_000


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


def test_a_name_without_a_shard_is_noticed(lab):
    change(lab, delete(Shard).where(Shard.name == "demo"))
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
