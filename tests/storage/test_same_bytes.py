"""Pictures with the same bytes: the newest of many, and always those that banks hold."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import images
from storage.bank_changes import change_banks
from storage.objects import ObjectStore
from tests.banks import bank, member
from tests.storage.test_claims import stored

_COPIES = text("""
INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at)
SELECT name, status, model_name, s3_path || n, sha256, size_bytes, media_type, width, height, now()
FROM image, generate_series(1, 1100) AS n WHERE id = :id RETURNING id
""")


@pytest.mark.parametrize("removed", [False, True])
async def test_a_member_counts_however_many_copies_came_later(
    engine: AsyncEngine, objects: ObjectStore, removed: bool
) -> None:
    first, other = await stored(engine, objects, "same-bytes", 2)
    async with engine.begin() as connection:
        copies = sorted((await connection.execute(_COPIES, {"id": first})).scalars(), reverse=True)
        await change_banks(connection, hashes=False)
        held = await member(connection, await bank(connection), image_id=first)
        if removed:
            await connection.execute(text("UPDATE bank_member SET removed_at = now() WHERE id = :id"), {"id": held})
    files = await images.files(engine, [first, other])
    digests = [files[first][1], files[other][1]]
    found = await images.same_bytes(engine, digests)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM image WHERE id = ANY(:ids)"), {"ids": copies})
    assert found[digests[0]] == copies[:1000] + ([] if removed else [first])
    assert found[digests[1]] == [other]
