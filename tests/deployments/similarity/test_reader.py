"""Readers follow the writer: read-your-write, deletions, tables that do not exist yet, a store that does not answer."""

import numpy as np
import pytest

from configs.settings import Settings
from deployments.similarity.queries import Query
from deployments.similarity.reader import VectorReader
from storage.errors import ConfigurationError, Unavailable
from storage.vector_rows import VectorRows, VectorSpace
from tests.deployments.similarity.conftest import StartWriter, rows_of


def asks(space: VectorSpace, rows: VectorRows, **more: int) -> Query:
    """A query for the very vectors of some rows."""
    return Query({space.name: rows.vectors}, {space.name: 0.99}, **more)


async def test_reads_what_was_written_at_once(servers: Settings, space: VectorSpace, start_writer: StartWriter) -> None:
    writer = await start_writer(space)
    reader = VectorReader(servers, [space], stale_s=3600.0)
    assert await reader.search([]) == []
    for number in range(4):
        mine = rows_of(number)
        versions = await writer.add({space.name: mine})
        ((hit,),) = await reader.search([asks(space, mine)], versions)
        assert (hit.space, hit.image_id, hit.query_row, hit.region) == (space.name, number, 0, 0)
        assert hit.score == pytest.approx(1.0, abs=2e-3) and hit.box == (0.0, 0.0, 1.0, 1.0)
    held = reader.info()[space.name]
    assert held["rows"] == 4 and held["exists"] and held["version"] >= versions[space.name]


async def test_without_a_version_news_come_once_stale(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    writer = await start_writer(space)
    lazy, eager = VectorReader(servers, [space], stale_s=3600.0), VectorReader(servers, [space], stale_s=0.0)
    for reader in (lazy, eager):
        await reader.refresh()
    mine = rows_of(7)
    versions = await writer.add({space.name: mine})
    assert await lazy.search([asks(space, mine)]) == [[]]
    assert [hit.image_id for hit in (await eager.search([asks(space, mine)]))[0]] == [7]
    assert [hit.image_id for hit in (await lazy.search([asks(space, mine)], versions))[0]] == [7]


async def test_several_queries_and_an_excluded_image(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    writer = await start_writer(space)
    mine = rows_of(1, 2, 3)
    versions = await writer.add({space.name: mine})
    reader = VectorReader(servers, [space])
    every, but_two, one = await reader.search(
        [
            asks(space, mine),
            asks(space, mine, exclude=2),
            Query({space.name: mine.vectors[:1]}, {space.name: -1.0}, k=2),
        ],
        versions,
    )
    assert sorted((hit.image_id, hit.query_row) for hit in every) == [(1, 0), (2, 1), (3, 2)]
    assert sorted(hit.image_id for hit in but_two) == [1, 3]
    assert len(one) == 2 and one[0].image_id == 1 and one[0].score > one[1].score


async def test_a_table_that_comes_later(servers: Settings, space: VectorSpace, start_writer: StartWriter) -> None:
    reader = VectorReader(servers, [space], stale_s=0.0)
    mine = rows_of(1)
    assert await reader.search([asks(space, mine)]) == [[]]
    assert reader.info()[space.name]["exists"] is False
    writer = await start_writer(space)
    versions = await writer.add({space.name: mine})
    assert len((await reader.search([asks(space, mine)], versions))[0]) == 1


async def test_a_table_that_vanishes_and_comes_again(
    servers: Settings, space: VectorSpace, start_writer: StartWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("reader", "writer"):
        monkeypatch.setattr(f"deployments.similarity.{module}.TRUSTED_S", 0.7)
    writer = await start_writer(space)
    old, new = rows_of(*range(20)), rows_of(100)
    for row in range(20):
        versions = await writer.add({space.name: VectorRows(*(part[row : row + 1] for part in vars(old).values()))})
    busy, lazy, idle = (VectorReader(servers, [space], stale_s=stale) for stale in (0.0, 3600.0, 3600.0))
    for reader in (busy, lazy, idle):
        (hits,) = await reader.search([asks(space, old)], versions)
        assert len(hits) == 20
    await writer.drop(space.name)
    for reader in (busy, lazy):
        with pytest.raises(Unavailable, match="not yet"):
            await reader.search([asks(space, old)], versions)
        assert await reader.search([asks(space, old)]) == [[]], "no hits, no failure"
        assert reader.info()[space.name]["exists"] is False and reader.info()[space.name]["rows"] == 0
    again = await writer.add({space.name: new})
    assert again[space.name] < versions[space.name]
    for reader in (busy, lazy, idle):  # the idle one has seen nothing of the drop
        (hits,) = await reader.search([asks(space, VectorRows.concatenate([old, new]))], again)
        assert [hit.image_id for hit in hits] == [100]


async def test_only_what_is_asked_for_is_read(servers: Settings, space: VectorSpace, start_writer: StartWriter) -> None:
    other = VectorSpace(f"other-{space.name}", 24)
    writer = await start_writer(space, other)
    mine, theirs = rows_of(1), rows_of(2, dim=24)
    versions = await writer.add({space.name: mine, other.name: theirs})
    reader = VectorReader(servers, [space, other])
    await reader.search([asks(space, mine)], {space.name: versions[space.name]})
    assert reader.info()[space.name]["rows"] == 1 and reader.info()[other.name]["exists"] is False
    ((hit,),) = await reader.search([asks(other, theirs)])
    assert (hit.space, hit.image_id) == (other.name, 2)
    with pytest.raises(ConfigurationError, match="knows no strange@1"):
        await reader.search([Query({"strange@1": mine.vectors}, {"strange@1": 0.0})])


async def test_a_version_that_is_not_there_is_an_error(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    writer = await start_writer(space)
    versions = await writer.add({space.name: rows_of(1)})
    reader = VectorReader(servers, [space])
    with pytest.raises(Unavailable, match="not yet"):
        await reader.search([], {space.name: versions[space.name] + 5})
    await reader.search([], versions)


async def test_deleted_rows_leave_the_reader(servers: Settings, space: VectorSpace, start_writer: StartWriter) -> None:
    writer = await start_writer(space)
    mine = rows_of(*range(300))
    reader = VectorReader(servers, [space])
    await reader.refresh(await writer.add({space.name: mine}))
    assert reader.info()[space.name]["rows"] == 300
    await reader.refresh(await writer.remove([5]))
    assert reader.info()[space.name]["rows"] == 300, "a few deleted rows are not worth a reload"
    versions = await writer.remove(list(range(200)))
    (hits,) = await reader.search([asks(space, mine)], versions)
    assert sorted(hit.image_id for hit in hits) == list(range(200, 300))
    assert reader.info()[space.name]["rows"] == 100
    await reader.refresh(await writer.add({space.name: rows_of(900)}))
    assert reader.info()[space.name]["rows"] == 101


async def test_merged_files_are_followed_without_doubles(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    writer = await start_writer(space, optimize_every=2)
    reader = VectorReader(servers, [space], stale_s=0.0)
    parts = [rows_of(number) for number in range(9)]
    for part in parts:
        await reader.refresh(await writer.add({space.name: part}))
    whole = VectorRows.concatenate(parts)
    (hits,) = await reader.search([asks(space, whole)])
    assert sorted((hit.image_id, hit.query_row) for hit in hits) == [(number, number) for number in range(9)]


async def test_a_store_that_does_not_answer(servers: Settings, space: VectorSpace) -> None:
    nowhere = servers.model_copy(
        update={"s3_endpoint": "http://127.0.0.1:1", "s3_attempts": 1, "s3_connect_timeout_s": 0.5}
    )
    reader = VectorReader(nowhere, [space])
    with pytest.raises(Unavailable):
        await reader.search([Query({space.name: np.zeros((1, 16), np.float32)}, {space.name: 0.5})])
