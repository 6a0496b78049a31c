"""Look-backs: begun by whoever changes banks or policies, in the same transaction. Below the deployments."""

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from storage.lookback_tables import LookBack, LookBackKind

LOOKBACK_CHANNEL = "safeguard_lookback"
"""NOTIFY on it wakes whoever works look-backs off."""


async def begin(
    connection: AsyncConnection,
    kind: LookBackKind,
    *,
    cause: str,
    actor: str,
    bank_id: int | None = None,
    members: tuple[int, int] | None = None,
) -> int:
    """Makes a look-back that starts after the caller's commit.

    Args:
        kind: MEMBERS: those of ``bank_id`` with ids in ``members``, added or removed, are searched for among all past
            images, and what they touch is decided anew; BANK: the same for all members of ``bank_id``, after its
            thresholds or its being in force have changed; JUDGE: all images are decided anew, nothing is searched.
        cause: for people, such as "member 7 was added to bank x".
        actor: who.
        members: first and last id.
    Returns:
        Its id.
    """
    first, last = members or (None, None)
    values = {
        "kind": kind, "bank_id": bank_id, "first_member": first, "last_member": last, "cause": cause,
        "created_by": actor,
    }  # fmt: skip
    made = await connection.execute(insert(LookBack).values(**values).returning(col(LookBack.id)))
    await connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": LOOKBACK_CHANNEL})
    return int(made.scalar_one() or 0)
