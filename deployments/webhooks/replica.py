"""The WebhookSender replica: Ray Serve around sender.py. One is enough; two would share the work.

It also reads PostgreSQL for the metrics: it has least to do, and a replica for that alone would cost as much memory again.
"""

from typing import Any

from configs.models import load_models
from configs.settings import load_settings
from deployments.idle_memory import give_back_when_idle
from deployments.logs import log_to_replica
from deployments.metrics.collector import Collector
from deployments.webhooks.client import WebhookClient
from deployments.webhooks.sender import Sender
from storage.database import create_engine

_POOL = 4
"""Connections to the database: claims and records are short."""


class WebhookSender:
    """Delivers events to webhooks by itself; nobody calls it.

    Args:
        per_webhook: tries of one webhook under way at a time.
        idle_s: what is due is looked for after so many seconds even without a signal.
        metrics_s: pause between two readings of PostgreSQL for the metrics, seconds.
    """

    async def __init__(  # type: ignore[misc]
        self, *, per_webhook: int = 8, idle_s: float = 1.0, metrics_s: float = 10.0
    ) -> None:
        log_to_replica()
        give_back_when_idle()
        settings = load_settings()
        self._engine = create_engine(settings, pool_size=_POOL)
        self._client = WebhookClient(settings)
        self._sender = Sender(self._engine, settings, self._client, per_webhook=per_webhook, idle_s=idle_s)
        known = load_models(settings.models_file).known()
        self._collector = Collector(self._engine, known, every_s=metrics_s, home=settings.home)
        await self._sender.start()
        await self._collector.start()

    async def check_health(self) -> None:
        """Fails if sending or collecting has died. Says nothing of PostgreSQL: its outage must not restart replicas."""
        self._sender.check()
        self._collector.check()

    async def info(self) -> dict[str, Any]:
        """Tries under way now."""
        return {"in_work": self._sender.in_work}

    async def __del__(self) -> None:
        """Graceful shutdown: claims no more, waits for the tries under way."""
        await self._collector.close()
        await self._sender.close()
        await self._client.close()
        await self._engine.dispose()
