"""The claim on a look-back: a lease with a fencing token, so each of its steps takes effect once. Below the deployments."""

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.lookback_tables import LookBackKind, LookBackState


@dataclass(frozen=True)
class HeldLookBack:
    """The right to work on a look-back; ``token`` proves it.

    Args:
        cursor: how far it is; what it means is ``storage.lookback_steps``' own.
        members: how many it searches for, None until they are counted.
        attempt: claims since the last step that was stored, this one included.
    """

    id: int
    kind: LookBackKind
    bank_id: int | None
    first_member: int | None
    last_member: int | None
    cause: str
    created_by: str
    cursor: dict[str, Any]
    members: int | None
    token: UUID
    attempt: int

    def at(self, cursor: dict[str, Any]) -> "HeldLookBack":
        """The same after a step."""
        return replace(self, cursor=cursor)


_BURY = text("""
UPDATE look_back SET state = 'dead', finished_at = now(), lease_token = NULL, lease_expires_at = NULL,
       failure = 'no replica finished a step of it within its lease, ' || attempt || ' times'
WHERE state = 'waiting' AND attempt >= :max_attempts AND lease_expires_at < now()
""")
_CLAIM = text("""
UPDATE look_back SET attempt = attempt + 1, lease_token = gen_random_uuid(), worked_at = clock_timestamp(),
       lease_expires_at = now() + make_interval(secs => :lease_s), not_before = NULL, failure = NULL
WHERE id = (SELECT id FROM look_back
            WHERE state = 'waiting' AND (lease_expires_at IS NULL OR lease_expires_at < now())
                  AND (not_before IS NULL OR not_before <= now())
            ORDER BY worked_at NULLS FIRST, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, kind, bank_id, first_member, last_member, cause, created_by, cursor, members, lease_token AS token, attempt
""")
_RENEW = text("""
UPDATE look_back SET lease_expires_at = now() + make_interval(secs => :lease_s)
WHERE id = :id AND lease_token = :token AND state = 'waiting' AND lease_expires_at > now() RETURNING id
""")
_REST = text("""
UPDATE look_back SET attempt = 0, lease_token = NULL, lease_expires_at = NULL WHERE id = :id AND lease_token = :token
""")
_FAIL = text("""
UPDATE look_back SET
    state = CASE WHEN attempt >= :max_attempts AND NOT :blameless THEN 'dead' ELSE state END,
    finished_at = CASE WHEN attempt >= :max_attempts AND NOT :blameless THEN now() END,
    failure = CAST(:reason AS text),
    attempt = CASE WHEN :blameless THEN greatest(attempt - 1, 0) ELSE attempt END,
    not_before = now() + make_interval(secs => :retry_delay_s * power(2, least(attempt, 10) - 1)),
    lease_token = NULL, lease_expires_at = NULL
WHERE id = :id AND lease_token = :token AND state = 'waiting' RETURNING state
""")


async def claim(engine: AsyncEngine, *, lease_s: float, max_attempts: int) -> HeldLookBack | None:
    """Claims the waiting look-back that was worked on least lately; None where nothing waits.

    One that was claimed ``max_attempts`` times without a step stored is DEAD.

    Args:
        lease_s: seconds the claim is valid; each step renews it.
    """
    async with engine.begin() as connection:
        await connection.execute(_BURY, {"max_attempts": max_attempts})
        row = (await connection.execute(_CLAIM, {"lease_s": lease_s})).one_or_none()
    if row is None:
        return None
    return HeldLookBack(**{**row._mapping, "kind": LookBackKind(row.kind)})


async def renew(engine: AsyncEngine, held: HeldLookBack, *, lease_s: float) -> bool:
    """Extends the lease; False where it is lost, or the look-back was cancelled."""
    async with engine.begin() as connection:
        arguments = {"id": held.id, "token": held.token, "lease_s": lease_s}
        return (await connection.execute(_RENEW, arguments)).scalar_one_or_none() is not None


async def rest(engine: AsyncEngine, held: HeldLookBack) -> None:
    """Gives the claim back so that others have their turn; nothing has failed."""
    async with engine.begin() as connection:
        await connection.execute(_REST, {"id": held.id, "token": held.token})


async def fail(
    engine: AsyncEngine, held: HeldLookBack, reason: str, *, retry_delay_s: float, max_attempts: int, blameless: bool
) -> LookBackState | None:
    """Gives the claim back after a failure.

    Args:
        reason: kept for its reader: no path, no SQL.
        retry_delay_s: pause before the next claim, times 2^(attempt-1).
        blameless: a part of the platform was down; the attempt is not counted.
    Returns:
        The state it has now; None if the claim was no longer the caller's.
    """
    arguments = {
        "id": held.id, "token": held.token, "reason": reason, "retry_delay_s": retry_delay_s,
        "max_attempts": max_attempts, "blameless": blameless,
    }  # fmt: skip
    async with engine.begin() as connection:
        state = (await connection.execute(_FAIL, arguments)).scalar_one_or_none()
    return LookBackState(state) if state else None
