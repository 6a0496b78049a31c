"""The loop that sends: claims what is due, sends it, records what became of it. Knows nothing of Ray."""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.background import BackgroundLoops
from deployments.metrics.meters import meters
from deployments.webhooks.client import WebhookClient
from storage import deliveries
from storage.deliveries import Outgoing
from storage.event_tables import DeliveryState
from storage.outbox import EVENT_CHANNEL
from storage.signals import Signal

_log = logging.getLogger(__name__)
_GONE = 410
_SWEEP_S = 60.0
_GROWTH, _JITTER = 3.0, 0.2


def pause_s(attempt: int, settings: Settings) -> float:
    """Seconds until the next try: three times as long after each one, up to a limit, give or take a fifth.

    Args:
        attempt: tries so far, from 1.
    """
    pause = min(settings.webhook_retry_max_s, settings.webhook_retry_s * _GROWTH ** min(attempt - 1, 32))
    return pause * random.uniform(1 - _JITTER, 1 + _JITTER)


class Sender:
    """Sends to all webhooks; none holds up another one.

    Args:
        engine: of this loop.
        settings: limits and pauses.
        client: sends one event.
        per_webhook: tries of one webhook under way at a time.
        idle_s: what is due is looked for after so many seconds even without a signal.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        settings: Settings,
        client: WebhookClient,
        *,
        per_webhook: int = 8,
        idle_s: float = 1.0,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._client = client
        self._per_webhook = per_webhook
        self._idle_s = idle_s
        self._signal = Signal(settings, EVENT_CHANNEL)
        self._busy: Counter[int] = Counter()
        self._work: set[asyncio.Task[None]] = set()
        self._loops = BackgroundLoops()
        self._to_record: list[tuple[Outgoing, int, asyncio.Future[None]]] = []
        self._some = asyncio.Event()

    async def start(self) -> None:
        """Begins to send."""
        await self._signal.start()
        self._loops.begin("send", self._send_forever())
        self._loops.begin("sweep", self._sweep_forever())
        self._loops.begin("record", self._record_forever())

    async def close(self) -> None:
        """Claims no more, waits for the tries under way, then stops."""
        await self._loops.end("send", "sweep")
        if self._work:
            await asyncio.wait(self._work)
        await self._loops.end("record")
        await self._signal.close()

    def check(self) -> None:
        """Raises RuntimeError if one of the loops has died."""
        self._loops.check()

    @property
    def in_work(self) -> int:
        """Tries under way."""
        return len(self._work)

    async def _send_forever(self) -> None:
        with self._signal.watched([""]) as wake:
            while True:
                wake.clear()
                held: list[Outgoing] = []
                try:
                    held = await deliveries.claim(
                        self._engine, self._busy, per_webhook=self._per_webhook, lease_s=self._lease_s
                    )
                except Exception as error:
                    _log.warning("no delivery could be claimed: %s", type(error).__name__)
                for one in held:
                    self._busy[one.webhook_id] += 1
                    task = asyncio.create_task(self._send(one, wake))
                    self._work.add(task)
                    task.add_done_callback(self._work.discard)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._idle_s):
                        await wake.wait()

    @property
    def _lease_s(self) -> float:
        """Longer than a try and its record take; then the process that claimed has died."""
        return 2 * self._settings.webhook_timeout_s + 1.0

    async def _send(self, held: Outgoing, wake: asyncio.Event) -> None:
        try:
            answer = await self._client.send(held)
            if answer.error is None and answer.status is not None:
                await self._taken(held, answer.status)
                meters().add("safeguard_webhook_tries_total", outcome="delivered")
                return
            error = answer.error or "no answer"
            settings = self._settings
            longest = settings.webhook_retry_max_s
            state = await deliveries.fail(
                self._engine,
                held,
                error,
                status=answer.status,
                delay_s=max(pause_s(held.attempt, settings), min(answer.retry_after_s, longest)),
                rest_s=settings.webhook_retry_s,
                attempts=settings.webhook_attempts,
                max_age_s=settings.webhook_max_age_s,
                gone=answer.status == _GONE,
            )
            outcome = "dead" if state == DeliveryState.DEAD else "failed"
            meters().add("safeguard_webhook_tries_total", outcome=outcome)
            if state == DeliveryState.DEAD:
                _log.warning("event %d is a dead letter of webhook %d: %s", held.event_id, held.webhook_id, error)
        except Exception as error:
            # The lease ends by itself: the event is sent again with the same id.
            _log.warning("a delivery could not be recorded: %s", type(error).__name__)
        finally:
            self._busy[held.webhook_id] -= 1
            if not self._busy[held.webhook_id]:
                del self._busy[held.webhook_id]
            wake.set()

    async def _taken(self, held: Outgoing, status: int) -> None:
        """Returns when it is recorded."""
        recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._to_record.append((held, status, recorded))
        self._some.set()
        await recorded

    async def _record_forever(self) -> None:
        """What is taken while a record is written is written with the next one: a commit for many deliveries."""
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._to_record = self._to_record, []
            try:
                await deliveries.finish(self._engine, [(held, status) for held, status, _ in batch])
            except Exception as error:
                for _, _, recorded in batch:
                    recorded.set_exception(error)
            else:
                for _, _, recorded in batch:
                    recorded.set_result(None)

    async def _sweep_forever(self) -> None:
        engine, settings = self._engine, self._settings
        while True:
            await _until_none("expire", partial(deliveries.expire, engine, max_age_s=settings.webhook_max_age_s))
            await _until_none("prune", partial(deliveries.prune, engine, keep_s=settings.webhook_keep_s))
            await asyncio.sleep(_SWEEP_S)


async def _until_none(what: str, sweep: Callable[[], Awaitable[int]]) -> None:
    """Sweeps until nothing is left; what fails here keeps nothing else from being swept."""
    try:
        while await sweep():
            pass
    except Exception as error:
        _log.warning("old events could not be swept (%s): %s", what, type(error).__name__)
