"""A search finds what an upload would be linked to, and stores nothing."""

import pytest
from sqlalchemy import text

from deployments.pipeline.processor import Processor
from deployments.pipeline.search import search
from storage.errors import UnsupportedImage
from storage.uploads import remove
from tests.deployments.pipeline.conftest import Upload, run_queue
from tests.service.pictures import edited, jpeg, photo


async def test_a_search_finds_copies_and_leaves_no_trace(processor: Processor, put: Upload) -> None:
    name = processor.registry.default
    astronaut = await put(jpeg(photo("astronaut.png")), "astronaut.jpg")
    mirrored = await put(edited("astronaut.png", "mirror"))
    await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    before = await processor.index.add({}, [])
    found = await search(processor, jpeg(photo("astronaut.png")), name, k=10)
    assert [(one.image_id, one.relation) for one in found] == [(astronaut.id, "exact"), (mirrored.id, "copy")]
    assert (found[0].name, found[0].s3_path) == (astronaut.name, astronaut.s3_path)
    assert all(one.score >= one.threshold for one in found)
    cropped = await search(processor, edited("astronaut.png", "crop70"), name, k=10)
    assert astronaut.id in {one.image_id for one in cropped}
    assert all("query" in one.evidence["descriptor"]["boxes"] for one in cropped)
    assert await search(processor, jpeg(photo("rocket.jpg")), name, k=10) == []
    assert await processor.index.add({}, []) == before, "a search has written vectors"
    async with processor.engine.connect() as connection:
        statement = text("SELECT count(*) FROM image WHERE model_name = :name")
        assert (await connection.execute(statement, {"name": name})).scalar_one() == 3


async def test_limits_and_exclusion(processor: Processor, put: Upload) -> None:
    name = processor.registry.default
    data = jpeg(photo("camera.png"))
    twins = [await put(data), await put(data)]
    await run_queue(processor)
    assert len(await search(processor, data, name, k=1)) == 1
    found = await search(processor, data, name, k=5, exclude=twins[0].id)
    assert [one.image_id for one in found] == [twins[1].id]


async def test_all_copies_are_found_however_many_there_are(processor: Processor, put: Upload) -> None:
    name = processor.registry.default
    picture = photo("motorcycle_left.png").resize((320, 240))
    data = jpeg(picture)
    twins = [await put(data) for _ in range(14)]
    copies = [await put(jpeg(picture, quality)) for quality in range(60, 74)]
    await run_queue(processor)
    found = {one.image_id: one.relation for one in await search(processor, data, name, k=40)}
    assert found == {one.id: "exact" for one in twins} | {one.id: "copy" for one in copies}
    fewer = await search(processor, data, name, k=10)
    assert [one.relation for one in fewer] == ["exact"] * 10 + ["copy"] * 10


async def test_a_deleted_picture_is_not_found_though_its_vectors_remain(processor: Processor, put: Upload) -> None:
    name = processor.registry.default
    gone = await put(jpeg(photo("coins.png")))
    await run_queue(processor)
    assert len(await search(processor, edited("coins.png", "shrink"), name, k=5)) == 1
    await remove(processor.engine, processor.objects, gone.id or 0, actor="test")
    assert await search(processor, edited("coins.png", "shrink"), name, k=5) == []


async def test_a_broken_picture_is_refused(processor: Processor) -> None:
    with pytest.raises(UnsupportedImage):
        await search(processor, b"no picture", processor.registry.default, k=5)
