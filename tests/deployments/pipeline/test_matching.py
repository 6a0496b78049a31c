"""The cascade: which evidence makes which relation, and what is kept of it."""

import numpy as np
import pytest

from configs.models import ModelSpec, load_models
from configs.settings import Settings
from deployments.pipeline.look import Look
from deployments.pipeline.matching import candidates_query, match
from deployments.similarity.reader import Hit

WHOLE = (0.0, 0.0, 1.0, 1.0)
PART = (0.1, 0.2, 0.5, 0.6)


@pytest.fixture(scope="module")
def model() -> ModelSpec:
    registry = load_models(Settings().models_file)
    return registry[registry.default]


def seen(quality: int = 100) -> Look:
    regions = np.asarray([WHOLE, (0.2, 0.2, 0.8, 0.8)], np.float32)
    return Look(b"\x01" * 32, np.zeros((8, 32), np.uint8), quality, [], None, regions, np.eye(2, 8, dtype=np.float32))


def pdq(image: int, distance: int, row: int = 0) -> Hit:
    return Hit("pdq@1", image, row, 0, WHOLE, 1 - 2 * distance / 256)


def test_thresholds_decide(model: ModelSpec) -> None:
    limits, name = model.thresholds, model.descriptor_name
    hits = [
        pdq(1, limits.pdq_distance, row=5),
        pdq(2, limits.pdq_distance + 1),
        Hit(name, 3, 0, 0, WHOLE, limits.copy_score + 0.001),
        Hit(name, 4, 0, 0, WHOLE, limits.copy_score - 0.001),
        Hit(name, 5, 1, 2, PART, limits.region_copy_score + 0.001),
        Hit(name, 6, 1, 2, PART, limits.region_copy_score - 0.001),
    ]
    links = {
        link.image_id: link for link in match(model, seen(), hits, [7], versions={"pdq@1": 12, name: 34}, query_id=99)
    }
    assert set(links) == {1, 3, 5, 7}
    assert (links[7].relation, links[7].method, links[7].score) == ("exact", "sha256", 1.0)
    assert links[1].evidence["orientation"] == "mirrored" and links[1].evidence["distance_bits"] == limits.pdq_distance
    assert links[1].evidence["index_version"] == 12 and links[3].evidence["index_version"] == 34
    assert links[3].evidence["view"] == "whole" and links[5].evidence["view"] == "region"
    assert links[5].evidence["boxes"] == {"99": [0.2, 0.2, 0.8, 0.8], "5": [0.1, 0.2, 0.5, 0.6]}
    assert all(link.score >= link.threshold for link in links.values())


def test_one_link_a_picture_the_surest_first(model: ModelSpec) -> None:
    hits = [
        Hit(model.descriptor_name, 1, 0, 0, WHOLE, 0.99), pdq(1, 4),
        Hit(model.descriptor_name, 2, 0, 0, WHOLE, 0.95), pdq(3, 0),
    ]  # fmt: skip
    links = match(model, seen(), hits, [2], versions={})
    assert [link.image_id for link in links] == [2, 3, 1]
    assert links[0].relation == "exact" and links[0].evidence["also"] == {"descriptor": 0.95}
    assert links[2].method == "descriptor" or links[2].evidence["also"]


def test_a_featureless_picture_is_not_asked_for_by_pdq(model: ModelSpec) -> None:
    assert set(candidates_query(model, seen(0), exclude=None).vectors) == {model.descriptor_name}
    query = candidates_query(model, seen(), exclude=5)
    assert set(query.vectors) == {model.descriptor_name, "pdq@1"} and query.exclude == 5
    assert query.min_scores["pdq@1"] == 1 - 2 * model.thresholds.pdq_distance / 256


def test_between_the_thresholds_it_is_semantic_where_that_is_wanted(model: ModelSpec) -> None:
    limits = model.thresholds
    wanting = model.model_copy(update={"thresholds": limits.model_copy(update={"semantic_score": 0.6})})
    name = model.descriptor_name
    hits = [
        Hit(name, 1, 0, 0, WHOLE, 0.7),
        Hit(name, 2, 1, 1, PART, limits.copy_score + 0.01),  # enough for whole pictures, not for regions
        Hit(name, 3, 0, 0, WHOLE, 0.59),
        Hit(name, 4, 0, 0, WHOLE, 0.9),
    ]
    links = match(wanting, seen(), hits, [], versions={})
    assert [(link.image_id, link.relation) for link in links] == [(4, "copy"), (2, "semantic"), (1, "semantic")]
    assert [link.threshold for link in links] == [limits.copy_score, 0.6, 0.6]
    assert [link.image_id for link in match(model, seen(), hits, [], versions={})] == [4]
    assert candidates_query(wanting, seen(), exclude=None).min_scores[name] == 0.6
    assert candidates_query(model, seen(), exclude=None).min_scores[name] == limits.copy_score


@pytest.mark.parametrize(("row", "region"), [(0, 1), (1, 0), (1, 1)])
def test_a_region_on_either_side_needs_the_higher_threshold(model: ModelSpec, row: int, region: int) -> None:
    limits, name = model.thresholds, model.descriptor_name
    below = (limits.copy_score + limits.region_copy_score) / 2
    assert match(model, seen(), [Hit(name, 1, row, region, PART, below)], [], versions={}) == []
    (link,) = match(model, seen(), [Hit(name, 1, row, region, PART, limits.region_copy_score)], [], versions={})
    assert (link.threshold, link.evidence["view"]) == (limits.region_copy_score, "region")
    assert "index_version" not in link.evidence


def test_evidence_of_a_picture_that_is_not_stored(model: ModelSpec) -> None:
    hits = [Hit(model.descriptor_name, 8, 1, 1, PART, 1.00002), Hit(model.descriptor_name, 8, 0, 0, WHOLE, 0.93)]
    (link,) = match(model, seen(), hits, [], versions={})
    assert link.score == 1.0, "rounding may not lift a score above 1"
    assert link.evidence["boxes"] == {"query": [0.2, 0.2, 0.8, 0.8], "8": list(PART)}
    assert "also" not in link.evidence, "the same method twice is one piece of evidence"


def test_equal_scores_are_ordered_by_id(model: ModelSpec) -> None:
    links = match(model, seen(), [pdq(9, 3), pdq(4, 3), pdq(6, 1)], [12, 11], versions={})
    assert [link.image_id for link in links] == [11, 12, 6, 4, 9]
    assert match(model, seen(), [], [], versions={}) == []


def test_the_best_of_several_hits_counts(model: ModelSpec) -> None:
    (link,) = match(model, seen(), [pdq(1, 20, row=2), pdq(1, 5, row=5), pdq(1, 31)], [], versions={})
    assert link.evidence["distance_bits"] == 5 and link.score == pytest.approx(1 - 5 / 256, abs=1e-5)
