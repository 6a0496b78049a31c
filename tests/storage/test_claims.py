"""The claim: no two workers share a picture, an expired lease loses its right, a result is stored once and whole."""

import asyncio
import io
import uuid
from collections.abc import Sequence
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage import claims, images
from storage.claims import Claim, FoundObject, Outcome
from storage.errors import InvalidInput, NotFound, StaleClaim
from storage.links import Link, store_links
from storage.objects import ObjectStore
from storage.uploads import NewImage, upload
from tests.scores import content_scores

LONG = {"lease_s": 60.0, "max_attempts": 3}


async def stored(engine: AsyncEngine, objects: ObjectStore, queue: str, count: int = 1) -> list[int]:
    """Uploads ``count`` small different pictures to a queue."""
    ids = []
    for _ in range(count):
        buffer = io.BytesIO()
        seed = uuid.uuid4().int % 2**32
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(buffer, "PNG")
        image = await upload(engine, objects, NewImage("a.png", queue, buffer.getvalue(), "image/png", 8, 8), caller=0)
        assert image.id is not None
        ids.append(image.id)
    return ids


@pytest.fixture
def queue() -> str:
    return f"claims-{uuid.uuid4().hex}"


async def test_concurrent_claimers_share_nothing(engine: AsyncEngine, objects: ObjectStore, queue: str) -> None:
    ids = await stored(engine, objects, queue, 40)
    taken = await asyncio.gather(*(claims.claim(engine, [queue], 5, **LONG) for _ in range(12)))
    got = [held.image_id for batch in taken for held in batch]
    assert sorted(got) == ids
    assert len({held.token for batch in taken for held in batch}) == 40
    assert await claims.claim(engine, [queue], 5, **LONG) == []


async def test_an_expired_lease_gives_the_picture_back_and_at_last_fails_it(
    engine: AsyncEngine, objects: ObjectStore, queue: str
) -> None:
    (image,) = await stored(engine, objects, queue)
    attempts = []
    for _ in range(3):
        (held,) = await claims.claim(engine, [queue], 1, lease_s=0.05, max_attempts=3)
        attempts.append(held.attempt)
        await asyncio.sleep(0.1)
        assert await claims.renew(engine, [held], lease_s=60) == set()
        assert await claims.finish(engine, [Outcome(held)]) == set()
    assert attempts == [1, 2, 3]
    assert await claims.claim(engine, [queue], 1, lease_s=1, max_attempts=3) == []
    row = await images.get(engine, image)
    assert row.status == "FAILED" and "3 times" in (row.failure or "")


async def test_a_result_is_stored_whole_and_once(engine: AsyncEngine, objects: ObjectStore, queue: str) -> None:
    first, second, third = await stored(engine, objects, queue, 3)
    held = {one.image_id: one for one in await claims.claim(engine, [queue], 3, **LONG)}
    outcome = Outcome(
        held[first],
        [Link(second, "copy", "pdq", 0.9, 0.8, {"n": 1}), Link(third, "copy", "pdq", 0.95, 0.8, {}), 
         Link(10**12, "copy", "pdq", 1, 0, {})],
        [FoundObject("cat", 0.8, (1, 2, 3, 4), "nanodet@1")],
        {"opennsfw@1": 0.25},
    )  # fmt: skip
    assert await claims.finish(engine, [outcome]) == {first}
    better = Outcome(held[second], [Link(first, "exact", "sha256", 1.0, 1.0, {"n": 2})])
    worse = Outcome(held[third], [Link(first, "copy", "pdq", 0.85, 0.8, {})])
    assert await claims.finish(engine, [better, worse]) == {second, third}
    assert await claims.finish(engine, [outcome]) == set(), "the token is used up"
    found = await images.matches(engine, first)
    assert [(one.image_id, one.relation, one.score) for one in found] == [(second, "exact", 1.0), (third, "copy", 0.95)]
    assert [other for other, _ in await images.related(engine, second)] == [first]
    assert [(one.label, one.x1) for one in await images.detections(engine, first)] == [("cat", 3)]
    assert [one.score for one in await content_scores(engine, first)] == [0.25]


async def test_a_strangers_token_stores_nothing(engine: AsyncEngine, objects: ObjectStore, queue: str) -> None:
    first, second = await stored(engine, objects, queue, 2)
    held, _ = await claims.claim(engine, [queue], 2, **LONG)
    forged = Claim(**{**held.__dict__, "token": uuid4()})
    assert await claims.finish(engine, [Outcome(forged, [Link(second, "copy", "pdq", 1, 0, {})])]) == set()
    assert (await images.get(engine, first)).status == "PROCESSING"
    assert await images.matches(engine, first) == []
    assert await claims.release(engine, forged, "no", retry_delay_s=0, max_attempts=3) is None


async def test_what_is_at_fault_decides_the_release(engine: AsyncEngine, objects: ObjectStore, queue: str) -> None:
    (image,) = await stored(engine, objects, queue)
    options = {"retry_delay_s": 0.0, "max_attempts": 2}
    for _ in range(5):
        (held,) = await claims.claim(engine, [queue], 1, lease_s=60, max_attempts=2)
        assert held.attempt == 1
        assert await claims.release(engine, held, "S3 is down", blameless=True, **options) == "UPLOADED"
    (held,) = await claims.claim(engine, [queue], 1, lease_s=60, max_attempts=2)
    assert await claims.release(engine, held, "a try", retry_delay_s=60, max_attempts=2) == "UPLOADED"
    assert await claims.claim(engine, [queue], 1, lease_s=60, max_attempts=2) == [], "the pause is kept"
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE image SET not_before = NULL WHERE id = :id"), {"id": image})
    (held,) = await claims.claim(engine, [queue], 1, lease_s=60, max_attempts=2)
    assert await claims.release(engine, held, "the file is broken", permanent=True, **options) == "FAILED"
    assert (await images.get(engine, image)).failure == "the file is broken"


async def test_an_outside_worker_delivers_once(engine: AsyncEngine, objects: ObjectStore, queue: str) -> None:
    first, second, third = await stored(engine, objects, queue, 3)
    held, other, _ = await claims.claim(engine, [queue], 3, **LONG)
    with pytest.raises(InvalidInput, match="itself"):
        await claims.deliver(engine, first, held.token, [first])
    with pytest.raises(InvalidInput, match="no such images: 999999999"):
        await claims.deliver(engine, first, held.token, [999999999])
    with pytest.raises(StaleClaim):
        await claims.deliver(engine, first, other.token, [second])
    with pytest.raises(NotFound):
        await claims.deliver(engine, 10**12, held.token, [])
    await claims.deliver(engine, first, held.token, [third, second])
    await claims.deliver(engine, first, held.token, [])  # a repeat changes nothing
    await claims.deliver(engine, third, (await _token(engine, third)), [])
    await claims.deliver(engine, second, other.token, [])
    assert [number for number, _ in await images.related(engine, first)] == [third, second], "the worker's order"


async def test_two_workers_deliver_each_others_image_at_once(
    engine: AsyncEngine, objects: ObjectStore, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await stored(engine, objects, queue, 2)
    one, other = await claims.claim(engine, [queue], 2, **LONG)
    both = asyncio.Barrier(2)

    async def together(connection: AsyncConnection, links: Sequence[tuple[int, Link]]) -> None:
        await both.wait()
        await store_links(connection, links)

    monkeypatch.setattr(claims, "store_links", together)
    async with asyncio.timeout(30):
        await asyncio.gather(
            claims.deliver(engine, first, one.token, [second]), claims.deliver(engine, second, other.token, [first])
        )
    assert [number for number, _ in await images.related(engine, first)] == [second]
    assert [(await images.get(engine, number)).status for number in (first, second)] == ["PROCESSED"] * 2


async def _token(engine: AsyncEngine, image: int) -> uuid.UUID:
    async with engine.connect() as connection:
        found: uuid.UUID = (
            await connection.execute(text("SELECT lease_token FROM image WHERE id = :id"), {"id": image})
        ).scalar_one()
    return found


async def test_after_vectors_were_written_the_next_claim_is_a_second_attempt(
    engine: AsyncEngine, objects: ObjectStore, queue: str
) -> None:
    await stored(engine, objects, queue)
    for expected in (1, 2, 2, 2):
        (held,) = await claims.claim(engine, [queue], 1, lease_s=60, max_attempts=2)
        assert held.attempt == expected
        options = {"retry_delay_s": 0.0, "max_attempts": 2, "blameless": True, "written": True}
        assert await claims.release(engine, held, "no reader answers", **options) == "UPLOADED"
