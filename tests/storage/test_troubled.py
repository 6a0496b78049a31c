"""Images that fail or are tried again: the same file sent many times is one line, with the newest of its images."""

from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.objects import ObjectStore
from storage.troubled import troubled
from storage.uploads import NewImage, upload
from tests.graphs.own import engine, objects, servers

__all__ = ["engine", "objects", "servers"]


async def sent(engine: AsyncEngine, objects: ObjectStore, name: str, data: bytes) -> int:
    image = await upload(engine, objects, NewImage(name, "m", data, "image/png", 1, 1), caller=0)
    assert image.id is not None
    return image.id


async def became(engine: AsyncEngine, image_id: int, status: str, attempt: int, failure: str | None) -> None:
    token = ", lease_token = :token, lease_expires_at = now() + interval '1 minute'" if status == "PROCESSING" else ""
    async with engine.begin() as connection:
        await connection.execute(
            text(f"UPDATE image SET status = :status, attempt = :attempt, failure = :failure{token} WHERE id = :id"),
            {"status": status, "attempt": attempt, "failure": failure, "id": image_id}
            | ({"token": uuid4()} if token else {}),
        )


async def test_the_same_file_is_one_line(engine: AsyncEngine, objects: ObjectStore) -> None:
    assert await troubled(engine) == []
    for number in range(3):
        await became(engine, await sent(engine, objects, f"poison-{number}.png", b"poison"), "FAILED", 1, "damaged")
    other = await sent(engine, objects, "other.png", b"other")
    await became(engine, other, "FAILED", 3, "no worker finished it")
    await sent(engine, objects, "waits.png", b"waits")
    again = await sent(engine, objects, "again.png", b"again")
    await became(engine, again, "PROCESSING", 2, None)
    first, *rest = await troubled(engine)
    assert (first.images, first.name, first.reason, first.attempts) == (3, "poison-2.png", "damaged", 1)
    assert first.newest == max(one.newest for one in (first, *rest)) - 3 and len(first.sha256) == 32
    assert [(one.newest, one.status, one.attempts, one.reason) for one in rest] == [
        (again, "PROCESSING", 2, None), (other, "FAILED", 3, "no worker finished it"),
    ]  # fmt: skip
    assert [one.images for one in await troubled(engine, most=1)] == [3]
    assert (await troubled(engine, among=2))[0].images == 1, "of the newest failures only"
