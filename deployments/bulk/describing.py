"""Describing: the networks look at prepared pictures, and what was seen is kept in S3. Runs in a pool of Ray Data."""

import asyncio
import logging
from collections.abc import Sequence

from deployments.bulk import looks
from deployments.bulk.deadly import REASON, Trials
from deployments.bulk.patience import patiently
from deployments.bulk.reading import Reader, ReadPicture, ReadUnit
from deployments.bulk.work import Batch, BulkTask, DescribedUnit, packed, unpacked
from deployments.pipeline.look import Look, describe, prepare
from deployments.pipeline.networks import LocalNetworks
from deployments.pipeline.processor import canary, content_scores, found_objects, vector_rows
from storage.bulk import BulkFailure, BulkImage, IndexedUnit
from storage.features import features_key
from storage.objects import ObjectStore
from storage.vector_rows import VectorRows

_log = logging.getLogger(__name__)
_MEDIA_TYPE = "application/octet-stream"


class Describer:
    """Holds the networks of a model: on a GPU where its actor has one.

    Args:
        task: the run it belongs to.
        trials: of this process, where it does more than describing.
    """

    def __init__(self, task: BulkTask, trials: Trials | None = None) -> None:
        settings = task.settings()
        self._task = task
        self._models = task.models(settings)
        self._networks = LocalNetworks(self._models[0], settings)
        self._settings = settings
        self._objects = ObjectStore(settings)
        self._trials = trials or Trials(task)

    def __call__(self, batch: Batch) -> Batch:
        """A batch of ``ReadUnit`` to one of ``DescribedUnit``."""
        return packed([self.describe(unit) for unit in unpacked(batch)])

    def describe(self, unit: ReadUnit) -> DescribedUnit:
        """Looks at the pictures of a unit and keeps details and looks, before anything can refer to them."""
        return self._trials.loop.run(self._describe(unit))

    async def _describe(self, unit: ReadUnit) -> DescribedUnit:
        model = self._models[0]
        parts, deadly = await self._trials.each(
            "describing", unit.number, unit.pictures, self._seen, lambda: self._looks([self._plain()])
        )
        seen = [one for some, _ in parts for one in some]
        failures = [one for _, some in parts for one in some] + [_failure(one, REASON) for one in deadly]
        found = [(picture.image_id, look) for picture, look in seen]
        kept = [self._keep(self._task.looks_key(unit.number), looks.to_bytes(found))]
        for picture, look in seen:
            if look.details is not None and not self._task.reindex:
                kept.append(self._keep(features_key(picture.path), look.details.to_bytes()))
        await asyncio.gather(*kept)
        images = []
        for picture, look in seen:
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
        return DescribedUnit(IndexedUnit(unit.number, images, [*unit.failures, *failures]), rows)

    async def _seen(self, pictures: Sequence[ReadPicture]) -> tuple[list[tuple[ReadPicture, Look]], list[BulkFailure]]:
        """What the networks see, all at once; where they raise, picture by picture.

        A picture at which they raise is its own failure, unless they raise at a plain one too.
        """
        try:
            return list(zip(pictures, await self._looks(pictures), strict=True)), []
        except Exception as error:
            _log.warning("a unit is described picture by picture: %s", error)
        seen, failures = [], []
        for picture in pictures:
            try:
                seen += list(zip([picture], await self._looks([picture]), strict=True))
            except Exception as error:
                await self._looks([self._plain()])
                reason = f"the picture could not be processed ({type(error).__name__})"
                failures.append(_failure(picture, reason))
        return seen, failures

    def _plain(self) -> ReadPicture:
        """A picture that every network takes; its shape is not looked at."""
        settings, data = self._settings, canary()
        prepared = prepare(
            data, self._models[0], None, max_pixels=settings.max_pixels, long_side=settings.decode_long_side
        )
        return ReadPicture(0, "", "", len(data), prepared)

    async def _looks(self, pictures: Sequence[ReadPicture]) -> list[Look]:
        model, *others = self._models
        prepared = [picture.prepared for picture in pictures]
        return await describe(self._networks, model, prepared, others=[other.descriptor for other in others])

    async def _keep(self, key: str, data: bytes) -> None:
        await patiently(lambda: self._objects.put(key, data, _MEDIA_TYPE))


def _failure(picture: ReadPicture, reason: str) -> BulkFailure:
    return BulkFailure(picture.image_id, picture.path, picture.etag, picture.size_bytes, reason)


class ReaderAndDescriber:
    """Both in one process: where the networks run on a CPU, nothing is gained by passing pixels between two.

    Args:
        task: the run it belongs to.
    """

    def __init__(self, task: BulkTask) -> None:
        trials = Trials(task)
        self._reader = Reader(task, trials)
        self._describer = Describer(task, trials)

    def __call__(self, batch: Batch) -> Batch:
        """A batch of ``UnitWork`` to one of ``DescribedUnit``."""
        return self._describer(self._reader(batch))
