"""Paints some training pictures in the texture of others by a neural network, once, before or during training.

    python -m tools.descriptor.paint FOLDER [--count 1500]

FOLDER is the one that ``tools.descriptor.train`` writes to; training uses what is painted when it is started (again).
An interrupted run goes on where it stopped.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.edits.neural import paint
from tools.descriptor.pictures import Pictures
from tools.descriptor.restyle import Picture

SIDE, STEPS = 144, 25


def painted(folder: Path) -> dict[int, list[Picture]]:
    """The renditions made so far, by the picture's number: uint8[h, w, 3] each."""
    found: defaultdict[int, list[Picture]] = defaultdict(list)
    for path in sorted((folder / "painted").glob("*.jpg")):
        read = cv2.imread(str(path))
        if read is not None:
            found[int(path.stem.split("_")[0])].append(np.asarray(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), np.uint8))
    return dict(found)


def main() -> None:
    """Paints until there are enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pictures = Pictures(options.folder / "pictures")
    target = options.folder / "painted"
    target.mkdir(exist_ok=True)
    rng = np.random.default_rng(11)
    for turn in tqdm(range(options.count), unit="picture"):
        content, style = (int(one) for one in rng.integers(0, len(pictures), 2))
        path = target / f"{content}_{turn}.jpg"
        if not path.exists():
            made = paint(Image.fromarray(pictures[content]), Image.fromarray(pictures[style]), side=SIDE, steps=STEPS)
            made.save(path, quality=85)


if __name__ == "__main__":
    main()
