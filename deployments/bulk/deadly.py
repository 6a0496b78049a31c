"""Pictures that kill their worker process: what it died with is tried in ever smaller parts until the culprit is known.

Which parts are tried is kept in PostgreSQL (storage/job_trials.py), so a new process, or a new run, goes on from there.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import uuid4

from deployments.bulk.background import BackgroundLoop
from deployments.bulk.patience import patiently
from deployments.bulk.work import BulkTask
from storage import job_trials
from storage.database import create_engine
from storage.errors import ConfigurationError
from storage.job_trials import PLAIN, Part

REASON = "its worker process died while looking at it"
_WHOLE, _SMALLER, _ALONE = 3, 1, 2
"""Deaths after which a whole unit and a part of one are divided, and a picture that is alone is the culprit.

A worker may die of something else; so nothing is concluded from one death with a whole unit or a single picture.
"""
_log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")


class Trials:
    """Lets a worker process look at pictures so that its death is noticed by the next one.

    Args:
        task: the run it belongs to.
    """

    def __init__(self, task: BulkTask) -> None:
        self._task, self._worker = task, uuid4()
        self._engine = create_engine(task.settings(), pool_size=1)
        self.loop = BackgroundLoop()

    async def each(
        self,
        stage: str,
        number: int,
        items: Sequence[T],
        work: Callable[[Sequence[T]], Awaitable[R]],
        plain: Callable[[], Awaitable[object]],
    ) -> tuple[list[R], list[T]]:
        """Does the work of a unit: at once, or where workers have died with it in parts.

        Args:
            stage: which work it is; a picture may survive one and not the other.
            number: of the unit.
            items: its pictures.
            work: done with all of them, or with each part.
            plain: the same with a plain picture.
        Returns:
            What ``work`` returned, in the order of the items, and the items that kill workers.
        Raises:
            StaleClaim: another runner has taken over the job.
            ConfigurationError: a plain picture kills workers, too.
        """
        done: list[R] = []
        deadly: list[T] = []
        waiting = [(0, len(items))] if items else []
        while waiting:
            first, size = waiting.pop()
            part = Part(self._task.job_id, number, stage, first, size)
            deaths = await self._begin(part)
            if deaths < (_WHOLE if size == len(items) else _SMALLER if size > 1 else _ALONE):
                done.append(await work(items[first : first + size]))
                await self._end(part)
                continue
            await self._end(part)
            if size > 1:
                half = size // 2
                waiting += [(first + half, size - half), (first, half)]
            else:
                await self._try_plain(stage, plain)
                _log.warning("picture %d of unit %d kills its worker while %s", first, number, stage)
                deadly.append(items[first])
        return done, deadly

    async def _try_plain(self, stage: str, plain: Callable[[], Awaitable[object]]) -> None:
        part = Part(self._task.job_id, PLAIN, stage, 0, 1)
        if await self._begin(part) >= _ALONE:
            await self._end(part)
            raise ConfigurationError(f"worker processes die while {stage} any picture, even a plain one")
        await plain()
        await self._end(part)

    async def _begin(self, part: Part) -> int:
        return await patiently(lambda: job_trials.begin(self._engine, part, self._task.token, self._worker))

    async def _end(self, part: Part) -> None:
        await patiently(lambda: job_trials.end(self._engine, part, self._worker))
