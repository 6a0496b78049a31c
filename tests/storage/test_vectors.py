"""Vector tables on the real S3: what is written is read, by version and by seq."""

import uuid

import lancedb
import numpy as np
import pytest

from configs.settings import Settings
from storage.errors import Unavailable
from storage.vector_rows import VectorRows, VectorSpace
from storage.vectors import VectorTable, connect


def rows(ids: list[int], dim: int, seed: int = 0) -> VectorRows:
    vectors = np.random.default_rng(seed).normal(size=(len(ids), dim)).astype(np.float32)
    boxes = np.tile(np.asarray([[0, 0, 1, 1]], np.float32), (len(ids), 1))
    return VectorRows(np.asarray(ids), np.zeros(len(ids), np.int16), boxes, vectors)


async def test_append_read_delete_optimise(servers: Settings) -> None:
    space = VectorSpace(f"test-{uuid.uuid4().hex}@1", 24)
    connection = await connect(servers)
    assert await VectorTable.open(connection, space, create=False) is None
    writer = await VectorTable.open(connection, space, create=True)
    assert writer is not None
    first = rows([1, 2, 3], 24)
    version = await writer.append(first, 100)
    reader = await VectorTable.open(await connect(servers), space, create=False)
    assert reader is not None and await reader.version() == version and await reader.count() == 3
    read, newest = await reader.read_since(-1)
    assert newest == 102 and read.image_ids.tolist() == [1, 2, 3]
    np.testing.assert_allclose(read.vectors, first.vectors, atol=2e-3)  # float16
    await writer.append(rows([4], 24, 1), 103)
    assert await reader.latest() == version + 1
    read, newest = await reader.read_since(102)
    assert read.image_ids.tolist() == [4] and newest == 103
    await writer.delete([1, 4])
    await writer.optimize(keep_versions_s=0)
    await reader.latest()
    read, _ = await reader.read_since(-1)
    assert sorted(read.image_ids.tolist()) == [2, 3]
    empty, newest = await reader.read_since(10**6)
    assert len(empty) == 0 and newest == 10**6


async def test_bits_and_wrong_sizes(servers: Settings) -> None:
    space = VectorSpace(f"bits-{uuid.uuid4().hex}@1", 32, binary=True)
    table = await VectorTable.open(await connect(servers), space, create=True)
    assert table is not None
    bits = np.random.default_rng(2).integers(0, 256, (2, 32), np.uint8)
    given = VectorRows(np.asarray([7, 8]), np.zeros(2, np.int16), np.zeros((2, 4), np.float32), bits)
    await table.append(given, 0)
    read, _ = await table.read_since(-1)
    assert (read.vectors == bits).all() and read.vectors.dtype == np.uint8
    with pytest.raises(ValueError, match=r"takes \[n, 32\]"):
        await table.append(rows([1], 5), 2)


async def test_what_a_connection_keeps_is_bounded(servers: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[lancedb.Session] = []
    real = lancedb.Session

    def session(*limits: int) -> lancedb.Session:
        sessions.append(real(*limits))
        return sessions[-1]

    monkeypatch.setattr(lancedb, "Session", session)  # nothing tells the session of a connection
    for mib in (1, 64):
        space = VectorSpace(f"bounded-{uuid.uuid4().hex}@1", 24)
        connection = await connect(servers.model_copy(update={"metadata_cache_mib": mib}))
        table = await VectorTable.open(connection, space, create=True)
        assert table is not None
        for seq in range(150):
            await table.append(rows([seq], space.dim, seq), seq)
            await table.latest()
            await table.count()
    bounded, free = (one.size_bytes for one in sessions)
    assert 2**19 < bounded < 1.1 * 2**20 < free


async def test_a_dead_store_is_unavailable(servers: Settings) -> None:
    down = servers.model_copy(
        update={"s3_endpoint": "http://127.0.0.1:9", "s3_attempts": 1, "s3_connect_timeout_s": 0.5}
    )
    with pytest.raises(Unavailable):
        await connect(down)
