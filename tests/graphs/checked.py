"""A small corpus that is whole, what looks at it, and what damages it, for tests of the check."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest_asyncio
from sqlalchemy import text

from configs.models import ModelSpec
from configs.settings import Settings
from deployments.pipeline.processor import Processor
from deployments.similarity.replicas import spaces_of_model
from graphs.check import Check
from graphs.check_report import Kind, Report
from graphs.check_vectors import Sizes
from storage.features import features_key
from storage.tables import Image
from storage.vector_rows import PDQ_SPACE, VectorRows, VectorSpace
from storage.vectors import VectorTable, connect
from tests.deployments.pipeline.conftest import Upload, run_queue
from tests.graphs.own import engine, objects, servers
from tests.service.pictures import edited, jpeg, photo

__all__ = ["engine", "objects", "servers"]

SMALL = Sizes(rows=2, objects=2, images=3, vectors=4, suspects=2)


ROOT = Path(__file__).parents[2]


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


async def _tables(world: World) -> list[str]:
    return list((await (await connect(world.settings)).list_tables()).tables)


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
