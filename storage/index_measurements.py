"""The last measured recall of each approximate index. Imports tables and errors only."""

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col

from storage.database import reading
from storage.tables import IndexMeasurement, columns_of


async def save(engine: AsyncEngine, measured: IndexMeasurement) -> None:
    """Keeps a measurement in place of the one before."""
    values = measured.model_dump(exclude={"measured_at"})
    statement = insert(IndexMeasurement).values(**values)
    replaced = {name: statement.excluded[name] for name in values if name != "space"} | {"measured_at": func.now()}
    async with engine.begin() as connection:
        await connection.execute(statement.on_conflict_do_update(index_elements=["space"], set_=replaced))


async def measured(engine: AsyncEngine) -> dict[str, IndexMeasurement]:
    """All measurements by the name of the table they are of."""
    async with reading(engine) as connection:
        rows = (
            await connection.execute(select(*columns_of(IndexMeasurement)).order_by(col(IndexMeasurement.space)))
        ).all()
    return {row.space: IndexMeasurement(**row._mapping) for row in rows}
