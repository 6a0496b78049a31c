"""One confidence out of what each stage of the cascade says of a pair of pictures. Pure; knows nothing of Ray."""

import math
from dataclasses import dataclass

from configs.models import Fusion

PDQ_RANDOM, PDQ_SPAN = 128.0, 97.0
"""Hamming distance of unrelated pictures, and from there to the recommended limit of 31."""
DESCRIPTOR_FLOOR, SHAPE_FLOOR = 0.5, 0.3
"""Scores that say nothing: the best strangers of a query reach them, and the index gives no more than the best."""
INLIERS_BY_CHANCE = 3.0
RESIDUAL_SPAN = 0.5
"""Pixels: half the edited copies with 12 inliers lie within 0.13, a tenth of the look-alikes within 0.43."""


@dataclass(frozen=True)
class Scores:
    """What the stages found; what was not found or not tried stays at its default.

    Args:
        pdq_distance: least Hamming distance of 256 bits over the orientations.
        whole: best descriptor score of the whole query, upright or turned, and the whole stored picture.
        region: best descriptor score of any two views.
        shape: best score of the shape descriptor.
        inliers: local features that agree on one transform.
        coverage: share of the features in the common area that do.
        residual: median distance in pixels of those from where the transform puts them.
        template: how well the contours of the query, at some size, fit somewhere in the stored picture.
    """

    pdq_distance: float = PDQ_RANDOM
    whole: float = 0.0
    region: float = 0.0
    shape: float = 0.0
    inliers: int = 0
    coverage: float = 0.0
    residual: float = math.inf
    template: float = 0.0


def terms(scores: Scores) -> dict[str, float]:
    """What the weights of ``Fusion`` are multiplied with, by name."""
    coverage = scores.coverage if scores.inliers > INLIERS_BY_CHANCE else 0.0
    return {
        "pdq": min(1.0, max(0.0, (PDQ_RANDOM - scores.pdq_distance) / PDQ_SPAN)),
        "whole": max(0.0, scores.whole - DESCRIPTOR_FLOOR),
        "region": max(0.0, scores.region - DESCRIPTOR_FLOOR, scores.whole - DESCRIPTOR_FLOOR),
        "shape": max(0.0, scores.shape - SHAPE_FLOOR),
        "inliers": math.log1p(max(0.0, scores.inliers - INLIERS_BY_CHANCE)),
        "coverage": coverage,
        "tightness": coverage * max(0.0, 1.0 - scores.residual / RESIDUAL_SPAN),
        "template": scores.template,
    }


def confidence(scores: Scores, fusion: Fusion) -> float:
    """How likely two pictures are copies, 0 to 1, among candidates as the fit saw them (see ``tools/fit_fusion.py``)."""
    logit = fusion.bias + sum(getattr(fusion, name) * value for name, value in terms(scores).items())
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))
