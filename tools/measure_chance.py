"""Measures what correlations strangers reach in template matching, for each size of a template.

    python -m tools.measure_chance PHOTOS [--pairs 20000]

Prints the values that 99 of 100 pairs of different pictures stay below: ``CHANCE`` of deployments/vision/template.py.
The folder must hold no two pictures of the same thing.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from tqdm import trange

from benchmarks.accuracy.dataset import read_pictures
from deployments.vision.gradients import gradient_layers, grey_square
from deployments.vision.template import SIZES, Templates, correlations, gradient_field

SHARE = 0.99


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pairs", type=int, default=20000)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    greys = [grey_square(np.asarray(picture)) for _, picture in read_pictures(options.photos)[0]]
    if len(greys) < 20:
        raise SystemExit(f"{len(greys)} pictures are too few: 20 at least")
    fields = [gradient_field(gradient_layers(grey)) for grey in greys]
    rng = np.random.default_rng(1)
    reached: dict[int, list[float]] = {size: [] for size in SIZES}
    each = max(1, options.pairs // len(greys))
    for query in trange(len(greys), unit="picture"):
        templates = Templates(greys[query], None)
        for stored in rng.choice([one for one in range(len(greys)) if one != query], min(each, len(greys) - 1), False):
            for template, (value, _, _) in correlations(templates, fields[int(stored)]):
                reached[template.size].append(value)
    print("CHANCE = (" + ", ".join(f"{np.quantile(values, SHARE):.3f}" for values in reached.values()) + ")")


if __name__ == "__main__":
    main()
