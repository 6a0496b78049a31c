"""The cascade: which evidence makes which relation, and what is kept of it."""

from dataclasses import replace

import numpy as np
import pytest

from configs.models import ModelSpec, load_models
from configs.settings import Settings
from deployments.pipeline.confidence import Scores, confidence, terms
from deployments.pipeline.look import Look
from deployments.pipeline.matching import Candidate, candidates_query, decide, gather, promising, shortlist, unclear
from deployments.similarity.queries import Hit
from deployments.vision.geometry import Alignment
from deployments.vision.template import TemplateMatch
from deployments.vision.views import View, views_of

WHOLE = (0.0, 0.0, 1.0, 1.0)
PART = (0.1, 0.2, 0.5, 0.6)
REGION = (0.2, 0.2, 0.8, 0.8)
DESCRIPTOR = (registry := load_models(Settings().models_file))[registry.default].descriptor_name


@pytest.fixture(scope="module")
def model() -> ModelSpec:
    registry = load_models(Settings().models_file)
    return registry[registry.default]


def seen(quality: int = 100) -> Look:
    views = views_of([REGION], None)
    views = sorted(views, key=lambda view: not view.stored)
    vectors = {DESCRIPTOR: np.eye(len(views), 256, dtype=np.float32)}
    shapes = [View("whole", WHOLE), View("part", PART), View("mirrored", WHOLE, stored=False)]
    return Look(
        b"\x01" * 32, np.zeros((8, 32), np.uint8), quality, [], None, views, vectors, shapes,
        np.eye(3, 128, dtype=np.float32), None, None, np.zeros((160, 160), np.uint8), None,
    )  # fmt: skip


def pdq(image: int, distance: int, row: int = 0) -> Hit:
    return Hit("pdq@1", image, row, 0, WHOLE, 1 - 2 * distance / 256)


def whole(model: ModelSpec, image: int, score: float, row: int = 0) -> Hit:
    return Hit(model.descriptor_name, image, row, 0, WHOLE, score)


def shape(model: ModelSpec, image: int, score: float, row: int = 0) -> Hit:
    assert model.shape is not None
    return Hit(model.shape.name, image, row, 0, WHOLE, score)


def fit(inliers: int) -> Alignment:
    return Alignment(inliers, 0.7, inliers + 5, np.eye(3), 0.9, 0.4, 0.7, 0.1, mirrored=True)


def test_what_is_asked_of_the_index(model: ModelSpec) -> None:
    assert model.shape is not None
    query = candidates_query(model, seen(), exclude=5)
    assert set(query.vectors) == {model.descriptor_name, model.shape.name, "pdq@1"} and query.exclude == 5
    assert query.min_scores[model.descriptor_name] == model.thresholds.candidate_score
    assert query.min_scores[model.shape.name] == model.thresholds.candidate_shape
    assert len(query.vectors[model.descriptor_name]) == len(seen().views)
    assert "pdq@1" not in candidates_query(model, seen(0), exclude=None).vectors, "a featureless picture has no PDQ"
    plain = model.model_copy(update={"shape": None})
    assert set(candidates_query(plain, seen(), exclude=None).vectors) == {model.descriptor_name, "pdq@1"}


def test_hits_become_candidates_the_best_of_each_kind(model: ModelSpec) -> None:
    turned = next(row for row, view in enumerate(seen().views) if view.turns)
    region = next(row for row, view in enumerate(seen().views) if view.name == "region")
    hits = [
        whole(model, 1, 0.6), whole(model, 1, 0.8, turned), Hit(model.descriptor_name, 1, region, 3, PART, 0.9),
        shape(model, 1, 0.5, 1), pdq(1, 60), pdq(1, 40, 5), whole(model, 2, 0.7),
    ]  # fmt: skip
    first, second = gather(model, seen(), hits)
    assert (first.image_id, second.image_id) == (1, 2)
    assert first.whole is not None and first.whole.query_row == turned
    assert first.region is not None and first.region.box == PART
    assert first.pdq_distance == 40 and first.scores.shape == 0.5
    assert second.pdq_distance == 128 and second.scores.inliers == 0


def test_a_hit_on_a_part_is_none_on_the_whole(model: ModelSpec) -> None:
    quarter = next(row for row, view in enumerate(seen().views) if view.name == "quarter")
    for hit in (Hit(model.descriptor_name, 1, 0, 2, PART, 0.9), whole(model, 1, 0.9, quarter)):
        (one,) = gather(model, seen(), [hit])
        assert one.whole is None and one.region == hit


def test_only_the_best_open_candidates_are_verified(model: ModelSpec) -> None:
    settled = pdq(99, model.thresholds.pdq_distance)
    hits = [settled, *(whole(model, image, 0.5 + image / 100) for image in range(1, 30))]
    chosen = shortlist(model, gather(model, seen(), hits))
    assert [one.image_id for one in chosen] == list(range(29, 29 - model.verified, -1))


def test_the_best_by_parts_are_verified_too(model: ModelSpec) -> None:
    part = [Hit(model.descriptor_name, 50, 0, 3, PART, 0.6)]
    shaped = [shape(model, image, 0.9) for image in range(1, 30)]
    chosen = shortlist(model, gather(model, seen(), shaped + part))
    assert len(chosen) == model.verified and chosen[model.verified // 2].image_id == 50
    assert [one.image_id for one in chosen[:3]] == [1, 2, 3]


def test_features_that_fit_tightly_make_a_copy(model: ModelSpec) -> None:
    near = Scores(whole=0.8, region=0.8, shape=0.5, inliers=60, coverage=0.4)
    tight, loose = replace(near, residual=0.1), replace(near, residual=0.6)
    assert terms(loose)["tightness"] == terms(near)["tightness"] == 0 < terms(tight)["tightness"]
    limit = model.thresholds.copy_confidence
    assert confidence(tight, model.copy_fusion) > limit > confidence(loose, model.copy_fusion)
    assert terms(replace(tight, inliers=3))["tightness"] == 0, "three points always fit"


def test_relations_by_confidence(model: ModelSpec) -> None:
    limits = model.thresholds
    candidates = gather(
        model, seen(),
        [pdq(1, limits.pdq_distance), whole(model, 2, 0.95), whole(model, 3, 0.99), shape(model, 3, 0.9),
         whole(model, 4, 0.46), pdq(3, 60)],
    )  # fmt: skip
    next(one for one in candidates if one.image_id == 2).alignment = fit(60)
    links = {link.image_id: link for link in decide(model, seen(), candidates, [7], versions={"pdq@1": 12}, query_id=9)}
    assert set(links) == {1, 2, 3, 7}
    assert (links[7].relation, links[7].method, links[7].score) == ("exact", "sha256", 1.0)
    assert links[1].relation == links[2].relation == links[3].relation == "copy"
    assert links[1].method == "pdq" and links[2].method == "geometry"
    assert all(link.threshold == limits.copy_confidence for image, link in links.items() if image != 7)
    assert all(link.score >= link.threshold for link in links.values())
    assert links[2].evidence["index_versions"] == {"pdq@1": 12}
    assert {image: link.descriptor for image, link in links.items()} == {
        1: model.descriptor_name, 2: model.descriptor_name, 3: model.descriptor_name, 7: "",
    }  # fmt: skip


def test_between_the_thresholds_it_is_semantic(model: ModelSpec) -> None:
    weak = gather(model, seen(), [whole(model, 1, 0.5)])
    (one,) = weak
    at_one = decide(model, seen(), weak, [], versions={})
    assert at_one == []
    low = model.thresholds.model_copy(update={"semantic_confidence": 0.0})
    (link,) = decide(model.model_copy(update={"thresholds": low}), seen(), weak, [], versions={})
    assert (link.relation, link.threshold) == ("semantic", 0.0) and link.score < low.copy_confidence
    assert one.alignment is None and "geometry" not in link.evidence


def test_a_semantic_descriptor_gives_semantic_matches(model: ModelSpec) -> None:
    spec = model.descriptor.model_copy(update={"name": "dino@1"})
    limits = model.thresholds.model_copy(update={"semantic_score": 0.6})
    wanting = model.model_copy(update={"semantic": spec, "thresholds": limits})
    found = seen()
    found = Look(**(vars(found) | {"semantic": np.eye(1, 256, dtype=np.float32)}))
    assert candidates_query(wanting, found, exclude=None).min_scores["dino@1"] == 0.6
    (link,) = decide(wanting, found, gather(wanting, found, [Hit("dino@1", 4, 0, 0, WHOLE, 0.71)]), [], versions={})
    assert (link.relation, link.method, link.score, link.threshold) == ("semantic", "semantic", 0.71, 0.6)
    assert link.evidence["semantic"] == {"name": "dino@1", "score": 0.71}
    nothing = [round(confidence(Scores(), fusion), 4) for fusion in (model.copy_fusion, model.fusion)]
    assert link.evidence["confidence"] == dict(zip(("copy", "semantic"), nothing, strict=True))


def test_evidence(model: ModelSpec) -> None:
    region = next(row for row, view in enumerate(seen().views) if view.name == "region")
    hits = [
        Hit(model.descriptor_name, 8, region, 1, PART, 1.00002), pdq(8, 20, 5), shape(model, 8, 0.7, 2),
    ]  # fmt: skip
    candidates = gather(model, seen(), hits)
    candidates[0].alignment = fit(33)
    candidates[0].template = TemplateMatch(0.61, 0.7, REGION, PART, mirrored=True)
    (link,) = decide(model, seen(), candidates, [], versions={})
    assert link.score <= 1.0
    assert link.evidence["pdq"] == {"distance_bits": 20, "orientation": "mirrored", "quality": 100}
    assert link.evidence["descriptor"]["boxes"] == {"query": list(REGION), "8": list(PART)}
    assert link.evidence["descriptor"]["view"] == "region"
    assert link.evidence["shape"]["view"] == "mirrored"
    assert link.evidence["shape"]["boxes"] == {"query": list(WHOLE), "8": list(WHOLE)}
    template = link.evidence["template"]
    assert (template["score"], template["correlation"], template["mirrored"]) == (0.61, 0.7, True)
    assert template["boxes"] == {"query": list(REGION), "8": list(PART)}
    geometry = link.evidence["geometry"]
    assert (geometry["inliers"], geometry["mirrored"], geometry["overlap"]) == (33, True, {"query": 0.9, "8": 0.4})
    assert "index_versions" not in link.evidence


def test_contours_are_compared_where_nothing_is_settled(model: ModelSpec) -> None:
    small = model.model_copy(update={"matched": 3, "verified": 2})
    hits = [whole(model, 1, 0.9), whole(model, 2, 0.8), shape(model, 3, 0.6), shape(model, 4, 0.5),
            Hit(model.descriptor_name, 5, 1, 1, PART, 0.95)]  # fmt: skip
    candidates = gather(small, seen(), hits)
    chosen = {one.image_id for one in unclear(small, candidates)}
    assert len(chosen) == 3 and 3 in chosen and 5 in chosen, "the best by shape and by parts are among them"
    assert unclear(small.model_copy(update={"matched": 0}), candidates) == []
    candidates[0].alignment = fit(19)
    assert unclear(small, candidates)
    candidates[0].alignment = fit(20)
    assert unclear(small, candidates) == []
    assert unclear(small, gather(small, seen(), [*hits, pdq(9, 31)])) == []
    assert unclear(small, []) == []


def test_local_features_follow_where_contours_fit(model: ModelSpec) -> None:
    def matched(number: int, score: float, aligned: bool = False) -> Candidate:
        return Candidate(number, template=TemplateMatch(score, score, WHOLE, WHOLE, False), aligned=aligned)

    some = [matched(1, 0.2), matched(2, 0.9, aligned=True), matched(3, 0.1), matched(4, 0.6), Candidate(5)]
    assert [one.image_id for one in promising(model, some)] == [4, 1]


def test_the_surest_first_and_equal_ones_by_id(model: ModelSpec) -> None:
    hits = [pdq(9, 3), pdq(4, 3), pdq(6, 1), whole(model, 12, 0.9)]
    links = decide(model, seen(), gather(model, seen(), hits), [12, 11], versions={})
    assert [link.image_id for link in links[:2]] == [11, 12] and links[0].relation == "exact"
    assert [link.image_id for link in links[2:]] == [6, 4, 9]
    assert decide(model, seen(), [], [], versions={}) == []


def test_views_are_stored_first(model: ModelSpec) -> None:
    views = seen().views
    assert seen().stored == 7 and all(view.stored for view in views[:7]) and not any(view.stored for view in views[7:])
    assert views[0] == View("whole", WHOLE)
