"""Images are found again by listing their corpora, each object once."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import jobs
from storage.corpus_images import present, sources
from storage.errors import NotFound
from storage.objects import ObjectStore

IMAGE = text(
    "INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at)"
    " VALUES ('x', 'PROCESSED', 'm', :path, sha256('a'), 1, 'image/jpeg', 1, 1, now()) RETURNING id"
)


@pytest_asyncio.fixture
async def bucket(engine: AsyncEngine, objects: ObjectStore) -> AsyncIterator[str]:
    name = f"corpus-{uuid4().hex[:12]}"
    await objects.ensure_buckets(name)
    yield name
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM image WHERE s3_path LIKE :path"), {"path": f"s3://{name}/%"})
        await connection.execute(text("DELETE FROM job WHERE source LIKE :path"), {"path": f"s3://{name}/%"})


async def test_sources_that_lie_below_another_are_left_out(engine: AsyncEngine, bucket: str) -> None:
    for end in ("b/", "a/x/", "a/", "a-b/", "ab/", "a/x/y/"):
        job = await jobs.create(engine, source=f"s3://{bucket}/{end}", model_name="m", options={}, created_by="test",
                                kind=jobs.REINDEX)  # fmt: skip
        async with engine.begin() as connection:  # unfinished backfills may not overlap; finished ones may
            await connection.execute(
                text("UPDATE job SET kind = 'backfill', status = 'done' WHERE id = :id"), {"id": job.id}
            )
    found = [one for one in await sources(engine) if bucket in one]
    assert found == [f"s3://{bucket}/{end}" for end in ("a-b/", "a/", "ab/", "b/")]


async def test_images_whose_object_is_there(engine: AsyncEngine, objects: ObjectStore, bucket: str) -> None:
    keys = [f"a/{folder}/Ж {number}.jpg" for folder in range(3) for number in range(4)]
    for key in [*keys, "a/no image.txt"]:
        objects._client.put_object(Bucket=bucket, Key=key, Body=b"x")
    async with engine.begin() as connection:
        ids = [
            (await connection.execute(IMAGE, {"path": f"s3://{bucket}/{key}"})).scalar_one()
            for key in [*keys, "a/gone.jpg"]
        ]
    pages = [page async for page in present(engine, objects, f"s3://{bucket}/a/")]
    assert sum(count for count, _ in pages) == 13
    assert sorted(image_id for _, some in pages for image_id in some) == ids[:-1]
    with pytest.raises(NotFound):
        await anext(present(engine, objects, f"s3://{bucket}/nothing/"))
