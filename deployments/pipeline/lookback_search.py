"""Past images that a member of a bank matches: all of a range of ids, not only the best. Knows nothing of Ray."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from configs.models import ModelSpec
from deployments.pipeline.confidence import confidence
from deployments.pipeline.look import Look
from deployments.pipeline.matching import Candidate, candidates_query, decide, gather
from deployments.pipeline.processor import Processor
from deployments.pipeline.verification import thorough
from deployments.similarity.queries import Hit
from storage import images
from storage.errors import NotFound, SafeGuardError
from storage.links import Link
from storage.lookback_members import Member, twins
from storage.lookback_steps import Found
from storage.outages import picture_at_fault

MOST_HITS = 256
"""Stored vectors for each vector and range, several a picture: where there may be more, the range is made smaller."""
_TOGETHER = 16
"""Candidates that are compared before it is asked whether to go on."""
_PATIENCE = 2
"""Groups of candidates in a row without a match, after which the less promising ones are not compared."""
_LOOKS = 8
Within = tuple[int, int]


class Skipped(SafeGuardError):
    """A member cannot be searched for; the reason is for people."""


@dataclass(frozen=True)
class Seen:
    """A member's picture as each descriptor of its model sees it, the live one first."""

    models: list[ModelSpec]
    found: Look


def in_turns(model: ModelSpec, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The best by confidence, by the descriptor of parts and by shape take turns: see ``matching.unclear``."""
    orders = [
        sorted(candidates, key=lambda one: (-confidence(one.scores, model.fusion), one.image_id)),
        sorted(candidates, key=lambda one: (-one.scores.region, one.image_id)),
        sorted(candidates, key=lambda one: (-one.scores.shape, one.image_id)),
    ]
    chosen: dict[int, Candidate] = {}
    for turn in zip(*orders, strict=True):
        for one in turn:
            chosen.setdefault(one.image_id, one)
    return list(chosen.values())


def crowded(hits: Sequence[Hit]) -> bool:
    """Whether some vector had as many hits as it may have, so that there may be more."""
    counts: dict[tuple[str, int], int] = {}
    for hit in hits:
        counts[hit.space, hit.query_row] = counts.get((hit.space, hit.query_row), 0) + 1
    return max(counts.values(), default=0) >= MOST_HITS


class MemberSearch:
    """Searches for stored images that are members; what was seen in the last few is kept.

    Args:
        processor: looks, searches and compares as it does for uploads.
    """

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._seen: OrderedDict[tuple[int, bytes], Seen] = OrderedDict()

    async def search(
        self, member: Member, relations: frozenset[str], within: Within, versions: dict[str, int]
    ) -> tuple[Found, bool]:
        """All links of a member's picture to images of a range.

        Args:
            relations: those that its bank counts; other links are not made.
            within: ids above the first, up to and with the second.
            versions: of the vector tables; they hold all that was processed before the member was added.
        Returns:
            What was found, and whether the range had too many images near it: ask for a smaller one then.
        Raises:
            Skipped: its picture cannot be looked at.
            Unavailable: a part of the platform does not answer.
        """
        assert member.image_id is not None
        seen = await self._look(member.image_id)
        same = await twins(self._processor.engine, member.image_id, seen.found.sha256, within)
        links: list[Link] = []
        more = False
        for model in seen.models:
            some, many = await self._links(model, seen.found, member.image_id, same, relations, within, versions)
            links += some
            more |= many
        found = Found([(member.image_id, link) for link in links], model_name=seen.models[0].name)
        return found, more

    async def _look(self, image_id: int) -> Seen:
        processor = self._processor
        try:
            image = await images.get(processor.engine, image_id)
            picture = image_id, image.sha256
            if picture in self._seen:
                self._seen.move_to_end(picture)
                return self._seen[picture]
            if image.model_name not in processor.registry:
                raise Skipped(f"image {image_id}: its model {image.model_name} is that of outside workers")
            models = await processor.generations.of(image.model_name)
            data = await processor.objects.get(image.s3_path)
        except NotFound as error:
            raise Skipped(f"image {image_id}: the stored picture is missing") from error
        except SafeGuardError as error:
            if not picture_at_fault(error):
                raise
            raise Skipped(f"image {image_id}: {error}") from error
        (found,) = await processor.look(models[0], [data], judge=False, others=models[1:])
        if not isinstance(found, Look):
            raise Skipped(f"image {image_id}: {found}") from found
        if found.sha256 != image.sha256:
            raise Skipped(f"image {image_id}: the stored picture is not the one uploaded")
        self._seen[picture] = Seen(models, found)
        if len(self._seen) > _LOOKS:
            self._seen.popitem(last=False)
        return self._seen[picture]

    async def _links(
        self, model: ModelSpec, found: Look, image_id: int, same: Sequence[int], relations: frozenset[str],
        within: Within, versions: dict[str, int],
    ) -> tuple[list[Link], bool]:  # fmt: skip
        query = candidates_query(model, found, exclude=image_id, k=MOST_HITS)
        query = replace(query, within=within)
        searched = {name: versions[name] for name in query.vectors if name in versions}
        (hits,) = await self._processor.index.search([query], searched)
        linker = self._processor.linker
        active = await linker.limits.active(model)

        def ordered() -> list[Candidate]:
            return in_turns(model, [one for one in gather(model, found, hits) if one.image_id not in same])

        def judged(some: Sequence[Candidate], equal: Sequence[int]) -> list[Link]:
            made = decide(active, found, some, equal, versions=searched, query_id=image_id)
            return [link for link in made if link.relation in relations]

        candidates = await asyncio.to_thread(ordered)
        links = judged([], same)
        fruitless = 0
        for start in range(0, len(candidates), _TOGETHER):
            group = candidates[start : start + _TOGETHER]
            await linker.verifier.verify(model, found, group, plan=thorough)
            made = judged(group, [])
            links += made
            fruitless = 0 if made else fruitless + 1
            if fruitless >= _PATIENCE:
                return links, False
        return links, crowded(hits)
