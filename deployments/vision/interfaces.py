"""What every network looks like from outside: prepare (CPU), forward (device), finish (CPU). Knows nothing of Ray."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Box:
    """One person or object; corners in pixels of the picture as displayed, score 0 to 1."""

    label: str
    score: float
    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1."""
        return (self.x0, self.y0, self.x1, self.y1)


class Descriptor(Protocol):
    """Describes pictures by vectors whose dot product says how alike they are."""

    input_size: int
    dim: int

    def forward(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32[n, dim] of length 1 from uint8[n, s, s, 3] RGB frames."""


class Detector(Protocol):
    """Finds people and objects."""

    input_size: int

    def forward(self, frames: NDArray[np.uint8]) -> Any:
        """What the network says about uint8[n, s, s, 3] RGB frames, for ``finish``."""

    def finish(self, raw: Any, sizes: list[tuple[int, int]]) -> list[list[Box]]:
        """Boxes of each picture, surest first; sizes are (width, height) in pixels as displayed."""


class ContentFilter(Protocol):
    """Says how unsafe pictures are."""

    input_size: int

    def forward(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32[n], 0 to 1, from uint8[n, s, s, 3] RGB frames."""


@runtime_checkable
class Releasable(Protocol):
    """A network that keeps memory for larger batches."""

    def release(self) -> None:
        """Frees it; the next large batch takes it again. Takes a fraction of a second; calls under way end as they would."""


def prepare_square(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The whole picture as a square; its proportions are given up, nothing is cut.

    Args:
        pixels: uint8[h, w, 3].
        side: pixels.
    Returns:
        uint8[side, side, 3].
    """
    shrinks = pixels.shape[0] > side and pixels.shape[1] > side
    return np.asarray(
        cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8
    )


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32[n, dim] with every row brought to length 1.

    Raises:
        ValueError: a row is not finite or has length 0: the network is broken.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or np.any(lengths < 1e-12):
        raise ValueError("the network gave a descriptor that is not finite or has no length")
    return np.asarray(vectors / lengths, np.float32)
