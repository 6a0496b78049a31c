"""Fits the weights with which the cascade makes one confidence of its stages: logistic regression on edited pictures.

    python -m tools.fit_fusion PICTURES [PICTURES ...] [--lookalikes FOLDER ...] [--per-edit 30] [--seed 5]

Candidates of edited queries, as the cascade gathers and verifies them, are the examples, and so are those of look-alikes:
pictures of the same kind that are no copies, each asked for among the others. ``fusion`` is fitted on edited queries,
``copy_fusion`` on the look-alikes too. Half of the examples fit and the other half measures, then all of them fit;
prints the weights for models.yaml, and for some confidences the precision and recall that they had and the look-alikes
that had a false match. The pictures must not show each other: a second shot among them counts as a mistake.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.accuracy.dataset import make_dataset, read_pictures
from benchmarks.accuracy.metrics import Prediction, measure
from benchmarks.local import LocalCascade
from configs.models import Fusion, load_models
from configs.settings import Settings
from deployments.pipeline.confidence import Scores, terms
from deployments.pipeline.look import Look
from storage.errors import SafeGuardError

NAMES = [name for name in Fusion.model_fields if name != "bias"]
REGULARISATION = 1e-5
LEVELS = (0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def fit(examples: NDArray[np.float64], right: NDArray[np.float64]) -> dict[str, float]:
    """Weights that make examples probable; those of evidence cannot fall below 0.

    Args:
        examples: [n, terms] as ``deployments.pipeline.confidence.terms`` gives them.
        right: [n], 1 for a true pair.
    """
    scale = examples.std(axis=0) + 1e-6
    values, labels = torch.from_numpy(examples / scale), torch.from_numpy(right)
    roots = torch.full((examples.shape[1],), 0.5, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([roots, bias], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits = values @ roots**2 + bias
        total = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        total = total + REGULARISATION * (roots**4).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)
    weights = (roots.detach() ** 2).numpy() / scale
    return {"bias": float(bias.detach()), **{name: float(weight) for name, weight in zip(NAMES, weights, strict=True)}}


def logits(examples: NDArray[np.float64], weights: dict[str, float]) -> NDArray[np.float64]:
    """Of examples under some weights."""
    return np.asarray(examples @ np.asarray([weights[name] for name in NAMES]) + weights["bias"])


def main() -> None:
    """Looks, gathers, fits and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--lookalikes", type=Path, nargs="*", default=[])
    parser.add_argument("--per-edit", type=int, default=30)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--model", default="safeguard-v1")
    options = parser.parse_args()
    settings = Settings()
    cascade = LocalCascade(load_models(settings.models_file)[options.model], settings)
    pictures = [one for folder in options.pictures for one in read_pictures(folder)[0]]
    alike = [one for folder in options.lookalikes for one in read_pictures(folder)[0]]
    data = make_dataset(pictures, alike, seed=options.seed, per_edit=options.per_edit)
    first_alike = len(data.stored) - len(alike) + sum(name in data.repeats for name, _ in alike)
    looks: list[Look | SafeGuardError] = []
    for start in track(range(0, len(data.stored), 8), "stored pictures"):
        looks += cascade.look([one.data for one in data.stored[start : start + 8]])
    cascade.add([(number, one) for number, one in enumerate(looks) if isinstance(one, Look)])
    rows: list[tuple[int, int, Scores]] = []
    truth: dict[int, int] = {}
    number = 0
    for number, query in enumerate(track(data.queries(), "queries", total=data.query_count)):
        (found,) = cascade.look([query.data])
        if query.stored is not None:
            truth[number] = query.stored
        if isinstance(found, Look):
            rows += [(number, one.image_id, one.scores) for one in cascade.candidates(found)]
    asked = number + 1
    for place in range(first_alike, len(data.stored)):
        found = looks[place]
        if isinstance(found, Look):
            near = cascade.candidates(found, exclude=place)
            rows += [(asked + place, one.image_id, one.scores) for one in near]
    examples = np.asarray([[terms(scores)[name] for name in NAMES] for _, _, scores in rows])
    right = np.asarray([float(truth.get(query) == stored) for query, stored, _ in rows])
    halves = np.asarray([truth.get(query, query) % 2 == 0 for query, _, _ in rows])
    edited = np.asarray([query < asked for query, _, _ in rows])
    console = Console(width=130)
    console.print(
        f"{len(truth)} queries with a match, {len(rows)} candidates; fitted on one half, measured on the other"
    )
    fitting = {"fusion": edited} | ({"copy_fusion": np.ones(len(rows), bool)} if alike else {})
    for name, used in fitting.items():
        judged = np.empty(len(rows))
        for half in (halves, ~halves):
            judged[~half] = logits(examples[~half], fit(examples[half & used], right[half & used]))
        scored = zip(rows, judged, edited, strict=True)
        known = [Prediction(query, stored, score) for (query, stored, _), score, one in scored if one]
        console.print(f"{name}: {measure(known, truth)}")
        sure = 1 / (1 + np.exp(-judged))
        for level in LEVELS:
            above = sure >= level
            alarmed = {query for (query, _, _), one in zip(rows, above & ~edited, strict=True) if one}
            console.print(
                f"confidence {level:.2f}: precision {right[above & edited].mean():.4f}, "
                f"recall {right[above & edited].sum() / len(truth):.4f}, "
                f"look-alikes with a false match {1000 * len(alarmed) / max(1, len(alike)):.1f} per 1,000"
            )
        print(f"    {name}:")
        for weight, value in fit(examples[used], right[used]).items():
            print(f"      {weight}: {value:.3f}")


if __name__ == "__main__":
    main()
