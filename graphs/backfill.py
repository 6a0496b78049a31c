"""Bulk indexing of an S3 corpus as a Ray job: ``python -m graphs.backfill JOB`` works a job of the ledger off.

    ray job submit -- python -m graphs.backfill 7

``safeguard backfill`` makes the job and submits it. A run does what is left: list the corpus, then, segment by segment,
index the waiting units (read, decode, describe, write) and match the indexed ones. May import all below.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import ray
from ray import serve
from ray.data import ActorPoolStrategy, DataContext, Dataset
from sqlalchemy.exc import DBAPIError

from configs.models import load_models
from configs.settings import Settings, load_settings
from deployments.bulk.describing import Describer, ReaderAndDescriber
from deployments.bulk.matching import Matcher
from deployments.bulk.patience import PatientLister, patiently
from deployments.bulk.reading import Reader
from deployments.bulk.work import BulkTask, UnitWork, looks_prefix, packed
from deployments.bulk.writing import APPLICATION, Writer, remote_index
from deployments.ingress.remote import call
from deployments.vision.factory import build_descriptor
from graphs.keeper import LEASE_S, Keeper, Stopped
from graphs.parts import Parts
from storage import bulk, job_trials, job_units, jobs
from storage.corpus import CorpusObject, list_corpus
from storage.database import create_engine, storage_full
from storage.errors import ConfigurationError, Conflict, SafeGuardError, StaleClaim, StorageFull
from storage.features import features_key
from storage.generations import begin, ensure_live, generations, models_of
from storage.job_tables import Job, JobStatus, UnitState
from storage.objects import ObjectStore

_LISTED_AT_ONCE = 4096
_SETTLE_S = 3.0
"""Before half-done work is taken back: as long as processes of a former runner may take to die."""
_STOPPING_S = 300.0
_UNITS_A_COMMIT = {False: 4, True: 64}
"""Without and with GPUs: a commit takes about as long for few units as for many."""
_BULK = "bulk"
"""A custom resource of Ray's nodes: how many CPUs bulk jobs may use there, beside what Serve's replicas reserve."""

_TRIES = 8
"""Of a unit whose writer or matcher dies under it; then the job has failed."""
_ALWAYS = {"max_task_retries": -1}
"""Of a unit whose reader or describer dies under it: by deployments/bulk/deadly.py each death brings the end nearer."""
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""For the linear algebra of a process that has one CPU; with another number the last bits of a sum differ."""
_log = logging.getLogger(__name__)


class Backfill:
    """One run of one job, by one process.

    Args:
        settings: of the installation.
        job: as the ledger has it.
        token: the right to store for it.
    """

    def __init__(self, settings: Settings, job: Job, token: UUID) -> None:
        assert job.id is not None
        self._settings, self._job_id, self._job, self._token = settings, job.id, job, token
        self._options = job.options
        self._cpus, self._gpus = int(self._options["cpus"]), int(self._options["gpus"])
        self._keeper = Keeper(settings, job.id, token)
        self._parts = Parts(settings)

    def run(self) -> JobStatus:
        """Works until the job is done, or somebody wants it to stop, and returns its status.

        Raises:
            StaleClaim: another runner has taken over.
            Exception: what ended the run; the job has failed, and can be resumed.
        """
        self._keeper.start()
        end: tuple[JobStatus | None, str | None] = (None, None)
        try:
            if self._job.status == JobStatus.CANCELLING:
                time.sleep(_SETTLE_S)
                self._parts.call(self._take_back)
                end = (JobStatus.CANCELLED, None)
            else:
                self._reserve()
                self._work()
                end = (JobStatus.DONE, None)
        except Stopped:
            pass  # a cancellation is carried out by the next runner: the workers of this one die with it
        except Exception as error:
            end = (JobStatus.FAILED, _said(error))
            raise
        finally:
            self._keeper.close()
            try:
                self._parts.patient(lambda engine, _: jobs.let_go(engine, self._job_id, self._token, *end))
                self._parts.patient(lambda engine, _: job_trials.spare(engine, self._job_id, self._token))
            finally:
                self._parts.close()
        if self._keeper.status is None:
            raise StaleClaim(f"another process has taken over job {self._job_id}")
        return end[0] or self._keeper.status

    def _work(self) -> None:
        self._task = self._parts.patient(self._described)
        if self._task.reindex:
            self._parts.patient(self._begin_generation)
        if not self._job.listed:
            self._parts.call(self._list)
        self._parts.patient(lambda engine, _: job_trials.forget_plain(engine, self._job_id))
        size = int(self._options["segment_units"])
        while (left := self._parts.patient(lambda engine, _: job_units.first_left(engine, self._job_id))) is not None:
            first = left // size * size
            self._run_all(self._index(self._numbers(UnitState.WAITING, first, first + size)))
            versions = self._parts.loop.run(_versions())
            self._run_all(self._match(self._numbers(UnitState.INDEXED, first, first + size), versions))
        self._parts.call(self._tidy)

    async def _described(self, engine: Any, _: ObjectStore) -> BulkTask:
        job, registry = self._job, load_models(self._settings.models_file)
        if job.model_name not in registry:
            raise ConfigurationError(f"{job.model_name} is not among the models of models.yaml any more")
        await ensure_live(engine, {name: model.descriptor_name for name, model in registry.items()})
        written = tuple(one.descriptor for one in (await generations(engine, job.model_name))[job.model_name])
        reindex, rate = job.kind == jobs.REINDEX, self._options.get("reads_per_s")
        return BulkTask(
            self._job_id, self._token, job.model_name, (job.source,) if reindex else written, reindex=reindex, threads=1,
            niceness=int(self._options["niceness"]), reads_per_s=rate / self._cpus if rate else None,
        )  # fmt: skip

    def _numbers(self, state: UnitState, first: int, end: int) -> list[int]:
        return self._parts.patient(lambda engine, _: job_units.numbers(engine, self._job_id, state, first, end))

    async def _begin_generation(self, engine: Any, _: ObjectStore) -> None:
        name, descriptor = self._job.model_name, self._job.source
        held = {one.descriptor for one in (await generations(engine, name))[name]}
        if descriptor in held:
            return
        if self._job.listed:
            raise ConfigurationError(f"{name} is not written with {descriptor} any more")
        # Uploads wait for a descriptor that is being built: one that cannot be loaded must not come so far.
        spec = load_models(self._settings.models_file).with_descriptor(name, descriptor).descriptor
        await asyncio.to_thread(build_descriptor, spec, self._settings)
        if not await models_of(engine, descriptor):
            writer = serve.get_deployment_handle("SimilarityWriter", APPLICATION)
            await call(writer.drop, 60.0, descriptor)  # what an earlier, abandoned re-index left
        await begin(engine, name, descriptor, actor=f"job {self._job_id}")

    async def _list(self, engine: Any, objects: ObjectStore) -> None:
        unit_size = int(self._options["unit_size"])
        await patiently(lambda: job_units.begin_listing(engine, self._job_id, self._token))
        if self._task.reindex:
            await self._list_images(engine, unit_size)
        else:
            await self._list_corpus(engine, objects, unit_size)
        await patiently(lambda: job_units.end_listing(engine, self._job_id, self._token))

    async def _list_images(self, engine: Any, unit_size: int) -> None:
        last: int | None = 0
        while last is not None:
            self._keeper.check()
            last = await patiently(
                lambda after=last: job_units.list_images(  # type: ignore[misc]
                    engine, self._job_id, self._token, model_name=self._job.model_name, after=after, unit_size=unit_size
                )
            )

    async def _list_corpus(self, engine: Any, objects: ObjectStore, unit_size: int) -> None:
        found: list[CorpusObject] = []
        listed = 0

        async def add(some: list[CorpusObject]) -> int:
            return await patiently(
                lambda: job_units.add_listed(engine, self._job_id, self._token, some, unit_size=unit_size, at=listed)
            )

        async for page in list_corpus(PatientLister(objects), self._job.source):
            self._keeper.check()
            found += page
            whole = len(found) // unit_size * unit_size
            if whole >= _LISTED_AT_ONCE:
                listed = await add(found[:whole])
                found = found[whole:]
        await add(found)

    def _reserve(self) -> None:
        total = ray.cluster_resources()
        self._reserved = {_BULK: 1.0} if _BULK in total else {}
        have = total.get(_BULK, total.get("CPU", 0))
        if self._cpus > have:
            raise ConfigurationError(f"the job was given {self._cpus} CPUs; the cluster has {have:g} for bulk jobs")
        if self._gpus > total.get("GPU", 0):
            raise ConfigurationError(f"the job was given {self._gpus} GPUs; the cluster has {total.get('GPU', 0):g}")

    def _pool(self, dataset: Dataset, stage: type, size: int, *arguments: Any, **resources: Any) -> Dataset:
        given = {"num_cpus": 0 if self._reserved else 1, "resources": self._reserved or None} | resources
        return dataset.map_batches(
            stage, batch_size=1, batch_format="numpy", compute=ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
            fn_constructor_args=(self._task, *arguments), scheduling_strategy="SPREAD",
            runtime_env={"env_vars": _ONE_THREAD}, max_restarts=-1, **({"max_task_retries": _TRIES} | given),
        )  # fmt: skip

    def _index(self, numbers: Sequence[int]) -> Dataset | None:
        if not numbers:
            return None
        held = self._parts.patient(lambda engine, _: job_units.units(engine, self._job_id, numbers))
        work = [UnitWork(one.number, one.image_ids, one.paths, one.etags, one.sizes) for one in held]
        dataset = _dataset(work)
        if self._gpus:
            dataset = self._pool(dataset, Reader, self._cpus, **_ALWAYS)
            dataset = self._pool(dataset, Describer, self._gpus, num_cpus=0, num_gpus=1, resources=None, **_ALWAYS)
        else:
            dataset = self._pool(dataset, ReaderAndDescriber, self._cpus, **_ALWAYS)
        return dataset.map_batches(
            Writer, batch_size=_UNITS_A_COMMIT[self._gpus > 0], batch_format="numpy", compute=ActorPoolStrategy(size=1),
            fn_constructor_args=(self._task,), num_cpus=0, max_restarts=-1, max_task_retries=_TRIES,
        )  # fmt: skip

    def _match(self, numbers: Sequence[int], versions: dict[str, int]) -> Dataset | None:
        return self._pool(_dataset(numbers), Matcher, self._cpus, versions) if numbers else None

    def _run_all(self, dataset: Dataset | None) -> None:
        if dataset is None:
            return
        self._keeper.check()
        for _ in dataset.iter_batches(batch_size=None, batch_format="numpy"):
            self._keeper.check()

    async def _take_back(self, engine: Any, objects: ObjectStore) -> None:
        """Undoes what is half done, after a cancellation; what is done stays."""
        index = remote_index()
        backfill = self._job.kind == jobs.BACKFILL
        while backfill and (units := await patiently(lambda: bulk.half_done(engine, self._job_id))):
            ids = [image_id for unit in units for image_id in unit.image_ids]
            keys = [features_key(path) for unit in units for path in unit.paths]
            await patiently(lambda ids=ids: index.add({}, ids))  # type: ignore[misc]
            await asyncio.gather(*(patiently(lambda key=key: objects.delete(key)) for key in keys))  # type: ignore[misc]
            await patiently(lambda units=units: bulk.take_back(engine, self._job_id, self._token, units))  # type: ignore[misc]
        await self._tidy(engine, objects)

    async def _tidy(self, _: Any, objects: ObjectStore) -> None:
        prefix = looks_prefix(self._job_id)
        while (page := await patiently(lambda: objects.page(prefix))).objects:
            keys = [one.key for one in page.objects]
            await asyncio.gather(*(patiently(lambda key=key: objects.delete(key)) for key in keys))  # type: ignore[misc]


def _dataset(items: Sequence[Any]) -> Dataset:
    rows = [{"work": item} for item in packed(list(items))["work"]]
    return ray.data.from_items(rows, override_num_blocks=len(rows))


async def _versions() -> dict[str, int]:
    """Of the vector tables now: whatever was written before is in them."""
    index = remote_index()
    return await patiently(lambda: index.add({}, []))


def _said(error: Exception) -> str:
    for one in _causes(error):
        if isinstance(full := storage_full(one) or one, StorageFull):
            return f"{full}; make room and resume the job"
        if isinstance(one, SafeGuardError):
            return str(one)
        if isinstance(one, DBAPIError):
            return f"the database answered {type(one.orig).__name__}; the log of the Ray job has more"
    return f"{type(error).__name__}; the log of the Ray job has more"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        inner = getattr(seen, "cause", None)
        seen = inner if isinstance(inner, BaseException) else seen.__cause__


def run(job_id: int, settings: Settings) -> JobStatus:
    """Takes a job and works it off; returns what became of it.

    Raises:
        NotFound: there is no such job.
        Conflict: it cannot be run now.
    """

    async def taken() -> tuple[Job, UUID]:
        engine = create_engine(settings, pool_size=1)
        begun = time.monotonic()
        try:
            while True:
                try:
                    token = await patiently(lambda: jobs.take(engine, job_id, lease_s=LEASE_S))
                    return await patiently(lambda: jobs.get(engine, job_id)), token
                except Conflict:
                    job = await patiently(lambda: jobs.get(engine, job_id))
                    # Another runner that is well is left alone; one that was told to stop, or has died, is waited for.
                    most = 1.5 * LEASE_S if job.status == JobStatus.RUNNING else _STOPPING_S
                    if job.runner is None or time.monotonic() - begun > most:
                        raise
                await asyncio.sleep(1.0)
        finally:
            await engine.dispose()

    job, token = asyncio.run(taken())
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 32 * 2**20
    return Backfill(settings, job, token).run()


def main() -> None:
    """``python -m graphs.backfill JOB``."""
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        raise SystemExit("usage: python -m graphs.backfill JOB")
    logging.basicConfig(level=logging.WARNING)
    job_id = int(sys.argv[1])
    try:
        ray.init(log_to_driver=False, namespace="safeguard-jobs")
        status = run(job_id, load_settings())
    except SafeGuardError as error:
        raise SystemExit(f"job {job_id}: {error}") from error
    print(f"job {job_id} is {status}")


if __name__ == "__main__":
    main()
