"""The cascade from near vectors to relations with evidence. Pure functions; knows nothing of Ray.

Same bytes are ``exact``. Everything else that is near in any of the vector tables is a candidate; PDQ, the descriptor
of whole and views, the shape descriptor and, for the best candidates, local features and contours give one confidence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from configs.models import ModelSpec
from deployments.pipeline.confidence import PDQ_RANDOM, Scores, confidence, terms
from deployments.pipeline.look import Look
from deployments.similarity.queries import Hit, Query
from deployments.vision.geometry import Alignment
from deployments.vision.pdq import ORIENTATIONS
from deployments.vision.template import TemplateMatch
from storage.links import Link
from storage.tables import Relation
from storage.vector_rows import PDQ_SPACE

PDQ_BITS = 256
_PDQ_CANDIDATE = 96
"""Bits: four standard deviations (8 each) from the 128 of unrelated pictures."""
NEAR = 12
"""Hits for each vector of a query, where nobody asks for more: eight candidates are verified in the end."""
_RANK = {Relation.EXACT: 0, Relation.COPY: 1, Relation.SEMANTIC: 2}
_METHODS = {
    "pdq": "pdq",
    "whole": "descriptor",
    "region": "descriptor",
    "shape": "shape",
    "inliers": "geometry",
    "coverage": "geometry",
    "tightness": "geometry",
    "template": "template",
}
_SETTLED = 20
"""Inliers from which a candidate is certain."""
_PROMISING = 0.15
"""Score of a template match from which local features are compared too; chosen by hand, not measured."""


def candidates_query(
    model: ModelSpec, found: Look, *, exclude: int | None, k: int = NEAR, members: int | None = None
) -> Query:
    """What to ask the vector readers about a looked-at picture.

    Args:
        exclude: id of the picture itself where it is stored.
        k: hits at most for each vector.
        members: see ``Query``.
    """
    limits = model.thresholds
    vectors: dict[str, Any] = {model.descriptor_name: found.vectors[model.descriptor_name]}
    min_scores = {model.descriptor_name: limits.candidate_score}
    if model.shape is not None:
        vectors[model.shape.name] = found.shapes
        min_scores[model.shape.name] = limits.candidate_shape
    if model.semantic is not None and found.semantic is not None and limits.semantic_score is not None:
        vectors[model.semantic.name] = found.semantic
        min_scores[model.semantic.name] = limits.semantic_score
    if found.pdq_quality >= limits.pdq_min_quality:
        vectors[PDQ_SPACE.name] = found.pdq
        # The index scores bit strings by 1 - 2 × distance / bits.
        min_scores[PDQ_SPACE.name] = 1.0 - 2.0 * max(_PDQ_CANDIDATE, limits.pdq_distance) / PDQ_BITS
    return Query(vectors, min_scores, exclude, k, members)


@dataclass
class Candidate:
    """A stored picture and the best hit of each kind on it."""

    image_id: int
    pdq: Hit | None = None
    whole: Hit | None = None
    region: Hit | None = None
    shape: Hit | None = None
    semantic: Hit | None = None
    alignment: Alignment | None = field(default=None, compare=False)
    template: TemplateMatch | None = field(default=None, compare=False)
    aligned: bool = False

    @property
    def pdq_distance(self) -> float:
        """Bits; that of unrelated pictures where PDQ found nothing."""
        return PDQ_RANDOM if self.pdq is None else round((1.0 - self.pdq.score) * PDQ_BITS / 2)

    @property
    def scores(self) -> Scores:
        """What the stages said."""

        def of(hit: Hit | None) -> float:
            return 0.0 if hit is None else min(1.0, hit.score)

        near = Scores(self.pdq_distance, of(self.whole), of(self.region), of(self.shape))
        if self.template is not None:
            near = replace(near, template=self.template.score)
        fit = self.alignment
        return replace(near, inliers=fit.inliers, coverage=fit.coverage, residual=fit.residual) if fit else near


def gather(model: ModelSpec, found: Look, hits: Iterable[Hit]) -> list[Candidate]:
    """Hits by stored picture, the most promising first."""
    by_image: dict[int, Candidate] = {}
    for hit in hits:
        one = by_image.setdefault(hit.image_id, Candidate(hit.image_id))
        for kind in _kinds(model, found, hit):
            held: Hit | None = getattr(one, kind)
            if held is None or hit.score > held.score:
                setattr(one, kind, hit)
    return sorted(by_image.values(), key=lambda one: (-confidence(one.scores, model.fusion), one.image_id))


def _kinds(model: ModelSpec, found: Look, hit: Hit) -> tuple[str, ...]:
    if hit.space == PDQ_SPACE.name:
        return ("pdq",)
    if model.shape is not None and hit.space == model.shape.name:
        return ("shape",)
    if model.semantic is not None and hit.space == model.semantic.name:
        return ("semantic",)
    view = found.views[hit.query_row]
    whole = hit.region == 0 and view.box == (0.0, 0.0, 1.0, 1.0)
    return ("whole", "region") if whole else ("region",)


def shortlist(model: ModelSpec, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates worth a look at their local features: those that PDQ has not settled.

    Half of them are the best by confidence, the others the best by the descriptor of views and regions: where a part of
    a picture was used, the whole of it looks like others.

    Args:
        candidates: the most promising first, as ``gather`` gives them.
    """
    open_ones = [one for one in candidates if one.pdq_distance > model.thresholds.pdq_distance]
    best = open_ones[: (model.verified + 1) // 2]
    parts = sorted(open_ones[len(best) :], key=lambda one: -one.scores.region)
    return best + parts[: model.verified - len(best)]


def unclear(model: ModelSpec, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates whose contours are worth a comparison: none where PDQ or local features have settled one.

    Drawings and restyled pictures have no local features in common with their originals, so the best by confidence,
    by shape and by the descriptor of parts take turns.
    """
    if any(settled(model, one) for one in candidates):
        return []
    orders: list[list[Candidate]] = [
        sorted(candidates, key=lambda one: -confidence(one.scores, model.fusion)),
        sorted(candidates, key=lambda one: -one.scores.shape),
        sorted(candidates, key=lambda one: -one.scores.region),
    ]
    chosen: dict[int, Candidate] = {}
    for turn in zip(*orders, strict=True):
        for one in turn:
            if len(chosen) < model.matched:
                chosen.setdefault(one.image_id, one)
    return list(chosen.values())


def settled(model: ModelSpec, one: Candidate) -> bool:
    """Whether PDQ or local features leave no doubt."""
    fit = one.alignment
    return one.pdq_distance <= model.thresholds.pdq_distance or (fit is not None and fit.inliers >= _SETTLED)


def promising(model: ModelSpec, matched: Sequence[Candidate]) -> list[Candidate]:
    """Those whose contours fit well and whose local features have not been compared yet, the best first."""
    fitting = [one for one in matched if one.template is not None and one.template.score >= _PROMISING]
    return sorted((one for one in fitting if not one.aligned), key=lambda one: -one.scores.template)[: model.verified]


def decide(
    model: ModelSpec,
    found: Look,
    candidates: Sequence[Candidate],
    twins: Sequence[int],
    *,
    versions: Mapping[str, int],
    query_id: int | None = None,
) -> list[Link]:
    """Turns candidates into links: at most one for each image, with the surest relation.

    Two confidences decide. That of ``copy_fusion`` was fitted on look-alikes too: from its threshold on, and where PDQ
    is within its distance, a candidate is a ``copy``. That of ``fusion`` says whether they show the same picture or
    subject at all: from its threshold on, other candidates are ``semantic``, as they are where a configured semantic
    descriptor says so.

    Args:
        found: the picture asked about.
        candidates: verified as far as they are going to be.
        twins: stored pictures with the same bytes.
        versions: of the vector tables that were searched; kept as evidence.
        query_id: id of the picture asked about, None if it is not stored.
    Returns:
        Links, best first: relation, then score, then id; all but the exact ones are the descriptor's.
    """
    sha256, same = {"sha256": found.sha256.hex()}, set(twins)
    links = [Link(other, Relation.EXACT, "sha256", 1.0, 1.0, sha256) for other in twins]
    me = str(query_id) if query_id is not None else "query"
    limits = model.thresholds
    for one in candidates:
        if one.image_id in same:
            continue
        score, related = confidence(one.scores, model.copy_fusion), confidence(one.scores, model.fusion)
        if one.pdq_distance <= limits.pdq_distance > 0:
            # 1 for the same hash, down to the copy confidence at the limit.
            score = max(score, 1.0 - (1.0 - limits.copy_confidence) * one.pdq_distance / limits.pdq_distance)
        evidence = _evidence(model, found, one, me) | ({"index_versions": dict(versions)} if versions else {})
        evidence["confidence"] = {"copy": round(score, 4), "semantic": round(related, 4)}
        if score >= limits.copy_confidence:
            relation, threshold, method = Relation.COPY, limits.copy_confidence, _strongest(model, one)
        elif related >= limits.semantic_confidence:
            relation, threshold, method = Relation.SEMANTIC, limits.semantic_confidence, _strongest(model, one)
            score = related
        elif one.semantic is not None and limits.semantic_score is not None:
            relation, threshold, method = Relation.SEMANTIC, limits.semantic_score, "semantic"
            score = min(1.0, one.semantic.score)
        else:
            continue
        links.append(Link(one.image_id, relation, method, round(score, 5), threshold, evidence, model.descriptor_name))
    return sorted(links, key=lambda link: (_RANK[Relation(link.relation)], -link.score, link.image_id))


def _strongest(model: ModelSpec, one: Candidate) -> str:
    """The stage that added most to the confidence; PDQ where it is within its distance."""
    if one.pdq_distance <= model.thresholds.pdq_distance:
        return "pdq"
    parts = {name: getattr(model.fusion, name) * value for name, value in terms(one.scores).items()}
    return _METHODS[max(parts, key=lambda name: parts[name])]


def _evidence(model: ModelSpec, found: Look, one: Candidate, me: str) -> dict[str, Any]:
    evidence: dict[str, Any] = {}
    if one.pdq is not None:
        evidence["pdq"] = {
            "distance_bits": int(one.pdq_distance),
            "orientation": ORIENTATIONS[one.pdq.query_row],
            "quality": found.pdq_quality,
        }
    if one.region is not None:
        view = found.views[one.region.query_row]
        evidence["descriptor"] = {
            "name": model.descriptor_name,
            "score": round(one.region.score, 4),
            "view": view.name,
            "boxes": {me: _rounded(view.box), str(one.image_id): _rounded(one.region.box)},
        }
    if one.shape is not None and model.shape is not None:
        evidence["shape"] = {
            "name": model.shape.name,
            "score": round(one.shape.score, 4),
            "view": found.shape_views[one.shape.query_row].name,
            "boxes": {
                me: _rounded(found.shape_views[one.shape.query_row].box),
                str(one.image_id): _rounded(one.shape.box),
            },
        }
    if one.semantic is not None and model.semantic is not None:
        evidence["semantic"] = {"name": model.semantic.name, "score": round(one.semantic.score, 4)}
    if one.alignment is not None:
        fit = one.alignment
        evidence["geometry"] = {
            "inliers": fit.inliers,
            "coverage": round(fit.coverage, 3),
            "residual": round(fit.residual, 3),
            "matches": fit.matches,
            "mirrored": fit.mirrored,
            "overlap": {me: round(fit.query_overlap, 3), str(one.image_id): round(fit.stored_overlap, 3)},
            "transform": [[round(float(value), 5) for value in row] for row in fit.transform],
        }
    if one.template is not None:
        lies = one.template
        evidence["template"] = {
            "score": round(lies.score, 4),
            "correlation": round(lies.correlation, 4),
            "mirrored": lies.mirrored,
            "boxes": {me: _rounded(lies.query_box), str(one.image_id): _rounded(lies.stored_box)},
        }
    return evidence


def _rounded(box: Sequence[float]) -> list[float]:
    return [round(float(share), 4) for share in box]
