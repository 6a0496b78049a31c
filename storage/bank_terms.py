"""Banks that were disabled until a moment come back into force after it. Below the deployments."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import lookbacks
from storage.audit import record_many
from storage.bank_changes import change_banks
from storage.database import reading
from storage.lookback_tables import LookBackKind

_ACTOR = "look-back"
_OVER = text("SELECT EXISTS (SELECT FROM bank WHERE NOT enabled AND disabled_until <= now() AND removed_at IS NULL)")
_ENABLE = text("""
UPDATE bank SET enabled = true, disabled_until = NULL
WHERE id IN (SELECT id FROM bank WHERE NOT enabled AND disabled_until <= now() AND removed_at IS NULL
             ORDER BY id FOR UPDATE)
RETURNING id, name
""")


async def end_terms(engine: AsyncEngine) -> list[int]:
    """Enables the banks whose ``disabled_until`` has passed and begins a look-back of each, once, whoever calls first.

    Their matches count from that moment on (``storage.facts``); this makes past images feel it.

    Returns:
        Ids of the look-backs.
    """
    async with reading(engine) as connection:
        if not (await connection.execute(_OVER)).scalar_one():
            return []
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        enabled = (await connection.execute(_ENABLE)).all()
        made = [
            await lookbacks.begin(
                connection, LookBackKind.BANK, cause=f"bank {one.name} is enabled again", actor=_ACTOR, bank_id=one.id
            )
            for one in enabled
        ]
        entries = [
            ("bank.enable", f"bank/{one.id}", {"name": one.name, "lookback": lookback})
            for one, lookback in zip(enabled, made, strict=True)
        ]
        await record_many(connection, _ACTOR, entries)
    return made
