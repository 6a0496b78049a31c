"""Past images that are near PDQ members of a bank, in any orientation. Knows nothing of Ray."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from deployments.pipeline.lookback_search import MOST_HITS, Within, crowded
from deployments.pipeline.processor import Processor
from deployments.similarity.queries import Query
from deployments.vision.decoding import decode
from deployments.vision.pdq import hamming, pdq_hashes, turned
from storage import images
from storage.errors import SafeGuardError
from storage.lookback_members import Member
from storage.lookback_steps import Found
from storage.outages import picture_at_fault
from storage.vector_rows import PDQ_SPACE

_log = logging.getLogger(__name__)
_SLACK = 20
"""Bits by which a turned hash may differ from that of the turned picture; tests/deployments/vision/test_pdq.py holds it."""
_HELD = 4096
"""Pictures whose hashes are kept, about 300 bytes each."""
_MOST_PICTURES = 512
"""Pictures that are hashed anew in a step: where more are near, the range is made smaller."""
_BITS = 256


class HashSearch:
    """Searches for hashes without pictures.

    The index knows the hash of each stored picture as it is, so it is asked for the member's hash in all orientations,
    which can be told from the hash but for some bits. What it finds is hashed anew, as it was when it was uploaded: so
    distance, orientation and quality are those that an upload would have had.

    Args:
        processor: its index, objects and models.
    """

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._hashed: OrderedDict[images.File, NDArray[np.uint8]] = OrderedDict()

    async def search(
        self, members: Sequence[Member], distance: int, within: Within, versions: dict[str, int]
    ) -> tuple[Found, bool]:
        """All images of a range that are near a hash.

        Args:
            members: those without a PDQ hash are left out.
            distance: bits at most.
            within: ids above the first, up to and with the second.
            versions: of the vector tables.
        Returns:
            What was found, and whether the range had too many images near one of them.
        Raises:
            Unavailable: a part of the platform does not answer.
        """
        hashes = [(member.id, member.pdq) for member in members if member.pdq is not None]
        if not hashes:
            return Found(), False
        least = 1.0 - 2.0 * min(_BITS, distance + _SLACK) / _BITS
        queries = [
            Query({PDQ_SPACE.name: turned(pdq)}, {PDQ_SPACE.name: least}, None, MOST_HITS, within=within)
            for _, pdq in hashes
        ]
        searched = {PDQ_SPACE.name: versions[PDQ_SPACE.name]} if PDQ_SPACE.name in versions else {}
        hits = await self._processor.index.search(queries, searched)
        near = sorted({hit.image_id for some in hits for hit in some})
        files = await images.files(self._processor.engine, near)  # the index may know images that are gone
        if len(files) > _MOST_PICTURES:
            return Found(), True
        stored = await self._hashes(files)
        found: dict[int, dict[int, int]] = {}
        for (member, pdq), some in zip(hashes, hits, strict=True):
            for image_id in {hit.image_id for hit in some}:
                held = stored.get(image_id)
                if held is not None and len(held):
                    bits = int(hamming(held, np.frombuffer(pdq, np.uint8)).min())
                    if bits <= distance:
                        found.setdefault(image_id, {})[member] = bits
        return Found(hashes=found), any(crowded(some) for some in hits)

    async def _hashes(self, files: Mapping[int, images.File]) -> dict[int, NDArray[np.uint8] | None]:
        """uint8[8, 32] of each, uint8[0, 32] of those that an upload would not have compared; None where none can be read now."""
        missing = list(dict.fromkeys(file for file in files.values() if file not in self._hashed))
        for start in range(0, len(missing), 8):
            some = missing[start : start + 8]
            made = await asyncio.gather(*(self._hash(s3_path) for s3_path, _ in some))
            self._hashed |= {file: hashes for file, hashes in zip(some, made, strict=True) if hashes is not None}
        found = {image_id: self._hashed.get(file) for image_id, file in files.items()}
        while len(self._hashed) > _HELD:
            self._hashed.popitem(last=False)
        return found

    async def _hash(self, s3_path: str) -> NDArray[np.uint8] | None:
        settings, registry = self._processor.settings, self._processor.registry
        try:
            data = await self._processor.objects.get(s3_path)
            image = await asyncio.to_thread(
                decode, data, max_pixels=settings.max_pixels, long_side=settings.decode_long_side
            )
        except SafeGuardError as error:
            if not picture_at_fault(error):
                raise
            _log.warning("a stored picture cannot be compared with hashes: %s", error)
            return None
        hashes, quality = await asyncio.to_thread(pdq_hashes, image.pixels)
        return hashes if quality >= registry[registry.default].thresholds.pdq_min_quality else hashes[:0]
