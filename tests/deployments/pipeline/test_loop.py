"""Claiming on a real queue: it drains, a signal wakes it, closing finishes what is in work."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import text

from deployments.pipeline.loop import ClaimLoop
from deployments.pipeline.networks import LocalNetworks
from deployments.pipeline.processor import Processor
from storage import bank_members
from storage.bank_members import HashEntry
from storage.queues import UploadSignal
from tests.deployments.pipeline.conftest import Choosy, Upload
from tests.moderation import bank, processed
from tests.service.pictures import jpeg, photo, variants


@asynccontextmanager
async def running(
    processor: Processor,
    *,
    idle_s: float = 0.2,
    batch_size: int = 8,
    batches: int = 2,
    asked: Callable[[], bool] = lambda: False,
    beside_searches: int = 0,
) -> AsyncIterator[ClaimLoop]:
    """A loop that claims, and its signal."""
    signal = UploadSignal(processor.settings)
    await signal.start()
    sizes = {"batch_size": batch_size, "batches": batches, "beside_searches": beside_searches}
    loop = ClaimLoop(processor, signal, **sizes, idle_s=idle_s, asked=asked)
    await loop.start()
    try:
        yield loop
    finally:
        await loop.close()
        await signal.close()


async def counts(processor: Processor) -> dict[str, int]:
    """Images of the processor's own queue by status."""
    statement = text("SELECT status, count(*) FROM image WHERE model_name = :name GROUP BY status")
    async with processor.engine.connect() as connection:
        rows = await connection.execute(statement, {"name": processor.registry.default})
        return {status: number for status, number in rows.all()}


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 60.0) -> None:
    """Waits; generous, as the machine may be busy."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110  # the database gives no event
            await asyncio.sleep(0.05)


async def test_thirty_pictures_are_drained(processor: Processor, put: Upload) -> None:
    for data in variants(30):
        await put(data)

    async def drained() -> bool:
        return await counts(processor) == {"PROCESSED": 30}

    async with running(processor) as loop:
        await until(drained)
        loop.check()
    assert loop.in_work == 0
    with pytest.raises(RuntimeError, match="has stopped"):
        loop.check()


async def test_an_upload_wakes_an_idle_loop(processor: Processor, put: Upload) -> None:
    async with running(processor, idle_s=3600.0):
        await asyncio.sleep(0.5)  # it has looked once and waits for the signal
        await put(jpeg(photo("coffee.png")))

        async def processed() -> bool:
            return await counts(processor) == {"PROCESSED": 1}

        await until(processed)


class Slow:
    """Real networks behind a gate."""

    def __init__(self, inner: LocalNetworks) -> None:
        self._inner = inner
        self.gate = asyncio.Event()

    async def detect(self, *arguments: object) -> object:
        await self.gate.wait()
        return await self._inner.detect(*arguments)  # type: ignore[arg-type]

    async def embed(self, *arguments: object) -> object:
        return await self._inner.embed(*arguments)  # type: ignore[arg-type]


async def test_closing_finishes_what_is_in_work_and_claims_no_more(
    processor: Processor, put: Upload, networks: LocalNetworks
) -> None:
    slow = Slow(networks)
    files = variants(12)
    for data in files[:4]:
        await put(data)
    async with running(replace(processor, networks=slow), batch_size=2) as loop:

        async def full() -> bool:
            return loop.in_work == 4

        await until(full)
        for data in files[4:]:
            await put(data)
        closing = asyncio.create_task(loop.close())
        await asyncio.sleep(0.2)
        assert not closing.done() and loop.in_work == 4
        slow.gate.set()
        await closing
    assert await counts(processor) == {"PROCESSED": 4, "UPLOADED": 8}
    assert loop.in_work == 0


async def test_while_somebody_waits_for_an_answer_little_is_in_work(
    processor: Processor, put: Upload, networks: LocalNetworks
) -> None:
    slow, waits = Slow(networks), True
    for data in variants(12):
        await put(data)
    async with running(replace(processor, networks=slow), batches=3, asked=lambda: waits, beside_searches=4) as loop:

        async def holds(count: int) -> None:
            async def reached() -> bool:
                return loop.in_work == count

            await until(reached)
            await asyncio.sleep(0.5)
            assert loop.in_work == count

        await holds(4)  # two halves
        waits = False
        await holds(12)
        slow.gate.set()

        async def processed() -> bool:
            return await counts(processor) == {"PROCESSED": 12}

        await until(processed)


async def test_leases_are_renewed_while_work_lasts(processor: Processor, put: Upload, networks: LocalNetworks) -> None:
    slow = Slow(networks)
    short = processor.settings.model_copy(update={"lease_s": 4.0})
    await put(jpeg(photo("coffee.png")))
    async with running(replace(processor, networks=slow, settings=short)):
        await asyncio.sleep(6.0)  # longer than a lease
        slow.gate.set()

        async def processed() -> bool:
            return await counts(processor) == {"PROCESSED": 1}

        await until(processed)
    async with processor.engine.connect() as connection:
        statement = text("SELECT attempt FROM image WHERE model_name = :name")
        attempts = (await connection.execute(statement, {"name": processor.registry.default})).scalars().all()
    assert attempts == [1], "a lease ran out during the work"


async def test_failing_batches_do_not_stop_the_loop(processor: Processor, put: Upload, networks: LocalNetworks) -> None:
    choosy = Choosy(networks, RuntimeError("out of order"), lambda _: True)
    await put(jpeg(photo("coffee.png")))

    async def tried() -> bool:
        return len(choosy.calls) >= 4

    async def processed() -> bool:
        return await counts(processor) == {"PROCESSED": 1}

    async with running(replace(processor, networks=choosy)) as loop:
        await until(tried)
        loop.check()
        choosy.refuses = lambda _: False
        await until(processed)


async def test_members_of_banks_are_watched(processor: Processor) -> None:
    in_bank = (await bank(processor.engine)).id
    await bank_members.add_hashes(processor.engine, in_bank, [HashEntry(uuid4().bytes * 2, None)], actor="test")
    (member,) = await bank_members.listing(processor.engine, in_bank)
    assert member.id is not None
    await processed(processor.engine, processor.objects, 3, hashes={member.id: 3})
    easy = {"quarantine_floor": 3, "quarantine_share": 0.0, "quarantine_factor": 1.0}
    watching = replace(processor, settings=processor.settings.model_copy(update=easy))

    async def quarantined() -> bool:
        return bool(await bank_members.listing(processor.engine, in_bank, quarantined=True))

    async with running(watching):
        await until(quarantined)
