"""Describing: the networks look at prepared pictures, and what was seen is kept in S3. Runs in a pool of Ray Data."""

import asyncio

from deployments.bulk import looks
from deployments.bulk.background import BackgroundLoop
from deployments.bulk.patience import patiently
from deployments.bulk.reading import Reader, ReadUnit
from deployments.bulk.work import Batch, BulkTask, DescribedUnit, packed, unpacked
from deployments.pipeline.look import describe
from deployments.pipeline.networks import LocalNetworks
from deployments.pipeline.processor import content_scores, found_objects, vector_rows
from storage.bulk import BulkImage, IndexedUnit
from storage.features import features_key
from storage.objects import ObjectStore
from storage.vectors import VectorRows

_MEDIA_TYPE = "application/octet-stream"


class Describer:
    """Holds the networks of a model: on a GPU where its actor has one.

    Args:
        task: the run it belongs to.
    """

    def __init__(self, task: BulkTask) -> None:
        settings = task.settings()
        self._task = task
        self._models = task.models(settings)
        self._networks = LocalNetworks(self._models[0], settings)
        self._objects = ObjectStore(settings)
        self._loop = BackgroundLoop()

    def __call__(self, batch: Batch) -> Batch:
        """A batch of ``ReadUnit`` to one of ``DescribedUnit``."""
        return packed([self.describe(unit) for unit in unpacked(batch)])

    def describe(self, unit: ReadUnit) -> DescribedUnit:
        """Looks at the pictures of a unit and keeps details and looks, before anything can refer to them."""
        return self._loop.run(self._describe(unit))

    async def _describe(self, unit: ReadUnit) -> DescribedUnit:
        model, *others = self._models
        seen = await describe(
            self._networks,
            model,
            [picture.prepared for picture in unit.pictures],
            others=[other.descriptor for other in others],
        )
        found = [(picture.image_id, look) for picture, look in zip(unit.pictures, seen, strict=True)]
        kept = [self._keep(self._task.looks_key(unit.number), looks.to_bytes(found))]
        for picture, look in zip(unit.pictures, seen, strict=True):
            if look.details is not None and not self._task.reindex:
                kept.append(self._keep(features_key(picture.path), look.details.to_bytes()))
        await asyncio.gather(*kept)
        images = []
        for picture, look in zip(unit.pictures, seen, strict=True):
            width, height = picture.prepared.size
            images.append(
                BulkImage(
                    picture.image_id, picture.path, picture.etag, look.sha256, picture.size_bytes,
                    picture.prepared.media_type, width, height, found_objects(model, look), content_scores(model, look),
                )
            )  # fmt: skip
        rows: dict[str, VectorRows] = {}
        for one in self._models if found else []:
            rows |= vector_rows(one, found)
        if self._task.reindex:
            rows = {name: some for name, some in rows.items() if name in self._task.descriptors}
        ids = [picture.image_id for picture in unit.pictures] + [one.image_id for one in unit.failures]
        return DescribedUnit(IndexedUnit(unit.number, images, unit.failures), rows, ids)

    async def _keep(self, key: str, data: bytes) -> None:
        await patiently(lambda: self._objects.put(key, data, _MEDIA_TYPE))


class ReaderAndDescriber:
    """Both in one process: where the networks run on a CPU, nothing is gained by passing pixels between two.

    Args:
        task: the run it belongs to.
    """

    def __init__(self, task: BulkTask) -> None:
        self._reader = Reader(task)
        self._describer = Describer(task)

    def __call__(self, batch: Batch) -> Batch:
        """A batch of ``UnitWork`` to one of ``DescribedUnit``."""
        return self._describer(self._reader(batch))
