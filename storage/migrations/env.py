"""Alembic's environment: one asyncpg connection, one lock, one transaction."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel

import storage.event_tables
import storage.job_tables
import storage.lookback_tables
import storage.moderation_tables
import storage.tables  # noqa: F401  (all fill the metadata)

_LOCK = 0x5AFE6A7D


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=SQLModel.metadata, transactional_ddl=True)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=_LOCK))
        context.run_migrations()


async def _migrate() -> None:
    attributes = context.config.attributes
    engine = create_async_engine(
        "postgresql+asyncpg" + attributes["dsn"].removeprefix("postgresql"),
        connect_args={"timeout": attributes["timeout_s"]},
    )
    async with engine.begin() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


asyncio.run(_migrate())
