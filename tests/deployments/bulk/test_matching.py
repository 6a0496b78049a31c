"""A unit is matched as uploads are: with banks, too, and with what comes to them meanwhile. The vectors are in this process."""

import dataclasses
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import load_models
from configs.settings import Settings
from deployments.bulk.describing import ReaderAndDescriber
from deployments.bulk.matching import Matcher
from deployments.bulk.work import BulkTask, UnitWork, packed, unpacked
from deployments.similarity.members import Members
from deployments.similarity.reader import VectorReader
from deployments.similarity.replicas import known_spaces
from deployments.similarity.writer import VectorWriter
from storage import bulk, job_units
from storage.bank_changes import change_banks
from storage.corpus import CorpusObject
from storage.objects import ObjectStore
from tests.banks import bank, bank_of, member
from tests.deployments.pipeline.conftest import LocalIndex
from tests.deployments.pipeline.test_processor_banks import matches, pdq
from tests.service.pictures import edited, jpeg, photo
from tests.storage.ledger import listed

FILES = {
    "chelsea.jpg": jpeg(photo("chelsea.png")),
    "copy.jpg": edited("chelsea.png", "crop70"),
    "coffee.jpg": edited("coffee.png", "jpeg10"),
    "coins.jpg": jpeg(photo("coins.png")),
}


@pytest_asyncio.fixture
async def index(engine: AsyncEngine, servers: Settings) -> AsyncIterator[LocalIndex]:
    spaces = known_spaces(load_models(servers.models_file))
    writer = VectorWriter(engine, servers, spaces, holder="test")
    await writer.start()
    yield LocalIndex(writer, VectorReader(servers, spaces, Members(engine)))
    await writer.close()


@pytest.fixture(autouse=True)
async def _clean(engine: AsyncEngine) -> AsyncIterator[None]:
    yield
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        for statement in ("bank", "job", "image WHERE s3_path LIKE 's3://corpus-%'"):
            await connection.execute(text(f"DELETE FROM {statement}"))


async def test_pictures_of_a_unit_are_compared_with_banks(
    engine: AsyncEngine, task: BulkTask, corpus: ObjectStore, index: LocalIndex
) -> None:
    for name, content in FILES.items():
        await corpus.put(f"x/{name}", content, "image/jpeg")
    found = [CorpusObject(corpus.address(f"x/{name}"), "e", len(content)) for name, content in FILES.items()]
    job_id, token = await listed(engine, found)
    task = dataclasses.replace(task, job_id=job_id, token=token)
    (unit,) = await job_units.units(engine, job_id, [0])
    chelsea, copy, coffee, coins = unit.image_ids
    work = UnitWork(0, unit.image_ids, unit.paths, unit.etags, unit.sizes)
    (described,) = unpacked(ReaderAndDescriber(task)(packed([work])))
    assert described.outcome.failures == []
    await bulk.begin(engine, job_id, token, [0])
    versions = await index.add(described.vectors, [])
    await bulk.store_indexed(engine, job_id, token, task.model_name, [described.outcome])

    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        known = await member(connection, await bank(connection), image_id=chelsea)
    _, (hashed,) = await bank_of(engine, [pdq(jpeg(photo("coffee.png")))[0][5].tobytes()])
    matcher = Matcher(task, versions, index)
    late: list[int] = []
    near = matcher._hashes.near

    async def hasty(*given, **more):
        """Just after the pictures were compared, a member comes that the last of them is near."""
        compared = await near(*given, **more)
        if not late:
            late.extend((await bank_of(engine, [pdq(FILES["coins.jpg"])[0][0].tobytes()]))[1])
        return compared

    matcher._hashes.near = hasty
    await matcher.match(0)

    async def said(image_id: int) -> tuple[str, list[int]]:
        verdict, facts = await matches(engine, image_id)
        return verdict, [one for one, _, _ in facts]

    assert await said(chelsea) == ("block", [known]) and await said(copy) == ("block", [known])
    assert await said(coffee) == ("block", [hashed]) and await said(coins) == ("block", late)
    await index.writer.remove(unit.image_ids)
