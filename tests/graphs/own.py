"""Fixtures of an installation that a module has for itself; those of the pipeline use it too where these are imported."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.database import create_engine
from storage.objects import ObjectStore
from tests.installation import apart, clear


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
