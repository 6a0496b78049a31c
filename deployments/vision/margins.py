"""Margins of one colour around a picture: borders, letter boxes, the bars of memes. Knows nothing of Ray."""

import cv2
import numpy as np
from numpy.typing import NDArray

_WORK = 160
_TOLERANCE = 20
_MOST = 0.45


def _depth(lines: NDArray[np.int16]) -> int:
    """How many lines from the first on are a margin; int16[n, length, 3].

    A margin has one colour; writing may cover part of a line, so a line counts when more than half of it has that
    colour, and a margin may hold a few lines that do not.
    """
    colour = np.median(lines[0], axis=0)
    alike = (np.abs(lines[: int(len(lines) * _MOST)] - colour).max(axis=2) <= _TOLERANCE).mean(axis=1)
    good = alike > 0.55
    if not len(good) or alike[0] < 0.8:
        return 0
    enough = np.cumsum(good) / np.arange(1, len(good) + 1) >= 0.7
    places = np.flatnonzero(good & enough & (np.cumsum(alike) / np.arange(1, len(good) + 1) > 0.75))
    return int(places[-1]) + 1 if len(places) else 0


def inner_box(pixels: NDArray[np.uint8]) -> tuple[float, float, float, float] | None:
    """What is left of a picture without its margins.

    Args:
        pixels: uint8[h, w, 3] RGB.
    Returns:
        x0, y0, x1, y1 as shares of width and height; None where there is no margin worth stripping, or nothing inside.
    """
    small = cv2.resize(pixels, (_WORK, _WORK), interpolation=cv2.INTER_AREA).astype(np.int16)
    top, bottom = _depth(small), _depth(small[::-1])
    rows = small[top : _WORK - bottom]
    if len(rows) < _WORK // 5:
        return None
    across = rows.transpose(1, 0, 2)
    left, right = _depth(across), _depth(across[::-1])
    if max(top, bottom, left, right) < 3 or _WORK - left - right < _WORK // 5:
        return None
    # One line more on each side that has a margin: resizing mixes the colours at its edge.
    x0, x1 = (left + (left > 0)) / _WORK, 1 - (right + (right > 0)) / _WORK
    y0, y1 = (top + (top > 0)) / _WORK, 1 - (bottom + (bottom > 0)) / _WORK
    return x0, y0, x1, y1
