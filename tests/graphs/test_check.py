"""The check on a small corpus: silent while all is well, exact about every damage, and a repair makes it silent again."""

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import pytest_asyncio
from rich.console import Console
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import ModelSpec
from configs.settings import Settings
from deployments.pipeline.look import Look
from deployments.pipeline.processor import Processor, vector_rows
from deployments.similarity.replicas import spaces_of_model
from graphs import check_report
from graphs.check import Check, check
from graphs.check_report import Kind, Note, Report, progress_line, show
from graphs.check_vectors import Sizes, VectorCheck, Window
from storage import images, jobs
from storage.consistency import Ids, IdSet, Presence
from storage.database import create_engine
from storage.errors import ConfigurationError, NotFound, Unavailable
from storage.features import features_key
from storage.objects import ObjectStore
from storage.tables import Image
from storage.uploads import NewImage, remove, upload
from storage.vectors import PDQ_SPACE, VectorRows, VectorSpace, VectorTable, connect
from tests.deployments.pipeline.conftest import Upload, claim_all, run_queue, state
from tests.installation import apart, clear, tampering
from tests.service.pictures import edited, jpeg, photo

SMALL = Sizes(rows=2, objects=2, images=3, vectors=4, suspects=2)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def servers(servers: Settings) -> Iterator[Settings]:
    """What the fixtures of the pipeline use too: an installation that no other test writes to."""
    with apart(servers) as made:
        yield made


@pytest_asyncio.fixture
async def engine(servers: Settings) -> AsyncIterator[AsyncEngine]:
    made = create_engine(servers)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def objects(servers: Settings, engine: AsyncEngine) -> AsyncIterator[ObjectStore]:
    store = ObjectStore(servers)
    await clear(servers, engine, store)
    yield store
    store.close()


class World:
    """Five processed pictures, two of them copies, with means to damage and to check them."""

    def __init__(self, processor: Processor, model: ModelSpec, settings: Settings, pictures: list[Image]) -> None:
        self.processor, self.model, self.settings, self.pictures = processor, model, settings, pictures
        self.engine, self.objects = processor.engine, processor.objects

    @property
    def ids(self) -> list[int]:
        return [image.id or 0 for image in self.pictures]

    async def check(self, *, repair: bool = False, grace_s: float = 0.0, **more: Any) -> Report:
        one = Check(
            self.engine, self.objects, self.settings, self.processor.registry, repair=repair, grace_s=grace_s, **more
        )
        return await one.run()

    async def found(self, **more: Any) -> dict[Kind, int]:
        return {kind: tally.count for kind, tally in (await self.check(**more)).found.items()}

    async def table(self, space: VectorSpace) -> VectorTable:
        opened = await VectorTable.open(await connect(self.settings), space, create=True)
        assert opened is not None
        return opened

    async def execute(self, statement: str, **arguments: Any) -> list[Any]:
        async with self.engine.begin() as connection:
            found = await connection.execute(text(statement), arguments)
            return list(found.all()) if found.returns_rows else []


@pytest_asyncio.fixture
async def world(servers: Settings, processor: Processor, put: Upload, model: ModelSpec) -> AsyncIterator[World]:
    files = [jpeg(photo(name)) for name in ("astronaut.png", "coffee.png", "chelsea.png", "coins.png")]
    pictures = [await put(data) for data in [*files, edited("astronaut.png", "mirror")]]
    await run_queue(processor)
    made = World(processor, model, servers, pictures)
    assert [one.status for one in await made.execute("SELECT status FROM image")] == ["PROCESSED"] * 5
    yield made


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


Damage = Callable[[World], Awaitable[dict[Kind, list[str]]]]


async def object_gone(world: World) -> dict[Kind, list[str]]:
    await world.objects.delete(world.pictures[1].s3_path)
    return {Kind.MISSING_OBJECT: [f"image {world.ids[1]}, {world.pictures[1].s3_path}"]}


async def stray_objects(world: World) -> dict[Kind, list[str]]:
    await world.objects.put("images/stray.png", b"stray", "image/png")
    await world.objects.put("features/stray.png.sift", b"stray", "application/octet-stream")
    return {Kind.EXTRA_OBJECT: ["images/stray.png"], Kind.EXTRA_DETAILS: ["features/stray.png.sift"]}


async def details_gone(world: World) -> dict[Kind, list[str]]:
    await world.objects.delete(features_key(world.pictures[2].s3_path))
    return {Kind.MISSING_DETAILS: [f"image {world.ids[2]}, {world.pictures[2].s3_path}"]}


async def vectors_gone(world: World) -> dict[Kind, list[str]]:
    spaces = spaces_of_model(world.model)
    await (await world.table(spaces[1])).delete([world.ids[0]])
    for space in spaces:
        await (await world.table(space)).delete([world.ids[3]])
    return {
        Kind.MISSING_VECTORS: [
            f"image {world.ids[0]} in {spaces[1].name}",
            f"image {world.ids[3]} in {', '.join(space.name for space in spaces)}",
        ]
    }


async def other_version(world: World) -> dict[Kind, list[str]]:
    space = spaces_of_model(world.model)[1]
    table, older = await world.table(space), VectorSpace(space.name.replace("@1", "@7"), space.dim)
    rows, _ = await table.read_since(-1)
    await (await world.table(older)).append(rows, 0)
    await table.delete([world.ids[1]])
    return {Kind.WRONG_VERSION: [f"image {world.ids[1]} in {space.name}"]}


def bits(*image_ids: int) -> VectorRows:
    count = len(image_ids)
    hashes = np.random.default_rng(3).integers(0, 256, (count, 32), np.uint8)
    return VectorRows(
        np.asarray(image_ids, np.int64), np.zeros(count, np.int16), np.zeros((count, 4), np.float32), hashes
    )


async def vectors_of_strangers(world: World) -> dict[Kind, list[str]]:
    rows, _ = await (await world.table(spaces_of_model(world.model)[1])).read_since(-1)
    mine = rows.image_ids == world.ids[0]
    moved = VectorRows(np.full(int(mine.sum()), 10**9), rows.regions[mine], rows.boxes[mine], rows.vectors[mine])
    gone = world.pictures[2]
    await world.processor.index.add({PDQ_SPACE.name: bits(10**9), world.model.descriptor_name: moved}, [])
    await world.execute("DELETE FROM image WHERE id = :id", id=gone.id)
    for key in (gone.s3_path, features_key(gone.s3_path)):
        await world.objects.delete(key)
    everywhere = ", ".join(sorted(space.name for space in spaces_of_model(world.model)))
    assert PDQ_SPACE.name < world.model.descriptor_name
    return {
        Kind.EXTRA_VECTORS: [
            f"image {gone.id} in {everywhere}", f"image {10**9} in pdq@1, {world.model.descriptor_name}",
        ]
    }  # fmt: skip


async def vectors_twice(world: World) -> dict[Kind, list[str]]:
    await world.processor.index.add({PDQ_SPACE.name: bits(world.ids[0], world.ids[4])}, [])
    return {Kind.DUPLICATE_VECTORS: [f"image {number} in pdq@1" for number in (world.ids[0], world.ids[4])]}


DAMAGES = [
    object_gone, stray_objects, details_gone, vectors_gone, other_version, vectors_of_strangers, vectors_twice,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_each_damage_is_found_and_repaired(world: World, damage: Damage) -> None:
    wanted = await damage(world)
    for sizes in (Sizes(), SMALL):
        report = await world.check(sizes=sizes)
        assert {kind: sorted(tally.examples) for kind, tally in report.found.items()} == {
            kind: sorted(examples) for kind, examples in wanted.items()
        }
        assert {kind: tally.count for kind, tally in report.found.items()} == {
            kind: len(examples) for kind, examples in wanted.items()
        }
        assert not report.clean
    before = {one.id for one in await world.execute("SELECT id FROM image")}
    repaired = await world.check(repair=True, sizes=SMALL)
    assert repaired.clean and repaired.total == sum(map(len, wanted.values()))
    assert await world.found() == {}, "what waits to be processed anew is no finding"
    await run_queue(world.processor)  # by the writer that was there before: it has not been shut out
    assert await world.found() == {}
    assert {one.id for one in await world.execute("SELECT id FROM image")} == before
    audited = await world.execute("SELECT DISTINCT actor FROM audit WHERE action <> 'image.decide'")
    assert [one.actor for one in audited] == ["safeguard check"]
    statuses = [one.status for one in await world.execute("SELECT status FROM image ORDER BY id")]
    failed = 1 if damage is object_gone else 0
    assert statuses.count("FAILED") == failed and statuses.count("PROCESSED") == len(before) - failed


async def test_a_missing_picture_fails_its_image_and_keeps_it(world: World) -> None:
    await object_gone(world)
    await world.check(repair=True)
    status, _, failure = await state(world.engine, world.pictures[1])
    assert (status, failure) == ("FAILED", "the stored picture is missing")
    (entry,) = await world.execute("SELECT action, subject, detail FROM audit WHERE action <> 'image.decide'")
    assert (entry.action, entry.subject) == ("image.fail", f"image/{world.ids[1]}")
    assert entry.detail["s3_path"] == world.pictures[1].s3_path


async def test_what_is_processed_anew_replaces_and_does_not_collide(world: World) -> None:
    engine, first, copy = world.engine, world.ids[0], world.ids[4]
    seen = await images.detections(engine, first)
    assert [one.label for one in seen] == ["person"] and await images.content_scores(engine, first)
    links = [(one.image_id, one.relation) for one in await images.matches(engine, first)]
    assert [image_id for image_id, _ in links] == [copy]
    await vectors_twice(world)
    await details_gone(world)
    await world.check(repair=True)
    assert await state(engine, world.pictures[0]) == ("UPLOADED", 1, None)
    assert await images.detections(engine, first) == [] and await images.content_scores(engine, first) == []
    (held,) = [one for one in await claim_all(world.processor) if one.image_id == first]
    assert held.attempt == 2, "the claim replaces the vectors that are there"
    await world.execute("UPDATE image SET status = 'UPLOADED', attempt = 1 WHERE status = 'PROCESSING'")
    await run_queue(world.processor)
    assert [one.label for one in await images.detections(engine, first)] == ["person"]
    assert len(await images.content_scores(engine, first)) == 1
    assert [(one.image_id, one.relation) for one in await images.matches(engine, first)] == links
    actions = {
        (one.action, one.subject)
        for one in await world.execute("SELECT action, subject FROM audit WHERE action <> 'image.decide'")
    }
    assert actions == {
        ("vectors.delete", f"image/{first}"), ("image.requeue", f"image/{first}"),
        ("vectors.delete", f"image/{copy}"), ("image.requeue", f"image/{copy}"),
        ("image.requeue", f"image/{world.ids[2]}"),
    }  # fmt: skip
    assert await world.found() == {}


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
        for turn in range(6):
            image = await put(jpeg(photo("coins.png").rotate(turn * 3 + 1)))
            other = await put(jpeg(photo("chelsea.png").rotate(turn * 3 + 1)))
            await run_queue(world.processor)
            await remove(world.engine, world.objects, image.id or 0, actor="test")
            await asyncio.sleep(0.1)
            await world.processor.index.add({}, [image.id or 0])
            assert (await state(world.engine, other))[0] == "PROCESSED"

    running, found = asyncio.create_task(service()), []
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


async def _tables(world: World) -> list[str]:
    return list((await (await connect(world.settings)).list_tables()).tables)


async def test_a_wrong_database_or_bucket_is_not_taken_for_the_truth(world: World) -> None:
    paths = [image.s3_path for image in world.pictures]
    elsewhere = world.settings.model_copy(update={"s3_bucket": f"{world.settings.s3_bucket}-corpus"})
    other = ObjectStore(elsewhere)
    mistaken = Check(world.engine, other, elsewhere, world.processor.registry, repair=True, grace_s=0)
    with pytest.raises(ConfigurationError, match="right bucket"):
        await mistaken.run()
    other.close()
    assert {one.status for one in await world.execute("SELECT status FROM image")} == {"PROCESSED"}
    await world.execute("TRUNCATE image CASCADE")
    with pytest.raises(ConfigurationError, match="right database"):
        await world.check(repair=True)
    for path in paths:
        assert await world.objects.get(path)
    assert (await world.check()).found[Kind.EXTRA_OBJECT].count == 5, "to look is harmless"


def test_what_does_not_answer_is_said_in_one_line(servers: Settings, tmp_path: Path) -> None:
    def run(**lines: str) -> None:
        (tmp_path / "settings.env").write_text(
            "".join(f"SAFEGUARD_{name}='{value}'\n" for name, value in lines.items())
        )
        check(tmp_path, repair=False, grace_s=None)

    with pytest.raises(ConfigurationError, match="no database"):
        run()
    url, s3 = secret(servers)
    with pytest.raises(Unavailable, match="database does not answer"):
        run(**s3, DATABASE_URL="postgresql://u:p@127.0.0.1:9/none")
    down = {"S3_ENDPOINT": "http://127.0.0.1:9", "S3_ATTEMPTS": "1", "S3_CONNECT_TIMEOUT_S": "0.5"}
    with pytest.raises(Unavailable, match="object store does not answer"):
        run(**s3 | down, DATABASE_URL=url)
    with pytest.raises(Unavailable, match="bucket of the pictures is missing"):
        run(**s3 | {"S3_BUCKET": "no-such-bucket"}, DATABASE_URL=url)
    with pytest.raises(ConfigurationError, match="lacks tables"):
        run(**s3, DATABASE_URL=f"{url.rpartition('/')[0]}/postgres")


def secret(settings: Settings) -> tuple[str, dict[str, str]]:
    """Address of the database, and what leads to the object store."""
    assert settings.database_url and settings.s3_access_key and settings.s3_secret_key and settings.s3_endpoint
    return settings.database_url.get_secret_value(), {
        "S3_ENDPOINT": settings.s3_endpoint,
        "S3_ACCESS_KEY": settings.s3_access_key.get_secret_value(),
        "S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
        "S3_BUCKET": settings.s3_bucket,
        "S3_VECTORS_BUCKET": settings.s3_vectors_bucket,
    }


async def test_the_command_line(world: World, tmp_path: Path) -> None:
    url, s3 = secret(world.settings)
    lines = s3 | {"DATABASE_URL": url}
    (tmp_path / "settings.env").write_text("".join(f"SAFEGUARD_{name}='{value}'\n" for name, value in lines.items()))

    async def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, str(ROOT / "safeguard.py"), "check", "--home", str(tmp_path), *arguments]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=240, env=os.environ | {"COLUMNS": "200"}
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout

    code, said = await run()
    assert code == 0 and "consistent; looked at" in said
    await object_gone(world)
    code, said = await run("--json")
    report = json.loads(said)
    assert code == 1 and report["clean"] is False
    (finding,) = report["findings"]
    assert (finding["kind"], finding["count"], finding["repaired"]) == ("missing_object", 1, 0)
    code, said = await run("--repair")
    assert code == 0 and "1: the image becomes FAILED" in said


def test_the_report_and_the_progress_can_be_read_in_a_log_file(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(repair=False)
    for number in range(7):
        report.add(Kind.EXTRA_OBJECT, f"images/[red]{number}")
    assert report.found[Kind.EXTRA_OBJECT].examples == [f"images/[red]{number}" for number in range(5)]
    stream = io.StringIO()
    console = Console(file=stream, width=160)
    show(report, console)
    with progress_line(console) as say:
        for number in range(1000):
            say(f"images to {number}")
    said = stream.getvalue()
    assert "images/[red]4" in said and "7 findings" in said and "\x1b" not in said
    assert "images to" not in said, "a line every ten seconds, not one for each page"
    monkeypatch.setattr(check_report, "_LOG_EVERY_S", 0.0)
    with progress_line(console) as say:
        say("images to 7 of [9]")
    assert stream.getvalue().endswith("images to 7 of [9]\n")


async def test_the_audit_tells_a_late_removal_from_a_leftover(world: World) -> None:
    await remove(world.engine, world.objects, world.ids[3], actor="test")
    assert await world.found() == {}, "its vectors may be on their way out"
    async with world.engine.begin() as connection, tampering(connection):
        await connection.execute(text("UPDATE audit SET at = now() - interval '2 minutes'"))
    assert await world.found() == {Kind.EXTRA_VECTORS: 1}
    with pytest.raises(NotFound):
        await images.get(world.engine, world.ids[3])
