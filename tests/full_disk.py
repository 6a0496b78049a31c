"""Disks of a few MiB that really are full, for the servers of the tests; only root can make them."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from botocore.exceptions import ClientError
from pydantic import SecretStr

from benchmarks.disks import NoDisk, mounted
from configs.settings import Settings
from storage.embedded.objectstore import EmbeddedObjectStore
from storage.embedded.user import own, service_user
from storage.migrate import upgrade
from storage.objects import ObjectStore


@contextmanager
def small_disk(mib: int) -> Iterator[Path]:
    """A folder that holds so many MiB, open to the servers' user."""
    with tempfile.TemporaryDirectory(prefix="sgf-") as around, ExitStack() as stack:
        Path(around).chmod(0o755)
        try:
            disk = stack.enter_context(mounted(Path(around) / "disk", mib))
        except NoDisk as reason:
            pytest.skip(str(reason))
        yield disk.folder


@contextmanager
def small_objects(servers: Settings, mib: int) -> Iterator[Settings]:
    """Settings of an S3 server of its own whose disk holds so many MiB; PostgreSQL is the one that runs."""
    with small_disk(mib) as folder:
        server = EmbeddedObjectStore(folder, service_user())
        try:
            access, secret = server.start(None, None)
            yield servers.model_copy(
                update={
                    "s3_endpoint": server.endpoint, "s3_access_key": SecretStr(access), "s3_secret_key": SecretStr(secret),
                }
            )  # fmt: skip
        finally:
            server.process.stop()


@contextmanager
def full_objects(servers: Settings) -> Iterator[Settings]:
    """``small_objects`` with no MiB left."""
    with small_objects(servers, 24) as small:
        settings = small.model_copy(update={"s3_bucket": "full", "s3_attempts": 1})
        store = ObjectStore(settings)
        store._client.create_bucket(Bucket="full")
        with pytest.raises(ClientError, match="InternalError"):
            while True:
                store._client.put_object(Bucket="full", Key=f"filler/{uuid4()}", Body=os.urandom(2**20))
        store.close()
        yield settings


@contextmanager
def small_database(servers: Settings) -> Iterator[Settings]:
    """Settings of an empty database on a disk that ``fill`` fills."""
    assert servers.database_url is not None
    url = servers.database_url.get_secret_value()
    name = f"full_{uuid4().hex[:12]}"
    settings = servers.model_copy(update={"database_url": SecretStr(f"{url.rpartition('/')[0]}/{name}")})

    async def execute(*statements: str) -> None:
        connection = await asyncpg.connect(url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    with small_disk(32) as disk:
        folder = own(disk / "tables", service_user())
        asyncio.run(
            execute(f"CREATE TABLESPACE {name} LOCATION '{folder}'", f"CREATE DATABASE {name} TABLESPACE {name}")
        )
        try:
            upgrade(settings)
            yield settings
        finally:
            asyncio.run(execute(f"DROP DATABASE {name} WITH (FORCE)", f"DROP TABLESPACE {name}"))


async def fill(settings: Settings) -> None:
    """Fills the disk of a ``small_database`` to the last page."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value() if settings.database_url else "")
    await connection.execute("CREATE TABLE filler (line text STORAGE PLAIN)")
    for rows in (1000, 10, 1):
        with pytest.raises(asyncpg.DiskFullError):
            while True:
                await connection.execute(f"INSERT INTO filler SELECT repeat('x', 7000) FROM generate_series(1, {rows})")
    await connection.close()


async def empty(settings: Settings) -> None:
    """Makes room again."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value() if settings.database_url else "")
    await connection.execute("DROP TABLE filler")
    await connection.execute("CHECKPOINT")
    await connection.close()
