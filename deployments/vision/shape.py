"""The shape descriptor: the coarse layout of a picture's contours, whatever its colours, texture and style.

A relative of GIST (Oliva & Torralba 2001; Douze et al. 2009 for copies): the directions of gradients on a grid of 8 × 8,
smoothed so that a part cut out elsewhere still resembles it, projected to 128 numbers by a whitening PCA. Stored
pictures are described as a whole and in nine overlapping parts: it finds edge maps, sketches, paintings and restyled
pictures, also cropped ones, where networks that look at texture fail. Knows nothing of Ray.
"""

from collections.abc import Sequence
from zipfile import BadZipFile

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.models import ShapeSpec
from deployments.vision.gradients import DIRECTIONS, gradient_layers, grey_square, mirrored, resized, turned
from deployments.vision.views import WHOLE, BoxShares, View, cut
from deployments.vision.weights import checked_file
from storage.errors import ConfigurationError

GRID = 8
_CELLS, _SMOOTH = 40, 3.75
"""The layers are averaged to 40 × 40 and smoothed by that many of these cells before they become 8 × 8."""
_PART = 0.7
_PARTS = tuple(View("part", (x, y, x + _PART, y + _PART)) for y in (0.0, 0.15, 0.3) for x in (0.0, 0.15, 0.3))


def grid_of(layers: NDArray[np.float32]) -> NDArray[np.float32]:
    """The grid of a picture or of a part of it.

    Args:
        layers: float32[h, w, 6] as ``gradient_layers`` gives them.
    Returns:
        float32[8, 8, 6] of length 1, or zeros for a picture of one colour.
    """
    cells = cv2.GaussianBlur(resized(layers, _CELLS), (0, 0), _SMOOTH, borderType=cv2.BORDER_REFLECT)
    step = _CELLS // GRID
    grid = cells.reshape(GRID, step, GRID, step, DIRECTIONS).mean(axis=(1, 3))
    centred = grid - grid.mean(axis=(0, 1))
    length = float(np.linalg.norm(centred))
    return np.asarray(centred / length if length > 1e-6 else np.zeros_like(centred), np.float32)


def stored_grids(layers: NDArray[np.float32]) -> tuple[list[View], list[NDArray[np.float32]]]:
    """Views and grids of what is stored of a picture: the whole, then its parts."""
    views = [WHOLE, *_PARTS]
    return views, [grid_of(cut(layers, view.box)) for view in views]


class ShapeDescriptor:
    """Projects grids of gradients to descriptors.

    Args:
        spec: file, checksum and width.
    Raises:
        ConfigurationError: the file is missing, damaged, or of another shape.
    """

    def __init__(self, spec: ShapeSpec) -> None:
        self.dim = spec.dim
        path = checked_file(spec.file, spec.sha256, spec.name)
        try:
            with np.load(path, allow_pickle=False) as held:
                mean, weight = held["mean"].astype(np.float32), held["weight"].astype(np.float32)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ConfigurationError(f"{spec.name} cannot be loaded from {path}: not a shape projection") from error
        expected = (GRID * GRID * DIRECTIONS, spec.dim)
        if mean.shape != expected[:1] or weight.shape != expected:
            raise ConfigurationError(
                f"{spec.name}: {path} projects {list(weight.shape)}, models.yaml and the code say {list(expected)}"
            )
        self._mean, self._weight = mean, weight

    def project(self, grids: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """float32[n, dim] of grids float32[16, 16, 6]: of length 1, or 0 for a picture of one colour."""
        flat = np.stack([grid.reshape(-1) for grid in grids])
        vectors = (flat - self._mean) @ self._weight
        vectors[~flat.any(axis=1)] = 0
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)

    def describe(
        self, pixels: NDArray[np.uint8], layers: NDArray[np.float32], inner: BoxShares | None
    ) -> tuple[list[View], NDArray[np.float32]]:
        """Descriptors of a picture, of its parts, mirrored and turned, and of what is left without margins. Blocking.

        Args:
            pixels: uint8[h, w, 3] RGB.
            layers: its ``gradient_layers``.
            inner: the part without margins, as shares.
        Returns:
            Views, those that are stored first, and float32[views, dim].
        """
        views, grids = stored_grids(layers)

        def query_only(name: str, grid: NDArray[np.float32], box: BoxShares = WHOLE.box, turns: int = 0) -> None:
            views.append(View(name, box, turns, stored=False))
            grids.append(grid)

        query_only("mirrored", mirrored(grids[0]))
        for turns in (1, 2, 3):
            query_only(f"turned {90 * turns}°", turned(grids[0], turns), turns=turns)
        if inner is not None:
            part = grid_of(gradient_layers(grey_square(cut(pixels, inner))))
            query_only("without margins", part, inner)
            query_only("without margins, mirrored", mirrored(part), inner)
        return views, self.project(grids)
