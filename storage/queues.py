"""The queues of waiting images: how long they are, when they were asked, and a signal when one grows. Below the ingress."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.signals import Signal
from storage.uploads import UPLOAD_CHANNEL


@dataclass(frozen=True)
class Queue:
    """One model_name that has been used: images waiting and claimed, and when it was last polled."""

    model_name: str
    waiting: int
    processing: int
    last_polled_at: datetime | None


_QUEUES = text("""
SELECT coalesce(q.model_name, p.model_name) AS model_name, coalesce(waiting, 0) AS waiting,
       coalesce(processing, 0) AS processing, last_polled_at
FROM (SELECT model_name, count(*) FILTER (WHERE status = 'UPLOADED') AS waiting,
             count(*) FILTER (WHERE status = 'PROCESSING') AS processing
      FROM image WHERE status IN ('UPLOADED', 'PROCESSING') AND uploaded_at IS NOT NULL GROUP BY model_name) AS q
FULL JOIN queue_poll AS p ON p.model_name = q.model_name ORDER BY 1
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


async def record_poll(engine: AsyncEngine, model_name: str) -> None:
    """Notes that somebody asked this queue for work."""
    async with engine.begin() as connection:
        await connection.execute(_POLLED, {"model_name": model_name})


class UploadSignal(Signal):
    """Wakes those who wait for an upload; the names are those of queues."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, UPLOAD_CHANNEL)
