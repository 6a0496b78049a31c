"""Working look-backs off beside uploads, which go first. Knows nothing of Ray."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from deployments.background import BackgroundLoops
from deployments.pipeline.lookback_work import LookBackWorker
from deployments.pipeline.processor import Processor
from storage import lookback_claims
from storage.bank_terms import end_terms
from storage.errors import StaleClaim
from storage.lookback_claims import HeldLookBack
from storage.outages import part_is_down
from storage.signals import Signal

_log = logging.getLogger(__name__)
_TURN_S = 5.0
"""A look-back is worked on for so long, then the next one has its turn."""
_POLITE_S = 2.0
"""The longest pause between two steps while uploads are in work."""
_REASON = "a step of it failed; the log of the pipeline says how"


class LookBackLoop:
    """Claims look-backs, one at a time, and does their steps. Replicas share them; each step takes effect once.

    Args:
        processor: what looks and searches.
        signal: wakes the loop when one begins.
        busy: whether uploads are in work: between two steps there is a pause then as long as the step was.
        idle_s: look-backs are looked for after so many seconds even without a signal.
        worker: does the steps; made of the processor where none is given.
    """

    def __init__(
        self, processor: Processor, signal: Signal, *, busy: Callable[[], bool], idle_s: float = 5.0,
        worker: LookBackWorker | None = None,
    ) -> None:  # fmt: skip
        self._processor, self._signal, self._busy, self._idle_s = processor, signal, busy, idle_s
        self._worker = worker or LookBackWorker(processor)
        self._loops = BackgroundLoops()
        self._terms_at = -float("inf")

    async def start(self) -> None:
        """Begins to claim."""
        self._loops.begin("look-back", self._forever())

    async def close(self) -> None:
        """Stops at once: what the present step has not stored is done again by whoever goes on."""
        await self._loops.end()

    def check(self) -> None:
        """Raises RuntimeError if the loop has died."""
        self._loops.check()

    async def _forever(self) -> None:
        settings = self._processor.settings
        while True:
            with self._signal.watched([""]) as begun:  # before the claim, so that nothing begins unseen
                held = None
                try:
                    await self._end_terms()
                    held = await lookback_claims.claim(
                        self._processor.engine, lease_s=settings.lease_s, max_attempts=settings.max_attempts
                    )
                except Exception as error:
                    _log.warning("no look-back could be claimed: %s", type(error).__name__)
                    await asyncio.sleep(1.0)
                if held is not None:
                    await self.work(held)
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._idle_s):
                        await begun.wait()

    async def _end_terms(self) -> None:
        if time.monotonic() - self._terms_at > self._idle_s:
            await end_terms(self._processor.engine)
            self._terms_at = time.monotonic()

    async def work(self, held: HeldLookBack, *, turn_s: float = _TURN_S) -> None:
        """Does steps for a while, then gives the claim back; what fails costs an attempt unless a part is down."""
        renewing = asyncio.create_task(self._renew(held))
        try:
            await self._steps(held, turn_s)
        except StaleClaim as error:
            _log.info("%s", error)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                await asyncio.shield(lookback_claims.rest(self._processor.engine, held))
            raise
        except Exception as error:
            await self._fallen(held, error)
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing

    async def _steps(self, held: HeldLookBack, turn_s: float) -> None:
        until = time.monotonic() + turn_s
        self._worker.begin()
        now: HeldLookBack | None = held
        while now is not None and time.monotonic() < until:
            began = time.monotonic()
            now = await self._worker.step(now)
            if self._busy():
                await asyncio.sleep(min(_POLITE_S, time.monotonic() - began))
        if now is not None:
            await lookback_claims.rest(self._processor.engine, held)

    async def _fallen(self, held: HeldLookBack, error: Exception) -> None:
        settings = self._processor.settings
        down = part_is_down(error)
        _log.warning("a step of look-back %d failed: %s", held.id, type(error).__name__, exc_info=not down)
        reason = "a part of the platform did not answer; it goes on by itself" if down else _REASON
        try:
            state = await lookback_claims.fail(
                self._processor.engine, held, reason, retry_delay_s=settings.retry_delay_s,
                max_attempts=settings.max_attempts, blameless=down,
            )  # fmt: skip
        except Exception as again:  # its lease ends by itself
            _log.warning("look-back %d could not be given back: %s", held.id, type(again).__name__)
        else:
            if state == "dead":
                _log.error("look-back %d was given up after %d attempts", held.id, settings.max_attempts)

    async def _renew(self, held: HeldLookBack) -> None:
        settings = self._processor.settings
        while True:
            await asyncio.sleep(settings.lease_s / 3)
            try:
                await lookback_claims.renew(self._processor.engine, held, lease_s=settings.lease_s)
            except Exception as error:
                _log.warning("the lease of a look-back could not be renewed: %s", type(error).__name__)
