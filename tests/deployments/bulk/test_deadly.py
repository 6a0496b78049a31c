"""A picture that kills the process which looks at it is found by ever smaller parts; the others of its unit are done."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.bulk.deadly import Trials
from deployments.bulk.work import BulkTask
from storage.errors import ConfigurationError, SafeGuardError, StaleClaim
from storage.job_trials import spare

ITEMS = list(range(16))
MANY = 60


def process(home: str, task: BulkTask, poison: set[int], answer: Any) -> None:
    """A worker: dies of what is poison to it; a plain picture is number -1."""
    os.environ["SAFEGUARD_HOME"] = home

    async def work(items: Sequence[int]) -> list[int]:
        if poison & set(items):
            os.kill(os.getpid(), signal.SIGKILL)
        return list(items)

    trials = Trials(task)
    try:
        answer.send(trials.loop.run(trials.each("reading", 3, ITEMS, work, lambda: work([-1]))))
    except SafeGuardError as error:
        answer.send(error)


async def worked_off(home: Path, task: BulkTask, poison: set[int], *, most: int = MANY) -> tuple[Any, int]:
    """What the process that survives says, and how many died before it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deployments.bulk.deadly"])
    for deaths in range(most):
        ours, theirs = context.Pipe()
        worker = context.Process(target=process, args=(str(home), task, poison, theirs))
        worker.start()
        theirs.close()
        await asyncio.to_thread(worker.join, 60)
        if worker.exitcode == 0:
            return ours.recv(), deaths
        assert worker.exitcode == -signal.SIGKILL
    return None, most


@pytest.mark.parametrize("poison", [{0}, {11}, {15}], ids=str)
async def test_the_culprit_is_found_and_the_others_are_done(home: Path, task: BulkTask, poison: set[int]) -> None:
    (done, deadly), deaths = await worked_off(home, task, poison)
    assert deadly == list(poison)
    assert [item for part in done for item in part] == [item for item in ITEMS if item not in poison]
    assert deaths == 3 + 3 + 2, "with the whole unit, with 8, 4 and 2 of it, and with the culprit alone"


async def test_several_culprits(home: Path, task: BulkTask) -> None:
    (done, deadly), _ = await worked_off(home, task, {2, 3, 9})
    assert deadly == [2, 3, 9] and sum(len(part) for part in done) == 13


async def test_what_is_known_is_kept_over_a_new_run(home: Path, task: BulkTask, engine: AsyncEngine) -> None:
    result, deaths = await worked_off(home, task, {5}, most=6)
    assert result is None and deaths == 6
    (_, deadly), deaths = await worked_off(home, task, {5})
    assert (deadly, deaths) == ([5], 2)
    (_, deadly), deaths = await worked_off(home, task, {5})
    assert (deadly, deaths) == ([5], 0), "until the unit is stored"
    async with engine.connect() as connection:
        left = await connection.execute(
            text("SELECT sum(deaths) FROM job_trial WHERE job_id = :id"), {"id": task.job_id}
        )
        assert left.scalar_one() == 8


async def test_a_worker_that_was_stopped_with_its_run_accuses_nobody(
    home: Path, task: BulkTask, engine: AsyncEngine
) -> None:
    for _ in range(4):
        assert (await worked_off(home, task, {5}, most=1))[0] is None
        await spare(engine, task.job_id, task.token)
    (done, deadly), deaths = await worked_off(home, task, set())
    assert (done, deadly, deaths) == ([ITEMS], [], 0)
    async with engine.connect() as connection:
        left = await connection.execute(text("SELECT count(*) FROM job_trial WHERE job_id = :id"), {"id": task.job_id})
        assert left.scalar_one() == 0


async def test_where_every_picture_kills_none_is_to_blame(home: Path, task: BulkTask) -> None:
    error, _ = await worked_off(home, task, {-1, *ITEMS})
    assert isinstance(error, ConfigurationError) and "even a plain one" in str(error)


async def test_a_run_that_has_lost_its_job_looks_at_nothing(home: Path, task: BulkTask, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE job SET runner = gen_random_uuid() WHERE id = :id"), {"id": task.job_id})
    error, deaths = await worked_off(home, task, {5})
    assert isinstance(error, StaleClaim) and deaths == 0
