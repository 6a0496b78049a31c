"""The cascade from near vectors to relations with evidence: SHA-256, PDQ, descriptor. Pure functions; knows nothing of Ray."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from configs.models import ModelSpec
from deployments.pipeline.look import Look
from deployments.similarity.reader import Hit, Query
from deployments.vision.pdq import ORIENTATIONS
from storage.claims import Link
from storage.tables import Relation
from storage.vectors import PDQ_SPACE

PDQ_BITS = 256
_RANK = {Relation.EXACT: 0, Relation.COPY: 1, Relation.SEMANTIC: 2}


def pdq_score(distance: float) -> float:
    """1 - Hamming distance / 256: 1 is the same hash, about 0.5 a random one."""
    return 1.0 - distance / PDQ_BITS


def candidates_query(model: ModelSpec, found: Look, *, exclude: int | None, k: int = 200) -> Query:
    """What to ask the vector readers about a looked-at picture.

    Args:
        exclude: id of the picture itself where it is stored.
        k: hits at most for each vector.
    """
    limits = model.thresholds
    lowest = min(limit for limit in (limits.copy_score, limits.region_copy_score, limits.semantic_score) if limit)
    vectors: dict[str, Any] = {model.descriptor_name: found.vectors}
    if found.pdq_quality >= limits.pdq_min_quality:
        vectors[PDQ_SPACE.name] = found.pdq
    # The index scores bit strings by 1 - 2 × distance / bits.
    min_scores = {model.descriptor_name: lowest, PDQ_SPACE.name: 1.0 - 2.0 * limits.pdq_distance / PDQ_BITS}
    return Query(vectors, min_scores, exclude, k)


@dataclass(frozen=True)
class _Candidate:
    relation: Relation
    method: str
    score: float
    threshold: float
    evidence: dict[str, Any]


def match(
    model: ModelSpec,
    found: Look,
    hits: Iterable[Hit],
    twins: Sequence[int],
    *,
    versions: dict[str, int],
    query_id: int | None = None,
) -> list[Link]:
    """Turns hits into links: at most one for each image, with the surest relation.

    Same bytes are ``exact``. PDQ within its distance in any orientation, a descriptor score of the whole pictures
    above the copy threshold, or one of a region above the (higher) region threshold are a ``copy``. A score above the
    semantic threshold, where one is set, is ``semantic``.

    Args:
        found: the picture asked about.
        hits: near vectors of stored pictures.
        twins: stored pictures with the same bytes.
        versions: of the vector tables that were searched; kept as evidence.
        query_id: id of the picture asked about, None if it is not stored.
    Returns:
        Links, best first: relation, then score, then id.
    """
    by_image: defaultdict[int, list[_Candidate]] = defaultdict(list)
    for other in twins:
        by_image[other].append(_Candidate(Relation.EXACT, "sha256", 1.0, 1.0, {"sha256": found.sha256.hex()}))
    me = str(query_id) if query_id is not None else "query"
    for hit in hits:
        judge = _judge_pdq if hit.space == PDQ_SPACE.name else _judge_descriptor
        candidate = judge(model, found, hit, me, versions.get(hit.space))
        if candidate is not None:
            by_image[hit.image_id].append(candidate)
    links = []
    for other, candidates in by_image.items():
        candidates.sort(key=lambda one: (_RANK[one.relation], -one.score))
        best = candidates[0]
        also = {one.method: round(one.score, 5) for one in reversed(candidates) if one.method != best.method}
        evidence = best.evidence | ({"also": also} if also else {})
        links.append(Link(other, best.relation, best.method, round(best.score, 5), best.threshold, evidence))
    return sorted(links, key=lambda link: (_RANK[Relation(link.relation)], -link.score, link.image_id))


def _at(version: int | None) -> dict[str, int]:
    return {} if version is None else {"index_version": version}


def _judge_pdq(model: ModelSpec, found: Look, hit: Hit, _me: str, version: int | None) -> _Candidate | None:
    limit = model.thresholds.pdq_distance
    distance = round((1.0 - hit.score) * PDQ_BITS / 2)
    if distance > limit:
        return None
    evidence = {
        "distance_bits": distance,
        "orientation": ORIENTATIONS[hit.query_row],
        "quality": found.pdq_quality,
        "descriptor": PDQ_SPACE.name,
    } | _at(version)
    return _Candidate(Relation.COPY, "pdq", pdq_score(distance), pdq_score(limit), evidence)


def _judge_descriptor(model: ModelSpec, found: Look, hit: Hit, me: str, version: int | None) -> _Candidate | None:
    limits = model.thresholds
    whole = hit.query_row == 0 and hit.region == 0
    copy = limits.copy_score if whole else limits.region_copy_score
    score = min(1.0, hit.score)
    if score >= copy:
        relation, threshold = Relation.COPY, copy
    elif limits.semantic_score is not None and score >= limits.semantic_score:
        relation, threshold = Relation.SEMANTIC, limits.semantic_score
    else:
        return None
    boxes = {
        me: [round(float(share), 4) for share in found.regions[hit.query_row]],
        str(hit.image_id): [round(share, 4) for share in hit.box],
    }
    evidence = {
        "view": "whole" if whole else "region",
        "boxes": boxes,
        "descriptor": model.descriptor_name,
    } | _at(version)
    return _Candidate(relation, "descriptor", score, threshold, evidence)
