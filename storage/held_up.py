"""Uploads that wait for a descriptor which cannot be used, while the live one works. Imports tables only; below deployments."""

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col

from storage.database import reading
from storage.generations import State
from storage.tables import Generation


async def note(engine: AsyncEngine, model_name: str, descriptor: str, reason: str | None) -> bool:
    """Keeps why a model's uploads wait for a descriptor; a live one is never noted.

    Args:
        reason: None: they do not wait any more.
    Returns:
        Whether that is news.
    """
    changed = update(Generation).where(
        col(Generation.model_name) == model_name,
        col(Generation.descriptor) == descriptor,
        col(Generation.state) != State.LIVE,
        col(Generation.held_up).is_distinct_from(reason),
    )
    async with engine.begin() as connection:
        return bool((await connection.execute(changed.values(held_up=reason))).rowcount)


def sentence(one: Generation) -> str:
    """What to tell an operator: what waits, for which descriptor, and which command gives it up."""
    option = "--abandon" if one.state == State.BUILDING else "--drop-previous"
    return (
        f"uploads of {one.model_name} wait for {one.descriptor} ({one.state}), which cannot be used: {one.held_up};"
        f" `safeguard reindex {option}` gives it up"
    )


async def waiting(engine: AsyncEngine) -> list[str]:
    """A sentence for each descriptor that uploads wait for."""
    columns = (col(Generation.model_name), col(Generation.state), col(Generation.descriptor), col(Generation.held_up))
    statement = select(*columns).where(col(Generation.held_up).is_not(None)).order_by(col(Generation.model_name))
    async with reading(engine) as connection:
        return [sentence(Generation(**row._mapping)) for row in (await connection.execute(statement)).all()]
