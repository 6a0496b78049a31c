"""The measures of copy detection. Pure; shapes and definitions as in DISC21.

Source: Douze et al., "The 2021 Image Similarity Dataset and Challenge", 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """A system says that a query is a copy of a stored picture, with a score that only has to rank."""

    query: int
    stored: int
    score: float


@dataclass(frozen=True)
class Measures:
    """All between 0 and 1.

    Args:
        average_precision: µAP, the area under precision and recall over all predictions of all queries together.
        recall_at_1: share of queries with a match whose best prediction is right.
        recall_p90, recall_p99: largest recall at a threshold where precision is at least .90, .99.
    """

    average_precision: float
    recall_at_1: float
    recall_p90: float
    recall_p99: float


def found_first(predictions: Sequence[Prediction], truth: dict[int, int]) -> dict[int, bool]:
    """For each query with a match whether its best prediction is right; of equal ones the first counts."""
    best: dict[int, Prediction] = {}
    for one in predictions:
        if one.query in truth and (one.query not in best or one.score > best[one.query].score):
            best[one.query] = one
    return {query: query in best and best[query].stored == right for query, right in truth.items()}


def measure(predictions: Sequence[Prediction], truth: dict[int, int]) -> Measures:
    """The measures of all predictions together.

    Args:
        predictions: of all queries, those without a match too.
        truth: for each query that has a match, the stored picture; one each.
    Raises:
        ValueError: no query has a match.
    """
    if not truth:
        raise ValueError("no query has a match: there is nothing to measure")
    first = found_first(predictions, truth)
    recall_at_1 = sum(first.values()) / len(truth)
    if not predictions:
        return Measures(0.0, recall_at_1, 0.0, 0.0)
    scores = np.asarray([one.score for one in predictions])
    right = np.asarray([truth.get(one.query) == one.stored for one in predictions])
    # Within a score the wrong ones come first: a tie must not flatter.
    order = np.lexsort((right, -scores))
    right = right[order]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    recall = np.cumsum(right) / len(truth)

    def at(least: float) -> float:
        return float(recall[precision >= least].max(initial=0.0))

    average = float((precision * right).sum() / len(truth))
    return Measures(average, recall_at_1, at(0.90), at(0.99))
