"""Reads PostgreSQL every few seconds and sets the gauges that tell of it. Knows nothing of Ray."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.background import BackgroundLoops
from deployments.metrics.meters import meters
from deployments.metrics.registry import Labels
from storage import figures
from storage.embedded.disks import disks
from storage.figures import Figures, SlowFigures
from storage.tables import Status

_log = logging.getLogger(__name__)
OTHER = "other"
_SLOW_EVERY = 6
_CHEAP_S = 0.05
"""What grows slowly is read every time as long as that takes no longer than this."""


class ModelNames:
    """Keeps the label ``model`` small: names that clients have made up beyond the first few are one.

    Args:
        known: of models.yaml; always shown by name.
        most: further names at most.
    """

    def __init__(self, known: Sequence[str], most: int = 20) -> None:
        self._shown = set(known)
        self._room = most

    def __call__(self, name: str) -> str:
        """The name as it is shown; the first ones that come are kept."""
        if name not in self._shown and self._room:
            self._room -= 1
            self._shown.add(name)
        return name if name in self._shown else OTHER


class Collector:
    """One in an installation is enough: several would say the same.

    Args:
        engine: of this loop.
        known: names of the models of models.yaml.
        every_s: pause between two readings; what grows slowly is read every sixth time once it is large.
        home: of the installation, whose disks are looked at too; None looks at none.
    """

    def __init__(
        self, engine: AsyncEngine, known: Sequence[str], *, every_s: float = 10.0, home: Path | None = None
    ) -> None:
        self._engine = engine
        self._known = list(known)
        self._every_s = every_s
        self._home = home
        self._names = ModelNames(known)
        self._slow: SlowFigures | None = None
        self._slow_s = 0.0
        self._rounds = 0
        self._entry: int | None = None
        self._loops = BackgroundLoops()

    async def start(self) -> None:
        """Begins to collect."""
        self._loops.begin("collect", self._forever())

    async def close(self) -> None:
        """Stops."""
        await self._loops.end()

    def check(self) -> None:
        """Raises RuntimeError if the loop has died."""
        self._loops.check()

    async def _forever(self) -> None:
        while True:
            try:
                await self.collect()
            except Exception as error:
                _log.warning("the figures could not be read: %s", type(error).__name__)
            await asyncio.sleep(self._every_s)

    async def collect(self) -> None:
        """One reading. Where it fails, the values of the last one stay, and grow old.

        Raises:
            Exception: whatever the database raises.
        """
        outcome = "failed"
        await self._show_disks()  # first: they may be why the database does not answer
        try:
            with meters().timed("safeguard_collection_seconds_total"):
                quick = await figures.figures(self._engine, self._known)
                slow = await self._slow_figures()
                await self._count_decisions()
            self._rounds += 1
            self._show(quick, slow)
            meters().set("safeguard_collected_timestamp_seconds", time.time())
            outcome = "ok"
        finally:
            meters().add("safeguard_collections_total", outcome=outcome)

    async def _show_disks(self) -> None:
        if self._home is None:
            return
        try:
            found = await asyncio.to_thread(disks, self._home)
        except OSError as error:
            _log.warning("a disk does not say how full it is: %s", error)
            return
        of_part = {part: disk for disk in found for part in disk.parts}
        meters().replace("safeguard_disk_free_bytes", _by_one({part: one.free_bytes for part, one in of_part.items()}))
        meters().replace("safeguard_disk_bytes", _by_one({part: one.total_bytes for part, one in of_part.items()}))

    async def _slow_figures(self) -> SlowFigures:
        if self._slow is None or self._slow_s <= _CHEAP_S or self._rounds % _SLOW_EVERY == 0:
            began = time.monotonic()
            self._slow = await figures.slow_figures(self._engine, self._known)
            self._slow_s = time.monotonic() - began
        return self._slow

    async def _count_decisions(self) -> None:
        if self._entry is None:  # what was decided before this process is counted by none
            self._entry = await figures.last_entry(self._engine)
        self._entry, made = await figures.decisions_since(self._engine, self._entry)
        for (verdict, by), count in made.items():
            meters().add("safeguard_decisions_total", count, verdict=verdict, by=by)

    def _show(self, quick: Figures, slow: SlowFigures) -> None:
        replace, put = meters().replace, meters().set
        counted: defaultdict[Labels, float] = defaultdict(float)
        for (model, status), count in {**quick.waiting, **slow.finished}.items():
            counted[self._names(model), status] += count
        replace("safeguard_images", counted)
        oldest: defaultdict[Labels, float] = defaultdict(float)
        for model, age_s in quick.oldest_s.items():
            oldest[(self._names(model),)] = max(oldest[(self._names(model),)], age_s)
        replace("safeguard_queue_oldest_seconds", oldest)
        queued = {"pipeline": 0, "outside": 0}
        for (model, status), count in quick.waiting.items():
            if status == Status.UPLOADED:
                queued["pipeline" if model in self._known else "outside"] += count
        replace("safeguard_queue_images", _by_one(queued))
        put("safeguard_leases_overdue", quick.overdue)
        put("safeguard_review_oldest_seconds", quick.review[1])
        replace("safeguard_verdict_images", _by_one({**slow.verdicts, "review": quick.review[0]}))
        replace("safeguard_webhook_deliveries", _by_one(quick.deliveries))
        put("safeguard_webhook_oldest_seconds", quick.delivery_oldest_s)
        replace("safeguard_webhooks", _by_one(quick.webhooks))
        replace("safeguard_lookbacks", _by_one(quick.lookbacks))
        put("safeguard_lookback_oldest_seconds", quick.lookback_oldest_s)
        put("safeguard_lookback_images", quick.lookback_images)
        replace("safeguard_lookback_members", _by_one(quick.lookback_members))
        replace("safeguard_jobs", {(kind, status): count for (kind, status), count in quick.jobs.items()})
        per_kind = quick.job_figures.items()
        replace("safeguard_job_objects", {(k, state): n for k, one in per_kind for state, n in one.objects.items()})
        replace("safeguard_job_images_per_second", {(kind,): one.per_second for kind, one in per_kind})
        replace("safeguard_job_left_seconds", {(kind,): one.left_s for kind, one in per_kind})
        replace("safeguard_index_recall_ratio", _by_one(slow.recall))
        put("safeguard_database_bytes", slow.database_bytes)


def _by_one(values: Mapping[str, float]) -> dict[Labels, float]:
    return {(label,): value for label, value in values.items()}
