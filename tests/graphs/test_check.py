"""The check on a small corpus: silent while all is well, exact about every damage, and a repair makes it silent again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from deployments.pipeline.look import Look
from deployments.pipeline.processor import vector_rows
from deployments.similarity.replicas import spaces_of_model
from graphs.check import Check
from graphs.check_report import Kind, Note, Report
from graphs.check_vectors import Sizes, VectorCheck, Window
from storage import images, jobs
from storage.consistency import Ids, IdSet, Presence
from storage.errors import NotFound
from storage.features import features_key
from storage.uploads import NewImage, remove, upload
from storage.vector_rows import PDQ_SPACE, VectorRows, VectorSpace
from storage.vectors import connect
from tests.deployments.pipeline.conftest import Upload, run_queue, state
from tests.graphs.checked import (
    SMALL,
    World,
    _tables,
    bits,
    details_gone,
    engine,
    objects,
    servers,
    stray_objects,
    vectors_gone,
    vectors_twice,
    world,
)
from tests.installation import tampering
from tests.service.pictures import jpeg, photo

__all__ = ["engine", "objects", "servers", "world"]


async def test_a_consistent_corpus_gives_nothing(world: World, tmp_path: Path) -> None:
    theirs = f"{world.settings.s3_bucket}-corpus"
    world.objects._client.put_object(Bucket=theirs, Key="shelf/1.jpg", Body=jpeg(photo("rocket.jpg")))
    waiting = await upload(world.engine, world.objects, NewImage("w", "workers", b"x", "image/png", 1, 1), caller=0)
    await world.execute(
        "UPDATE image SET s3_path = :path WHERE id = :id", path=f"s3://{theirs}/shelf/1.jpg", id=waiting.id
    )
    await world.objects.delete(waiting.s3_path)
    lines: list[str] = []
    pages: list[int] = []
    world.objects._client.meta.events.register(
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: pages.append(params["MaxKeys"])
    )
    for sizes in (Sizes(), SMALL):
        report = await world.check(sizes=sizes, say=lines.append)
        assert report.found == {} and report.clean
        assert report.checked["images"] == 6 and report.checked["objects under images/"] == 5
        assert report.checked["vectors of pdq@1"] == 5
    assert any(line.startswith("images to") for line in lines)
    assert pages == [1000] * 2 + [2] * 6, "five objects under each of two prefixes"
    assert (await world.check(repair=True)).total == 0
    assert await world.execute("SELECT 1 FROM audit WHERE action <> 'image.decide'") == []
    await world.objects.delete(f"s3://{theirs}/shelf/1.jpg")
    assert await world.found() == {}, "what is not ours cannot be deleted through the store"
    world.objects._client.delete_object(Bucket=theirs, Key="shelf/1.jpg")
    assert await world.found() == {Kind.MISSING_OBJECT: 1}


async def test_a_corpus_that_is_gone_does_not_end_the_check(world: World) -> None:
    path = f"s3://no-such-{uuid4().hex[:10]}/a.jpg"
    await world.execute(f"UPDATE image SET s3_path = '{path}' WHERE id = {world.ids[0]}")
    report = await world.check(repair=True)
    assert Kind.MISSING_OBJECT not in report.found, "an image is not made FAILED for a bucket that cannot be asked"
    assert report.notes[Note.UNREACHABLE].count == 1


async def test_pictures_of_a_corpus_are_listed_and_not_asked_for_one_by_one(world: World) -> None:
    theirs = f"{world.settings.s3_bucket}-corpus"
    paths = [f"s3://{theirs}/a/{folder}/1.jpg" for folder in "xyz"]
    for path, image_id in zip(paths, world.ids, strict=False):
        world.objects._client.put_object(Bucket=theirs, Key=path.removeprefix(f"s3://{theirs}/"), Body=b"x")
        waiting = await upload(world.engine, world.objects, NewImage("w", "workers", b"x", "image/png", 1, 1), caller=0)
        await world.objects.delete(waiting.s3_path)
        await world.execute("UPDATE image SET s3_path = :path WHERE id = :id", path=path, id=waiting.id)
        assert waiting.id != image_id
    await world.execute("DELETE FROM job")
    job = await jobs.create(
        world.engine, source=f"s3://{theirs}/a/", model_name="safeguard-v1", options={}, created_by="test"
    )
    asked: list[str] = []
    world.objects._client.meta.events.register(
        "provide-client-params.s3.HeadObject", lambda params, **_: asked.append(params["Key"])
    )
    report = await world.check()
    assert report.found == {} and report.checked["objects of corpora"] == 3 and asked == []
    world.objects._client.delete_object(Bucket=theirs, Key="a/y/1.jpg")
    assert await world.found() == {Kind.MISSING_OBJECT: 1}
    assert set(asked) == {"a/y/1.jpg"}
    asked.clear()
    await world.execute("DELETE FROM job WHERE id = :id", id=job.id)
    assert await world.found() == {Kind.MISSING_OBJECT: 1}
    assert set(asked) == {"a/x/1.jpg", "a/y/1.jpg", "a/z/1.jpg"}, "without the job nobody knows what to list"


async def test_the_tables_asked_for_are_those_that_processing_fills(world: World) -> None:
    (seen,) = await world.processor.look(world.model, [jpeg(photo("coins.png"))])
    assert isinstance(seen, Look)
    filled = vector_rows(world.model, [(1, seen)])
    assert {name for name, rows in filled.items() if len(rows)} == {one.name for one in spaces_of_model(world.model)}


async def test_a_grace_age_spares_uploads_under_way(world: World) -> None:
    await stray_objects(world)
    assert await world.found(grace_s=60.0) == {}
    repaired = await world.check(repair=True, grace_s=60.0)
    assert repaired.total == 0 and await world.objects.get("images/stray.png") == b"stray"


async def test_what_is_in_work_is_no_finding(world: World) -> None:
    await vectors_gone(world)
    await vectors_twice(world)
    await details_gone(world)
    await world.execute("UPDATE image SET status = 'UPLOADED' WHERE id <= :id", id=world.ids[2])
    await world.execute("UPDATE image SET status = 'PROCESSING' WHERE id > :id", id=world.ids[2])
    assert await world.found() == {}
    assert (await world.check(repair=True)).total == 0


async def test_images_of_outside_workers_have_no_vectors_but_need_their_object(world: World) -> None:
    new = NewImage("w.png", "workers", b"x", "image/png", 1, 1)
    fine, broken = [await upload(world.engine, world.objects, new, caller=0) for _ in range(2)]
    await world.execute("UPDATE image SET status = 'PROCESSED' WHERE model_name = 'workers'")
    await world.objects.delete(broken.s3_path)
    await world.processor.index.add({PDQ_SPACE.name: bits(fine.id or 0, fine.id or 0)}, [])
    assert await world.found() == {Kind.MISSING_OBJECT: 1, Kind.DUPLICATE_VECTORS: 1}
    assert (await world.check(repair=True)).clean
    assert (await state(world.engine, fine))[0] == "PROCESSED", "a worker's result is not thrown away"
    assert (await state(world.engine, broken))[0] == "FAILED"
    assert await world.found() == {}


async def test_a_running_service_gives_no_finding(world: World, put: Upload) -> None:
    async def service() -> None:
        turn = 0
        while turn < 6 or (len(found) < 3 and turn < 60):
            turn += 1
            image = await put(jpeg(photo("coins.png").rotate(turn * 3 - 2)))
            other = await put(jpeg(photo("chelsea.png").rotate(turn * 3 - 2)))
            await run_queue(world.processor)
            await remove(world.engine, world.objects, image.id or 0, actor="test")
            await asyncio.sleep(0.1)
            await world.processor.index.add({}, [image.id or 0])
            assert (await state(world.engine, other))[0] == "PROCESSED"

    found: list[object] = []
    running = asyncio.create_task(service())
    while not running.done():
        found.append(await world.found(sizes=SMALL))
    await running
    assert not any(found)
    assert len(found) >= 3, "the checks must overlap with the service"
    assert await world.found() == {}


async def test_what_arrives_after_the_listing_is_asked_for(world: World) -> None:
    picture, details = world.pictures[1].s3_path, features_key(world.pictures[2].s3_path)
    late = {key: await world.objects.get(key) for key in (picture, details)}
    for key in late:
        await world.objects.delete(key)

    class Overtaken(Check):
        async def _list(self, prefix: str, kind: Kind, through: int) -> IdSet:
            listed = await super()._list(prefix, kind, through)
            if kind is Kind.EXTRA_DETAILS:
                for key, data in late.items():
                    await world.objects.put(key, data, "image/jpeg")
            return listed

    arguments = world.engine, world.objects, world.settings, world.processor.registry
    assert (await Overtaken(*arguments, repair=False, grace_s=0).run()).total == 0
    for key in late:
        await world.objects.delete(key)
    assert await world.found() == {Kind.MISSING_OBJECT: 1, Kind.MISSING_DETAILS: 1}


async def test_vectors_are_judged_by_a_second_look(world: World) -> None:
    space = spaces_of_model(world.model)[1]
    table, first = await world.table(space), world.ids[0]
    rows, _ = await table.read_since(-1)
    mine = rows.image_ids == first
    lost = VectorRows(rows.image_ids[mine], rows.regions[mine], rows.boxes[mine], rows.vectors[mine])
    window = Window(ids=world.ids, processed={world.model.name: world.ids})

    class Late(VectorCheck):
        """Something happens between the first look and the second, or between the two looks at the row."""

        meanwhile: Callable[[], Awaitable[Any]] | None = None
        within: Callable[[], Awaitable[Any]] | None = None

        async def _judge(self, ids: Ids) -> None:
            if self.meanwhile is not None:
                await self.meanwhile()
            await super()._judge(ids)

        async def _look(self, ids: Ids, spaces: Sequence[VectorSpace]) -> dict[str, Presence]:
            if self.within is not None:
                await self.within()
            return await super()._look(ids, spaces)

    async def findings(**events: Any) -> int:
        await (await world.table(space)).delete([first])
        report = Report(repair=False)
        connection = await connect(world.settings)
        models = {world.model.name: [world.model]}
        one = Late(world.engine, connection, [], models, models, Sizes(), report, lambda _: None)
        for name, event in events.items():
            setattr(one, name, event)
        await one.check(window, None)
        return report.total

    assert await findings() == 1
    assert await findings(meanwhile=lambda: world.processor.index.add({space.name: lost}, [])) == 0
    again = "UPDATE image SET finished_token = gen_random_uuid() WHERE id = :id"
    assert await findings(within=lambda: world.execute(again, id=first)) == 0, "it was processed anew meanwhile"
    assert await findings() == 1


async def test_information_is_no_error(world: World) -> None:
    await world.table(VectorSpace("forgotten@3", 8))
    first, second = world.ids[:2]
    await world.execute("UPDATE image SET uploaded_at = NULL, created_at = 'epoch' WHERE id = :id", id=first)
    await world.execute("UPDATE image SET status = 'PROCESSING', lease_expires_at = 'epoch' WHERE id = :id", id=second)
    report = await world.check(repair=True)
    assert report.clean and report.total == 0
    assert report.notes[Note.UNFINISHED_UPLOADS].examples == [f"image {first}"]
    assert report.notes[Note.EXPIRED_LEASES].examples == [f"image {second}"]
    assert "forgotten-v3" in {name for name in await _tables(world)}
    assert report.notes[Note.UNUSED_TABLES].count == len(await _tables(world)) - 3


async def test_the_audit_tells_a_late_removal_from_a_leftover(world: World) -> None:
    await remove(world.engine, world.objects, world.ids[3], actor="test")
    assert await world.found() == {}, "its vectors may be on their way out"
    async with world.engine.begin() as connection, tampering(connection):
        await connection.execute(text("UPDATE audit SET at = now() - interval '2 minutes'"))
    assert await world.found() == {Kind.EXTRA_VECTORS: 1}
    with pytest.raises(NotFound):
        await images.get(world.engine, world.ids[3])
