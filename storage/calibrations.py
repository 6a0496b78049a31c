"""Calibrated thresholds: kept, switched between active, shadow and past. Imports tables and errors only."""

from collections.abc import Sequence

from sqlalchemy import insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col

from storage.database import reading
from storage.errors import NotFound
from storage.tables import Calibration, columns_of

ACTIVE, SHADOW, PAST = "active", "shadow", "past"


async def save(engine: AsyncEngine, measured: Sequence[Calibration]) -> None:
    """Keeps new calibrations; those of the same networks that they take the place of become past."""
    async with engine.begin() as connection:
        for one in measured:
            replaced = update(Calibration).where(
                col(Calibration.model_name) == one.model_name,
                col(Calibration.networks) == one.networks,
                col(Calibration.relation) == one.relation,
                col(Calibration.mode) == one.mode,
            )
            await connection.execute(replaced.values(mode=PAST))
            values = one.model_dump(exclude={"id", "created_at"})
            await connection.execute(insert(Calibration).values(**values))


async def current(engine: AsyncEngine, model_name: str | None = None) -> list[Calibration]:
    """The active and shadow calibrations, of one model or of all, by model, relation and mode."""
    statement = select(*columns_of(Calibration)).where(col(Calibration.mode) != PAST)
    if model_name is not None:
        statement = statement.where(col(Calibration.model_name) == model_name)
    ordered = statement.order_by(col(Calibration.model_name), col(Calibration.relation), col(Calibration.mode))
    async with reading(engine) as connection:
        return [Calibration(**row._mapping) for row in (await connection.execute(ordered)).all()]


async def promote(engine: AsyncEngine, model_name: str) -> None:
    """Makes the shadow calibrations of a model the active ones.

    Raises:
        NotFound: there are none.
    """
    async with engine.begin() as connection:
        mine = col(Calibration.model_name) == model_name
        key = (col(Calibration.networks), col(Calibration.relation))
        shadow = select(*key).where(mine, col(Calibration.mode) == SHADOW).with_for_update()
        tried = [tuple(row) for row in (await connection.execute(shadow)).all()]
        if not tried:
            raise NotFound(f"{model_name} has no shadow calibration")
        active = mine & (col(Calibration.mode) == ACTIVE) & tuple_(*key).in_(tried)
        await connection.execute(update(Calibration).where(active).values(mode=PAST))
        await connection.execute(update(Calibration).where(mine, col(Calibration.mode) == SHADOW).values(mode=ACTIVE))


async def reset(engine: AsyncEngine, model_name: str) -> int:
    """Goes back to the thresholds of models.yaml; returns how many calibrations became past."""
    async with engine.begin() as connection:
        kept = update(Calibration).where(col(Calibration.model_name) == model_name, col(Calibration.mode) != PAST)
        return int((await connection.execute(kept.values(mode=PAST))).rowcount)


async def count(engine: AsyncEngine, calibration_id: int, *, would_add: int, would_drop: int) -> None:
    """Adds to what a shadow calibration would have decided otherwise, in links."""
    async with engine.begin() as connection:
        statement = update(Calibration).where(col(Calibration.id) == calibration_id)
        await connection.execute(
            statement.values(
                would_add=col(Calibration.would_add) + would_add, would_drop=col(Calibration.would_drop) + would_drop
            )
        )
