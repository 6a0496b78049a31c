"""Queues: what waits is counted, an upload wakes who waits, a lost connection is made again."""

import asyncio
import uuid

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.claims import claim
from storage.objects import ObjectStore
from storage.queues import Backlog, UploadSignal, backlog, demand, queues, record_poll
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


async def test_a_backlog_says_what_was_claimed_since_the_reading_before(
    engine: AsyncEngine, objects: ObjectStore
) -> None:
    name = f"queues-{uuid.uuid4().hex}"
    ids = [(await upload(engine, objects, NewImage("a", name, b"x", "image/png", 1, 1), caller=0)).id for _ in range(5)]
    assert await backlog(engine, name, most=100) == Backlog(5, 0, ids[4])
    assert await backlog(engine, name, most=3) == Backlog(3, 0, ids[2])
    await claim(engine, [name], 2, lease_s=60, max_attempts=3)
    await upload(engine, objects, NewImage("a", name, b"x", "image/png", 1, 1), caller=0)
    again = await backlog(engine, name, most=100, newest=ids[4] or 0)
    assert (again.waiting, again.left) == (4, 3)
    assert await backlog(engine, name + "-empty", most=100) == Backlog(0, 0, 0)


async def test_the_demand_of_several_queues_is_one(engine: AsyncEngine, objects: ObjectStore) -> None:
    first, second = (f"queues-{uuid.uuid4().hex}" for _ in range(2))
    assert await demand(engine, [first, second], most=10) == (0, 0.0)
    for name in (first, first, first, second):
        await upload(engine, objects, NewImage("a", name, b"x", "image/png", 1, 1), caller=0)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE image SET uploaded_at = now() - interval '90 s' WHERE model_name = :name"), {"name": second}
        )
    waiting, oldest_s = await demand(engine, [first, second], most=2)
    assert waiting == 3 and 90 <= oldest_s < 150
    waiting, oldest_s = await demand(engine, [first], most=10)
    assert waiting == 3 and oldest_s < 60
    await claim(engine, [second], 1, lease_s=60, max_attempts=3)
    assert (await demand(engine, [second], most=10)) == (0, 0.0)
    async with engine.begin() as connection:  # to be tried again in an hour: no pipeline can do that sooner
        later = text("UPDATE image SET not_before = now() + interval '1 hour' WHERE model_name = :name")
        await connection.execute(later, {"name": first})
    assert (await demand(engine, [first], most=10)) == (0, 0.0)


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
                await upload(engine, objects, NewImage("a", name, b"x", "image/png", 1, 1), caller=0)
                woken = await waiting
                if woken:
                    break
            assert woken, "by the signal: where the time is over, it says so"
            async with engine.begin() as connection:
                killed = await connection.execute(
                    text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
                )
                assert killed.rowcount >= 1
    finally:
        await signal.close()
