"""Banks and members as rows, for tests of what reads them; the caller holds ``change_banks``."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage.bank_changes import change_banks


async def bank(
    connection: AsyncConnection, kind: str = "unacceptable", *, pdq_distance: int = 31, name: str | None = None
) -> int:
    """A bank for which every relation counts."""
    row = await connection.execute(
        text(
            "INSERT INTO bank (name, kind, relations, pdq_distance, created_by)"
            " VALUES (:name, :kind, '{exact,copy,semantic}', :distance, 'test') RETURNING id"
        ),
        {"name": name or f"bank {uuid4()}", "kind": kind, "distance": pdq_distance},
    )
    return int(row.scalar_one())


async def member(connection: AsyncConnection, bank: int, **columns: object) -> int:
    """A member: ``image_id``, ``pdq`` or ``sha256``."""
    names = ", ".join(columns)
    row = await connection.execute(
        text(
            f"INSERT INTO bank_member (bank_id, added_by, {names})"
            f" VALUES (:bank, 'test', {', '.join(':' + name for name in columns)}) RETURNING id"
        ),
        {"bank": bank, **columns},
    )
    return int(row.scalar_one())


async def bank_of(
    engine: AsyncEngine, hashes: Sequence[bytes] = (), kind: str = "unacceptable", **columns: Any
) -> tuple[int, list[int]]:
    """A bank of PDQ hashes, in a transaction of its own: the ids of the bank and of its members."""
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        made = await bank(connection, kind, **columns)
        return made, [await member(connection, made, pdq=one) for one in hashes]
