"""A database and buckets of their own on the running servers, for tests that look at everything there is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import uuid4

import asyncpg
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from configs.settings import Settings
from storage.database import create_engine
from storage.migrate import upgrade
from storage.objects import ObjectStore
from storage.policy_changes import ensure_active
from storage.vectors import connect


async def prepare(settings: Settings, *more_buckets: str) -> None:
    """Buckets and the first policy of an installation whose schema is there."""
    objects = ObjectStore(settings)
    await objects.ensure_buckets(settings.s3_vectors_bucket, *more_buckets)
    objects.close()
    engine = create_engine(settings, pool_size=1)
    await ensure_active(engine, actor="tests")
    await engine.dispose()


@contextmanager
def apart(servers: Settings) -> Iterator[Settings]:
    """Settings of a new, empty installation; the database is dropped afterwards."""
    assert servers.database_url is not None
    url = servers.database_url.get_secret_value()
    name = f"apart-{uuid4().hex[:12]}"
    settings = servers.model_copy(
        update={
            "database_url": SecretStr(f"{url.rpartition('/')[0]}/{name}"),
            "s3_bucket": name,
            "s3_vectors_bucket": f"{name}-vectors",
        }
    )

    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(execute(f'CREATE DATABASE "{name}"'))
    upgrade(settings)
    asyncio.run(prepare(settings, f"{name}-corpus"))
    yield settings
    asyncio.run(execute(f'DROP DATABASE "{name}" WITH (FORCE)'))


@asynccontextmanager
async def own_engine(servers: Settings) -> AsyncIterator[AsyncEngine]:
    """An engine on the database of a new, empty installation."""
    entered = apart(servers)
    settings = await asyncio.to_thread(entered.__enter__)
    engine = create_engine(settings)
    try:
        yield engine
    finally:
        await engine.dispose()
        await asyncio.to_thread(entered.__exit__, None, None, None)


@asynccontextmanager
async def tampering(connection: AsyncConnection) -> AsyncIterator[None]:
    """Lets the owner of the audit change it, as part of a transaction; other writers wait."""
    await connection.execute(text("ALTER TABLE audit DISABLE TRIGGER audit_append_only"))
    yield
    await connection.execute(text("ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_append_only"))


async def clear(settings: Settings, engine: AsyncEngine, objects: ObjectStore) -> None:
    """Takes all rows, objects and vectors away; the empty tables stay, since the embedded store lists dropped ones on."""
    async with engine.begin() as connection, tampering(connection):
        await connection.execute(text("TRUNCATE image, audit, writer_fence CASCADE"))
    for key in [one.key async for one in objects.list("")]:
        await objects.delete(key)
    connected = await connect(settings)
    for name in (await connected.list_tables()).tables:
        await (await connected.open_table(name)).delete("true")
