"""Matching: the pictures of indexed units are searched for among all stored ones, and linked. Runs in a pool of Ray Data.

All units of a segment are indexed before the first of them is matched, so the links do not depend on who came first.
"""

import asyncio

from configs.models import ModelSpec
from deployments.bulk import looks
from deployments.bulk.background import BackgroundLoop
from deployments.bulk.patience import patiently
from deployments.bulk.work import Batch, BulkTask, packed, unpacked
from deployments.bulk.writing import remote_index
from deployments.pipeline.bank_hashes import BankHashes
from deployments.pipeline.limits import Limits
from deployments.pipeline.linking import Linker
from deployments.pipeline.look import Look
from deployments.pipeline.matching import candidates_query
from deployments.pipeline.processor import Index
from deployments.pipeline.verification import Verifier
from deployments.vision.opencv import limit_opencv_threads
from storage import bulk, image_members, images, job_units
from storage.bank_changes import Compared
from storage.database import create_engine
from storage.job_tables import UnitState
from storage.links import Link
from storage.objects import ObjectStore

_AT_ONCE = 8
"""Pictures searched for in one call of a reader."""


class Matcher:
    """Links the pictures of a unit in one transaction.

    Args:
        task: the run it belongs to.
        versions: of the vector tables, that hold all that was indexed.
        index: the vectors; None: those of the running application.
    """

    def __init__(self, task: BulkTask, versions: dict[str, int], index: Index | None = None) -> None:
        self._task, self._versions = task, versions
        settings = task.settings()
        self._models = task.models(settings)
        limit_opencv_threads()
        self._engine, self._objects = create_engine(settings, pool_size=2), ObjectStore(settings)
        verifier = Verifier(
            self._engine, self._objects, max_pixels=settings.max_pixels, long_side=settings.decode_long_side,
            held=settings.features_held,
        )  # fmt: skip
        self._linker = Linker(verifier, Limits(self._engine))
        self._hashes = BankHashes(self._engine)
        self._index = index or remote_index()
        self._loop = BackgroundLoop()

    def __call__(self, batch: Batch) -> Batch:
        """A batch of unit numbers to the same."""
        numbers: list[int] = unpacked(batch)
        for number in numbers:
            self._loop.run(self.match(number))
        return packed(numbers)

    async def match(self, number: int) -> None:
        """Links the pictures of one unit; a unit that is done already is left as it is.

        Raises:
            StaleClaim: another runner has taken over the job.
            NotFound: what was seen in its pictures is not in the object store any more.
        """
        task, key = self._task, self._task.looks_key(number)
        if not await patiently(
            lambda: job_units.numbers(self._engine, task.job_id, UnitState.INDEXED, number, number + 1)
        ):
            return
        found = looks.from_bytes(await patiently(lambda: self._objects.get(key)))
        links: list[tuple[int, Link]] = []
        for start in range(0, len(found), _AT_ONCE):
            part = found[start : start + _AT_ONCE]
            for model in self._models:
                links += await patiently(lambda part=part, model=model: self._links(model, part))  # type: ignore[misc]
        ids = [image_id for image_id, _ in found]
        compared, hashes = await patiently(lambda: self._near_hashes(found))
        await patiently(
            lambda: bulk.store_links(
                self._engine, task.job_id, task.token, number, ids, links, descriptors=task.descriptors,
                hashes=hashes, compared=compared, again=lambda: self._near_hashes(found), finish=not task.reindex,
            )
        )  # fmt: skip
        await patiently(lambda: self._objects.delete(key))

    async def _near_hashes(self, found: list[tuple[int, Look]]) -> Compared:
        if self._task.reindex:
            return None, {}
        return await self._hashes.near(found, min_quality=self._models[0].thresholds.pdq_min_quality)

    async def _links(self, model: ModelSpec, part: list[tuple[int, Look]]) -> list[tuple[int, Link]]:
        members = await image_members.newest(self._engine)
        queries = [candidates_query(model, look, exclude=image_id, members=members) for image_id, look in part]
        versions = {name: self._versions[name] for name in queries[0].vectors if name in self._versions}
        hits, same = await asyncio.gather(
            self._index.search(queries, versions),
            images.same_bytes(self._engine, [look.sha256 for _, look in part]),
        )
        links = []
        for (image_id, look), near in zip(part, hits, strict=True):
            twins = [other for other in same.get(look.sha256, []) if other != image_id]
            own = await self._linker.links(model, look, near, twins, versions=versions, query_id=image_id)
            links += [(image_id, link) for link in own]
        return links
