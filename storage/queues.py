"""The queues of waiting images: how long they are, when they were asked, and a signal when one grows. Below the ingress."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.database import reading
from storage.signals import Signal
from storage.uploads import UPLOAD_CHANNEL


@dataclass(frozen=True)
class Queue:
    """One model_name that has been used: images waiting and claimed, and when it was last polled."""

    model_name: str
    waiting: int
    processing: int
    last_polled_at: datetime | None


@dataclass(frozen=True)
class Backlog:
    """What waits in one queue.

    Args:
        waiting: images, counted no further than asked for.
        left: of those, how many waited at the reading before; the rest of those have been claimed since.
        newest: id of the last one counted, for the next reading.
    """

    waiting: int
    left: int
    newest: int


_QUEUES = text("""
SELECT coalesce(q.model_name, p.model_name) AS model_name, coalesce(waiting, 0) AS waiting,
       coalesce(processing, 0) AS processing, last_polled_at
FROM (SELECT model_name, count(*) FILTER (WHERE status = 'UPLOADED') AS waiting,
             count(*) FILTER (WHERE status = 'PROCESSING') AS processing
      FROM image WHERE status IN ('UPLOADED', 'PROCESSING') AND uploaded_at IS NOT NULL GROUP BY model_name) AS q
FULL JOIN queue_poll AS p ON p.model_name = q.model_name ORDER BY 1
""")

_BACKLOG = text("""
SELECT count(*) AS waiting, count(*) FILTER (WHERE id <= :newest) AS left, coalesce(max(id), 0) AS newest
FROM (SELECT id FROM image WHERE status = 'UPLOADED' AND uploaded_at IS NOT NULL AND model_name = :model_name
      ORDER BY id LIMIT :most) AS few
""")

_DEMAND = text("""
SELECT coalesce(sum(queue.waiting), 0) AS waiting, coalesce(extract(epoch FROM now() - min(queue.since)), 0) AS oldest_s
FROM unnest(CAST(:names AS text[])) AS wanted(model) CROSS JOIN LATERAL (
    SELECT count(*) AS waiting, (SELECT uploaded_at FROM image WHERE id = min(few.id)) AS since
    FROM (SELECT id FROM image WHERE status = 'UPLOADED' AND uploaded_at IS NOT NULL AND model_name = wanted.model
          AND (not_before IS NULL OR not_before <= now()) ORDER BY id LIMIT :most) AS few) AS queue
""")

_POLLED = text("""
INSERT INTO queue_poll (model_name, last_polled_at) VALUES (:model_name, now())
ON CONFLICT (model_name) DO UPDATE SET last_polled_at = now()
WHERE queue_poll.last_polled_at < now() - interval '1 second'
""")


async def queues(engine: AsyncEngine) -> list[Queue]:
    """Every queue that holds an image in work or was ever polled, by name."""
    async with engine.connect() as connection:
        return [
            Queue(r.model_name, r.waiting, r.processing, r.last_polled_at)
            for r in (await connection.execute(_QUEUES)).all()
        ]


async def backlog(engine: AsyncEngine, model_name: str, *, most: int, newest: int = 0) -> Backlog:
    """Counts what waits in a queue, by a part of an index.

    Args:
        most: where counting ends.
        newest: of the reading before; 0 at the first.
    """
    values = {"model_name": model_name, "most": most, "newest": newest}
    async with reading(engine) as connection:
        row = (await connection.execute(_BACKLOG, values)).one()
    return Backlog(row.waiting, row.left, row.newest)


async def demand(engine: AsyncEngine, model_names: Sequence[str], *, most: int) -> tuple[int, float]:
    """Images that could be claimed from some queues together, each counted up to ``most``, and the age of the first, seconds."""
    async with reading(engine) as connection:
        row = (await connection.execute(_DEMAND, {"names": list(model_names), "most": most})).one()
    return int(row.waiting), float(row.oldest_s)


async def record_poll(engine: AsyncEngine, model_name: str) -> None:
    """Notes that somebody asked this queue for work."""
    async with engine.begin() as connection:
        await connection.execute(_POLLED, {"model_name": model_name})


class UploadSignal(Signal):
    """Wakes those who wait for an upload; the names are those of queues."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, UPLOAD_CHANNEL)
