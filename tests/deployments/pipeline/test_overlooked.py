"""Which members of banks get a look of their own after copies of the picture came first."""

import pytest

from configs.models import ModelSpec
from deployments.pipeline.matching import Candidate
from deployments.pipeline.overlooked import is_copy, overlooked
from tests.deployments.pipeline.test_matching import fit, pdq, whole


@pytest.fixture
def model(shipped: ModelSpec) -> ModelSpec:
    return shipped


def copy(model: ModelSpec, image: int) -> Candidate:
    """Local features have settled it."""
    one = Candidate(image, whole=whole(model, image, 0.9), region=whole(model, image, 0.9), alignment=fit(80))
    one.aligned = True
    assert is_copy(model, one)
    return one


def stranger(model: ModelSpec, image: int, *, aligned: bool = False) -> Candidate:
    one = Candidate(image, whole=whole(model, image, 0.5), region=whole(model, image, 0.5))
    one.aligned = aligned
    assert not is_copy(model, one)
    return one


def ids(found: list[Candidate]) -> list[int]:
    return [one.image_id for one in found]


def test_a_hash_alone_makes_a_copy(model: ModelSpec) -> None:
    limit = model.thresholds.pdq_distance
    assert is_copy(model, Candidate(1, pdq=pdq(1, limit))) and not is_copy(model, Candidate(1, pdq=pdq(1, limit + 30)))


def test_without_copies_nobody_was_in_the_way(model: ModelSpec) -> None:
    candidates = [stranger(model, 1, aligned=True), stranger(model, 2), stranger(model, 3)]
    assert overlooked(model, candidates, {1, 2, 3}, set()) == []


def test_members_that_a_copy_is_known_to_match_come_first_and_all_of_them(model: ModelSpec) -> None:
    candidates = [copy(model, 1), *(stranger(model, number, aligned=number == 4) for number in range(2, 9))]
    assert ids(overlooked(model, candidates, {2, 3, 4, 8}, {4, 8})) == [4, 8, 2], "one other for the one copy"
    assert ids(overlooked(model, candidates, {2, 3, 4, 8}, {5})) == [2]


def test_as_many_others_as_copies_took_places(model: ModelSpec) -> None:
    near = Candidate(3, pdq=pdq(3, 0))  # took none: PDQ had settled it
    candidates = [copy(model, 1), copy(model, 2), near, *(stranger(model, number) for number in range(4, 9))]
    assert ids(overlooked(model, candidates, {1, 2, 3, 5, 6, 7}, set())) == [5, 6]
