"""Migrations: they make exactly the tables that the code describes, and can be taken back and applied again."""

import asyncio
import uuid

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import SQLModel

import storage.event_tables
import storage.job_tables
import storage.lookback_tables
import storage.moderation_tables
import storage.tables  # noqa: F401
from configs.settings import Settings
from storage.audit import record
from storage.audit_check import verify
from storage.database import create_engine
from storage.migrate import downgrade, upgrade


@pytest.fixture
async def settings(engine: AsyncEngine, servers: Settings) -> Settings:
    """Settings of an empty database."""
    name = f"migrate_{uuid.uuid4().hex}"
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    assert servers.database_url
    address = servers.database_url.get_secret_value().rsplit("/", 1)[0]
    return servers.model_copy(update={"database_url": SecretStr(f"{address}/{name}")})


async def test_the_migrated_schema_is_the_described_one(settings: Settings) -> None:
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


FILL = """
INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at)
SELECT i, 'PROCESSED', 'm', 'images/' || i, sha256(int8send(i)), 1, 'image/jpeg', 1, 1, now() FROM generate_series(1, 9) AS i;
INSERT INTO image_match (image_a, image_b, relation, method, score, threshold, evidence) VALUES
(1, 2, 'exact', 'sha256', 1, 1, '{"sha256": "ab", "descriptor": {"name": "no@1"}}'),
(1, 3, 'copy', 'descriptor', 0.9, 0.8, '{"descriptor": {"name": "lite@2", "score": 0.7}}'),
(1, 4, 'semantic', 'shape', 0.3, 0.1, '{"descriptor": {"name": "lite@2"}}'),
(1, 5, 'copy', 'pdq', 0.99, 0.8, '{"pdq": {"distance_bits": 4}}'),
(1, 6, 'external', 'external', 1, 0, '{"rank": 1}');
INSERT INTO calibration (model_name, networks, relation, mode, threshold, wanted_precision, precision, recall, pictures,
                         queries) VALUES ('m', 'lite@2', 'copy', 'active', 0.5, 0.9, 0.9, 0.9, 50, 90);
"""
ADD = """
INSERT INTO generation (model_name, state, descriptor) VALUES ('m', 'live', 'next@1'), ('m', 'building', 'later@1');
INSERT INTO image_match (image_a, image_b, descriptor, relation, method, score, threshold, evidence) VALUES
(1, 2, 'next@1', 'copy', 'pdq', 1, 1, '{}'),
(1, 3, 'next@1', 'copy', 'pdq', 0.95, 0.8, '{}'),
(1, 4, 'next@1', 'semantic', 'pdq', 0.2, 0.1, '{}'),
(1, 5, 'next@1', 'semantic', 'pdq', 1, 0.1, '{}'),
(1, 6, 'next@1', 'copy', 'pdq', 0.9, 0.1, '{}'),
(1, 7, 'next@1', 'semantic', 'pdq', 0.4, 0.1, '{}'),
(1, 3, 'later@1', 'exact', 'pdq', 1, 0.1, '{}'),
(1, 8, 'later@1', 'copy', 'pdq', 1, 0.1, '{}');
INSERT INTO calibration (model_name, networks, relation, mode, threshold, wanted_precision, precision, recall, pictures,
                         queries) VALUES ('m', 'next@1', 'copy', 'active', 0.7, 0.9, 0.9, 0.9, 50, 90);
"""


async def test_links_get_their_descriptor_and_lose_it_again(settings: Settings) -> None:
    async def run(script: str) -> None:
        async with fresh.begin() as connection:
            for statement in script.split(";"):
                if statement.strip():
                    await connection.exec_driver_sql(statement)

    async def rows(statement: str) -> list[tuple[object, ...]]:
        async with fresh.connect() as connection:
            return [tuple(row) for row in (await connection.execute(text(statement))).all()]

    fresh = create_engine(settings, pool_size=1)
    await asyncio.to_thread(upgrade, settings, "0003")
    await run(FILL)
    await asyncio.to_thread(upgrade, settings, "0004")
    assert await rows("SELECT image_b, descriptor FROM image_match ORDER BY image_b") == [
        (2, ""), (3, "lite@2"), (4, "lite@2"), (5, ""), (6, "")
    ]  # fmt: skip
    await run(ADD)
    await asyncio.to_thread(downgrade, settings, "0003")
    assert await rows("SELECT image_b, relation, score FROM image_match ORDER BY image_b") == [
        (2, "exact", 1.0), (3, "copy", 0.95), (4, "semantic", 0.3), (5, "copy", 0.99), (6, "copy", 0.9),
        (7, "semantic", 0.4),
    ]  # fmt: skip
    assert await rows("SELECT networks, mode FROM calibration ORDER BY id") == [
        ("lite@2", "past"),
        ("next@1", "active"),
    ]
    await asyncio.to_thread(upgrade, settings)
    assert await rows("SELECT count(*) FROM image_match WHERE descriptor <> ''") == [(1,)]
    assert await rows("SELECT count(*) FROM generation") == [(0,)]
    await fresh.dispose()


AUDITED = """
INSERT INTO audit (id, at, actor, action, subject, detail)
SELECT i * 3, '2024-11-01 10:00:00.000001+03'::timestamptz + i * interval '1 second', 'кто', 'image.delete',
       'image/' || i, jsonb_build_object('n', i / 7.0, 'm', 1.50, 'k', 2::numeric ^ 80, 'кот', E'"\\n😀', 'z',
                                       jsonb_build_array(null, true, 1e-9))
FROM generate_series(1, 4500) AS i
"""


async def test_the_audit_is_chained_as_it_stands(settings: Settings) -> None:
    fresh = create_engine(settings, pool_size=1)
    await asyncio.to_thread(upgrade, settings, "0006")
    async with fresh.begin() as connection:
        await connection.execute(text(AUDITED))
    await asyncio.to_thread(upgrade, settings, "0007")
    checked = await verify(fresh)
    assert checked.broken is None and checked.head.sequence == 4500, "over two batches and a half"
    async with fresh.begin() as connection:
        order = "SELECT subject FROM audit ORDER BY sequence"
        subjects = list((await connection.execute(text(order))).scalars())
        await record(connection, "test", "thing.do", "thing/1", {})
    assert subjects == [f"image/{number}" for number in range(1, 4501)]
    assert (await verify(fresh, known=checked.head)).head.sequence == 4501

    await asyncio.to_thread(downgrade, settings, "0006")
    async with fresh.begin() as connection:
        add = "INSERT INTO audit (actor, action, subject, detail) VALUES ('a', 'b', 'c', '{}') RETURNING id"
        assert await connection.scalar(text(add)) == 4502
        await connection.execute(text("DELETE FROM audit WHERE id < 10"))
    await asyncio.to_thread(upgrade, settings, "0007")
    assert (await verify(fresh)).head.sequence == 4493
    await fresh.dispose()
