"""What bulk jobs write: whole units once, links, what is taken back."""

from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import bulk, generations, job_units, jobs
from storage.bank_changes import change_banks
from storage.bulk import Begun, BulkFailure, IndexedUnit
from storage.consistency import unknown_images
from storage.corpus import CorpusObject
from storage.errors import Conflict, StaleClaim
from storage.job_tables import JobStatus
from storage.links import Link
from tests.banks import bank, member
from tests.storage.ledger import MODEL, _clean, corpus, image, index, listed, one

__all__ = ["_clean"]


async def test_a_dead_runner_is_taken_over_and_can_store_nothing_any_more(engine: AsyncEngine) -> None:
    job_id, old = await listed(engine, corpus(4))
    assert await jobs.keep(engine, job_id, old, lease_s=-1, worked_s=2.5) == JobStatus.RUNNING
    new = await jobs.take(engine, job_id, lease_s=30)
    assert new != old
    with pytest.raises(StaleClaim):
        await jobs.keep(engine, job_id, old, lease_s=30, worked_s=1)
    with pytest.raises(StaleClaim):
        await index(engine, job_id, old, 0)
    assert (await jobs.get(engine, job_id)).indexed == 0
    await jobs.let_go(engine, job_id, old, JobStatus.DONE, None)
    job = await jobs.get(engine, job_id)
    assert (job.status, job.runner, job.worked_s) == (JobStatus.RUNNING, new, 2.5)


async def test_a_unit_ends_as_images_with_all_that_was_seen(engine: AsyncEngine) -> None:
    job_id, token = await listed(engine, corpus(6))
    first = await index(engine, job_id, token, 0, broken=1)
    second = await index(engine, job_id, token, 1)
    job = await jobs.get(engine, job_id)
    assert (job.indexed, job.failed, job.done) == (5, 1, 0)
    assert await one(engine, "SELECT count(*) FROM detection WHERE image_id = ANY(:ids)", ids=first + second) == 5
    assert await one(engine, "SELECT count(*) FROM content_score WHERE image_id = ANY(:ids)", ids=first + second) == 5
    status = "SELECT string_agg(DISTINCT status, ',') FROM image WHERE id = ANY(:ids)"
    assert await one(engine, status, ids=first + second) == "PROCESSING"

    link = (second[0], Link(first[0], "copy", "pdq", 0.99, 0.98, {"pdq": 1}))
    await bulk.store_links(engine, job_id, token, 1, second, [link], descriptors=())
    await bulk.store_links(engine, job_id, token, 0, first, [], descriptors=())
    assert await one(engine, status, ids=first + second) == "PROCESSED"
    assert await one(engine, "SELECT count(*) FROM image_match WHERE image_a = :a AND image_b = :b",
                     a=first[0], b=second[0]) == 1  # fmt: skip
    job = await jobs.get(engine, job_id)
    assert (job.done, job.failed) == (5, 1)
    assert await job_units.first_left(engine, job_id) is None
    (failure,) = await job_units.failures(engine, job_id)
    assert failure.reason == "not a picture"


async def test_what_is_stored_is_not_stored_twice(engine: AsyncEngine) -> None:
    job_id, token = await listed(engine, corpus(4))
    assert await bulk.begin(engine, job_id, token, [0]) == {0: Begun(again=False, retried=False)}
    assert await bulk.begin(engine, job_id, token, [0]) == {0: Begun(again=True, retried=True)}
    ids = await index(engine, job_id, token, 0, broken=1)
    await index(engine, job_id, token, 0, broken=2)
    present = "SELECT count(*) FROM image WHERE id = ANY(:ids)"
    (unit,) = await job_units.units(engine, job_id, [0])
    assert await one(engine, present, ids=unit.image_ids) == 3, "what was stored first stays"
    assert await bulk.begin(engine, job_id, token, [0]) == {}
    for _ in range(2):
        await bulk.store_links(engine, job_id, token, 0, ids, [], descriptors=())
    job = await jobs.get(engine, job_id)
    assert (job.indexed, job.failed, job.done) == (3, 1, 3)


async def test_unchanged_objects_are_skipped_and_changed_ones_replaced(engine: AsyncEngine) -> None:
    found = corpus(4)
    job_id, token = await listed(engine, found)
    ids = await index(engine, job_id, token, 0)
    await bulk.store_links(
        engine, job_id, token, 0, ids, [(ids[1], Link(ids[0], "copy", "pdq", 0.99, 0.98, {}))], descriptors=()
    )
    await jobs.let_go(engine, job_id, token, JobStatus.DONE, None)

    later = [*found[:3], CorpusObject(found[3].path, "changed", 9), *corpus(1)]
    second, token = await listed(engine, later)
    job = await jobs.get(engine, second)
    assert (job.objects, job.skipped) == (2, 3)
    (unit,) = await job_units.units(engine, second, [0])
    assert unit.image_ids[0] == ids[3] and unit.image_ids[1] not in ids
    assert await bulk.begin(engine, second, token, [0]) == {0: Begun(again=True, retried=False)}, "vectors are there"
    await index(engine, second, token, 0)
    assert await one(engine, "SELECT etag FROM image WHERE id = :id", id=ids[3]) == "changed"
    assert await one(engine, "SELECT count(*) FROM detection WHERE image_id = :id", id=ids[3]) == 1


async def test_the_surer_relation_of_a_pair_is_kept_whoever_comes_first(engine: AsyncEngine) -> None:
    copy = Link(0, "copy", "pdq", 0.981, 0.98, {"from": "copy"})
    alike = Link(0, "semantic", "shape", 0.999, 0.03, {"from": "semantic"})
    tie = Link(0, "copy", "pdq", 0.981, 0.98, {"from": "another"})
    for order in ([copy, alike, tie], [tie, alike, copy]):
        job_id, token = await listed(engine, corpus(9), unit_size=3)
        units = [await index(engine, job_id, token, number) for number in range(3)]
        a, b = units[0][0], units[1][0]
        for number, link in enumerate(order):
            ends = (a, b) if number % 2 else (b, a)
            stored = Link(ends[1], link.relation, link.method, link.score, link.threshold, link.evidence)
            await bulk.store_links(engine, job_id, token, number, units[number], [(ends[0], stored)], descriptors=())
        kept = await one(
            engine, "SELECT evidence->>'from' FROM image_match WHERE image_a = :a AND image_b = :b", a=a, b=b
        )
        assert kept == "another"
        await jobs.let_go(engine, job_id, token, JobStatus.DONE, None)


async def test_failures_are_tried_again_on_request(engine: AsyncEngine) -> None:
    job_id, token = await listed(engine, corpus(4))
    ids = await index(engine, job_id, token, 0, broken=2)
    await bulk.store_links(engine, job_id, token, 0, ids, [], descriptors=())
    with pytest.raises(Conflict, match="running"):
        await job_units.retry(engine, job_id, unit_size=4)
    await jobs.let_go(engine, job_id, token, JobStatus.DONE, None)
    assert await job_units.retry(engine, job_id, unit_size=4) == 2
    assert await job_units.retry(engine, job_id, unit_size=4) == 0
    job = await jobs.get(engine, job_id)
    assert (job.status, job.failed, job.units) == (JobStatus.WAITING, 0, 2)
    token = await jobs.take(engine, job_id, lease_s=30)
    more = await index(engine, job_id, token, 1)
    await bulk.store_links(engine, job_id, token, 1, more, [], descriptors=())
    job = await jobs.get(engine, job_id)
    assert (job.objects, job.done, job.failed) == (4, 4, 0)
    assert await job_units.failures(engine, job_id) == []


async def test_a_retry_keeps_to_what_another_job_made_of_the_object_meanwhile(engine: AsyncEngine) -> None:
    found = corpus(4)
    first, token = await listed(engine, found)
    ids = await index(engine, first, token, 0, broken=2)
    await bulk.store_links(engine, first, token, 0, ids, [], descriptors=())
    await jobs.let_go(engine, first, token, JobStatus.DONE, None)
    second, token = await listed(engine, found)
    (image_id, _) = await index(engine, second, token, 0)
    with pytest.raises(Conflict, match=f"job {second} "):
        source = (await jobs.get(engine, second)).source
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE job SET source = :s WHERE id = :id"), {"s": source, "id": first})
        await job_units.retry(engine, first, unit_size=4)
    assert len(await job_units.failures(engine, first)) == 2, "nothing was lost"
    await jobs.let_go(engine, second, token, JobStatus.DONE, None)
    assert await job_units.retry(engine, first, unit_size=4) == 2
    (unit,) = await job_units.units(engine, first, [1])
    assert unit.image_ids[0] == image_id and unit.replaces, "the image that exists now, not the id of then"
    assert unit.sizes == [-1, -1], "size and ETag are asked for again"


async def test_what_was_deleted_is_no_failure_of_a_reindex(engine: AsyncEngine) -> None:
    job_id, token = await listed(engine, corpus(3))
    done = await index(engine, job_id, token, 0)
    await bulk.store_links(engine, job_id, token, 0, done, [], descriptors=())
    again = await jobs.create(
        engine, source="gone@1", model_name=MODEL, options={}, created_by="test", kind=jobs.REINDEX
    )
    assert again.id is not None
    token = await jobs.take(engine, again.id, lease_s=30)
    await job_units.list_images(engine, again.id, token, model_name=MODEL, after=0, unit_size=4)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM image WHERE id = :id"), {"id": done[0]})
    (unit,) = await job_units.units(engine, again.id, [0])
    assert await bulk.begin(engine, again.id, token, [0]) == {0: Begun(again=True, retried=False)}
    failures = [BulkFailure(i, p, "", 1, "vanished") for i, p in zip(done, unit.paths, strict=True)]
    await bulk.store_indexed(engine, again.id, token, None, [IndexedUnit(0, [], failures)])
    job = await jobs.get(engine, again.id)
    assert (job.objects, job.failed, job.skipped) == (2, 2, 1)
    assert await bulk.without_row(engine, done) == [done[0]]


async def test_taking_back_leaves_what_is_done_and_what_was_there_before(engine: AsyncEngine) -> None:
    found = corpus(12)
    job_id, token = await listed(engine, found)
    done = await index(engine, job_id, token, 0)
    await bulk.store_links(engine, job_id, token, 0, done, [], descriptors=())
    await jobs.let_go(engine, job_id, token, JobStatus.DONE, None)

    second, token = await listed(engine, [CorpusObject(found[0].path, "changed", 1), *found[4:12]])
    assert await bulk.half_done(engine, second) == [], "nothing was written yet, not even of the changed object"
    await bulk.take_back(engine, second, token, [])
    assert await one(engine, "SELECT status FROM image WHERE id = :id", id=done[0]) == "PROCESSED"
    indexed = await index(engine, second, token, 0)
    assert indexed[0] == done[0]
    await bulk.begin(engine, second, token, [1])
    units = await bulk.half_done(engine, second)
    assert [unit.number for unit in units] == [0, 1]
    await bulk.take_back(engine, second, token, units)
    assert await bulk.half_done(engine, second) == []
    assert await one(engine, "SELECT count(*) FROM image WHERE id = ANY(:ids)", ids=indexed) == 0
    assert await one(engine, "SELECT count(*) FROM image WHERE id = ANY(:ids)", ids=done) == 3
    assert await one(engine, "SELECT count(*) FROM detection WHERE image_id = ANY(:ids)", ids=indexed) == 0
    assert await job_units.first_left(engine, second) == 2


async def test_taking_back_keeps_what_is_in_a_bank_and_tells_of_what_goes(engine: AsyncEngine) -> None:
    found = corpus(4)
    job_id, token = await listed(engine, found)
    mine, gone, *_ = await index(engine, job_id, token, 0)
    await bulk.store_links(engine, job_id, token, 0, [mine, gone], [], descriptors=())
    await jobs.let_go(engine, job_id, token, JobStatus.DONE, None)
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        await member(connection, await bank(connection), image_id=mine)
    changed = [CorpusObject(one.path, "changed", 1) for one in found[:2]]
    second, token = await listed(engine, changed)
    await index(engine, second, token, 0)
    await bulk.take_back(engine, second, token, await bulk.half_done(engine, second))
    left = "SELECT status || ' ' || attempt FROM image WHERE id = :id"
    assert await one(engine, left, id=mine) == "UPLOADED 1"
    for seen in ("detection", "content_score"):  # or processing it anew would insert them twice
        assert await one(engine, f"SELECT count(*) FROM {seen} WHERE image_id = :id", id=mine) == 0
    assert await one(engine, "SELECT count(*) FROM image WHERE id = :id", id=gone) == 0
    told = "SELECT count(*) FROM event WHERE type = 'image.deleted' AND image_id = :id"
    assert [await one(engine, told, id=each) for each in (mine, gone)] == [0, 1]
    logged = "SELECT count(*) FROM audit WHERE action = 'image.delete' AND subject = :subject"
    assert [await one(engine, logged, subject=f"image/{each}") for each in (mine, gone)] == [0, 1]


async def test_what_a_job_is_writing_is_no_stranger_to_a_check(engine: AsyncEngine) -> None:
    job_id, token = await listed(engine, corpus(4))
    (unit,) = await job_units.units(engine, job_id, [0])
    await bulk.begin(engine, job_id, token, [0])
    assert await unknown_images(engine, unit.image_ids) == []
    await jobs.let_go(engine, job_id, token, JobStatus.CANCELLED, None)
    assert await unknown_images(engine, unit.image_ids) == unit.image_ids


async def test_a_reindex_lists_what_is_processed_and_leaves_it_so(engine: AsyncEngine) -> None:
    job_id, token = await listed(engine, corpus(6))
    done = await index(engine, job_id, token, 0)
    await bulk.store_links(engine, job_id, token, 0, done, [], descriptors=())
    await index(engine, job_id, token, 1)
    await jobs.let_go(engine, job_id, token, JobStatus.PAUSED, None)

    again = await jobs.create(
        engine, source="wide@2", model_name=MODEL, options={}, created_by="test", kind=jobs.REINDEX
    )
    assert again.id is not None
    token = await jobs.take(engine, again.id, lease_s=30)
    after: int | None = 0
    pages = 0
    while after is not None:
        after = await job_units.list_images(
            engine, again.id, token, model_name=MODEL, after=after, unit_size=2, limit=2
        )
        pages += 1
    await job_units.end_listing(engine, again.id, token)
    held = await job_units.units(engine, again.id, list(range(10)))
    assert [image_id for unit in held for image_id in unit.image_ids] == done, "those that are PROCESSED, by id"
    assert pages == 3
    for unit in held:
        await bulk.begin(engine, again.id, token, [unit.number])
        read = [image(image_id, path) for image_id, path in zip(unit.image_ids, unit.paths, strict=True)]
        await bulk.store_indexed(engine, again.id, token, None, [IndexedUnit(unit.number, read, [])])
    statuses = "SELECT string_agg(DISTINCT status, ',') FROM image WHERE id = ANY(:ids)"
    assert await one(engine, statuses, ids=done) == "PROCESSED"
    link = Link(done[0], "copy", "pdq", 0.99, 0.98, {}, "wide@2")
    for unit in held:
        links = [(unit.image_ids[0], link)] if unit.image_ids[0] != done[0] else []
        await bulk.store_links(
            engine, again.id, token, unit.number, unit.image_ids, links, descriptors=["wide@2"], finish=False
        )
    ended = await jobs.get(engine, again.id)
    assert (ended.objects, ended.indexed, ended.done) == (4, 4, 4)
    descriptor = "SELECT string_agg(descriptor, ',') FROM image_match WHERE image_a = :a"
    assert await one(engine, descriptor, a=done[0]) == "wide@2"


async def test_a_new_descriptor_waits_for_jobs_that_would_not_write_it(engine: AsyncEngine) -> None:
    model = f"m-{uuid4().hex[:8]}"
    await generations.ensure_live(engine, {model: "old@1"})
    job = await jobs.create(engine, source=f"s3://corpus/{model}/", model_name=model, options={}, created_by="test")
    assert job.id is not None
    with pytest.raises(Conflict, match=f"job {job.id} indexes"):
        await generations.begin(engine, model, "new@1")
    token = await jobs.take(engine, job.id, lease_s=30)
    await jobs.let_go(engine, job.id, token, JobStatus.DONE, None)
    await generations.begin(engine, model, "new@1")

    later = await jobs.create(engine, source=f"s3://corpus/{model}/", model_name=model, options={}, created_by="test")
    assert later.id is not None
    token = await jobs.take(engine, later.id, lease_s=30)
    found = corpus(2, folder=model)
    await job_units.add_listed(engine, later.id, token, found, unit_size=4)
    ids = await index(engine, later.id, token, 0)
    with pytest.raises(Conflict, match="new@1 by now"):
        await bulk.store_links(engine, later.id, token, 0, ids, [], descriptors=["old@1"])
    both = ["old@1", "new@1"]
    links = [(ids[1], Link(ids[0], "copy", "pdq", 0.99, 0.98, {}, name)) for name in (*both, "gone@1")]
    await bulk.store_links(engine, later.id, token, 0, ids, links, descriptors=both)
    kept = "SELECT string_agg(descriptor, ',' ORDER BY descriptor) FROM image_match WHERE image_a = :a"
    assert await one(engine, kept, a=ids[0]) == "new@1,old@1"
