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
