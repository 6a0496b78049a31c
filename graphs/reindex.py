"""Re-indexing with another descriptor, for the command line: built beside the live one, compared, switched, rolled back.

The work itself is a bulk job (graphs/backfill.py); ``python -m graphs.reindex drop NAME@VERSION`` is the Ray job that has
the similarity writer drop a table. May import all below.
"""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import ray
from ray import serve
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import ModelRegistry
from configs.settings import Settings, load_settings
from deployments.bulk.writing import APPLICATION
from deployments.ingress.remote import call
from deployments.job_submission import submit_module
from graphs.cluster import RayCluster
from graphs.jobs import follow, go_on, hand_over
from graphs.opening import chosen_model, opened
from storage import generations, jobs
from storage.errors import Conflict, SafeGuardError
from storage.generations import Agreement, State
from storage.job_tables import Job, JobStatus
from storage.tables import Generation
from storage.vector_index import SearchEffort, index_state, measure_recall
from storage.vector_rows import VectorSpace
from storage.vectors import VectorTable, connect

_DROP_TIMEOUT_S = 60.0
_SAMPLE = 100


@dataclass(frozen=True)
class Comparison:
    """A descriptor that was built beside the live one.

    Args:
        live, other: name@version.
        rows: vectors of the other.
        recall: recall@10 of its index against exact search; None where it is searched exactly.
        links: pairs that are copies by either and by both.
    """

    live: str
    other: str
    rows: int
    recall: float | None
    links: Agreement


async def _held(engine: AsyncEngine, registry: ModelRegistry, name: str) -> dict[str, str]:
    await generations.ensure_live(engine, {name: registry[name].descriptor_name})
    found: list[Generation] = (await generations.generations(engine, name))[name]
    return {one.state: one.descriptor for one in found}


async def start(
    home: Path | None,
    descriptor: str,
    *,
    model_name: str | None,
    cpus: int,
    gpus: int,
    niceness: int,
    segment_units: int,
) -> Job:
    """Makes the job that fills the tables and links of another descriptor, or goes on with the unfinished one.

    Raises:
        ModelsFileError: models.yaml does not know the descriptor.
        InvalidInput: an unknown model.
        Conflict: another one is being built, or is live, or a job is in the way; the message says what to do.
    """
    async with opened(home) as (settings, engine):
        registry, name = chosen_model(settings, model_name)
        registry.with_descriptor(name, descriptor)
        options = jobs.options(cpus=cpus, gpus=gpus, reads_per_s=None, niceness=niceness, segment_units=segment_units)
        job = await jobs.newest(engine, jobs.REINDEX, descriptor, name)
        if job is not None and job.status in jobs.UNFINISHED:
            await go_on(engine, job, options)
        else:
            held = await _held(engine, registry, name)
            generations.refuse_begin(name, descriptor, held)
            job = await jobs.create(
                engine, source=descriptor, model_name=name, options=options, created_by="command line",
                kind=jobs.REINDEX,
            )  # fmt: skip
        await hand_over(settings, job)
        return job


async def compare(home: Path | None, model_name: str | None) -> Comparison:
    """Measures the descriptor that is being built, or the previous one, beside the live one.

    Raises:
        Conflict: there is no other one.
    """
    async with opened(home) as (settings, engine):
        registry, name = chosen_model(settings, model_name)
        held = await _held(engine, registry, name)
        other = held.get(State.BUILDING) or held.get(State.PREVIOUS)
        if other is None:
            raise Conflict(f"{name} has no descriptor beside {held[State.LIVE]}")
        space = VectorSpace(other, registry.available_descriptors[other].dim)
        table = await VectorTable.open(await connect(settings), space, create=False)
        rows, recall = 0, None
        if table is not None:
            rows = await table.count()
            if await index_state(table) is not None:
                effort = SearchEffort(settings.index_ef, settings.index_refine, settings.index_probes)
                recall = await measure_recall(table, sample=_SAMPLE, effort=effort)
        links = await generations.agreement(engine, held[State.LIVE], other)
        return Comparison(held[State.LIVE], other, rows, recall, links)


async def switch(home: Path | None, model_name: str | None, *, force: bool = False) -> str:
    """Makes the built descriptor live; returns its name.

    Args:
        force: also where some pictures could not be re-indexed: they are not found by the new descriptor then.
    Raises:
        Conflict: none is being built, its job has not ended well, or some pictures failed.
    """
    async with opened(home) as (settings, engine):
        registry, name = chosen_model(settings, model_name)
        building = (await _held(engine, registry, name)).get(State.BUILDING)
        if building is not None:
            job = await jobs.newest(engine, jobs.REINDEX, building, name)
            if job is None or job.status != JobStatus.DONE:
                state = "is missing" if job is None else f"{job.id} is {job.status}"
                raise Conflict(f"{building} is not complete yet: its job {state}")
            if job.failed and not force:
                raise Conflict(
                    f"{job.failed} pictures could not be re-indexed: see `safeguard jobs show {job.id} --failed`,"
                    f" `safeguard jobs retry {job.id}`, or switch with `--force`"
                )
        await generations.switch(engine, name, actor="command line")
        return str(building)


async def rollback(home: Path | None, model_name: str | None) -> str:
    """Makes the previous descriptor live again; returns its name.

    Raises:
        Conflict: there is no previous one.
    """
    async with opened(home) as (settings, engine):
        registry, name = chosen_model(settings, model_name)
        await generations.rollback(engine, name, actor="command line")
        return (await _held(engine, registry, name))[State.LIVE]


async def drop(home: Path | None, model_name: str | None, *, building: bool) -> str:
    """Gives up the descriptor that is being built, or the previous one: its links and, by a Ray job, its vectors.

    Returns:
        Its name.
    Raises:
        Conflict: there is none.
    """
    async with opened(home) as (settings, engine):
        registry, name = chosen_model(settings, model_name)
        held = await _held(engine, registry, name)
        if building and (descriptor := held.get(State.BUILDING)) is not None:
            await _end_job(home, settings, engine, descriptor, name)
        forget = generations.abandon if building else generations.drop_previous
        dropped = await forget(engine, name, actor="command line")
        if await generations.models_of(engine, dropped):
            return dropped  # another model is written with it
        cluster = RayCluster(settings)
        await submit_module(
            cluster.dashboard, f"graphs.reindex drop {dropped}", f"drop {dropped}", token_file=cluster.token_file
        )
        return dropped


async def _end_job(home: Path | None, settings: Settings, engine: AsyncEngine, descriptor: str, name: str) -> None:
    job = await jobs.newest(engine, jobs.REINDEX, descriptor, name)
    if job is None or job.status not in jobs.UNFINISHED:
        return
    assert job.id is not None
    await hand_over(settings, await jobs.control(engine, job.id, JobStatus.CANCELLING))
    await follow(home, job.id, lambda _: None)


async def _drop(descriptor: str) -> None:
    writer = serve.get_deployment_handle("SimilarityWriter", APPLICATION)
    await call(writer.drop, _DROP_TIMEOUT_S, descriptor)


def main() -> None:
    """``python -m graphs.reindex drop NAME@VERSION``."""
    if len(sys.argv) != 3 or sys.argv[1] != "drop":
        raise SystemExit("usage: python -m graphs.reindex drop NAME@VERSION")
    load_settings()
    try:
        ray.init(log_to_driver=False, namespace="safeguard-jobs")
        asyncio.run(_drop(sys.argv[2]))
    except SafeGuardError as error:
        raise SystemExit(str(error)) from error
    print(f"{sys.argv[2]} is dropped")


if __name__ == "__main__":
    main()
