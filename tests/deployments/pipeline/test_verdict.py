"""The verdict follows the limits; what nobody judged is for a person."""

import pytest

from configs.models import Thresholds
from deployments.pipeline.verdict import Verdict, decide
from storage.tables import ContentScore

LIMITS = Thresholds(
    pdq_distance=31,
    pdq_min_quality=50,
    candidate_score=0.4,
    candidate_shape=0.2,
    copy_confidence=0.8,
    semantic_confidence=0.3,
    unsafe_review=0.5,
    unsafe_block=0.9,
)


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ([0.1], "allow"),
        ([0.4999], "allow"),
        ([0.5], "review"),
        ([0.89, 0.1], "review"),
        ([0.1, 0.9], "block"),
        ([], "review"),
    ],
)
def test_limits(scores: list[float], verdict: str) -> None:
    found, reason = decide([ContentScore(image_id=1, model=f"m@{n}", score=s) for n, s in enumerate(scores)], LIMITS)
    assert found == Verdict(verdict) and reason
