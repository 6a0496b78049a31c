"""Rows that tests of policies start from: banks, and processed images with a content score."""

from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.bank_changes import hold_banks
from storage.banks import NewBank, create
from storage.decisions import decide


async def add_bank(engine: AsyncEngine, name: str) -> int:
    """An empty bank of unacceptable pictures."""
    bank = (await create(engine, NewBank(name, "unacceptable"), actor="test")).bank
    assert bank.id is not None
    return bank.id


async def add_images(engine: AsyncEngine, scores: list[float], *, decided: bool = True) -> list[int]:
    """Processed images that the filter opennsfw@1 has given these scores; no objects in S3."""
    async with engine.begin() as connection:
        await hold_banks(connection, None)
        ids = []
        for score in scores:
            row = await connection.execute(
                text(
                    "INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height,"
                    " uploaded_at, processed_at, attempt) VALUES ('a.png', 'PROCESSED', 'safeguard-v1', :path, :path_hash,"
                    " 1000, 'image/png', 640, 480, now(), now(), 1) RETURNING id"
                ),
                {"path": f"images/none_{uuid4()}", "path_hash": uuid4().bytes * 2},
            )
            ids.append(int(row.scalar_one()))
            await connection.execute(
                text("INSERT INTO content_score (image_id, model, score) VALUES (:id, 'opennsfw@1', :score)"),
                {"id": ids[-1], "score": score},
            )
        if decided:
            await decide(connection, ids, cause="processed")
        return ids
