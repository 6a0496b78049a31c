"""Real servers for the tests: one PostgreSQL and one S3, started once."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.database import create_engine
from storage.embedded.stack import EmbeddedServers
from storage.migrate import upgrade
from storage.objects import ObjectStore
from tests.installation import apart, prepare


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder that an unprivileged user can reach (pytest's own are closed)."""
    folder = Path(tempfile.mkdtemp(prefix="sg-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(home: Path) -> Iterator[Settings]:
    """Settings that lead to running servers with schema and buckets."""
    embedded = EmbeddedServers(home)
    settings = embedded.start()
    upgrade(settings)

    asyncio.run(prepare(settings))
    yield settings
    embedded.stop()


@pytest.fixture(scope="module")
def alone(servers: Settings) -> Iterator[Settings]:
    """Settings of a database and buckets that a module of tests has for itself."""
    with apart(servers) as settings:
        yield settings


@pytest_asyncio.fixture
async def own(alone: Settings) -> AsyncIterator[tuple[AsyncEngine, ObjectStore]]:
    """An engine on that database and the bucket of its pictures."""
    engine, objects = create_engine(alone), ObjectStore(alone)
    yield engine, objects
    objects.close()
    await engine.dispose()


@pytest_asyncio.fixture(scope="session")
async def engine(servers: Settings) -> AsyncIterator[AsyncEngine]:
    """An engine on the running PostgreSQL."""
    made = create_engine(servers)
    yield made
    await made.dispose()


@pytest.fixture(scope="session")
def objects(servers: Settings) -> Iterator[ObjectStore]:
    """The bucket of the pictures on the running S3."""
    store = ObjectStore(servers)
    yield store
    store.close()
