"""Queues: what waits is counted, an upload wakes who waits, a lost connection is made again."""

import asyncio
import time
import uuid

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.claims import claim
from storage.objects import ObjectStore
from storage.queues import UploadSignal, queues, record_poll
from storage.uploads import NewImage, upload


async def test_waiting_and_claimed_are_counted(engine: AsyncEngine, objects: ObjectStore) -> None:
    name = f"queues-{uuid.uuid4().hex}"
    for _ in range(3):
        await upload(engine, objects, NewImage("a", name, b"x", "image/png", 1, 1), caller=0)
    await claim(engine, [name], 1, lease_s=60, max_attempts=3)
    await record_poll(engine, name)
    await record_poll(engine, name + "-misspelt")
    found = {one.model_name: one for one in await queues(engine)}
    assert (found[name].waiting, found[name].processing) == (2, 1) and found[name].last_polled_at
    assert (found[name + "-misspelt"].waiting, found[name + "-misspelt"].processing) == (0, 0)


async def test_an_upload_wakes_even_after_a_lost_connection(
    engine: AsyncEngine, objects: ObjectStore, servers: Settings
) -> None:
    name = f"queues-{uuid.uuid4().hex}"
    signal = UploadSignal(servers)
    await signal.start()
    try:
        assert await signal.wait(name, 0.2) is False
        for _ in range(2):
            woken = False
            for _ in range(10):  # listening begins in the background
                waiting = asyncio.create_task(signal.wait(["other", name], 2.0))
                await asyncio.sleep(0.2)
                begun = time.monotonic()
                await upload(engine, objects, NewImage("a", name, b"x", "image/png", 1, 1), caller=0)
                woken = await waiting
                if woken:
                    break
            assert woken and time.monotonic() - begun < 1.5
            async with engine.begin() as connection:
                killed = await connection.execute(
                    text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
                )
                assert killed.rowcount >= 1
    finally:
        await signal.close()
