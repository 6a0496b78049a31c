"""Fits the projection of the shape descriptor: a whitening PCA of oriented gradients, on the pictures of a training run.

    python -m tools.fit_shape FOLDER models/shape-1.npz [--count 6000]

FOLDER is the one that ``tools.descriptor.train`` keeps its decoded pictures in. Prints the SHA-256 for models.yaml.
"""

import argparse
import hashlib
from pathlib import Path

import cv2
import numpy as np

from deployments.vision.shape import oriented_gradients
from tools.descriptor.pictures import Pictures

DIM = 256


def main() -> None:
    """Fits and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--count", type=int, default=6000)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    pictures = Pictures(options.folder / "pictures")
    if len(pictures) < 2 * DIM:
        raise SystemExit(f"{len(pictures)} pictures are too few for {DIM} directions: {2 * DIM} at least")
    chosen = np.random.default_rng(0).choice(len(pictures), min(options.count, len(pictures)), replace=False)
    grids = np.stack([oriented_gradients(pictures[int(number)]).reshape(-1) for number in chosen])
    mean = grids.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov((grids - mean).T))
    weight = directions[:, ::-1][:, :DIM] / np.sqrt(variances[::-1][:DIM])
    # float16 holds at most 65,504: the projection is brought to a scale of 1, only its direction counts.
    weight /= np.abs(weight).max()
    np.savez(options.target, mean=mean.astype(np.float16), weight=weight.astype(np.float16))
    digest = hashlib.sha256(options.target.read_bytes()).hexdigest()
    print(f"{options.target}: {options.target.stat().st_size / 2**20:.2f} MiB from {len(chosen)} pictures")
    print(f"sha256: {digest}")


if __name__ == "__main__":
    main()
