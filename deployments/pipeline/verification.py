"""Fetches the local features of candidates and fits them to those of a query. Knows nothing of Ray."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.pipeline.look import Look
from deployments.pipeline.matching import Candidate
from deployments.vision.decoding import decode
from deployments.vision.geometry import Alignment, align
from deployments.vision.local_features import LocalFeatures, local_features
from storage import images
from storage.errors import NotFound, SafeGuardError
from storage.features import features_key
from storage.objects import ObjectStore

_log = logging.getLogger(__name__)
_MEDIA_TYPE = "application/octet-stream"
_ENOUGH = 8
"""Inliers from which the mirror image is not tried any more; unrelated pictures reach 6 once in 1,700 pairs."""


class Verifier:
    """Keeps the features lately used.

    Args:
        engine, objects: where pictures and their features are found.
        max_pixels, long_side: limits of decoding, for pictures whose features are missing.
        held: how many pictures' features are kept in memory (about 55 KB each).
    """

    def __init__(
        self, engine: AsyncEngine, objects: ObjectStore, *, max_pixels: int, long_side: int, held: int = 1024
    ) -> None:
        self._engine, self._objects = engine, objects
        self._max_pixels, self._long_side = max_pixels, long_side
        self._held: OrderedDict[str, LocalFeatures] = OrderedDict()
        self._most = held

    async def store(self, s3_path: str, features: LocalFeatures) -> None:
        """Keeps the features of a picture beside it.

        Raises:
            Unavailable: the object store does not answer.
        """
        await self._objects.put(features_key(s3_path), features.to_bytes(), _MEDIA_TYPE)
        self._remember(s3_path, features)

    async def verify(self, found: Look, candidates: Sequence[Candidate]) -> None:
        """Sets the alignment of each candidate, None where there is none or the candidate has gone meanwhile.

        Raises:
            Unavailable: the object store does not answer.
        """
        if found.features is None or not candidates:
            return
        paths = await images.existing(self._engine, [one.image_id for one in candidates])
        known = [one for one in candidates if one.image_id in paths]
        features = await asyncio.gather(*(self._features(paths[one.image_id][1]) for one in known))
        alignments = await asyncio.to_thread(lambda: [best_alignment(found, one) if one else None for one in features])
        for one, alignment in zip(known, alignments, strict=True):
            one.alignment = alignment

    async def _features(self, s3_path: str) -> LocalFeatures | None:
        if s3_path in self._held:
            self._held.move_to_end(s3_path)
            return self._held[s3_path]
        try:
            features = LocalFeatures.from_bytes(await self._objects.get(features_key(s3_path)))
        except (NotFound, ValueError):
            return await self._made_anew(s3_path)
        self._remember(s3_path, features)
        return features

    async def _made_anew(self, s3_path: str) -> LocalFeatures | None:
        """For a picture stored by an older version, or whose features were lost or damaged."""
        try:
            data = await self._objects.get(s3_path)
        except NotFound:
            return None

        def extract() -> LocalFeatures:
            return local_features(decode(data, max_pixels=self._max_pixels, long_side=self._long_side).pixels)

        try:
            features = await asyncio.to_thread(extract)
        except SafeGuardError as error:
            _log.warning("the features of a stored picture cannot be made: %s", error)
            return None
        await self.store(s3_path, features)
        return features

    def _remember(self, s3_path: str, features: LocalFeatures) -> None:
        self._held[s3_path] = features
        self._held.move_to_end(s3_path)
        while len(self._held) > self._most:
            self._held.popitem(last=False)


def best_alignment(found: Look, stored: LocalFeatures) -> Alignment | None:
    """How a picture or its mirror image lies in a stored one. Blocking, 1 to 3 ms."""
    if found.features is None:
        return None
    upright = align(found.features, stored)
    if upright is not None and upright.inliers >= _ENOUGH:
        return upright
    mirrored = align(found.features.mirrored(), stored, mirrored=True)
    fits = [fit for fit in (upright, mirrored) if fit is not None]
    return max(fits, key=lambda fit: fit.inliers, default=None)
