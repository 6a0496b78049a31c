"""Look-backs: begun by whoever changes banks or policies, in the same transaction; seen and steered. Below the deployments."""

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from storage.audit import record
from storage.database import reading
from storage.errors import Conflict, NotFound
from storage.lookback_tables import LookBack, LookBackKind, LookBackState
from storage.moderation_tables import Bank
from storage.tables import columns_of

LOOKBACK_CHANNEL = "safeguard_lookback"
"""NOTIFY on it wakes whoever works look-backs off."""
_WAKE = text("SELECT pg_notify(:channel, '')")


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
    await connection.execute(_WAKE, {"channel": LOOKBACK_CHANNEL})
    return int(made.scalar_one() or 0)


async def get(engine: AsyncEngine, lookback_id: int) -> LookBack:
    """One look-back.

    Raises:
        NotFound: there is none.
    """
    statement = select(*columns_of(LookBack)).where(col(LookBack.id) == lookback_id)
    async with reading(engine) as connection:
        row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise NotFound(f"there is no look-back {lookback_id}")
    return LookBack(**row._mapping)


async def listing(
    engine: AsyncEngine, *, state: LookBackState | None = None, after: int | None = None, limit: int = 100
) -> list[LookBack]:
    """Look-backs, newest first; ``after`` continues below an id."""
    statement = select(*columns_of(LookBack)).order_by(col(LookBack.id).desc()).limit(limit)
    if state is not None:
        statement = statement.where(col(LookBack.state) == state)
    if after is not None:
        statement = statement.where(col(LookBack.id) < after)
    async with reading(engine) as connection:
        return [LookBack(**row._mapping) for row in (await connection.execute(statement)).all()]


async def start(engine: AsyncEngine, *, bank_id: int | None, actor: str, reason: str) -> int:
    """Begins a look-back on request: of all members of a bank, or, without one, judging all images anew.

    One like it that has not been begun is taken instead of a second.

    Returns:
        Its id.
    Raises:
        NotFound: there is no such bank.
    """
    kind = LookBackKind.JUDGE if bank_id is None else LookBackKind.BANK
    async with engine.begin() as connection:
        if bank_id is not None:
            bank = select(col(Bank.id)).where(col(Bank.id) == bank_id).with_for_update(key_share=True, read=True)
            if (await connection.execute(bank)).one_or_none() is None:
                raise NotFound(f"there is no bank {bank_id}")
        fresh = select(col(LookBack.id)).where(
            col(LookBack.state) == LookBackState.WAITING, col(LookBack.kind) == kind,
            col(LookBack.bank_id).is_not_distinct_from(bank_id), col(LookBack.worked_at).is_(None),
        )  # fmt: skip
        waiting = (await connection.execute(fresh.limit(1))).scalar_one_or_none()
        if waiting is not None:
            return int(waiting)
        made = await begin(connection, kind, cause=reason, actor=actor, bank_id=bank_id)
        detail = {"kind": kind, "bank_id": bank_id, "reason": reason}
        await record(connection, actor, "lookback.start", f"lookback/{made}", detail)
    return made


async def cancel(engine: AsyncEngine, lookback_id: int, *, actor: str) -> LookBack:
    """Ends a look-back where it stands; what it has decided stays. ``retry`` goes on from there.

    Raises:
        NotFound: there is no such look-back.
        Conflict: it has ended.
    """
    return await _become(engine, lookback_id, LookBackState.CANCELLED, actor)


async def retry(engine: AsyncEngine, lookback_id: int, *, actor: str) -> LookBack:
    """Lets one that was given up or cancelled go on from where it stands.

    Raises:
        NotFound: there is no such look-back.
        Conflict: it is done.
    """
    return await _become(engine, lookback_id, LookBackState.WAITING, actor)


_FROM = {
    LookBackState.CANCELLED: (LookBackState.WAITING, LookBackState.DEAD),
    LookBackState.WAITING: (LookBackState.DEAD, LookBackState.CANCELLED),
}
"""What may become what by request; a repeat of a request that holds already is no error."""


async def _become(engine: AsyncEngine, lookback_id: int, wanted: LookBackState, actor: str) -> LookBack:
    mine = col(LookBack.id) == lookback_id
    async with engine.begin() as connection:
        row = (await connection.execute(select(col(LookBack.state)).where(mine).with_for_update())).one_or_none()
        if row is None:
            raise NotFound(f"there is no look-back {lookback_id}")
        if row.state != wanted:
            if row.state not in _FROM[wanted]:
                raise Conflict(f"look-back {lookback_id} is {row.state}")
            ended = wanted == LookBackState.CANCELLED
            values = {
                "state": wanted, "attempt": 0, "not_before": None, "lease_token": None, "lease_expires_at": None,
                "failure": None, "finished_at": func.now() if ended else None,
            }  # fmt: skip
            await connection.execute(update(LookBack).where(mine).values(**values))
            await connection.execute(_WAKE, {"channel": LOOKBACK_CHANNEL})
            action = "lookback.cancel" if ended else "lookback.retry"
            await record(connection, actor, action, f"lookback/{lookback_id}", {"was": row.state})
    return await get(engine, lookback_id)
