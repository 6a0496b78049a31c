"""Template matching of contours: does one picture lie somewhere in another, at some size, whatever their styles?

Local features fail on drawings and restyled pictures: their surroundings have changed. The layout of contours has not.
The query's gradient layers, at eleven sizes, upright and mirrored, are slid over those of a stored picture; the best
normalised cross-correlation counts, by how far it lies above what strangers reach. Knows nothing of Ray.

Source: normalised cross-correlation by Fourier transform and running sums, Lewis, "Fast Normalized Cross-Correlation",
1995; on oriented gradients as in LINE (Hinterstoisser et al. 2012).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from deployments.vision.gradients import DIRECTIONS, WORK, gradient_layers, mirrored, resized
from deployments.vision.views import WHOLE, BoxShares, cut

CELLS = 40
"""Side of a field."""
SIZES = (40, 37, 34, 32, 29, 27, 25, 23, 21, 19, 18)
"""Sides of the templates in cells, each about 8 % smaller: from the whole stored picture to a fifth of its area."""
_INNER_SIZES = SIZES[:3]
CHANCE = (0.178, 0.216, 0.245, 0.266, 0.293, 0.316, 0.337, 0.362, 0.385, 0.418, 0.436)
"""For each size the correlation that 99 of 100 unrelated pairs stay below: ``python -m tools.measure_chance PHOTOS``."""
_PIXELS = WORK // CELLS
_CALM = 0.1
"""Share of the mean energy below which a part of a field is too calm to compare."""


@dataclass(frozen=True)
class GradientField:
    """The contours of a stored picture, small enough to keep beside it.

    Args:
        cells: uint8[40, 40, 6], scaled so that the strongest is 255.
    """

    cells: NDArray[np.uint8]

    def to_bytes(self) -> bytes:
        """9,600 bytes."""
        return self.cells.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "GradientField":
        """What ``to_bytes`` wrote.

        Raises:
            ValueError: another length.
        """
        if len(data) != FIELD_BYTES:
            raise ValueError(f"{len(data)} bytes are not a gradient field of {FIELD_BYTES}: cut short")
        return cls(np.frombuffer(data, np.uint8).reshape(CELLS, CELLS, DIRECTIONS))


FIELD_BYTES = CELLS * CELLS * DIRECTIONS


def gradient_field(layers: NDArray[np.float32]) -> GradientField:
    """The field of a picture's ``gradient_layers``."""
    cells = resized(layers, CELLS)
    return GradientField(np.round(cells * (255 / max(float(cells.max()), 1e-6))).astype(np.uint8))


@dataclass(frozen=True)
class TemplateMatch:
    """Where a query lies in a stored picture.

    Args:
        score: 0 where strangers are as much alike, 1 where the contours are the same.
        correlation: the normalised cross-correlation, -1 to 1.
        query_box, stored_box: the part of the query and where it lies in the stored picture, as shares.
        mirrored: the query matched as its mirror image.
    """

    score: float
    correlation: float
    query_box: BoxShares
    stored_box: BoxShares
    mirrored: bool


@dataclass(frozen=True)
class Template:
    """A query, or the part of it without margins, in one size, as its conjugate spectrum; zero mean and length 1."""

    size: int
    chance: float
    box: BoxShares
    mirrored: bool
    spectrum: NDArray[np.complex64]


@dataclass(frozen=True)
class Templates:
    """A query in all its sizes; made when it is first needed.

    Args:
        grey: uint8[160, 160] of the whole query.
        inner: the part without margins, as shares.
    """

    grey: NDArray[np.uint8]
    inner: BoxShares | None

    @cached_property
    def made(self) -> list[Template]:
        """Blocking. Holds 1 MB. Pictures of one colour have none."""
        return list(self._make())

    def _make(self) -> Iterator[Template]:
        parts = [(WHOLE.box, SIZES)] + ([(self.inner, _INNER_SIZES)] if self.inner else [])
        for box, sizes in parts:
            part = cut(self.grey, box)
            for size, chance in zip(sizes, CHANCE, strict=False):
                # At the resolution that this part of the stored picture has: the same contours are seen in both.
                side = size * _PIXELS
                grey = np.asarray(cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
                upright = resized(gradient_layers(grey), size)
                for flipped in (False, True):
                    cells = mirrored(upright) if flipped else upright
                    centred = cells - cells.mean(axis=(0, 1))
                    length = float(np.linalg.norm(centred))
                    if length > 1e-3:
                        yield Template(size, chance, box, flipped, np.conj(_spectrum(centred / length)))


def _spectrum(cells: NDArray[np.float32]) -> NDArray[np.complex64]:
    """complex64[6, 40, 21] of float32[n, n, 6]; no padding: inside the field a template never wraps around."""
    return np.asarray(scipy.fft.rfft2(cells.transpose(2, 0, 1).astype(np.float32), (CELLS, CELLS)), np.complex64)


def _sums(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """[41 - size, 41 - size, channels]: sums over every window, of running sums [41, 41, channels]."""
    return values[size:, size:] - values[:-size, size:] - values[size:, :-size] + values[:-size, :-size]


def _running(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.pad(values, ((1, 0), (1, 0), (0, 0))).cumsum(axis=0).cumsum(axis=1)


def correlations(query: Templates, stored: GradientField) -> Iterator[tuple[Template, tuple[float, int, int]]]:
    """For each template its highest normalised cross-correlation with a part of the field, and the row and column of it."""
    if not stored.cells.any():
        return
    cells = stored.cells.astype(np.float64)
    spectrum = _spectrum(stored.cells.astype(np.float32))
    first, second = _running(cells), _running((cells**2).sum(axis=2, keepdims=True))
    # Energy of the whole field about its means, for each cell: what calm windows are compared with.
    usual = (second[-1, -1, 0] - (first[-1, -1] ** 2).sum() / CELLS**2) / CELLS**2
    lengths: dict[int, NDArray[np.float64]] = {}
    products = [(one.spectrum * spectrum).sum(axis=0) for one in query.made]
    planes = scipy.fft.irfft2(np.stack(products), (CELLS, CELLS)) if products else ()
    for one, plane in zip(query.made, planes, strict=True):
        size, places = one.size, CELLS + 1 - one.size
        if size not in lengths:
            energy = _sums(second, size)[:, :, 0] - (_sums(first, size) ** 2).sum(axis=2) / size**2
            lengths[size] = np.sqrt(np.maximum(energy, max(_CALM * usual * size**2, 1e-6)))
        values = plane[:places, :places] / lengths[size]
        row, column = divmod(int(values.argmax()), places)
        yield one, (float(values[row, column]), row, column)


def match_template(query: Templates, stored: GradientField) -> TemplateMatch | None:
    """The best place of a query in a stored picture. Blocking; the first of a query costs more than the others.

    Returns:
        The match with the highest score, None where no size of the query lies closer than strangers do.
    """
    best: TemplateMatch | None = None
    for one, (correlation, row, column) in correlations(query, stored):
        score = (correlation - one.chance) / (1.0 - one.chance)
        if score > (best.score if best else 0.0):
            x, y, side = column / CELLS, row / CELLS, one.size / CELLS
            box = (x, y, min(1.0, x + side), min(1.0, y + side))
            best = TemplateMatch(min(1.0, score), correlation, one.box, box, one.mirrored)
    return best
