"""Whether one more image may wait: a bound on every queue, known from a count now and then. Knows no route."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Container
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.ingress.crowd import Crowd
from deployments.metrics.meters import meters
from storage.errors import QueueFull
from storage.queues import Backlog, backlog

_EVERY_S = 1.0
_SHARE = 0.05
"""Of the time, at most, counting may take: a long queue is counted less often."""
_SMOOTH_S = 30.0
_ROOM = 0.05
"""Of the limit: a refused client is told to come back when so much of the queue is worked off, since others come then too."""
_RETURNS = 1.0
_UNKNOWN_S = 10.0
_MOST_S = 120.0
_MOST_QUEUES = 1_000


@dataclass
class _Queue:
    """What one replica knows of one queue, and those whom it turned away."""

    crowd: Crowd
    waiting: int = 0
    counted: int = 0
    newest: int = 0
    read_at: float = -math.inf
    due: float = -math.inf
    per_s: float | None = None
    seen_s: float = 0.0
    """For how long the queue was seen to be worked off; what a moment shows says little of a long time."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def counted_before(self) -> bool:
        """Whether there is a number to go by while another upload has the queue counted anew."""
        return self.read_at > -math.inf

    def take(self, found: Backlog, now: float, took_s: float) -> None:
        """A reading. How fast a queue is worked off shows only while it is never empty; else it shows how little comes."""
        since_s = now - self.read_at
        if found.left:
            per_s = max(0, self.counted - found.left) / since_s
            self.seen_s += since_s
            # The mean of all that was seen, until that is long: batches end together, and the first second may show none.
            weight = max(since_s / self.seen_s, 1.0 - math.exp(-since_s / _SMOOTH_S))
            self.per_s = (self.per_s or 0.0) + weight * (per_s - (self.per_s or 0.0))
        self.waiting = self.counted = found.waiting
        self.newest, self.read_at = found.newest, now
        self.due = now + max(_EVERY_S, took_s / _SHARE)


class AdmissionControl:
    """Keeps every queue below a limit, each replica from its own readings of PostgreSQL.

    A queue is counted once a second at most, and between two counts what this replica lets in is added; so several replicas
    together may let a second's uploads too many in.

    Args:
        engine: of this loop.
        limit: images of one model_name that may wait; 0 is no limit.
        known: models that the pipeline works on; only the label of a metric depends on it.
        clock: seconds that only grow.
    """

    def __init__(
        self, engine: AsyncEngine, limit: int, known: Container[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._limit = limit
        self._known = known
        self._clock = clock
        self._queues: OrderedDict[str, _Queue] = OrderedDict()

    async def admit(self, model_name: str) -> None:
        """Lets one image into a queue, before anything costly is done with it.

        Raises:
            QueueFull: as many wait as may; with the time that a twentieth of them will take, or a longer one where so many
                are turned away that most of them would come for nothing.
        """
        if not self._limit:
            return
        if model_name not in self._queues:
            self._queues[model_name] = _Queue(Crowd(0.0, _MOST_S, returns=_RETURNS, clock=self._clock))
        queue = self._queues[model_name]
        self._queues.move_to_end(model_name)
        while len(self._queues) > _MOST_QUEUES:
            self._queues.popitem(last=False)
        if self._clock() >= queue.due and not (queue.counted_before and queue.lock.locked()):
            async with queue.lock:
                if self._clock() >= queue.due:
                    await self._read(model_name, queue)
        if queue.waiting >= self._limit:
            meters().add(
                "safeguard_uploads_refused_total", worker="pipeline" if model_name in self._known else "outside"
            )
            raise QueueFull(f"{self._limit} images of {model_name} wait already; try again later", self._wait_s(queue))
        queue.waiting += 1
        queue.crowd.let_in()

    async def _read(self, model_name: str, queue: _Queue) -> None:
        began = self._clock()
        queue.due = began + _EVERY_S  # where reading fails, those who waited for it do not all try as well
        found = await backlog(self._engine, model_name, most=self._limit, newest=queue.newest)
        now = self._clock()
        queue.take(found, now, now - began)

    def _wait_s(self, queue: _Queue) -> float:
        return max(self._room_s(queue), queue.crowd.turned_away())

    def _room_s(self, queue: _Queue) -> float:
        if queue.per_s is None:
            return _UNKNOWN_S
        most = min(_MOST_S, max(_UNKNOWN_S, queue.seen_s))
        return min(most, max(1.0, self._limit * _ROOM / queue.per_s)) if queue.per_s else most
