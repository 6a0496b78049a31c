"""Which parts and turns of a picture are described: those of a stored picture, and the further ones of a query.

A stored picture is described as a whole, in five overlapping parts and in the regions that the detector found. A query
is described in the same ones (a part of it may be a whole stored picture), and also turned, in its four quarters (a
collage), and without its margins (a border, a meme, a screenshot). Knows nothing of Ray.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from deployments.vision.interfaces import prepare_square

BoxShares = tuple[float, float, float, float]
"""x0, y0, x1, y1 as shares of width and height."""


@dataclass(frozen=True)
class View:
    """A part of a picture, turned.

    Args:
        name: as evidence shows it.
        box: the part.
        turns: quarter turns counter-clockwise.
        stored: whether stored pictures have it; the others are for queries only.
    """

    name: str
    box: BoxShares
    turns: int = 0
    stored: bool = True


WHOLE = View("whole", (0.0, 0.0, 1.0, 1.0))
_PART = 0.6
_PARTS = tuple(
    View("part", (x, y, x + _PART, y + _PART)) for x, y in ((0.0, 0.0), (0.4, 0.0), (0.0, 0.4), (0.4, 0.4), (0.2, 0.2))
)
_TURNED = tuple(View(f"turned {90 * turns}°", WHOLE.box, turns, stored=False) for turns in (1, 2, 3))
_QUARTERS = tuple(View("quarter", (x, y, x + 0.5, y + 0.5), stored=False) for x in (0.0, 0.5) for y in (0.0, 0.5))


def views_of(regions: Sequence[BoxShares], inner: BoxShares | None) -> list[View]:
    """The views of one picture, those that are stored first.

    Args:
        regions: boxes of the detector that are worth a descriptor.
        inner: what is left without margins.
    """
    views = [WHOLE, *_PARTS, *(View("region", box) for box in regions), *_TURNED, *_QUARTERS]
    return views + ([View("without margins", inner, stored=False)] if inner else [])


_Number = TypeVar("_Number", bound=np.generic)


def cut(pixels: NDArray[_Number], box: BoxShares) -> NDArray[_Number]:
    """The part of [h, w, channels] inside a box; one pixel at least."""
    height, width = pixels.shape[:2]
    x0, y0 = min(int(box[0] * width), width - 1), min(int(box[1] * height), height - 1)
    return pixels[y0 : max(y0 + 1, round(box[3] * height)), x0 : max(x0 + 1, round(box[2] * width))]


def frames_of(pixels: NDArray[np.uint8], views: Sequence[View], side: int) -> Iterator[NDArray[np.uint8]]:
    """Each view of uint8[h, w, 3] as uint8[side, side, 3]."""
    for view in views:
        frame = prepare_square(cut(pixels, view.box), side)
        yield np.ascontiguousarray(np.rot90(frame, view.turns)) if view.turns else frame
