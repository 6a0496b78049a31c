"""What filters have said of an image, as it is stored."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col

from storage.tables import ContentScore, columns_of


async def content_scores(engine: AsyncEngine, image_id: int) -> list[ContentScore]:
    """One of each filter."""
    statement = select(*columns_of(ContentScore)).where(col(ContentScore.image_id) == image_id)
    async with engine.connect() as connection:
        return [ContentScore(**row._mapping) for row in (await connection.execute(statement)).all()]
