"""What each stage of the cascade brings and costs: µAP, recall and milliseconds with it and without it.

    python -m benchmarks.stages PHOTOS [--distractors FOLDER ...] [--seed 1] [--per-edit 12]

The same queries as ``benchmarks.accuracy``, in this process, with the fusion of models.yaml. A stage that is left out
brings no candidates and adds nothing to the confidence. The milliseconds are of one thread, on the pictures asked for.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.accuracy.dataset import make_dataset, read_pictures
from benchmarks.accuracy.metrics import Prediction, measure
from benchmarks.local import LocalCascade
from configs.models import ModelSpec, load_models
from configs.settings import Settings
from deployments.pipeline.confidence import confidence
from deployments.pipeline.look import Look
from deployments.pipeline.verification import best_alignment
from deployments.similarity.queries import Hit
from deployments.vision.decoding import decode
from deployments.vision.details import Details, details_of
from deployments.vision.factory import build_descriptor, build_detector
from deployments.vision.gradients import gradient_layers, grey_square
from deployments.vision.interfaces import prepare_square
from deployments.vision.local_features import local_features
from deployments.vision.margins import inner_box
from deployments.vision.pdq import pdq_hashes
from deployments.vision.shape import ShapeDescriptor
from deployments.vision.template import Templates, match_template
from deployments.vision.views import WHOLE, View, frames_of, views_of
from storage.vector_rows import PDQ_SPACE


@dataclass(frozen=True)
class Variant:
    """A cascade with some stages left out."""

    name: str
    keeps: Callable[[ModelSpec, Look, Hit], bool]
    changes: dict[str, int] = field(default_factory=dict)


def _pdq(_model: ModelSpec, _look: Look, hit: Hit) -> bool:
    return hit.space == PDQ_SPACE.name


def _shape(model: ModelSpec, _look: Look, hit: Hit) -> bool:
    return model.shape is not None and hit.space == model.shape.name


def _whole(model: ModelSpec, _look: Look, hit: Hit) -> bool:
    return hit.space == model.descriptor_name and hit.query_row == 0 and hit.region == 0


def _detected(model: ModelSpec, look: Look, hit: Hit) -> bool:
    """Hits that need a region of the detector, on either side: stored rows behind the whole and the five parts."""
    if hit.space != model.descriptor_name:
        return False
    return hit.region > 5 or look.views[hit.query_row].name == "region"


def _part(model: ModelSpec, _look: Look, hit: Hit) -> bool:
    return hit.space == model.descriptor_name and hit.region > 0


def _shape_part(model: ModelSpec, look: Look, hit: Hit) -> bool:
    return _shape(model, look, hit) and (hit.region > 0 or look.shape_views[hit.query_row].name == "part")


def _all(_model: ModelSpec, _look: Look, _hit: Hit) -> bool:
    return True


UNVERIFIED = {"verified": 0, "matched": 0}
VARIANTS = [
    Variant("all stages", _all),
    Variant("without PDQ", lambda *given: not _pdq(*given)),
    Variant("without the descriptor", lambda *given: _pdq(*given) or _shape(*given)),
    Variant("without views and regions", lambda *given: _pdq(*given) or _shape(*given) or _whole(*given)),
    Variant("without detected regions", lambda *given: not _detected(*given)),
    Variant("without parts of stored pictures", lambda *given: not _part(*given)),
    Variant("without shape", lambda *given: not _shape(*given)),
    Variant("without parts of the shape", lambda *given: not _shape_part(*given)),
    Variant("without local features", _all, {"verified": 0}),
    Variant("without templates", _all, {"matched": 0}),
    Variant("without either", _all, UNVERIFIED),
    Variant("PDQ alone", _pdq, UNVERIFIED),
    Variant("descriptor, whole, alone", _whole, UNVERIFIED),
    Variant("shape alone", _shape, UNVERIFIED),
]


def milliseconds(model: ModelSpec, settings: Settings, files: list[bytes]) -> dict[str, float]:
    """CPU milliseconds of one thread a picture, of each part of looking at a query."""
    cv2.setNumThreads(1)
    descriptor = build_descriptor(model.descriptor, settings)
    detector = build_detector(model.detector, settings)
    shape = ShapeDescriptor(model.shape) if model.shape else None
    pictures = [decode(data, max_pixels=10**9, long_side=settings.decode_long_side).pixels for data in files]
    side = model.descriptor.input_size
    regions = [(0.1, 0.1, 0.5, 0.5)] * model.max_regions

    def clock(work: Callable[[int], object]) -> float:
        work(0)
        began = time.process_time()
        for number in range(len(files)):
            work(number)
        return 1000 * (time.process_time() - began) / len(files)

    def frames(number: int, views: list[View]) -> NDArray[np.uint8]:
        return np.stack(list(frames_of(pictures[number], views, side)))

    def shapes(number: int) -> object:
        picture = pictures[number]
        layers = gradient_layers(grey_square(picture))
        return shape.describe(picture, layers, inner_box(picture)) if shape else None

    def strangers(number: int, count: int) -> list[Details]:
        return [details[(number + 1 + place) % len(details)] for place in range(count)]

    def templates(number: int) -> None:
        made = Templates(grey_square(pictures[number]), inner_box(pictures[number]))
        for stranger in strangers(number, model.matched):
            match_template(made, stranger.contours)

    details = [details_of(picture) for picture in pictures]
    times = {
        "decode": clock(lambda n: decode(files[n], max_pixels=10**9, long_side=settings.decode_long_side)),
        "PDQ, 8 orientations": clock(lambda n: pdq_hashes(pictures[n])),
        "descriptor, whole": clock(lambda n: descriptor.forward(frames(n, [WHOLE]))),
        f"descriptor, all {len(views_of(regions, None))} views": clock(
            lambda n: descriptor.forward(frames(n, views_of(regions, None)))
        ),
        "detector": clock(lambda n: detector.forward(prepare_square(pictures[n], model.detector.input_size)[None])),
        "shape, all views": clock(shapes),
        "local features": clock(lambda n: local_features(pictures[n])),
        f"geometry of {model.verified} strangers": clock(
            lambda n: [best_alignment(details[n].points, one.points) for one in strangers(n, model.verified)]
        ),
        f"templates in {model.matched} strangers": clock(templates),
    }
    return times


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--distractors", type=Path, nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-edit", type=int, default=12)
    options = parser.parse_args()
    settings = Settings()
    registry = load_models(settings.models_file)
    model = registry[registry.default]
    cascade = LocalCascade(model, settings)
    more = [one for folder in options.distractors for one in read_pictures(folder)[0]]
    data = make_dataset(read_pictures(options.photos)[0], more, seed=options.seed, per_edit=options.per_edit)
    for start in track(range(0, len(data.stored), 8), "stored pictures"):
        looks = cascade.look([one.data for one in data.stored[start : start + 8]])
        cascade.add([(start + place, one) for place, one in enumerate(looks) if isinstance(one, Look)])
    truth: dict[int, int] = {}
    predictions: dict[str, list[Prediction]] = {variant.name: [] for variant in VARIANTS}
    files: list[bytes] = []
    for number, query in enumerate(track(data.queries(), "queries", total=data.query_count)):
        if query.stored is not None:
            truth[number] = query.stored
        files.append(query.data)
        (look,) = cascade.look([query.data])
        if not isinstance(look, Look):
            continue
        hits = cascade.hits(look)
        for variant in VARIANTS:
            kept = [hit for hit in hits if variant.keeps(model, look, hit)]
            for one in cascade.judged(look, kept, model.model_copy(update=variant.changes)):
                score = confidence(one.scores, model.fusion)
                predictions[variant.name].append(Prediction(number, one.image_id, score))
    console = Console(width=110)
    table = Table(
        "cascade",
        title=f"{len(data.stored)} stored, {len(truth)} queries with a match, {len(files) - len(truth)} without",
    )
    for column in ("µAP", "recall@1", "recall at P90", "at P99"):
        table.add_column(column, justify="right")
    for name, said in predictions.items():
        found = measure(said, truth)
        values = (found.average_precision, found.recall_at_1, found.recall_p90, found.recall_p99)
        table.add_row(name, *(f"{value:.3f}" for value in values))
    console.print(table)
    times = Table("part", "ms a picture, one thread")
    for name, value in milliseconds(model, settings, files[:: max(1, len(files) // 60)]).items():
        times.add_row(name, f"{value:.1f}")
    console.print(times)


if __name__ == "__main__":
    main()
