"""Reading: objects of a corpus are fetched, checked, decoded and made ready for the networks. Runs in a pool of Ray Data."""

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

from deployments.bulk.deadly import REASON, Trials
from deployments.bulk.patience import patiently
from deployments.bulk.work import Batch, BulkTask, UnitWork, packed, unpacked
from deployments.pipeline.look import Prepared, prepare
from deployments.pipeline.processor import canary
from deployments.vision.opencv import limit_opencv_threads
from deployments.vision.shape import ShapeDescriptor
from storage.bulk import BulkFailure
from storage.errors import NotFound, Refused, TooLarge, UnsupportedImage
from storage.features import features_key
from storage.objects import ObjectStore

_KEY_BYTES = 1024
"""The longest key of S3."""


@dataclass(frozen=True)
class ReadPicture:
    """One object that is a picture."""

    image_id: int
    path: str
    etag: str
    size_bytes: int
    prepared: Prepared


@dataclass(frozen=True)
class ReadUnit:
    """The objects of a unit: pictures, and those that are none."""

    number: int
    pictures: list[ReadPicture]
    failures: list[BulkFailure]


class Reader:
    """Reads units; what is wrong with one object is its failure, an outage is waited for.

    Args:
        task: the run it belongs to.
        trials: of this process, where it does more than reading.
    """

    def __init__(self, task: BulkTask, trials: Trials | None = None) -> None:
        self._settings = settings = task.settings()
        self._model = task.models(settings)[0]
        self._shape = ShapeDescriptor(self._model.shape) if self._model.shape else None
        limit_opencv_threads()
        self._objects = ObjectStore(settings)
        self._pause_s = 1.0 / task.reads_per_s if task.reads_per_s else 0.0
        self._next_read = 0.0
        self._trials = trials or Trials(task)

    def __call__(self, batch: Batch) -> Batch:
        """A batch of ``UnitWork`` to one of ``ReadUnit``."""
        return packed([self._trials.loop.run(self.read(unit)) for unit in unpacked(batch)])

    async def read(self, unit: UnitWork) -> ReadUnit:
        """Fetches the objects of a unit at once and prepares one after another."""
        places = zip(unit.image_ids, unit.paths, unit.etags, unit.sizes, strict=True)
        wanted = [BulkFailure(image_id, path, etag, size, "") for image_id, path, etag, size in places]
        parts, deadly = await self._trials.each("reading", unit.number, wanted, self._read, self._read_plain)
        found = [one for part in parts for one in part] + [dataclasses.replace(one, reason=REASON) for one in deadly]
        pictures = [one for one in found if isinstance(one, ReadPicture)]
        return ReadUnit(unit.number, pictures, [one for one in found if isinstance(one, BulkFailure)])

    async def _read(self, wanted: Sequence[BulkFailure]) -> list[ReadPicture | BulkFailure]:
        found: list[ReadPicture | BulkFailure] = []
        for one, data in await asyncio.gather(*(self._fetch(one) for one in wanted)):
            result = await asyncio.to_thread(self._prepare, one, data) if isinstance(data, bytes) else data
            found.append(dataclasses.replace(one, reason=result) if isinstance(result, str) else result)
        return found

    async def _read_plain(self) -> None:
        await asyncio.to_thread(self._prepare, BulkFailure(0, "", "", -1, ""), canary())

    async def _fetch(self, wanted: BulkFailure) -> tuple[BulkFailure, bytes | str]:
        """The object with what is known of it, or why it cannot be had."""
        most = self._settings.max_upload_bytes
        if len(features_key(wanted.path).encode()) > _KEY_BYTES:
            return wanted, f"the object's key is too long: its details would need one of over {_KEY_BYTES} bytes"
        try:
            if wanted.size < 0:
                found = await patiently(lambda: self._objects.head(wanted.path))
                wanted = dataclasses.replace(wanted, size=found.size, etag=found.etag)
            if wanted.size == 0:
                return wanted, "the object is empty"
            if wanted.size > most:
                return wanted, f"{wanted.size} bytes are over the limit of {most}"
            await self._turn()
            return wanted, await patiently(lambda: self._objects.get(wanted.path))
        except NotFound:
            return wanted, "the object vanished between listing and reading"
        except TooLarge as error:  # it has grown
            return wanted, str(error)
        except Refused as error:
            if error.account:
                raise
            return wanted, f"no right to read the object: {error}"

    async def _turn(self) -> None:
        if self._pause_s:
            now = time.monotonic()
            self._next_read = max(self._next_read + self._pause_s, now)
            await asyncio.sleep(self._next_read - now)

    def _prepare(self, wanted: BulkFailure, data: bytes) -> ReadPicture | str:
        settings = self._settings
        try:
            prepared = prepare(
                data, self._model, self._shape, max_pixels=settings.max_pixels, long_side=settings.decode_long_side
            )
        except (UnsupportedImage, TooLarge) as error:
            return str(error)
        except Exception as error:  # OpenCV's and NumPy's own, too: one picture must not end a job
            return f"the picture could not be processed ({type(error).__name__})"
        return ReadPicture(wanted.image_id, wanted.path, wanted.etag, len(data), prepared)
