"""A space of its own for each test, rows for it, and writers that are closed again."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import numpy as np
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.similarity.writer import VectorWriter
from storage.errors import Unavailable
from storage.vector_rows import VectorRows, VectorSpace

StartWriter = Callable[..., Awaitable[VectorWriter]]
_seeds = itertools.count(1)


@pytest.fixture
def space() -> VectorSpace:
    """A table that no other test knows."""
    return VectorSpace(f"test-{uuid4().hex[:12]}@1", 16)


def rows_of(*image_ids: int, dim: int = 16) -> VectorRows:
    """One row for each image: vectors of length 1, other ones on each call."""
    vectors = np.random.default_rng(next(_seeds)).normal(size=(len(image_ids), dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = np.tile(np.asarray([[0, 0, 1, 1]], np.float32), (len(image_ids), 1))
    ids = np.asarray(image_ids, np.int64)
    return VectorRows(ids, np.zeros(len(ids), np.int16), whole, vectors.astype(np.float32))


@pytest_asyncio.fixture
async def start_writer(engine: AsyncEngine, servers: Settings) -> AsyncIterator[StartWriter]:
    """Makes started writers of some spaces."""
    made: list[VectorWriter] = []

    async def start(*spaces: VectorSpace, optimize_every: int = 50) -> VectorWriter:
        writer = VectorWriter(engine, servers, list(spaces), holder="test", optimize_every=optimize_every)
        await writer.start()
        made.append(writer)
        return writer

    yield start
    for writer in made:
        try:
            await writer.close()
        except Unavailable:
            raise AssertionError("close() of a fenced writer must not fail") from None
