"""What holds for an image now, and the decision that it rests on. Below the deployments."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from storage.bank_changes import hold_banks
from storage.database import reading
from storage.decisions import decide
from storage.errors import Conflict, NotFound, StaleClaim
from storage.moderation_tables import Decision, ModerationState
from storage.tables import Status, columns_of


@dataclass(frozen=True)
class Standing:
    """The verdict on an image.

    Args:
        since: when the verdict became what it is; a decision that leaves it the same does not count.
        by_person: a person decided, and beats every policy.
        decision: the one that holds.
    """

    image_id: int
    since: datetime
    by_person: bool
    decision: Decision


_STATUS = text("SELECT status FROM image WHERE id = :id AND uploaded_at IS NOT NULL")
_HISTORY = 100


def stale_lease(image_id: int, verdict: str | None, actor: str | None) -> StaleClaim:
    """The error of a reviewer whose lease is gone; it says what holds instead, and who decided."""
    state = "has no verdict yet" if verdict is None else f"is {verdict} by {actor}"
    return StaleClaim(f"the lease on image {image_id} is over or was never yours; it {state}; nothing was changed")


async def refuse_unprocessed(connection: AsyncConnection, image_id: int) -> None:
    """Lets only a processed image pass.

    Raises:
        NotFound: there is no such image.
        Conflict: it is not PROCESSED; the message has the status.
    """
    status = (await connection.execute(_STATUS, {"id": image_id})).scalar_one_or_none()
    if status is None:
        raise NotFound(f"there is no image {image_id}")
    if status != Status.PROCESSED:
        raise Conflict(f"image {image_id} is {status}")


async def _read(engine: AsyncEngine, image_id: int) -> Standing | None:
    statement = (
        select(
            col(ModerationState.changed_at).label("since"), col(ModerationState.human_id).label("human"),
            *columns_of(Decision),
        )
        .join(Decision, col(Decision.id) == col(ModerationState.decision_id))
        .where(col(ModerationState.image_id) == image_id)
    )  # fmt: skip
    async with reading(engine) as connection:
        row = (await connection.execute(statement)).one_or_none()
    if row is None:
        return None
    values = dict(row._mapping)
    since, human = values.pop("since"), values.pop("human")
    return Standing(image_id, since, human is not None, Decision(**values))


async def standing(engine: AsyncEngine, image_id: int) -> Standing:
    """The verdict on a processed image. One that has none, since it is older than policies, is decided now.

    Raises:
        NotFound: there is no such image.
        Conflict: it is not PROCESSED.
    """
    found = await _read(engine, image_id)
    if found is None:
        async with engine.begin() as connection:
            await hold_banks(connection, None)
            await refuse_unprocessed(connection, image_id)
            await decide(connection, [image_id], cause="asked for")
        found = await _read(engine, image_id)
    if found is None:
        raise NotFound(f"there is no image {image_id}")
    return found


async def verdict_of(engine: AsyncEngine, image_id: int) -> str | None:
    """The verdict on an image; None while there is none."""
    statement = select(col(ModerationState.verdict)).where(col(ModerationState.image_id) == image_id)
    async with reading(engine) as connection:
        return (await connection.execute(statement)).scalar_one_or_none()


async def history(engine: AsyncEngine, image_id: int, *, limit: int = _HISTORY) -> list[Decision]:
    """The decisions on an image, newest first; they outlive it."""
    statement = select(*columns_of(Decision)).where(col(Decision.image_id) == image_id)
    async with reading(engine) as connection:
        rows = await connection.execute(statement.order_by(col(Decision.id).desc()).limit(limit))
        return [Decision(**row._mapping) for row in rows.all()]
