"""Members of banks that were not looked at closely because their own copies came first. Pure; knows nothing of Ray."""

from collections.abc import Sequence, Set

from configs.models import ModelSpec
from deployments.pipeline.confidence import confidence
from deployments.pipeline.matching import Candidate


def is_copy(model: ModelSpec, one: Candidate) -> bool:
    """Whether ``matching.decide`` takes a candidate for a copy, as far as it has been verified."""
    limits = model.thresholds
    return (
        one.pdq_distance <= limits.pdq_distance
        or confidence(one.scores, model.copy_fusion) >= limits.copy_confidence
    )  # fmt: skip


def overlooked(
    model: ModelSpec, candidates: Sequence[Candidate], members: Set[int], linked: Set[int]
) -> list[Candidate]:
    """The members among verified candidates that deserve a look of their own.

    Those that a copy of the picture is known to match: a copy that settles all ends the search before them. And as many
    others as there were places taken by copies.

    Args:
        candidates: the most promising first.
        members: images that are members of banks.
        linked: those of them that are linked to a copy of the picture.
    """
    still_open = [one for one in candidates if one.image_id in members and not is_copy(model, one)]
    known = [one for one in still_open if one.image_id in linked]
    taken = sum(one.aligned and is_copy(model, one) for one in candidates)
    others = [one for one in still_open if one.image_id not in linked and not one.aligned]
    return known + others[:taken]
