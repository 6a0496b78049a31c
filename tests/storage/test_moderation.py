"""What holds for an image: read as it was decided, decided now where nobody has, refused before it is processed."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.errors import Conflict, NotFound
from storage.moderation import history, standing
from storage.objects import ObjectStore
from tests.filtering import DOUBTFUL, SAFE, UNSAFE, processed
from tests.storage.test_claims import stored


async def test_the_verdict_and_its_decision(engine: AsyncEngine, objects: ObjectStore) -> None:
    ids = await processed(engine, objects, [SAFE, DOUBTFUL, UNSAFE])
    held = [await standing(engine, one) for one in ids]
    assert [(one.decision.verdict, one.decision.rule, one.by_person) for one in held] == [
        ("allow", None, False),
        ("review", "possibly-unsafe-content", False),
        ("block", "unsafe-content", False),
    ]
    assert [one.decision.image_id for one in held] == ids
    assert [one.decision.at for one in held] == [one.since for one in held]
    assert [one.id for one in await history(engine, ids[0])] == [held[0].decision.id]


async def test_an_image_without_a_verdict_is_decided_once(engine: AsyncEngine, objects: ObjectStore) -> None:
    (image,) = await processed(engine, objects, [UNSAFE])
    async with engine.begin() as connection:  # as it is after the migration of an older installation
        await connection.execute(text("DELETE FROM moderation WHERE image_id = :id"), {"id": image})
        await connection.execute(text("DELETE FROM decision WHERE image_id = :id"), {"id": image})
    found = await asyncio.gather(*(standing(engine, image) for _ in range(6)))
    assert {(one.decision.verdict, one.decision.cause) for one in found} == {("block", "asked for")}
    assert len(await history(engine, image)) == 1


async def test_what_is_not_processed_has_no_verdict(engine: AsyncEngine, objects: ObjectStore) -> None:
    (image,) = await stored(engine, objects, "nobody-processes-this")
    with pytest.raises(Conflict, match=f"image {image} is UPLOADED"):
        await standing(engine, image)
    with pytest.raises(NotFound, match=f"no image {2**63 - 1}"):
        await standing(engine, 2**63 - 1)
