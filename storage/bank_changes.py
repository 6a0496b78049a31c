"""The lock between changes of banks and verdicts, and the count of changes. Below the deployments.

Whoever changes banks or members holds the lock alone until it commits; whoever decides shares it. So a picture is either
decided with a new member, or was decided before the member was committed, and the look-back, which begins after that,
finds it. Order of locks everywhere: banks, generations, images, moderation, policy, audit.
"""

from collections.abc import Awaitable, Callable, Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage.database import reading
from storage.errors import SafeGuardError

_LOCK = 0x5AFE_BA4C
_ALONE = text(f"SELECT pg_advisory_xact_lock({_LOCK})")
_SHARED = text(f"SELECT pg_advisory_xact_lock_shared({_LOCK})")
_VERSION = text("SELECT version FROM bank_version WHERE id = 1")
_COUNT = text("UPDATE bank_version SET version = version + 1 WHERE id = 1 RETURNING version")


Compared = tuple[int | None, Mapping[int, Mapping[int, int]]]
"""The version of the hashes that pictures were compared with; image id -> member id -> distance in bits."""
Compare = Callable[[], Awaitable[Compared]]
"""Compares some pictures with the hashes as they are now."""


class BanksChanged(SafeGuardError):
    """Pictures were compared with hashes that have changed meanwhile; nothing was stored: compare again."""


async def change_banks(connection: AsyncConnection, *, hashes: bool) -> None:
    """Begins a change; the first statement of its transaction.

    Args:
        hashes: PDQ members, or which banks of them are in force, change.
    """
    await connection.execute(_ALONE)
    if hashes:
        await connection.execute(_COUNT)


async def hold_banks(connection: AsyncConnection, compared: int | None) -> None:
    """Keeps banks as they are until the transaction ends; the first statement of a transaction that decides.

    Args:
        compared: version of the hashes that pictures were compared with; None if they were not.
    Raises:
        BanksChanged: it is not the present one.
    """
    await connection.execute(_SHARED)
    if compared is not None:
        present = (await connection.execute(_VERSION)).scalar_one()
        if present != compared:
            raise BanksChanged("the banks have changed; compare again")


async def hold_compared(connection: AsyncConnection, compared: Compared, again: Compare | None) -> Compared:
    """As ``hold_banks``; where the hashes have changed, pictures are compared again while nobody can change them.

    So an import that goes on and on holds nobody up for longer than one of its parts.

    Args:
        again: None raises instead.
    Returns:
        What holds until the transaction ends.
    Raises:
        BanksChanged: the hashes have changed, and nothing compares again.
    """
    try:
        await hold_banks(connection, compared[0])
    except BanksChanged:
        if again is None:
            raise
        compared = await again()
        await hold_banks(connection, compared[0])
    return compared


async def hashes_version(engine: AsyncEngine) -> int:
    """How often PDQ members have changed."""
    async with reading(engine) as connection:
        return int((await connection.execute(_VERSION)).scalar_one())
