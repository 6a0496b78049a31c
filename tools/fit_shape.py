"""Fits the projection of the shape descriptor: a whitening PCA of its grids, on the pictures of a training run.

    python -m tools.fit_shape SOURCE [SOURCE ...] --out FOLDER --target models/shape-2.npz [--count 6000]

Sources and FOLDER are those of ``tools.descriptor.train``: FOLDER keeps the decoded pictures. Prints the SHA-256 for
models.yaml.
"""

import argparse
import hashlib
from pathlib import Path

import cv2
import numpy as np

from deployments.vision.gradients import gradient_layers, grey_square
from deployments.vision.shape import stored_grids
from tools.descriptor.pictures import gather

DIM = 128


def main() -> None:
    """Fits and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--count", type=int, default=6000)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    pictures = gather(options.sources, options.out / "pictures")
    if len(pictures) < 2 * DIM:
        raise SystemExit(f"{len(pictures)} pictures are too few for {DIM} directions: {2 * DIM} at least")
    chosen = np.random.default_rng(0).choice(len(pictures), min(options.count, len(pictures)), replace=False)
    # The whole and one part of each, in turns: both are projected.
    looked = [stored_grids(gradient_layers(grey_square(pictures[int(number)])))[1] for number in chosen]
    grids = np.stack([one.reshape(-1) for turn, own in enumerate(looked) for one in (own[0], own[1 + turn % 9])])
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
