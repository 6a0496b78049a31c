"""Look-backs under faults: killed, overtaken, failing; every step takes effect once, or not at all."""
# ruff: noqa: F401, F811  (the fixtures that are imported)

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text

from deployments.pipeline.lookback import LookBackLoop
from deployments.pipeline.lookback_work import LookBackWorker
from deployments.pipeline.networks import LocalNetworks
from deployments.pipeline.processor import Processor
from deployments.similarity.queries import Hit
from deployments.vision.pdq import pdq_hashes
from storage import lookback_claims, lookbacks
from storage.bank_members import HashEntry
from storage.errors import StaleClaim, Unavailable
from storage.lookbacks import LOOKBACK_CHANNEL
from storage.signals import Signal
from tests.deployments.pipeline.conftest import Choosy, Upload, as_corpus, refused, run_queue, with_networks
from tests.deployments.pipeline.lookbacks import (
    Banks,
    banks,
    decisions,
    done,
    drain,
    engine,
    looking_back,
    objects,
    servers,
    verdicts,
)
from tests.deployments.pipeline.test_loop import until
from tests.service.pictures import edited, jpeg, photo


async def _claim(processor: Processor) -> lookback_claims.HeldLookBack:
    held = await lookback_claims.claim(processor.engine, lease_s=60, max_attempts=3)
    assert held is not None
    return held


async def test_a_look_back_that_is_killed_goes_on_and_decides_nothing_twice(
    processor: Processor,
    put: Upload,
    banks: Banks,
) -> None:
    picture = photo("rocket.jpg")
    copies = [await put(jpeg(picture.resize((160 + 4 * n, 120 + 3 * n)), 85)) for n in range(8)]
    stranger = await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    (upright, *_), _ = pdq_hashes(np.asarray(picture))
    lookback = await banks.add_hashes(await banks.make(), HashEntry(upright.tobytes(), None))
    settings = processor.settings
    assert settings.database_url and settings.s3_access_key and settings.s3_secret_key
    environment = {
        **os.environ, "SAFEGUARD_DATABASE_URL": settings.database_url.get_secret_value(),
        "SAFEGUARD_S3_ENDPOINT": settings.s3_endpoint or "", "SAFEGUARD_S3_BUCKET": settings.s3_bucket,
        "SAFEGUARD_S3_VECTORS_BUCKET": settings.s3_vectors_bucket,
        "SAFEGUARD_S3_ACCESS_KEY": settings.s3_access_key.get_secret_value(),
        "SAFEGUARD_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
    }  # fmt: skip
    versions = json.dumps(await processor.index.add({}, []))
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.deployments.pipeline.lookback_process", versions, env=environment
    )  # fmt: skip

    async def half_done() -> bool:
        found = await lookbacks.get(processor.engine, lookback)
        return 2 <= found.images_done < 8 or victim.returncode is not None

    try:
        await until(half_done)
    finally:
        if victim.returncode is None:
            victim.kill()
        await victim.wait()
    assert victim.returncode == -signal.SIGKILL
    async with processor.engine.begin() as connection:
        before = await connection.scalar(text("SELECT count(*) FROM decision WHERE verdict = 'block'"))
        await connection.execute(text("UPDATE look_back SET lease_expires_at = now() - interval '1 second'"))
    assert 0 < (before or 0) < 8
    found = await done(processor, lookback, span=2)
    assert await verdicts(processor.engine, *copies, stranger) == ["block"] * 8 + ["allow"]
    for copy in copies:
        assert await decisions(processor.engine, copy) == [("processed", "allow"), (f"look-back {lookback}", "block")]
    assert found.verdicts_changed == 8 and found.members_done == 1
    async with processor.engine.connect() as connection:
        told = await connection.scalar(
            text("SELECT count(*) FROM event WHERE type = 'image.decided' AND data->>'cause' = :cause"),
            {"cause": f"look-back {lookback}"},
        )
        ended = await connection.scalar(text("SELECT count(*) FROM event WHERE type = 'lookback.finished'"
                                             " AND data->>'lookback_id' = :id"), {"id": str(lookback)})  # fmt: skip
    assert (told, ended) == (8, 1)


async def test_who_loses_the_lease_stores_nothing(processor: Processor, put: Upload, banks: Banks) -> None:
    original = await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    lookback = await banks.add(await banks.make(), original)
    worker = LookBackWorker(processor)
    slow = await _claim(processor)
    worker.begin()
    slow = await worker.step(slow) or slow
    async with processor.engine.begin() as connection:
        await connection.execute(text("UPDATE look_back SET lease_expires_at = now() - interval '1 second'"))
    other = await _claim(processor)
    assert other.id == slow.id == lookback and other.attempt == 2 and other.cursor == slow.cursor
    with pytest.raises(StaleClaim):
        await worker.step(slow)
    assert await lookback_claims.fail(
        processor.engine, slow, "late", retry_delay_s=0, max_attempts=1, blameless=False
    ) is None  # fmt: skip
    while other is not None:
        last, other = other, await worker.step(other)  # type: ignore[assignment]
    with pytest.raises(StaleClaim):
        await worker.step(last)
    assert await verdicts(processor.engine, original) == ["block"]
    assert len(await decisions(processor.engine, original)) == 2


async def test_one_that_fails_again_and_again_is_given_up_and_can_be_tried_again(
    processor: Processor,
    put: Upload,
    banks: Banks,
    networks: LocalNetworks,
) -> None:
    original = await put(jpeg(photo("camera.png")))
    copy = await put(edited("camera.png", "mirror"))
    await run_queue(processor)
    async with processor.engine.begin() as connection:
        await connection.execute(text("DELETE FROM image_match"))
    lookback = await banks.add(await banks.make(), original)
    await drain(with_networks(processor, Choosy(networks, RuntimeError("out of order"), lambda _: True)))
    dead = await lookbacks.get(processor.engine, lookback)
    assert dead.state == "dead" and "failed" in (dead.failure or "")
    assert (await lookbacks.retry(processor.engine, lookback, actor="test")).state == "waiting"
    down = with_networks(processor, Choosy(networks, Unavailable("switched off"), lambda _: True))
    for _ in range(processor.settings.max_attempts + 2):  # an outage costs no attempt
        await looking_back(down).work(await _claim(processor))
    waiting = await lookbacks.get(processor.engine, lookback)
    assert waiting.state == "waiting" and "did not answer" in (waiting.failure or "")
    await done(processor, lookback)
    assert await verdicts(processor.engine, original, copy) == ["block"] * 2


async def test_an_upload_that_finishes_at_the_same_moment_is_decided_once_with_the_member(
    processor: Processor,
    put: Upload,
    banks: Banks,
) -> None:
    picture = photo("chelsea.png")
    original = await put(jpeg(picture))
    await run_queue(processor)
    bank = await banks.make()
    copies = [await put(jpeg(picture, 60 + n)) for n in range(4)]

    async def member() -> None:
        await asyncio.sleep(0.2)
        await banks.add(bank, original)
        await drain(processor)

    await asyncio.gather(run_queue(processor), member())
    await drain(processor)
    assert await verdicts(processor.engine, original, *copies) == ["block"] * 5
    for copy in copies:
        assert [verdict for _, verdict in await decisions(processor.engine, copy)].count("block") == 1


async def test_replicas_share_look_backs_and_a_cancelled_one_stops(
    processor: Processor,
    put: Upload,
    banks: Banks,
) -> None:
    names = ("coffee.png", "coins.png", "camera.png")
    pictures = [await put(jpeg(photo(name))) for name in names]
    await run_queue(processor)
    bank = await banks.make()
    begun = [await banks.add(bank, picture) for picture in pictures]
    cancelled = await lookbacks.cancel(processor.engine, begun[2], actor="test")
    assert cancelled.state == "cancelled"
    begun_signal = Signal(processor.settings, LOOKBACK_CHANNEL)
    await begun_signal.start()
    loops = [LookBackLoop(processor, begun_signal, busy=lambda: True, idle_s=0.2) for _ in range(2)]
    for loop in loops:
        await loop.start()

    async def two_done() -> bool:
        return [one.state for one in await lookbacks.listing(processor.engine)] == ["cancelled", "done", "done"]

    try:
        await until(two_done)
        for loop in loops:
            loop.check()
        assert await verdicts(processor.engine, *pictures) == ["block", "block", "allow"]
        await lookbacks.retry(processor.engine, begun[2], actor="test")

        async def all_done() -> bool:
            return [one.state for one in await lookbacks.listing(processor.engine)] == ["done"] * 3

        await until(all_done)
    finally:
        for loop in loops:
            await loop.close()
        await begun_signal.close()
    assert await verdicts(processor.engine, *pictures) == ["block"] * 3
    assert [len(await decisions(processor.engine, picture)) for picture in pictures] == [2] * 3


@pytest.mark.parametrize("crowd", ["hits of a vector", "pictures"])
async def test_a_crowded_range_is_searched_in_smaller_parts(
    processor: Processor,
    put: Upload,
    banks: Banks,
    crowd: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = photo("motorcycle_left.png")
    copies = [await put(jpeg(picture, 60 + n)) for n in range(9)]
    await run_queue(processor)
    (upright, *_), _ = pdq_hashes(np.asarray(picture))
    if crowd == "hits of a vector":
        for module in ("lookback_search", "lookback_hashes"):
            monkeypatch.setattr(f"deployments.pipeline.{module}.MOST_HITS", 4)
    else:
        monkeypatch.setattr("deployments.pipeline.lookback_hashes._MOST_PICTURES", 4)
    lookback = await banks.add_hashes(await banks.make(), HashEntry(upright.tobytes(), None))
    found = await done(processor, lookback)
    assert await verdicts(processor.engine, *copies) == ["block"] * 9 and found.verdicts_changed == 9


async def test_a_picture_among_many_of_its_copies_finds_all_though_each_has_many_vectors(
    processor: Processor, put: Upload, banks: Banks, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = photo("chelsea.png")
    copies = [await put(jpeg(picture, 50 + 3 * n)) for n in range(12)]
    await run_queue(processor)
    original = await put(jpeg(picture))
    await run_queue(processor)
    async with processor.engine.begin() as connection:
        await connection.execute(text("DELETE FROM image_match"))
    monkeypatch.setattr("deployments.pipeline.lookback_search.MOST_HITS", 4)  # fewer than the vectors of one picture
    lookback = await banks.add(await banks.make(), original)
    await done(processor, lookback)
    assert await verdicts(processor.engine, *copies) == ["block"] * 12


class NoIndex:
    """Vectors that do not answer."""

    async def add(self, rows: object, replace: object) -> dict[str, int]:
        raise Unavailable("the writer is switched off")

    async def search(self, queries: object, versions: object) -> list[list[Hit]]:
        raise Unavailable("the readers are switched off")


async def test_what_searches_nothing_needs_no_vectors(processor: Processor, put: Upload, banks: Banks) -> None:
    original = await put(jpeg(photo("coins.png")))
    await run_queue(processor)
    bank = await banks.make()
    await done(processor, await banks.add(bank, original))
    down = replace(processor, index=NoIndex())
    await done(down, await banks.quarantine(bank))
    assert await verdicts(processor.engine, original) == ["allow"]
    await done(down, await lookbacks.start(processor.engine, bank_id=None, actor="test", reason="all"))
    searching = await lookbacks.start(processor.engine, bank_id=bank, actor="test", reason="it is in quarantine")
    await done(down, searching)


async def test_an_object_that_is_refused_is_passed_over(processor: Processor, put: Upload, banks: Banks) -> None:
    picture = photo("rocket.jpg")
    theirs, copy = await put(jpeg(picture)), await put(jpeg(picture, 60))
    await run_queue(processor)
    (upright, *_), _ = pdq_hashes(np.asarray(picture))
    bank = await banks.make()
    with refused(processor, await as_corpus(processor, theirs)) as limited:
        skipped = await done(limited, await banks.add(bank, theirs))
        await done(limited, await banks.add_hashes(bank, HashEntry(upright.tobytes(), None)))
    assert skipped.skips == [f"image {theirs.id}: the object store refuses access (AccessDenied)"]
    assert await verdicts(processor.engine, copy) == ["block"]
