"""Speed beside quality of the descriptor: each of its files, at several sides of the picture it is shown.

    python -m benchmarks.descriptors PHOTOS [--distractors FOLDER ...] [--per-edit 10] [--side 128 160 224]

The same queries as ``benchmarks.accuracy``, whole picture against whole picture by exact search. Pictures a second are
of one thread of the processor, in batches of 8, the best of three rounds in turns, so that all of them met the same load.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.accuracy.dataset import Dataset, make_dataset, read_pictures
from benchmarks.accuracy.metrics import Measures, Prediction, measure
from configs.models import DescriptorSpec, load_models
from configs.settings import Settings
from deployments.vision.decoding import decode
from deployments.vision.factory import build_descriptor
from deployments.vision.interfaces import Descriptor, prepare_square
from deployments.vision.weights import weights_file

BATCH, ROUNDS, KEPT = 8, 3, 10


def resized(file: Path, side: int, folder: Path) -> Path:
    """The same network for squares of another side: it has no weights that depend on it."""
    model = onnx.load(str(file))
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_value = side
    del model.graph.value_info[:]
    changed = folder / f"{side}-{file.name}"
    onnx.save(model, str(changed))
    return changed


def pixels_of(files: list[bytes], settings: Settings) -> list[NDArray[np.uint8]]:
    """uint8[h, w, 3] of each file, as the service decodes it."""
    return [decode(one, max_pixels=10**9, long_side=settings.decode_long_side).pixels for one in files]


def vectors_of(network: Descriptor, pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """float32[n, dim] of whole pictures."""
    frames = [prepare_square(one, network.input_size) for one in pictures]
    return np.concatenate(
        [network.forward(np.stack(frames[start : start + BATCH])) for start in range(0, len(frames), BATCH)]
    )


def quality(
    network: Descriptor,
    stored: list[NDArray[np.uint8]],
    queries: list[NDArray[np.uint8]],
    truth: dict[int, int],
) -> Measures:
    """Of exact search for queries among stored pictures."""
    scores = vectors_of(network, queries) @ vectors_of(network, stored).T
    said = [
        Prediction(number, int(place), float(row[place]))
        for number, row in enumerate(scores)
        for place in np.argsort(-row, kind="stable")[:KEPT]
    ]
    return measure(said, truth)


def pictures_per_second(networks: dict[str, Descriptor]) -> dict[str, float]:
    """Of one thread, the best of some rounds; the networks take turns."""
    best = dict.fromkeys(networks, 0.0)
    rng = np.random.default_rng(1)
    for _ in range(ROUNDS):
        for name, network in networks.items():
            side = network.input_size
            frames = rng.integers(0, 256, (BATCH, side, side, 3), np.uint8)
            network.forward(frames)
            began, count = time.process_time(), 0
            while time.process_time() - began < 1.0:
                network.forward(frames)
                count += BATCH
            best[name] = max(best[name], count / (time.process_time() - began))
    return best


def read_queries(data: Dataset, settings: Settings) -> tuple[list[NDArray[np.uint8]], dict[int, int]]:
    """Pixels of the queries, and the number of the stored picture of those that have one."""
    queries, truth = [], {}
    for number, query in enumerate(track(data.queries(), "queries", total=data.query_count)):
        queries += pixels_of([query.data], settings)
        if query.stored is not None:
            truth[number] = query.stored
    return queries, truth


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--distractors", type=Path, nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-edit", type=int, default=10)
    parser.add_argument("--side", type=int, nargs="+", default=[128, 160, 224])
    options = parser.parse_args()
    settings = Settings(model_threads=1)
    registry = load_models(settings.models_file)
    default = registry[registry.default].descriptor
    more = [one for folder in options.distractors for one in read_pictures(folder)[0]]
    data = make_dataset(read_pictures(options.photos)[0], more, seed=options.seed, per_edit=options.per_edit)
    stored = pixels_of([one.data for one in data.stored], settings)
    queries, truth = read_queries(data, settings)
    shipped = weights_file(default)
    files = {"int8": shipped, "float16": shipped.with_name(shipped.name.replace("-int8", ""))}
    with tempfile.TemporaryDirectory() as folder:
        networks: dict[str, Descriptor] = {}
        for precision, file in files.items():
            for side in options.side:
                path = file if side == default.input_size else resized(file, side, Path(folder))
                changes = {"path": str(path), "sha256": None, "package": None, "input_size": side}
                spec: DescriptorSpec = default.model_copy(update=changes)
                mark = ", the default" if spec.input_size == default.input_size and file == shipped else ""
                networks[f"{default.name}, {precision}, {side} × {side}{mark}"] = build_descriptor(spec, settings)
        found = {
            name: quality(network, stored, queries, truth) for name, network in track(networks.items(), "descriptors")
        }
        speed = pictures_per_second(networks)
    table = Table("descriptor", title=f"{len(stored)} stored, {len(truth)} queries with a match")
    for column in ("µAP", "recall@1", "pictures/s, one thread"):
        table.add_column(column, justify="right")
    for name, one in found.items():
        table.add_row(name, f"{one.average_precision:.3f}", f"{one.recall_at_1:.3f}", f"{speed[name]:.0f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
