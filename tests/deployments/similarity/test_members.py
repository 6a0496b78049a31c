"""Members of banks are ranked among themselves: what is nearer does not hide them, and news come with the next search."""

from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.similarity.members import Members
from deployments.similarity.queries import Hit, Query
from deployments.similarity.reader import VectorReader
from storage import image_members
from storage.bank_changes import change_banks
from storage.errors import ConfigurationError
from storage.objects import ObjectStore
from storage.vector_rows import PDQ_SPACE, VectorRows, VectorSpace
from tests.banks import bank, member
from tests.deployments.similarity.conftest import StartWriter, rows_of
from tests.storage.test_claims import stored

Join = Callable[..., Awaitable[int]]


@pytest_asyncio.fixture
async def join(engine: AsyncEngine) -> AsyncIterator[Join]:
    """Makes images members of a new bank; gives the id of the newest member."""
    banks: list[int] = []

    async def add(*image_ids: int) -> int:
        async with engine.begin() as connection:
            await change_banks(connection, hashes=False)
            banks.append(await bank(connection))
            for image_id in image_ids:
                await member(connection, banks[-1], image_id=image_id)
        return await image_members.newest(engine)

    yield add
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        await connection.execute(text("DELETE FROM bank WHERE id = ANY(:ids)"), {"ids": banks})


def near(one: np.ndarray, count: int, spread: float) -> np.ndarray:
    """Vectors about as far from one, of length 1."""
    numbers = np.random.default_rng(11)
    away = numbers.normal(size=(count, len(one)))
    away -= (away @ one)[:, None] * one
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return np.asarray(one * np.sqrt(1 - spread**2) + away * spread, np.float32)


def rows(image_ids: list[int], vectors: np.ndarray) -> VectorRows:
    made = rows_of(*image_ids)
    return VectorRows(made.image_ids, made.regions, made.boxes, vectors)


def members_of(hits: list[Hit]) -> list[int]:
    return [hit.image_id for hit in hits if hit.member]


async def test_a_member_is_not_hidden_by_what_is_nearer(
    engine: AsyncEngine,
    objects: ObjectStore,
    servers: Settings,
    space: VectorSpace,
    start_writer: StartWriter,
    join: Join,
) -> None:
    writer, reader = await start_writer(space), VectorReader(servers, [space], Members(engine))
    query, (mine,) = rows_of(0).vectors[0], await stored(engine, objects, "members")
    far, crowd = near(query, 1, 0.5), near(query, 40, 0.2)
    versions = await writer.add({space.name: rows([mine, *range(10**9, 10**9 + 40)], np.concatenate([far, crowd]))})

    async def ask(members: int | None, **more: int) -> list[Hit]:
        asked = Query({space.name: query[None]}, {space.name: 0.3}, k=12, members=members, **more)
        return (await reader.search([asked], versions))[0]

    assert mine not in {hit.image_id for hit in await ask(0)} and len(await ask(None)) == 12
    newest = await join(mine)
    assert members_of(await ask(None)) == [] and len(await ask(None)) == 12
    hits = await ask(newest)
    assert members_of(hits) == [mine] and len(hits) == 13
    assert hits[-1].score == pytest.approx(np.sqrt(0.75), abs=2e-3)
    assert members_of(await ask(newest, exclude=mine)) == []


async def test_later_members_and_later_vectors(
    engine: AsyncEngine,
    objects: ObjectStore,
    servers: Settings,
    space: VectorSpace,
    start_writer: StartWriter,
    join: Join,
) -> None:
    writer, reader = await start_writer(space), VectorReader(servers, [space], Members(engine))
    first, second, third = await stored(engine, objects, "members", 3)
    query = rows_of(0).vectors
    versions = await writer.add({space.name: rows([first, second], near(query[0], 2, 0.1))})

    async def ask(newest: int) -> set[int]:
        (hits,) = await reader.search([Query({space.name: query}, {space.name: 0.3}, members=newest)], versions)
        return set(members_of(hits))

    assert await ask(await join(first)) == {first}
    newest = await join(second, third)
    assert await ask(newest) == {first, second}, "the third has no vectors yet"
    versions = await writer.add({space.name: rows([third], near(query[0], 1, 0.1))})
    assert await ask(newest) == {first, second, third}


async def test_hashes_of_members_and_a_table_that_is_not_there(
    engine: AsyncEngine,
    objects: ObjectStore,
    servers: Settings,
    space: VectorSpace,
    start_writer: StartWriter,
    join: Join,
) -> None:
    writer = await start_writer(PDQ_SPACE)
    reader = VectorReader(servers, [PDQ_SPACE, space], Members(engine))
    (mine,) = await stored(engine, objects, "members")
    hashes = np.random.default_rng().integers(0, 256, (1, 32), np.uint8)
    versions = await writer.add({PDQ_SPACE.name: rows([mine], hashes)})
    asked = Query(
        {PDQ_SPACE.name: hashes, space.name: rows_of(1).vectors}, {PDQ_SPACE.name: 0.9, space.name: 0.9},
        members=await join(mine),
    )  # fmt: skip
    (hits,) = await reader.search([asked], versions)
    assert [(hit.space, hit.score) for hit in hits if hit.member] == [(PDQ_SPACE.name, 1.0)]
    await writer.remove([mine])


async def test_all_is_read_anew_after_a_while(
    engine: AsyncEngine,
    objects: ObjectStore,
    servers: Settings,
    space: VectorSpace,
    start_writer: StartWriter,
    join: Join,
) -> None:
    writer = await start_writer(space)
    kept, anew = (VectorReader(servers, [space], Members(engine, anew_s=after)) for after in (3600.0, 0.0))
    (mine,) = await stored(engine, objects, "members")
    vectors = rows_of(mine).vectors
    versions = await writer.add({space.name: rows([mine], vectors)})
    newest = await join(mine)
    asked = Query({space.name: vectors}, {space.name: 0.9}, members=newest)
    for reader in (kept, anew):
        assert members_of((await reader.search([asked], versions))[0]) == [mine]
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        await connection.execute(text("DELETE FROM bank_member WHERE image_id = :id"), {"id": mine})
    assert members_of((await kept.search([asked], versions))[0]) == [mine]
    assert members_of((await anew.search([asked], versions))[0]) == []


async def test_a_reader_that_follows_none_says_so(servers: Settings, space: VectorSpace) -> None:
    asked = Query({space.name: rows_of(1).vectors}, {space.name: 0.9}, members=1)
    with pytest.raises(ConfigurationError, match="does not follow the members"):
        await VectorReader(servers, [space]).search([asked])
