"""Writing: vectors of many units go to the similarity writer in one commit, their rows to PostgreSQL. One actor a job."""

from collections.abc import Sequence

from ray import serve

from deployments.bulk.background import BackgroundLoop
from deployments.bulk.patience import patiently
from deployments.bulk.work import Batch, BulkTask, DescribedUnit, packed, unpacked
from deployments.pipeline.replica import RemoteIndex
from storage import bulk
from storage.database import create_engine
from storage.vector_rows import VectorRows

APPLICATION = "safeguard"
_CALL_TIMEOUT_S = 120.0


def remote_index() -> RemoteIndex:
    """The similarity deployments of the running application, from any process of the Ray cluster."""
    reader = serve.get_deployment_handle("SimilarityReader", APPLICATION)
    writer = serve.get_deployment_handle("SimilarityWriter", APPLICATION)
    return RemoteIndex(reader, writer, _CALL_TIMEOUT_S)


class Writer:
    """Vectors first, rows after them: a crash between leaves vectors that no search shows, replaced by the next try.

    Args:
        task: the run it belongs to.
    """

    def __init__(self, task: BulkTask) -> None:
        self._task = task
        self._engine = create_engine(task.settings(), pool_size=1)
        self._index = remote_index()
        self._loop = BackgroundLoop()

    def __call__(self, batch: Batch) -> Batch:
        """A batch of ``DescribedUnit`` to the numbers of its units."""
        units: list[DescribedUnit] = unpacked(batch)
        self._loop.run(self.write(units))
        return packed([unit.outcome.number for unit in units])

    async def write(self, units: Sequence[DescribedUnit]) -> None:
        """Stores some units; those that are stored already are left as they are.

        Raises:
            StaleClaim: another runner has taken over the job.
        """
        task = self._task
        numbers = [unit.outcome.number for unit in units]
        begun = await patiently(lambda: bulk.begin(self._engine, task.job_id, task.token, numbers))
        fresh = [unit for unit in units if unit.outcome.number in begun]
        rows = _together([unit.vectors for unit in fresh if unit.vectors])
        replaced = [one.image_id for unit in fresh if begun[unit.outcome.number].again for one in unit.outcome.images]
        everything = [one.image_id for unit in fresh for one in unit.outcome.images]
        tried = False

        async def add() -> None:
            nonlocal tried
            ids = everything if tried else replaced
            tried = True  # a commit that failed may have been stored
            await self._index.add(rows, ids)

        if rows:
            await patiently(add)
        await self._forget([unit for unit in fresh if begun[unit.outcome.number].retried])
        outcomes, model_name = [unit.outcome for unit in fresh], None if task.reindex else task.model_name
        if outcomes:
            await patiently(lambda: bulk.store_indexed(self._engine, task.job_id, task.token, model_name, outcomes))
        if task.reindex:
            await self._remove(await patiently(lambda: bulk.without_row(self._engine, everything)))

    async def _forget(self, units: Sequence[DescribedUnit]) -> None:
        """Vectors that an earlier try wrote for objects which are no pictures any more, and never became images."""
        failed = [one.image_id for unit in units for one in unit.outcome.failures]
        await self._remove(await patiently(lambda: bulk.without_row(self._engine, failed)))

    async def _remove(self, image_ids: list[int]) -> None:
        if image_ids:
            await patiently(lambda: self._index.add({}, image_ids))


def _together(units: Sequence[dict[str, VectorRows]]) -> dict[str, VectorRows]:
    names = sorted({name for unit in units for name in unit})
    return {name: VectorRows.concatenate([unit[name] for unit in units if name in unit]) for name in names}
