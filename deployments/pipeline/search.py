"""Searching for a picture without storing it: the same look and the same cascade as for an upload."""

from itertools import groupby, islice

from deployments.pipeline.found import Found
from deployments.pipeline.look import Look
from deployments.pipeline.matching import NEAR, candidates_query
from deployments.pipeline.processor import Processor
from storage import images

_MOST_NEAR = 500
"""Neighbours of each vector: a picture that is stored a thousand times must not stop a reader."""


async def search(
    processor: Processor, data: bytes, model_name: str, *, k: int, exclude: int | None = None
) -> list[Found]:
    """Ranked matches, best first; who filters them still has ``k`` of every relation to choose from.

    Args:
        data: the file as sent.
        model_name: whose networks and thresholds are used.
        k: matches at most of each relation; each vector looks at so many neighbours and as many more as have the same bytes.
        exclude: a stored image to leave out (the picture itself).
    Raises:
        UnsupportedImage, TooLarge: the picture cannot be read.
        Unavailable: a part of the platform does not answer.
    """
    model = await processor.generations.live(model_name)  # read once: a switch meanwhile mixes nothing
    (seen,) = await processor.look(model, [data], judge=False, apart=True)
    if not isinstance(seen, Look):
        raise seen
    twins = (await images.same_bytes(processor.engine, [seen.sha256])).get(seen.sha256, [])
    others = [one for one in twins if one != exclude]
    near = min(_MOST_NEAR, max(NEAR, k + len(others)))  # twins are the nearest of all
    query = candidates_query(model, seen, exclude=exclude, k=near)
    (hits,) = await processor.index.search([query], None)
    links = await processor.linker.links(model, seen, hits, others, versions={}, query_id=exclude)
    stored = await images.existing(processor.engine, [link.image_id for link in links])
    kept = (link for link in links if link.image_id in stored)
    return [
        Found(
            link.image_id, *stored[link.image_id], link.relation, link.method, link.score, link.threshold, link.evidence
        )
        for _, alike in groupby(kept, key=lambda link: link.relation)  # they come by relation
        for link in islice(alike, k)
    ]
