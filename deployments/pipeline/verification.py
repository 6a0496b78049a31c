"""Verification: fetches the details of candidates and compares them with those of a query. Knows nothing of Ray."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import ModelSpec
from deployments.pipeline.look import Look
from deployments.pipeline.matching import Candidate, promising, settled, shortlist, unclear
from deployments.vision.decoding import decode
from deployments.vision.details import Details, details_of
from deployments.vision.geometry import Alignment, align
from deployments.vision.local_features import LocalFeatures
from deployments.vision.template import Templates, match_template
from storage import images
from storage.errors import NotFound, SafeGuardError
from storage.features import features_key
from storage.objects import ObjectStore
from storage.outages import picture_at_fault

_log = logging.getLogger(__name__)
_MEDIA_TYPE = "application/octet-stream"
_ENOUGH = 8
"""Inliers from which the mirror image is not tried any more; unrelated pictures reach 6 once in 1,700 pairs."""

Compare = Callable[[Candidate, Details], None]
Plan = Callable[[ModelSpec, Look, Sequence[Candidate]], Iterator[tuple[Sequence[Candidate], Compare]]]


def rounds(
    model: ModelSpec, found: Look, candidates: Sequence[Candidate]
) -> Iterator[tuple[Sequence[Candidate], Compare]]:
    """What to compare, round after round: each is chosen by what the rounds before it have shown.

    Local features of the best; contours of many where that settled nothing; local features of those whose contours fit.

    Args:
        candidates: the most promising first.
    Returns:
        Candidates and what to call with each of them and its details before the next round is asked for. Blocking.
    """
    if found.details is None:
        return
    fit = _fitting(found.details)
    yield shortlist(model, candidates), fit
    matched = unclear(model, candidates)
    if not matched:
        return
    yield matched, _matching(found)
    yield promising(model, matched), fit


def thorough(
    model: ModelSpec, found: Look, candidates: Sequence[Candidate]
) -> Iterator[tuple[Sequence[Candidate], Compare]]:
    """As ``rounds``, but every candidate is compared for its own sake: for who looks for all copies, not for the best."""
    if found.details is None:
        return
    yield [one for one in candidates if not settled(model, one)], _fitting(found.details)
    yield [one for one in candidates if not settled(model, one)], _matching(found)


def _fitting(details: Details) -> Compare:
    def fit(one: Candidate, stored: Details) -> None:
        if one.aligned:
            return
        one.alignment, one.aligned = best_alignment(details.points, stored.points), True

    return fit


def _matching(found: Look) -> Compare:
    templates = Templates(found.grey, found.inner)

    def match(one: Candidate, stored: Details) -> None:
        one.template = match_template(templates, stored.contours)

    return match


class Verifier:
    """Keeps the details lately used.

    Args:
        engine, objects: where pictures and their details are found.
        max_pixels, long_side: limits of decoding, for pictures whose details are missing.
        held: how many pictures' details are kept in memory (about 65 KB each).
    """

    def __init__(
        self, engine: AsyncEngine, objects: ObjectStore, *, max_pixels: int, long_side: int, held: int = 1024
    ) -> None:
        self.engine, self._objects = engine, objects
        self._max_pixels, self._long_side = max_pixels, long_side
        self._held: OrderedDict[images.File, Details] = OrderedDict()
        self._most = held

    async def store(self, s3_path: str, sha256: bytes, details: Details) -> None:
        """Keeps the details of a picture beside it.

        Args:
            sha256: of the picture; a corpus may put another one in the same place.
        Raises:
            Unavailable: the object store does not answer.
        """
        await self._objects.put(features_key(s3_path), details.to_bytes(), _MEDIA_TYPE)
        self._remember((s3_path, sha256), details)

    async def verify(
        self, model: ModelSpec, found: Look, candidates: Sequence[Candidate], *, plan: Plan = rounds
    ) -> None:
        """Compares the details of candidates with those of a query; a candidate that has gone meanwhile is left as it is.

        Args:
            candidates: the most promising first.
            plan: what is compared: ``rounds``, or ``thorough``.
        Raises:
            Unavailable: the object store does not answer.
        """
        for some, compare in plan(model, found, candidates):
            if not some:
                continue
            files = await images.files(self.engine, [one.image_id for one in some])
            known = [one for one in some if one.image_id in files]
            held = await asyncio.gather(*(self._details(files[one.image_id]) for one in known))
            pairs = [(one, details) for one, details in zip(known, held, strict=True) if details is not None]
            await asyncio.to_thread(_each, compare, pairs)

    async def _details(self, file: images.File) -> Details | None:
        if file in self._held:
            self._held.move_to_end(file)
            return self._held[file]
        s3_path, sha256 = file
        try:
            details = Details.from_bytes(await self._objects.get(features_key(s3_path)))
        except (NotFound, ValueError):
            return await self._made_anew(s3_path, sha256)
        self._remember(file, details)
        return details

    async def _made_anew(self, s3_path: str, sha256: bytes) -> Details | None:
        """For a picture stored by an older version, or whose details were lost or damaged."""

        def extract(data: bytes) -> Details:
            return details_of(decode(data, max_pixels=self._max_pixels, long_side=self._long_side).pixels)

        try:
            details = await asyncio.to_thread(extract, await self._objects.get(s3_path))
        except SafeGuardError as error:
            if not picture_at_fault(error):
                raise
            _log.warning("the details of a stored picture cannot be made: %s", error)
            return None
        await self.store(s3_path, sha256, details)
        return details

    def _remember(self, file: images.File, details: Details) -> None:
        self._held[file] = details
        self._held.move_to_end(file)
        while len(self._held) > self._most:
            self._held.popitem(last=False)


def _each(compare: Compare, pairs: Sequence[tuple[Candidate, Details]]) -> None:
    for one, details in pairs:
        compare(one, details)


def best_alignment(query: LocalFeatures, stored: LocalFeatures) -> Alignment | None:
    """How a picture or its mirror image lies in a stored one. Blocking; ``benchmarks.stages`` prints the time."""
    upright = align(query, stored)
    if upright is not None and upright.inliers >= _ENOUGH:
        return upright
    mirrored = align(query.mirrored(), stored, mirrored=True)
    fits = [fit for fit in (upright, mirrored) if fit is not None]
    return max(fits, key=lambda fit: fit.inliers, default=None)
