"""The whole cascade in this process, without Ray and without servers: for measurements."""

import asyncio
from collections.abc import Sequence

from configs.models import ModelRegistry, ModelSpec
from configs.settings import Settings
from deployments.pipeline.look import Look, look
from deployments.pipeline.matching import Candidate, candidates_query, gather
from deployments.pipeline.networks import LocalNetworks
from deployments.pipeline.processor import vector_rows
from deployments.pipeline.verification import rounds
from deployments.similarity.index import ExactIndex
from deployments.similarity.queries import Hit
from deployments.similarity.replicas import spaces_of
from deployments.vision.details import Details
from deployments.vision.shape import ShapeDescriptor
from storage.errors import SafeGuardError


class LocalCascade:
    """The whole cascade over vectors and local features held in memory: what the service does, without servers.

    Args:
        model: networks, shape, fusion and thresholds.
        settings: limits of decoding, threads.
        judge: ask the content filter too.
    """

    def __init__(self, model: ModelSpec, settings: Settings, *, judge: bool = False) -> None:
        self.model, self.settings, self._judge = model, settings, judge
        self._networks = LocalNetworks(model, settings)
        self._shape = ShapeDescriptor(model.shape) if model.shape else None
        registry = ModelRegistry({model.name: model}, model.name)
        self._indexes = {space.name: ExactIndex(space) for space in spaces_of(registry)}
        self._details: dict[int, Details] = {}

    def look(self, pictures: Sequence[bytes]) -> list[Look | SafeGuardError]:
        """What the pipeline sees in files."""
        settings = self.settings
        return asyncio.run(
            look(
                self._networks, self.model, self._shape, pictures, max_pixels=settings.max_pixels,
                long_side=settings.decode_long_side, judge=self._judge,
            )
        )  # fmt: skip

    def add(self, stored: Sequence[tuple[int, Look]]) -> None:
        """Stores looked-at pictures under their ids."""
        for name, rows in vector_rows(self.model, stored).items():
            self._indexes[name].extend(rows)
        self._details |= {image_id: found.details for image_id, found in stored if found.details is not None}

    def hits(self, found: Look, *, exclude: int | None = None) -> list[Hit]:
        """What the vector readers would answer."""
        query = candidates_query(self.model, found, exclude=exclude)
        return [
            Hit(name, *row)
            for name, vectors in query.vectors.items()
            for row in self._indexes[name].search(vectors, k=query.k, min_score=query.min_scores[name], exclude=exclude)
        ]

    def judged(self, found: Look, hits: Sequence[Hit], model: ModelSpec | None = None) -> list[Candidate]:
        """Candidates out of hits, the best of them verified as the model says; this cascade's own where None."""
        model = model or self.model
        candidates = gather(model, found, hits)
        for some, compare in rounds(model, found, candidates):
            for one in some:
                if one.image_id in self._details:
                    compare(one, self._details[one.image_id])
        return candidates

    def candidates(self, found: Look, *, exclude: int | None = None) -> list[Candidate]:
        """Candidates for a picture, the best of them verified."""
        return self.judged(found, self.hits(found, exclude=exclude))
