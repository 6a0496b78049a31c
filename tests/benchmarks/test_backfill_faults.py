"""Two runs of a job are held beside each other: what counts as a difference."""

import json
from typing import Any

import pytest

from benchmarks.backfill_faults import Outcome, differences

PAIR = frozenset({"s3://corpus/a.jpg", "s3://corpus/b.jpg"})
EVIDENCE = {"pdq": {"distance_bits": 22}, "shape": {"score": 1.0, "boxes": {"s3://corpus/a.jpg": [0.0, 0.0, 1.0, 1.0]}}}


def outcome(score: float = 0.99855, method: str = "pdq", *, similar: float = 1.0, **shape: Any) -> Outcome:
    evidence = {**EVIDENCE, "shape": {**EVIDENCE["shape"], "score": similar, **shape}}
    return Outcome({"links": {PAIR: ("copy", method, score, 0.98, json.dumps(evidence))}})


@pytest.mark.parametrize(
    "other",
    [
        outcome(),
        outcome(similar=0.9999),
        outcome(boxes={"s3://corpus/a.jpg": [0.0, 0.0, 0.9999, 1.0]}),
    ],
)
def test_the_last_digit_of_a_number_is_no_difference(other: Outcome) -> None:
    assert differences(outcome(), other) == []


@pytest.mark.parametrize(
    "other",
    [
        outcome(score=0.99854), outcome(method="descriptor"), outcome(similar=0.999), outcome(boxes={}),
        outcome(boxes={"s3://corpus/a.jpg": [0.0, 0.0, 1.0]}), outcome(view="part"), Outcome({"links": {}}),
    ],
)  # fmt: skip
def test_everything_else_is(other: Outcome) -> None:
    assert differences(outcome(), other)
