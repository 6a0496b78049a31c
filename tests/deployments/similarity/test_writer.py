"""The one writer on real S3 and PostgreSQL: few commits, one holder, nothing lost."""

import asyncio
import time

import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.similarity.writer import VectorWriter, remove_beside
from storage.database import create_engine
from storage.errors import ConfigurationError, Conflict, FencedOut, Unavailable
from storage.generations import ensure_live
from storage.vector_rows import PDQ_SPACE, VectorRows, VectorSpace
from storage.vectors import VectorTable, connect
from tests.deployments.similarity.conftest import StartWriter, rows_of


async def stored(servers: Settings, space: VectorSpace) -> VectorRows:
    """All rows, read through a connection of its own."""
    table = await VectorTable.open(await connect(servers), space, create=False)
    assert table is not None
    return (await table.read_since(-1))[0]


async def test_adds_at_the_same_time_share_commits(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    writer = await start_writer(space)
    parts = [rows_of(number, 1000 + number) for number in range(40)]
    versions = await asyncio.gather(*(writer.add({space.name: part}) for part in parts))
    info = await writer.info()
    assert info["commits"] <= 3, "concurrent adds must wait for one another, not each make a commit"
    assert info["tables"][space.name]["rows"] == 80
    assert max(version[space.name] for version in versions) == info["tables"][space.name]["version"]
    held = await stored(servers, space)
    order, wanted = np.argsort(held.image_ids), VectorRows.concatenate(parts)
    ranks = np.argsort(wanted.image_ids)
    assert held.image_ids[order].tolist() == wanted.image_ids[ranks].tolist()
    np.testing.assert_allclose(held.vectors[order], wanted.vectors[ranks], atol=1e-3)  # float16 on S3


async def test_every_row_gets_a_seq_of_its_own(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    first = await start_writer(space)
    for batch in ((1, 2, 3), (4, 5)):
        await first.add({space.name: rows_of(*batch)})
    second = await start_writer(space)  # a restart
    await second.add({space.name: rows_of(6)})
    table = await VectorTable.open(await connect(servers), space, create=False)
    assert table is not None
    _, newest = await table.read_since(-1)
    later, _ = await table.read_since(newest - 1)
    assert later.image_ids.tolist() == [6]


async def test_replaced_and_removed_images(servers: Settings, space: VectorSpace, start_writer: StartWriter) -> None:
    writer = await start_writer(space)
    await writer.add({space.name: rows_of(1, 2, 3)})
    again = rows_of(2, 2)
    await writer.add({space.name: again}, replace=[2])
    held = await stored(servers, space)
    assert sorted(held.image_ids.tolist()) == [1, 2, 2, 3]
    np.testing.assert_allclose(held.vectors[held.image_ids == 2], again.vectors, atol=1e-3)
    version = await writer.remove([1, 2, 77])
    assert (await stored(servers, space)).image_ids.tolist() == [3]
    assert version[space.name] == (await writer.info())["tables"][space.name]["version"]


async def test_of_what_waits_together_the_later_counts(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    """A caller that got no answer sends the rows of a picture again while the first ones still wait."""
    writer = await start_writer(space)
    await writer.add({space.name: rows_of(9)})
    commits, again = (await writer.info())["commits"], rows_of(1)
    await asyncio.gather(
        writer.add({space.name: rows_of(1, 2)}), writer.add({space.name: again}, replace=[1]),
        writer.add({space.name: rows_of(3)}), writer.remove([3, 9]),
    )  # fmt: skip
    assert (await writer.info())["commits"] == commits + 1, "they must have waited together"
    held = await stored(servers, space)
    assert sorted(held.image_ids.tolist()) == sorted([*again.image_ids.tolist(), *rows_of(2).image_ids.tolist()])


async def test_tables_are_written_side_by_side(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    bits = VectorSpace(f"bits-{space.table_name}@1", PDQ_SPACE.dim, binary=True)
    writer = await start_writer(space, bits)
    mine = rows_of(5)
    other = VectorRows(mine.image_ids, mine.regions, mine.boxes, np.full((1, bits.dim), 0b10100101, np.uint8))
    versions = await writer.add({space.name: mine, bits.name: other})
    assert set(versions) == {space.name, bits.name}
    held = await stored(servers, bits)
    assert held.vectors.dtype == np.uint8 and held.vectors.tolist() == other.vectors.tolist()


async def test_a_second_writer_shuts_the_first_out(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    first = await start_writer(space)
    await first.add({space.name: rows_of(1)})
    second = await start_writer(space)
    assert not first.fenced_out
    with pytest.raises(FencedOut):
        await first.add({space.name: rows_of(2)})
    assert first.fenced_out and not second.fenced_out
    with pytest.raises(FencedOut):
        await first.remove([1])
    await second.add({space.name: rows_of(3)})
    assert sorted((await stored(servers, space)).image_ids.tolist()) == [1, 3]
    await first.close()


async def test_close_writes_what_waits(servers: Settings, space: VectorSpace, start_writer: StartWriter) -> None:
    writer = await start_writer(space)
    waiting = [asyncio.create_task(writer.add({space.name: rows_of(number)})) for number in range(6)]
    await asyncio.sleep(0)  # they are in the queue, nothing is written
    await writer.close()
    assert all(task.done() and not task.exception() for task in waiting)
    assert sorted((await stored(servers, space)).image_ids.tolist()) == list(range(6))


async def test_merging_small_files_keeps_the_data(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    writer = await start_writer(space, optimize_every=3)
    wanted = []
    for number in range(7):
        part = rows_of(number)
        wanted.append(part.vectors[0])
        version = (await writer.add({space.name: part}))[space.name]
    merged = await writer.add({})
    assert merged[space.name] > version - 1
    held = await stored(servers, space)
    assert sorted(held.image_ids.tolist()) == list(range(7))
    np.testing.assert_allclose(held.vectors[np.argsort(held.image_ids)], np.stack(wanted), atol=1e-3)
    table = await (await connect(servers)).open_table(space.table_name)
    assert (await table.stats())["fragment_stats"]["num_fragments"] < 7, "nothing was merged"


async def test_malformed_rows_fail_and_writing_goes_on(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    writer = await start_writer(space)
    with pytest.raises(Unavailable):
        await writer.add({space.name: rows_of(1, dim=8)})
    await writer.add({space.name: rows_of(2)})
    assert (await stored(servers, space)).image_ids.tolist() == [2]


async def test_without_a_database_it_says_so(engine: AsyncEngine, servers: Settings, space: VectorSpace) -> None:
    gone = create_engine(servers.model_copy(update={"database_timeout_s": 2.0}), pool_size=1)
    writer = VectorWriter(gone, servers, [space], holder="test")
    await writer.start()
    # The statement that guards a write waits for whoever locks the fence; past its limit the add fails, and only it.
    async with engine.begin() as connection:
        await connection.exec_driver_sql("SELECT epoch FROM writer_fence WHERE name = 'vectors' FOR UPDATE")
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await writer.add({space.name: rows_of(1)})
        assert time.monotonic() - began >= 1.5
    await writer.add({space.name: rows_of(2)})
    assert (await stored(servers, space)).image_ids.tolist() == [2]
    await writer.close()
    await gone.dispose()


async def test_replacing_in_some_tables_leaves_the_others(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    other = VectorSpace(f"other-{space.name}", space.dim)
    writer = await start_writer(space, other)
    first = rows_of(1, 2)
    await writer.add({space.name: first, other.name: rows_of(1, 2)})
    again = rows_of(2)
    await asyncio.gather(
        writer.add({other.name: again}, replace=[2]), writer.add({space.name: rows_of(3), other.name: rows_of(3)})
    )
    kept, changed = await stored(servers, space), await stored(servers, other)
    assert sorted(kept.image_ids.tolist()) == sorted(changed.image_ids.tolist()) == [1, 2, 3]
    np.testing.assert_allclose(kept.vectors[kept.image_ids == 2][0], first.vectors[1], atol=1e-3)
    np.testing.assert_allclose(changed.vectors[changed.image_ids == 2], again.vectors, atol=1e-3)
    await writer.remove([2])
    for one in (space, other):
        assert sorted((await stored(servers, one)).image_ids.tolist()) == [1, 3]


async def test_a_table_is_made_with_its_first_rows_and_found_after_a_restart(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    other = VectorSpace(f"other-{space.name}", space.dim)
    writer = await start_writer(space, other)
    versions = await writer.add({space.name: rows_of(1)})
    assert set(versions) == {space.name} and set((await writer.info())["tables"]) == {space.name}
    assert await VectorTable.open(await connect(servers), other, create=False) is None
    assert set(await writer.add({other.name: rows_of(1, 2)})) == {space.name, other.name}
    later = await start_writer(space, other)
    await later.remove([1])
    assert (await stored(servers, other)).image_ids.tolist() == [2], "a deletion reaches tables that had no rows yet"
    with pytest.raises(ConfigurationError, match="knows no strange@1"):
        await later.add({"strange@1": rows_of(1)})


async def test_a_table_that_a_model_is_written_with_is_not_dropped(
    engine: AsyncEngine, servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    writer = await start_writer(space)
    await writer.add({space.name: rows_of(1)})
    await ensure_live(engine, {f"model of {space.name}": space.name})
    with pytest.raises(Conflict, match=f"{space.name} is in use by model of"):
        await writer.drop(space.name)
    assert (await stored(servers, space)).image_ids.tolist() == [1]
    with pytest.raises(ConfigurationError, match="knows no pdq@1"):
        await writer.drop(PDQ_SPACE.name)


async def test_only_the_holder_of_the_fence_drops(
    servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    first = await start_writer(space)
    await first.add({space.name: rows_of(1)})
    second = await start_writer(space)
    with pytest.raises(FencedOut):
        await first.drop(space.name)
    assert (await stored(servers, space)).image_ids.tolist() == [1]
    await second.drop(space.name)
    assert await VectorTable.open(await connect(servers), space, create=False) is None
    await second.drop(space.name)  # a second time changes nothing
    await second.add({space.name: rows_of(2)})
    assert (await stored(servers, space)).image_ids.tolist() == [2]


async def test_a_closed_writer_refuses(space: VectorSpace, start_writer: StartWriter) -> None:
    writer = await start_writer(space)
    await writer.close()
    with pytest.raises(Unavailable, match="stopping"):
        await writer.add({space.name: rows_of(1)})
    await writer.close()  # a second time changes nothing


async def test_vectors_are_removed_beside_a_running_writer(
    engine: AsyncEngine, servers: Settings, space: VectorSpace, start_writer: StartWriter
) -> None:
    writer = await start_writer(space)
    await writer.add({space.name: rows_of(1, 2, 3, 3)})
    connection, never_made = await connect(servers), VectorSpace("never-made@1", 16)
    # The writer's handle stands at an older version after each removal; it appends, deletes and merges all the same.
    await remove_beside(engine, connection, [space, never_made], [3, 99])
    await writer.add({space.name: rows_of(4, 5)})
    await remove_beside(engine, connection, [space], [4])
    await writer.add({space.name: rows_of(2)}, replace=[2])
    assert sorted((await stored(servers, space)).image_ids.tolist()) == [1, 2, 5]
    added = [writer.add({space.name: rows_of(100 + number)}) for number in range(10)]
    removed = [remove_beside(engine, connection, [space], [number]) for number in (1, 5)]
    await asyncio.gather(*added, *removed)
    assert sorted((await stored(servers, space)).image_ids.tolist()) == [2, *range(100, 110)]
    assert not writer.fenced_out
