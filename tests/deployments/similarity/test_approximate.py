"""Large tables are searched through an index whose recall is held, and what it does not cover yet is found too."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.index import alike, descriptors
from configs.settings import Settings
from deployments.similarity.index import ExactIndex
from deployments.similarity.indexer import Indexer
from deployments.similarity.members import Members
from deployments.similarity.queries import Query
from deployments.similarity.reader import VectorReader
from deployments.similarity.writer import VectorWriter
from storage.bank_changes import change_banks
from storage.index_measurements import measured
from storage.objects import ObjectStore
from storage.vector_index import KIND, index_state
from storage.vector_rows import VectorRows, VectorSpace
from tests.banks import bank, member
from tests.storage.test_claims import stored

ROWS, DIM = 8000, 64


def rows_of(vectors: np.ndarray, first: int) -> VectorRows:
    count = len(vectors)
    whole = np.tile(np.asarray([[0, 0, 1, 1]], np.float32), (count, 1))
    return VectorRows(np.arange(first, first + count), np.zeros(count, np.int16), whole, vectors)


class Large:
    """A table over the limit with its index, its vectors, and who reads and writes it."""

    def __init__(self, space: VectorSpace, settings: Settings, writer: VectorWriter, vectors: np.ndarray) -> None:
        self.space, self.settings, self.writer, self.vectors = space, settings, writer, vectors

    def reader(self) -> VectorReader:
        return VectorReader(self.settings, [self.space], stale_s=0.0)

    def query(self, vectors: np.ndarray, k: int = 10, **more: object) -> Query:
        return Query({self.space.name: vectors}, {self.space.name: more.pop("min_score", -1.0)}, k=k, **more)


@pytest_asyncio.fixture(scope="session")
async def large(engine: AsyncEngine, servers: Settings) -> AsyncIterator[Large]:
    space = VectorSpace("large-test@1", DIM)
    settings = servers.model_copy(update={"exact_search_rows": ROWS // 2})
    writer = VectorWriter(engine, settings, [space], holder="test")
    await writer.start()
    vectors, _ = descriptors(ROWS, DIM, 1, seed=2)
    await writer.add({space.name: rows_of(vectors, 0)})
    for _ in range(600):
        if not writer._indexer.busy and space.name in await measured(engine):
            break
        await asyncio.sleep(0.2)
    yield Large(space, settings, writer, vectors)
    await writer.close()


async def test_recall_is_held_and_reported(large: Large, engine: AsyncEngine) -> None:
    reported = (await measured(engine))[large.space.name]
    assert (reported.kind, reported.rows) == (KIND, ROWS) and reported.recall_at_10 >= 0.95
    queries = alike(large.vectors[::40], np.random.default_rng(3))
    exact = ExactIndex(large.space)
    exact.extend(rows_of(large.vectors, 0))
    reader = large.reader()
    found = await reader.search([large.query(query[None]) for query in queries])
    assert reader.info()[large.space.name]["search"] == KIND
    hits = [
        len({row[0] for row in exact.search(query[None], k=10, min_score=-1.0)} & {hit.image_id for hit in near})
        for query, near in zip(queries, found, strict=True)
    ]
    assert np.mean(hits) / 10 >= 0.95


async def test_it_answers_as_exact_search_does(large: Large) -> None:
    reader = large.reader()
    several = large.vectors[[5, 700, 2500]]
    (hits,) = await reader.search([large.query(several, k=3, min_score=0.5)])
    best = {hit.query_row: hit for hit in reversed(hits)}
    assert [best[row].image_id for row in range(3)] == [5, 700, 2500]
    assert all(abs(best[row].score - 1) < 2e-3 and best[row].box == (0, 0, 1, 1) for row in range(3))
    assert all(hit.score >= 0.5 - 1e-3 for hit in hits) and [hit.score for hit in hits] == sorted(
        (hit.score for hit in hits), reverse=True
    )
    (without,) = await reader.search([large.query(several[:1], k=3, exclude=5)])
    assert without and 5 not in {hit.image_id for hit in without}
    query = large.query(several, k=3, exclude=700)
    (within,) = await reader.search([replace(query, within=(699, 2500))])
    assert 2500 in {hit.image_id for hit in within} and all(700 < hit.image_id <= 2500 for hit in within)
    (alone,) = await reader.search([large.query(several[:1], k=1)])
    assert [(hit.image_id, hit.query_row) for hit in alone] == [(5, 0)]
    assert await reader.search([large.query(several[:0])]) == [[]]


async def test_as_many_hits_are_given_as_are_asked_for(large: Large) -> None:
    reader, exact = large.reader(), ExactIndex(large.space)
    exact.extend(rows_of(large.vectors, 0))
    for k in (60, 200, 1200):  # times index_refine, past index_ef
        (hits,) = await reader.search([large.query(large.vectors[:2], k=k)])
        assert [sum(hit.query_row == row for hit in hits) for row in (0, 1)] == [k, k]
        best = {row[0] for row in exact.search(large.vectors[:1], k=k, min_score=-1.0)}
        assert len(best & {hit.image_id for hit in hits if hit.query_row == 0}) >= 0.9 * k


async def test_members_of_banks_are_searched_by_themselves(large: Large, own: tuple[AsyncEngine, ObjectStore]) -> None:
    """Their vectors are read from the table, which is not held in memory."""
    engine, objects = own
    (uploaded,) = await stored(engine, objects, "members")
    mine = uploaded + 10**6  # the table has vectors of the first thousands
    versions = await large.writer.add({large.space.name: rows_of(large.vectors[[40, 41]], mine)})
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        await connection.execute(text("UPDATE image SET id = :to WHERE id = :id"), {"to": mine, "id": uploaded})
        made = await bank(connection)
        newest = await member(connection, made, image_id=mine)
    reader = VectorReader(large.settings, [large.space], Members(engine))
    (hits,) = await reader.search([large.query(large.vectors[50:51], k=1, members=newest)], versions)
    assert [(hit.image_id, hit.member) for hit in hits] == [(50, False), (mine, True)]
    assert abs(hits[1].score - float(large.vectors[50] @ large.vectors[40])) < 2e-3
    few = large.settings.model_copy(update={"member_images_held": 0})  # from more on they are looked for in the index
    reader = VectorReader(few, [large.space], Members(engine))
    (found,) = await reader.search([large.query(large.vectors[40:41], k=2, members=newest)], versions)
    assert {(hit.image_id, hit.member) for hit in found} == {(40, False), (mine, False), (mine, True)}
    await large.writer.remove([mine, mine + 1])


async def test_what_was_just_written_or_deleted_is_seen(large: Large) -> None:
    reader = large.reader()
    fresh = alike(large.vectors[:3] * -1, np.random.default_rng(9))
    versions = await large.writer.add({large.space.name: rows_of(fresh, 900_000)})
    (hits,) = await reader.search([large.query(fresh, k=1)], versions)
    assert {hit.image_id for hit in hits} == {900_000, 900_001, 900_002}
    info = reader.info()[large.space.name]
    assert info["search"] == KIND and info["unindexed_rows"] >= 3 and info["rows"] >= ROWS + 3
    versions = await large.writer.remove([900_001])
    (hits,) = await reader.search([large.query(fresh[1:2], k=3)], versions)
    assert 900_001 not in {hit.image_id for hit in hits}


async def test_small_tables_have_no_index(engine: AsyncEngine, servers: Settings) -> None:
    space = VectorSpace("small-test@1", DIM)
    writer = VectorWriter(engine, servers, [space], holder="test")
    await writer.start()
    vectors, _ = descriptors(300, DIM, 1, seed=4)
    await writer.add({space.name: rows_of(vectors, 0)})
    assert not writer._indexer.busy and await index_state(writer._tables[space.name]) is None
    reader = VectorReader(servers, [space], stale_s=0.0)
    await reader.search([Query({space.name: vectors[:1]}, {space.name: -1.0})])
    assert reader.info()[space.name]["search"] == "exact"
    await writer.close()


async def test_a_build_that_fails_is_tried_again(
    large: Large, engine: AsyncEngine, caplog: object, monkeypatch: object
) -> None:
    indexer = Indexer(engine, large.settings)
    table = large.writer._tables[large.space.name]
    indexer._built_at[large.space.name] = 1  # as if it had been built when the table was small

    async def fails(*_: object) -> float:
        raise OSError("no space")

    monkeypatch.setattr("deployments.similarity.indexer.build_index", fails)
    await indexer.consider(table)
    assert indexer._task is not None
    await indexer._task
    assert not indexer.busy and indexer._built_at[large.space.name] == 1
