"""Migrations: they make exactly the tables that the code describes, and can be taken back and applied again."""

import asyncio
import uuid

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import SQLModel

import storage.job_tables
import storage.tables  # noqa: F401
from configs.settings import Settings
from storage.database import create_engine
from storage.migrate import downgrade, upgrade


async def test_the_migrated_schema_is_the_described_one(engine: AsyncEngine, servers: Settings) -> None:
    name = f"migrate_{uuid.uuid4().hex}"
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    assert servers.database_url
    address = servers.database_url.get_secret_value().rsplit("/", 1)[0]
    settings = servers.model_copy(update={"database_url": SecretStr(f"{address}/{name}")})
    await asyncio.to_thread(upgrade, settings)
    await asyncio.to_thread(upgrade, settings)  # a repeat changes nothing
    await asyncio.to_thread(downgrade, settings, "base")
    await asyncio.to_thread(upgrade, settings)
    fresh = create_engine(settings, pool_size=1)

    async with fresh.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(sync, opts={"compare_type": False}), SQLModel.metadata
            )
        )
    await fresh.dispose()
    assert differences == []
