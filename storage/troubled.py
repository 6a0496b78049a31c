"""Images that fail or are tried again and again, those of the same bytes together. Imports the tables only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, desc, func, literal_column, select, union_all
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col

from storage.database import reading
from storage.tables import Image, Status


@dataclass(frozen=True)
class Troubled:
    """Images of the same bytes, model and reason.

    Args:
        status: FAILED, or UPLOADED and PROCESSING of images that were claimed more than once.
        newest: the highest id, and the name it was uploaded under.
        attempts: the most claims that one of them took.
        last_at: when the newest was uploaded.
        reason: of the failure; None before the last attempt, and where that said nothing: its worker may have died.
    """

    status: str
    images: int
    newest: int
    name: str
    model_name: str
    sha256: bytes
    attempts: int
    last_at: datetime
    reason: str | None


async def troubled(engine: AsyncEngine, *, among: int = 1000, most: int = 20) -> list[Troubled]:
    """Those of the newest failures, and of the oldest images that wait or are in work; the most frequent first.

    Args:
        among: images of each status that are looked at.
        most: groups at most.
    """
    failed = _of(Status.FAILED).order_by(col(Image.id).desc()).limit(among)
    waiting = (Status.UPLOADED, Status.PROCESSING)
    again = [_of(status).where(col(Image.attempt) > 1).order_by(col(Image.id)) for status in waiting]
    some = union_all(*(one.subquery().select() for one in (failed, *(one.limit(among) for one in again)))).subquery()
    column = some.c
    newest_first = aggregate_order_by(column.name, column.id.desc())
    images: Any = func.count()
    statement = (
        select(
            column.status, images.label("images"), func.max(column.id).label("newest"),
            func.array_agg(newest_first)[1].label("name"), column.model_name, column.sha256,
            func.max(column.attempt).label("attempts"), func.max(column.uploaded_at).label("last_at"), column.failure,
        )
        .group_by(column.status, column.model_name, column.sha256, column.failure)
        .order_by(desc(literal_column("images")), desc(literal_column("newest")))
        .limit(most)
    )  # fmt: skip
    async with reading(engine) as connection:
        rows = (await connection.execute(statement)).all()
    return [Troubled(*row) for row in rows]


def _of(status: Status) -> Select[Any]:
    columns: list[Any] = [
        col(one) for one in (Image.id, Image.name, Image.status, Image.model_name, Image.sha256, Image.attempt,
                             Image.uploaded_at, Image.failure)
    ]  # fmt: skip
    return select(*columns).where(col(Image.status) == status, col(Image.uploaded_at).is_not(None))
