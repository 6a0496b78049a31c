"""An installation with something in it and an empty one beside it, for tests of backups."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from configs.settings import Settings
from deployments.pipeline.processor import Processor
from graphs.backup import Manifest, backup
from graphs.check import Check
from graphs.check_report import Report
from graphs.restore import Restored, restore
from storage.database import create_engine
from storage.objects import ObjectStore
from storage.tables import Image
from tests.deployments.pipeline.conftest import Upload, run_queue
from tests.graphs.own import engine, objects, servers
from tests.installation import apart
from tests.service.pictures import edited, jpeg, photo

__all__ = ["engine", "objects", "servers"]


@pytest.fixture
def target(servers: Settings) -> Iterator[Settings]:
    """Another installation, as `up` leaves it."""
    with apart(servers) as made:
        yield made


@pytest.fixture
def third(servers: Settings) -> Iterator[Settings]:
    """One more."""
    with apart(servers) as made:
        yield made


@contextmanager
def led_to(settings: Settings, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Path]:
    """A home whose environment leads to servers outside of it."""
    assert settings.database_url and settings.s3_access_key and settings.s3_secret_key and settings.s3_endpoint
    folder.mkdir(exist_ok=True)
    values = {
        "DATABASE_URL": settings.database_url.get_secret_value(), "S3_ENDPOINT": settings.s3_endpoint,
        "S3_ACCESS_KEY": settings.s3_access_key.get_secret_value(),
        "S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(), "S3_BUCKET": settings.s3_bucket,
        "S3_VECTORS_BUCKET": settings.s3_vectors_bucket,
    }  # fmt: skip
    with monkeypatch.context() as patch:
        for name, value in values.items():
            patch.setenv(f"SAFEGUARD_{name}", value)
        yield folder


class World:
    """Processed pictures of one installation, and what backs it up."""

    def __init__(self, processor: Processor, settings: Settings, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.processor, self.settings, self._patch, self._folder = processor, settings, patch, folder
        self.pictures: list[Image] = []

    async def backup(self, folder: Path, **more: Any) -> Manifest:
        with led_to(self.settings, self._patch, self._folder / "source") as home:
            return await backup(home, folder, **{"with_pictures": True, "with_vectors": True} | more)

    async def restore(self, target: Settings, folder: Path, *, force: bool = False) -> Restored:
        with led_to(target, self._patch, self._folder / "target") as home:
            return await asyncio.to_thread(restore, home, folder, force=force)

    async def check(self, settings: Settings, *, repair: bool = False) -> Report:
        made, store = create_engine(settings), ObjectStore(settings)
        try:
            return await Check(made, store, settings, self.processor.registry, repair=repair, grace_s=0.0).run()
        finally:
            store.close()
            await made.dispose()


@pytest_asyncio.fixture
async def world(
    servers: Settings, home: Path, processor: Processor, put: Upload, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    made = World(processor, servers, monkeypatch, home)
    files = [jpeg(photo(name)) for name in ("astronaut.png", "coffee.png")]
    made.pictures = [await put(data) for data in [*files, edited("astronaut.png", "mirror")]]
    await run_queue(processor)
    yield made


async def rows(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    made = create_engine(settings, pool_size=1)
    async with made.connect() as connection:
        found = [tuple(row) for row in await connection.execute(text(statement))]
    await made.dispose()
    return found


KEPT = (
    "SELECT id, name, status, sha256, s3_path, processed_at FROM image ORDER BY id",
    "SELECT image_a, image_b, relation, score, evidence::text FROM image_match ORDER BY 1, 2",
    "SELECT image_id, verdict, decision_id, changed_at FROM moderation ORDER BY 1",
    "SELECT sequence, hash FROM audit WHERE action <> 'backup.create' AND action <> 'backup.restore' ORDER BY 1",
    "SELECT name, hash FROM api_key ORDER BY 1",
    "SELECT url, secret FROM webhook ORDER BY 1",
)
