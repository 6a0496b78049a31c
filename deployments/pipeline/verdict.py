"""Whether a picture may stay, from what the content filter said. Pure; knows nothing of Ray."""

from collections.abc import Sequence
from enum import StrEnum

from configs.models import Thresholds
from storage.tables import ContentScore


class Verdict(StrEnum):
    """May stay, a person should look, must not stay."""

    ALLOW = "allow"
    REVIEW = "review"
    BLOCK = "block"


def decide(scores: Sequence[ContentScore], limits: Thresholds) -> tuple[Verdict, str]:
    """The verdict on one processed picture.

    Args:
        scores: of the content filters; none if only an outside worker processed the picture.
        limits: ``unsafe_review`` and ``unsafe_block`` of the model.
    Returns:
        The verdict and its reason. What no filter has seen is for a person to look at.
    """
    if not scores:
        return Verdict.REVIEW, "no content filter has seen this image"
    worst = max(scores, key=lambda one: one.score)
    said = f"{worst.model} gave {worst.score:.3f}"
    if worst.score >= limits.unsafe_block:
        return Verdict.BLOCK, f"unsafe content: {said}, the limit is {limits.unsafe_block}"
    if worst.score >= limits.unsafe_review:
        return Verdict.REVIEW, f"possibly unsafe content: {said}, review begins at {limits.unsafe_review}"
    return Verdict.ALLOW, f"{said}, below {limits.unsafe_review}"
