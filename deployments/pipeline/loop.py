"""Claiming work: pulls batches when there is room, renews leases, sweeps. Back-pressure without a second queue."""

import asyncio
import logging
from collections.abc import Callable

from deployments.background import BackgroundLoops
from deployments.metrics.meters import busy, leases_expired, meters, slots
from deployments.pipeline.processor import Processor
from storage import claims as claiming
from storage.claims import Claim
from storage.quarantine import Rule, watch
from storage.queues import UploadSignal
from storage.uploads import sweep

_log = logging.getLogger(__name__)
_LOOK_AGAIN_S = 0.02


class ClaimLoop:
    """Claims and processes the images of the models that the platform knows.

    Args:
        processor: what is done with a batch.
        signal: wakes the loop on uploads.
        batch_size: images claimed at a time.
        batches: batches in work at a time; more hide the waiting for S3 and commits.
        idle_s: the queues are looked at after so many seconds even without a signal.
        asked: whether somebody waits for an answer of this pipeline: a search waits behind everything that is in work.
        beside_searches: images in work at most while that is so, claimed by halves; the rest waits in PostgreSQL. 0: no limit.
    """

    def __init__(
        self, processor: Processor, signal: UploadSignal, *, batch_size: int, batches: int, idle_s: float = 2.0,
        asked: Callable[[], bool] = lambda: False, beside_searches: int = 0,
    ) -> None:  # fmt: skip
        self._processor = processor
        self._signal = signal
        self._batch_size = batch_size
        self._room = asyncio.Semaphore(batches)
        self._batches = batches
        self._idle_s = idle_s
        self._asked = asked
        self._beside = beside_searches
        self._held: dict[int, Claim] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._loops = BackgroundLoops()
        self._turn = 0

    async def start(self) -> None:
        """Begins to claim."""
        slots("Pipeline", self._batches)
        self._loops.begin("claim", self._claim_forever())
        self._loops.begin("renew", self._renew_forever())
        self._loops.begin("sweep", self._sweep_forever())

    async def close(self) -> None:
        """Claims no more, finishes what is in work, then stops."""
        await self._loops.end("claim")
        if self._work:
            await asyncio.wait(self._work)
        await self._loops.end()

    def check(self) -> None:
        """Raises RuntimeError if one of the loops has died."""
        self._loops.check()

    @property
    def in_work(self) -> int:
        """Images being processed now."""
        return len(self._held)

    async def _claim_forever(self) -> None:
        while True:
            await self._room.acquire()
            held: list[Claim] = []
            names = self._processor.registry.known()
            try:
                size = await self._size()
                self._turn = (self._turn + 1) % len(names)
                held = await self._claim(names[self._turn :] + names[: self._turn], size)
            except Exception as error:
                _log.warning("no claim could be made: %s", type(error).__name__)
                await asyncio.sleep(1.0)
            finally:
                if not held:
                    self._room.release()
            if held:
                task = asyncio.create_task(self._process(held))
                self._work.add(task)
                task.add_done_callback(self._work.discard)
            else:
                await self._signal.wait(names, self._idle_s)

    async def _size(self) -> int:
        """How much to claim next; waits while somebody waits for an answer and enough is in work."""
        await asyncio.sleep(0)  # what was claimed just now counts once its task has begun
        few = max(1, min(self._batch_size, self._beside // 2))
        while self._limited() and self.in_work + few > self._beside:  # noqa: ASYNC110  # either may end it
            await asyncio.sleep(_LOOK_AGAIN_S)
        return few if self._limited() else self._batch_size

    def _limited(self) -> bool:
        return self._beside > 0 and self._asked()

    async def _claim(self, names: list[str], size: int) -> list[Claim]:
        settings = self._processor.settings
        for name in names:  # a batch is of one model
            held = await claiming.claim(
                self._processor.engine,
                [name],
                size,
                lease_s=settings.lease_s,
                max_attempts=settings.max_attempts,
                expired=leases_expired,
            )
            if held:
                again = sum(one.attempt > 1 for one in held)
                meters().add("safeguard_claims_total", len(held) - again, attempt="first")
                meters().add("safeguard_claims_total", again, attempt="again")
                return held
        return []

    async def _process(self, held: list[Claim]) -> None:
        self._held |= {claim.image_id: claim for claim in held}
        try:
            with busy("Pipeline"):
                await self._processor.process(held)
        except Exception:
            _log.exception("a batch ended badly; its leases will expire")
        finally:
            for claim in held:
                self._held.pop(claim.image_id, None)
            self._room.release()

    async def _renew_forever(self) -> None:
        settings = self._processor.settings
        while True:
            await asyncio.sleep(settings.lease_s / 3)
            if self._held:
                try:
                    await claiming.renew(self._processor.engine, list(self._held.values()), lease_s=settings.lease_s)
                except Exception as error:
                    _log.warning("leases could not be renewed: %s", type(error).__name__)

    async def _sweep_forever(self) -> None:
        processor = self._processor
        while True:
            try:
                await sweep(processor.engine, processor.objects, older_than_s=processor.settings.stale_upload_s)
            except Exception as error:
                _log.warning("unfinished uploads could not be swept: %s", type(error).__name__)
            try:
                for member in await watch(processor.engine, Rule.of(processor.settings)):
                    _log.warning("member %d of a bank suddenly matches so much that it is in quarantine now", member)
            except Exception as error:
                _log.warning("members of banks could not be watched: %s", type(error).__name__)
            await asyncio.sleep(60.0)
