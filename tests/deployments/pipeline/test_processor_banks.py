"""Pictures and banks: what is near a member is decided so, whatever the member is and whoever changes it meanwhile."""

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.pipeline.bank_hashes import BankHashes
from deployments.pipeline.processor import Processor
from deployments.vision.decoding import decode
from deployments.vision.pdq import pdq_hashes
from storage.bank_changes import Compared, change_banks
from storage.tables import Image
from tests.banks import bank_of
from tests.deployments.pipeline.conftest import Upload, run_queue
from tests.deployments.pipeline.test_processor import flat_red
from tests.service.pictures import edited, jpeg, photo


def pdq(data: bytes) -> tuple[np.ndarray, int]:
    return pdq_hashes(decode(data, max_pixels=10**8, long_side=1024).pixels)


@pytest.fixture(autouse=True)
async def _no_banks_after(engine: AsyncEngine):
    """Members of these pictures would count for other tests, too, and images that are members cannot be deleted."""
    yield
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        await connection.execute(text("DELETE FROM bank"))


async def matches(engine: AsyncEngine, image: Image) -> tuple[str, list[tuple[int, str, str]]]:
    """The verdict on an image, and member, relation and method of its matches in banks."""
    async with engine.connect() as connection:
        statement = (
            "SELECT decision.verdict, decision.facts FROM moderation JOIN decision ON decision.id = decision_id"
            " WHERE moderation.image_id = :id"
        )
        row = (await connection.execute(text(statement), {"id": image.id})).one()
    return row.verdict, [(one["member"], one["relation"], one["method"]) for one in row.facts["matches"]]


async def test_a_picture_near_a_hash_is_blocked(processor: Processor, put: Upload) -> None:
    engine = processor.engine
    (upright, *_), _ = pdq(jpeg(photo("astronaut.png")))
    mirrored = pdq(jpeg(photo("coffee.png")))[0][5]
    _, (first, second) = await bank_of(engine, [upright.tobytes(), mirrored.tobytes()])
    near, turned, stranger = (
        await put(edited("astronaut.png", "jpeg10")),
        await put(jpeg(photo("coffee.png"))),
        await put(jpeg(photo("coins.png"))),
    )
    await run_queue(processor)
    assert await matches(engine, near) == ("block", [(first, "copy", "pdq")])
    assert await matches(engine, turned) == ("block", [(second, "copy", "pdq")])
    assert await matches(engine, stranger) == ("allow", [])


async def test_a_picture_without_structure_is_near_no_hash(processor: Processor, put: Upload) -> None:
    hashes, quality = pdq(flat_red())
    assert quality < 50
    await bank_of(processor.engine, [hashes[0].tobytes()])
    image = await put(flat_red())
    await run_queue(processor)
    assert await matches(processor.engine, image) == ("allow", [])


class Hasty(BankHashes):
    """A member is added just after each of the first pictures was compared."""

    def __init__(self, engine: AsyncEngine, added: list[bytes]) -> None:
        super().__init__(engine)
        self.engine, self.added, self.members, self.calls = engine, added, [], 0

    async def near(self, looks, *, min_quality: int) -> Compared:
        found = await super().near(looks, min_quality=min_quality)
        self.calls += 1
        if self.added:
            _, members = await bank_of(self.engine, [self.added.pop()])
            self.members += members
        return found


async def test_a_member_that_comes_while_a_picture_is_finished_is_not_missed(processor: Processor, put: Upload) -> None:
    (upright, *_), _ = pdq(jpeg(photo("chelsea.png")))
    hasty = Hasty(processor.engine, [upright.tobytes()])
    image = await put(edited("chelsea.png", "jpeg10"))
    await run_queue(replace(processor, hashes=hasty))
    assert await matches(processor.engine, image) == ("block", [(hasty.members[0], "copy", "pdq")])
    assert hasty.calls == 2
    async with processor.engine.connect() as connection:
        count = await connection.scalar(text("SELECT count(*) FROM decision WHERE image_id = :id"), {"id": image.id})
    assert count == 1, "decided once"
