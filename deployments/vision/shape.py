"""The shape descriptor: where in a picture contours run and in which direction, whatever its colours, texture and style.

A relative of GIST (Oliva & Torralba 2001; Douze et al. 2009 for copies) and HOG (Dalal & Triggs 2005): gradient
magnitudes, normalised by their neighbourhood, in six directions without their sign, on a grid of 16 × 16; projected to
256 numbers by a whitening PCA. It tells edge maps, sketches, paintings and restyled pictures from others where networks
that look at texture fail; it does not tell crops or turns, which are the other descriptor's. Knows nothing of Ray.
"""

from collections.abc import Sequence
from zipfile import BadZipFile

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.models import ShapeSpec
from deployments.vision.views import BoxShares, cut
from deployments.vision.weights import checked_file
from storage.errors import ConfigurationError

WORK, GRID, DIRECTIONS = 160, 16, 6
_FINE, _COARSE, _NEIGHBOURHOOD, _FLOOR = 1.2, 3.0, 10.0, 6.0


def oriented_gradients(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The grid of gradients of a picture.

    Args:
        pixels: uint8[h, w, 3] RGB.
    Returns:
        float32[16, 16, 6] of length 1, or zeros for a picture of one colour.
    """
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (WORK, WORK), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), _FINE)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    strength = cv2.magnitude(across, down)
    strength /= cv2.GaussianBlur(strength, (0, 0), _NEIGHBOURHOOD) + _FLOOR
    # Cosine and sine of twice the angle: directions have no sign.
    square = across * across + down * down + np.float32(1e-12)
    cosine, sine = (across * across - down * down) / square, 2 * across * down / square
    layers = np.empty((WORK, WORK, DIRECTIONS), np.float32)
    for direction, angle in enumerate(2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS):
        facing = np.maximum(0, cosine * np.float32(np.cos(angle)) + sine * np.float32(np.sin(angle)))
        layers[:, :, direction] = facing * facing * strength
    grid = cv2.resize(cv2.GaussianBlur(layers, (0, 0), _COARSE), (GRID, GRID), interpolation=cv2.INTER_AREA)
    centred = grid - grid.mean(axis=(0, 1))
    length = float(np.linalg.norm(centred))
    return np.asarray(centred / length if length > 1e-6 else np.zeros_like(centred), np.float32)


def mirrored(grid: NDArray[np.float32]) -> NDArray[np.float32]:
    """The grid of the mirror image: places change sides, every direction turns the other way round."""
    return grid[:, ::-1, -np.arange(DIRECTIONS) % DIRECTIONS]


def turned(grid: NDArray[np.float32], turns: int) -> NDArray[np.float32]:
    """The grid of the picture after quarter turns counter-clockwise; directions repeat after half a turn."""
    rotated = np.rot90(grid, turns)
    return np.roll(rotated, turns % 2 * DIRECTIONS // 2, axis=2)


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

    def query(self, pixels: NDArray[np.uint8], inner: BoxShares | None) -> tuple[list[str], NDArray[np.float32]]:
        """Descriptors of a picture as it is, mirrored and turned, and of what is left without margins. Blocking, 2 to 4 ms.

        Args:
            pixels: uint8[h, w, 3] RGB.
            inner: the part without margins, as shares.
        Returns:
            Names of the views, and float32[views, dim]; the first is upright.
        """
        grid = oriented_gradients(pixels)
        names, grids = ["upright", "mirrored"], [grid, mirrored(grid)]
        for turns in (1, 2, 3):
            names.append(f"turned {90 * turns}°")
            grids.append(turned(grid, turns))
        if inner is not None:
            part = oriented_gradients(cut(pixels, inner))
            names += ["without margins", "without margins, mirrored"]
            grids += [part, mirrored(part)]
        return names, self.project(grids)
