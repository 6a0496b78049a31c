"""Pictures and banks: what is near a member is decided so, whatever the member is and whoever changes it meanwhile."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.pipeline.bank_hashes import BankHashes
from deployments.pipeline.look import Look
from deployments.pipeline.processor import Processor, vector_rows
from deployments.vision.decoding import decode
from deployments.vision.pdq import pdq_hashes
from storage import images
from storage.bank_changes import Compared, change_banks
from storage.features import features_key
from storage.links import Link, store_links
from storage.tables import Image
from tests.banks import bank, bank_of, member
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


async def matches(engine: AsyncEngine, image_id: int | None) -> tuple[str, list[tuple[int, str, str]]]:
    """The verdict on an image, and member, relation and method of its matches in banks."""
    async with engine.connect() as connection:
        statement = (
            "SELECT decision.verdict, decision.facts FROM moderation JOIN decision ON decision.id = decision_id"
            " WHERE moderation.image_id = :id"
        )
        row = (await connection.execute(text(statement), {"id": image_id})).one()
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
    assert await matches(engine, near.id) == ("block", [(first, "copy", "pdq")])
    assert await matches(engine, turned.id) == ("block", [(second, "copy", "pdq")])
    assert await matches(engine, stranger.id) == ("allow", [])


async def test_a_picture_without_structure_is_near_no_hash(processor: Processor, put: Upload) -> None:
    hashes, quality = pdq(flat_red())
    assert quality < 50
    await bank_of(processor.engine, [hashes[0].tobytes()])
    image = await put(flat_red())
    await run_queue(processor)
    assert await matches(processor.engine, image.id) == ("allow", [])


async def crowd(processor: Processor, put: Upload, data: bytes, count: int) -> list[int]:
    """Stored images that look all the same, without links: as many as would take many seconds to process."""
    engine, model = processor.engine, (await processor.generations.of(processor.registry.default))[0]
    (seen,) = await processor.look(model, [data])
    assert isinstance(seen, Look) and seen.details is not None
    made = await asyncio.gather(*(put(data, f"{number}.jpg") for number in range(count)))
    ids = [image.id or 0 for image in made]
    details = seen.details.to_bytes()
    await asyncio.gather(*(processor.objects.put(features_key(one.s3_path), details, "x/y") for one in made))
    await processor.index.add(vector_rows(model, [(one, seen) for one in ids]), [])
    async with engine.begin() as connection:
        # Other bytes than the picture asked about: as if each had been stored a little differently.
        statement = "UPDATE image SET status = 'PROCESSED', sha256 = sha256(id::text::bytea) WHERE id = ANY(:ids)"
        await connection.execute(text(statement), {"ids": ids})
    return ids


async def image_member(engine: AsyncEngine, image: Image) -> int:
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        return await member(connection, await bank(connection), image_id=image.id)


async def test_a_member_is_found_though_many_of_its_copies_lie_nearer(processor: Processor, put: Upload) -> None:
    engine = processor.engine
    original = await put(jpeg(photo("astronaut.png")))
    await run_queue(processor)
    copy = photo("astronaut.png").crop((60, 0, 400, 340))
    copies = await crowd(processor, put, jpeg(copy), 40)
    files = {"again.jpg": jpeg(copy, 60), "turned.jpg": jpeg(copy.rotate(12).crop((30, 30, 310, 310)))}

    async def ask() -> list[tuple[str, list[tuple[int, str]], list[images.StoredMatch]]]:
        stored = [await put(data + uuid4().bytes, name) for name, data in files.items()]
        await run_queue(processor)
        answers = []
        for image in stored:
            verdict, found = await matches(engine, image.id)
            links = await images.matches(engine, image.id or 0)
            assert {one.image_id for one in links} & set(copies), "copies of it are found"
            to_original = [one for one in links if one.image_id == original.id]
            answers.append((verdict, [(one, relation) for one, relation, _ in found], to_original))
        return answers

    assert await ask() == [("allow", [], [])] * 2, "without a bank nobody needs the link"
    made = await image_member(engine, original)
    for linked in (False, True):
        for verdict, found, (link,) in await ask():
            assert (verdict, found) == ("block", [(made, "copy")]), f"{linked=}"
            assert link.score >= link.threshold and link.evidence["geometry"]["inliers"] > 15
        links = [(one, Link(original.id or 0, "copy", "geometry", 0.99, 0.9, {})) for one in copies]
        async with engine.begin() as connection:
            await store_links(connection, links)


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
    assert await matches(processor.engine, image.id) == ("block", [(hasty.members[0], "copy", "pdq")])
    assert hasty.calls == 2
    async with processor.engine.connect() as connection:
        count = await connection.scalar(text("SELECT count(*) FROM decision WHERE image_id = :id"), {"id": image.id})
    assert count == 1, "decided once"
