"""PDQ members of banks as whoever compares pictures with them reads them: packed pages, by id. Below the deployments."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.database import reading

_PAGE = 20_000
_ROW = np.dtype([("id", ">i8"), ("bank", ">i8"), ("pdq", "u1", 32)])
# One value for a whole page: a row of its own for each member would keep the loop busy for seconds.
_MEMBERS = text("""
SELECT coalesce(string_agg(int8send(id) || int8send(bank_id) || pdq, ''::bytea ORDER BY id), ''::bytea)
FROM (SELECT id, bank_id, pdq FROM bank_member WHERE id > :after AND pdq IS NOT NULL ORDER BY id LIMIT :limit) AS page
""")
_DISTANCES = text("SELECT id, pdq_distance FROM bank ORDER BY id")
_COUNT = text("SELECT count(*) FROM bank_member WHERE pdq IS NOT NULL")


@dataclass(frozen=True)
class MemberHashes:
    """Some PDQ members, by id.

    Args:
        ids: int64[n] of the members.
        banks: int64[n], ids of their banks.
        hashes: uint8[n, 32].
    """

    ids: NDArray[np.int64]
    banks: NDArray[np.int64]
    hashes: NDArray[np.uint8]


async def pages(engine: AsyncEngine, *, after: int = 0, size: int = _PAGE) -> AsyncIterator[MemberHashes]:
    """All PDQ members with larger ids, those too that are not in force: that is judged where an image is decided on.

    Whoever adds a member holds ``change_banks``' lock when its id is given, so no smaller id follows later.

    Args:
        size: members in a page, at most.
    """
    while True:
        async with reading(engine) as connection:
            packed = (await connection.execute(_MEMBERS, {"after": after, "limit": size})).scalar_one()
        rows = np.frombuffer(packed, _ROW)
        if not len(rows):
            return
        yield MemberHashes(
            rows["id"].astype(np.int64), rows["bank"].astype(np.int64), np.ascontiguousarray(rows["pdq"])
        )
        after = int(rows["id"][-1])


async def distances(engine: AsyncEngine) -> dict[int, int]:
    """The PDQ distance of each bank by id, in bits."""
    async with reading(engine) as connection:
        return {row.id: row.pdq_distance for row in await connection.execute(_DISTANCES)}


async def count(engine: AsyncEngine) -> int:
    """How many PDQ members there are. Reads all of them."""
    async with reading(engine) as connection:
        return int((await connection.execute(_COUNT)).scalar_one())
