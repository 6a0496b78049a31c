"""What verification compares of a picture, kept beside it: local features and the field of its contours. Knows nothing of Ray."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deployments.vision.gradients import gradient_layers, grey_square
from deployments.vision.local_features import LocalFeatures, local_features
from deployments.vision.template import FIELD_BYTES, GradientField, gradient_field


@dataclass(frozen=True)
class Details:
    """Both, of one picture."""

    points: LocalFeatures
    contours: GradientField

    def to_bytes(self) -> bytes:
        """The contours, 9,600 bytes, then the local features: about 62 KB."""
        return self.contours.to_bytes() + self.points.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Details":
        """What ``to_bytes`` wrote.

        Raises:
            ValueError: cut short, damaged, or of another version.
        """
        points = LocalFeatures.from_bytes(data[FIELD_BYTES:])
        return cls(points, GradientField.from_bytes(data[:FIELD_BYTES]))


def details_of(pixels: NDArray[np.uint8], layers: NDArray[np.float32] | None = None) -> Details:
    """Extracts both. Blocking; ``benchmarks.stages`` prints the time.

    Args:
        pixels: uint8[h, w, 3] RGB.
        layers: its ``gradient_layers`` where they are known.
    """
    if layers is None:
        layers = gradient_layers(grey_square(pixels))
    return Details(local_features(pixels), gradient_field(layers))
