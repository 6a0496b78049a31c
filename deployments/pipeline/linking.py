"""From the hits of the index to links, for uploads, searches and bulk jobs alike. Knows nothing of Ray."""

from collections.abc import Sequence
from dataclasses import dataclass

from configs.models import ModelSpec
from deployments.pipeline.limits import Limits
from deployments.pipeline.look import Look
from deployments.pipeline.matching import Candidate, decide, gather
from deployments.pipeline.overlooked import is_copy, overlooked
from deployments.pipeline.verification import Verifier
from deployments.similarity.queries import Hit
from storage import image_members
from storage.links import Link


@dataclass(frozen=True)
class Linker:
    """Gathers candidates, verifies the best of them, decides.

    Args:
        verifier: compares details of stored pictures.
        limits: thresholds that hold now.
    """

    verifier: Verifier
    limits: Limits

    async def links(
        self, model: ModelSpec, found: Look, hits: Sequence[Hit], twins: Sequence[int], *, versions: dict[str, int],
        query_id: int | None,
    ) -> list[Link]:  # fmt: skip
        """Links of a picture, best first.

        Args:
            hits: what the index holds near it.
            twins: stored pictures with the same bytes.
            versions: of the tables that were searched.
            query_id: its id, None if it is not stored.
        Raises:
            Unavailable: the object store or the database does not answer.
        """
        candidates = gather(model, found, hits)
        await self.verifier.verify(model, found, candidates)
        active, shadow = await self.limits.active(model), await self.limits.shadow(model)
        await self._look_at_members(active, found, candidates, hits, twins)
        links = decide(active, found, candidates, twins, versions=versions, query_id=query_id)
        if shadow is not None and query_id is not None:
            tried, calibrations = shadow
            otherwise = decide(tried, found, candidates, twins, versions=versions, query_id=query_id)
            await self.limits.compare(calibrations, links, otherwise)
        return links

    async def _look_at_members(
        self, model: ModelSpec, found: Look, candidates: Sequence[Candidate], hits: Sequence[Hit], twins: Sequence[int]
    ) -> None:
        """Verifies members of banks that copies of the picture kept from that."""
        members = {hit.image_id for hit in hits if hit.member}
        copies = {one.image_id for one in candidates if is_copy(model, one)} | set(twins) if members else set()
        if copies:
            linked = await image_members.linked_to(self.verifier.engine, sorted(copies))
            await self.verifier.verify(model, found, overlooked(model, candidates, members, linked))
