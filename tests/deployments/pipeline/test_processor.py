"""The life of a claimed picture, with the real networks, PostgreSQL, S3 and vectors, in this process."""

import uuid
from collections.abc import AsyncIterator

import pytest
from skimage import data as photos
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.local import LocalNetworks
from configs.models import ModelRegistry, load_models
from configs.settings import Settings
from deployments.pipeline.loop import ClaimLoop
from deployments.pipeline.processor import Processor
from deployments.pipeline.search import search
from deployments.similarity.reader import Hit, Query, VectorReader
from deployments.similarity.writer import VectorWriter
from storage import claims, images
from storage.claims import Claim
from storage.objects import ObjectStore
from storage.queues import UploadSignal
from storage.uploads import NewImage, upload
from storage.vectors import PDQ_SPACE, VectorRows, VectorSpace
from tests.service.pictures import edited, jpeg, photo


class LocalIndex:
    """The real writer and reader without Ray between them."""

    def __init__(self, writer: VectorWriter, reader: VectorReader) -> None:
        self._writer = writer
        self._reader = reader

    async def add(self, rows: dict[str, VectorRows], replace: list[int]) -> dict[str, int]:
        return await self._writer.add(rows, replace=replace)

    async def search(self, queries: list[Query], versions: dict[str, int] | None) -> list[list[Hit]]:
        return await self._reader.search(queries, versions)


@pytest.fixture(scope="module")
async def processor(engine: AsyncEngine, objects: ObjectStore, servers: Settings) -> AsyncIterator[Processor]:
    known = load_models(servers.models_file)
    name = f"pipeline-{uuid.uuid4().hex}"
    descriptor = known[known.default].descriptor.model_copy(update={"name": f"{name}@1"})
    model = known[known.default].model_copy(update={"name": name, "descriptor": descriptor})
    spaces = [PDQ_SPACE, VectorSpace(descriptor.name, descriptor.dim)]
    writer = VectorWriter(engine, servers, spaces, holder="test")
    await writer.start()
    index = LocalIndex(writer, VectorReader(servers, spaces))
    networks = LocalNetworks(model, servers)
    yield Processor(engine, objects, servers, ModelRegistry({name: model}, name), networks, index)
    await writer.close()


async def put(processor: Processor, data: bytes) -> int:
    """Uploads to the processor's own queue."""
    name = processor.registry.default
    new = NewImage("a.jpg", name, data, "image/jpeg", 10, 10)
    image = (await upload(processor.engine, processor.objects, new, caller=0)).id
    assert image is not None
    return image


async def claim(processor: Processor, limit: int = 50) -> list[Claim]:
    return await claims.claim(processor.engine, [processor.registry.default], limit, lease_s=60, max_attempts=3)


async def test_copies_are_linked_people_are_seen(processor: Processor) -> None:
    astronaut, mirrored, coffee = [
        await put(processor, data)
        for data in (jpeg(photo("astronaut.png")), edited("astronaut.png", "mirror"), jpeg(photo("coffee.png")))
    ]
    await processor.process(await claim(processor))
    for image in (astronaut, mirrored, coffee):
        assert (await images.get(processor.engine, image)).status == "PROCESSED"
    (link,) = await images.matches(processor.engine, astronaut)
    assert (link.image_id, link.relation) == (mirrored, "copy") and link.score >= link.threshold
    assert await images.related(processor.engine, coffee) == []
    assert (await images.detections(processor.engine, astronaut))[0].label == "person"
    (score,) = await images.content_scores(processor.engine, coffee)
    assert score.model == "opennsfw@1" and score.score < 0.5
    found = await search(processor, edited("astronaut.png", "crop70"), processor.registry.default, k=5)
    assert {one.image_id for one in found} >= {astronaut}
    twin = await put(processor, jpeg(photo("coffee.png")))
    await processor.process(await claim(processor))
    assert [(one.image_id, one.relation) for one in await images.matches(processor.engine, twin)] == [(coffee, "exact")]


async def test_each_failure_has_its_own_end(processor: Processor) -> None:
    broken = await put(processor, b"\xff\xd8\xff not a picture at all")
    missing = await put(processor, jpeg(photo("coins.png")))
    good = await put(processor, jpeg(photo("rocket.jpg")))
    await processor.objects.delete((await images.get(processor.engine, missing)).s3_path)
    await processor.process(await claim(processor))
    states = {number: await images.get(processor.engine, number) for number in (broken, missing, good)}
    assert states[good].status == "PROCESSED"
    assert states[broken].status == "FAILED" and states[broken].failure
    assert states[missing].status == "FAILED" and states[missing].failure == "the stored picture is missing"
    assert states[broken].attempt == 1


async def test_an_outage_costs_no_attempt(processor: Processor, servers: Settings) -> None:
    image = await put(processor, jpeg(photo("camera.png")))
    down = servers.model_copy(
        update={"s3_endpoint": "http://127.0.0.1:9", "s3_attempts": 1, "s3_connect_timeout_s": 0.3}
    )
    store = ObjectStore(down)
    cut_off = Processor(
        processor.engine, store, processor.settings.model_copy(update={"retry_delay_s": 0.0}), processor.registry,
        processor.networks, processor.index,
    )  # fmt: skip
    await cut_off.process(await claim(processor))
    store.close()
    row = await images.get(processor.engine, image)
    assert (row.status, row.attempt, row.failure) == ("UPLOADED", 0, None)
    await processor.process(await claim(processor))
    assert (await images.get(processor.engine, image)).status == "PROCESSED"


async def test_a_result_after_the_lease_is_dropped(processor: Processor) -> None:
    image = await put(processor, edited("chelsea.png", "recolour"))
    held = await claims.claim(processor.engine, [processor.registry.default], 5, lease_s=0.01, max_attempts=3)
    assert [one.image_id for one in held] == [image]
    await processor.process(held)
    assert (await images.get(processor.engine, image)).status == "PROCESSING"
    assert await images.detections(processor.engine, image) == []
    await processor.process(await claim(processor))
    assert (await images.get(processor.engine, image)).status == "PROCESSED"


async def test_the_loop_drains_the_queue_and_ends_in_order(processor: Processor, servers: Settings) -> None:
    signal = UploadSignal(servers)
    await signal.start()
    loop = ClaimLoop(processor, signal, batch_size=4, batches=2, idle_s=0.2)
    await loop.start()
    pictures = [photos.coffee()[n : n + 200, n : n + 300] for n in range(0, 60, 6)]
    from PIL import Image

    ids = [await put(processor, jpeg(Image.fromarray(pixels))) for pixels in pictures]
    import asyncio

    for _ in range(300):
        states = [(await images.get(processor.engine, number)).status for number in ids]
        if set(states) == {"PROCESSED"}:
            break
        await asyncio.sleep(0.1)
    loop.check()
    await loop.close()
    await signal.close()
    assert set(states) == {"PROCESSED"} and loop.in_work == 0
    with pytest.raises(RuntimeError, match="has stopped"):
        loop.check()
