"""Pictures to calibrate a bank with: its own, and strangers of the same model. Changes nothing. Below the deployments."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import images
from storage.database import reading

_MEMBERS = text("""
SELECT image.id, image.s3_path FROM bank_member member JOIN image ON image.id = member.image_id
WHERE member.bank_id = :bank AND member.removed_at IS NULL AND member.quarantined_at IS NULL
      AND image.model_name = :model
ORDER BY random() LIMIT :count
""")
_RELATED = text("""
SELECT id FROM unnest(CAST(:ids AS bigint[])) AS id
WHERE EXISTS (SELECT FROM bank_member WHERE image_id = id)
""")


async def member_pictures(engine: AsyncEngine, bank_id: int, model_name: str, count: int) -> list[tuple[int, str]]:
    """Members of a bank that are images of a model, at random: (id, s3_path)."""
    async with reading(engine) as connection:
        values = {"bank": bank_id, "model": model_name, "count": count}
        return [(row.id, row.s3_path) for row in (await connection.execute(_MEMBERS, values)).all()]


async def strangers(engine: AsyncEngine, model_name: str, count: int) -> list[tuple[int, str]]:
    """Processed images of a model that are no member of any bank, at random: (id, s3_path)."""
    drawn = await images.sample(engine, model_name, count)
    async with reading(engine) as connection:
        related = set((await connection.execute(_RELATED, {"ids": [one for one, _ in drawn]})).scalars())
    return [(one, path) for one, path in drawn if one not in related]
