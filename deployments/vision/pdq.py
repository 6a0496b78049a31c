"""PDQ, the perceptual hash of 256 bits that trust-and-safety teams exchange, in eight orientations. Knows nothing of Ray."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ORIENTATIONS = (
    "upright",
    "rotated 90°",
    "rotated 180°",
    "rotated 270°",
    "mirrored top to bottom",
    "mirrored",
    "transposed",
    "antitransposed",
)
_LONG_SIDE = 512
"""The reference implementation shrinks to 512 pixels before hashing (ThreatExchange, pdq/README.md)."""
_SIDE, _KEPT = 64, 16
_LEAST_SIDE = 5
"""Pixels; the reference implementation gives all zeros, of quality 0, below (MIN_HASHABLE_DIM): nothing but rounding is there."""
_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)
_FREQUENCIES = np.arange(1, _KEPT + 1)
_BASIS = np.cos(np.pi / (2 * _SIDE) * np.outer(_FREQUENCIES, 2 * np.arange(_SIDE) + 1)).astype(np.float32)
"""The lowest frequencies of the cosine transform but the mean, float32[16, 64]; a factor changes no hash."""
_TURNS = (
    (False, False, False), (True, True, False), (False, True, True), (True, False, True),
    (False, True, False), (False, False, True), (True, False, False), (True, True, True),
)  # fmt: skip
"""What makes the coefficients of each orientation: whether they are transposed, and then those of odd frequencies change their
sign, down the rows and along the columns."""


def pdq_hashes(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """The hash of a picture as it is and in the seven other orientations.

    Args:
        pixels: uint8[h, w, 3] RGB.
    Returns:
        uint8[8, 32] in the order of ``ORIENTATIONS`` (the bytes of the usual hexadecimal form), and the quality, 0 to
        100: pictures below 50 have too little structure. Zeros and 0 where a side has under 5 pixels, or has so few when the
        longer one is brought to 512.
    Raises:
        ValueError: an array of another kind.
    Source:
        Davis and Rosen, "PDQ & TMK+PDQF", Facebook 2019; windows, places and rounding as in ThreatExchange's
        pdq/cpp/hashing/pdqhashing.cpp and pdq/cpp/downscaling/downscaling.cpp. The bits are those of that code but where two
        coefficients are equal up to rounding, as in pictures with a side of 5 to 15 pixels
        (tests/deployments/vision/test_pdq.py).
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"PDQ takes uint8[h, w, 3], got {pixels.dtype}{list(pixels.shape)}")
    share = _LONG_SIDE / max(pixels.shape[:2])
    if share < 1:
        size = max(1, round(pixels.shape[1] * share)), max(1, round(pixels.shape[0] * share))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    if min(pixels.shape[:2]) < _LEAST_SIDE:
        return np.zeros((len(_TURNS), _KEPT**2 // 8), np.uint8), 0
    small = _shrunk(pixels)
    steps = sum(int(np.abs(np.diff(small, axis=axis) * 100 / 255).astype(int).sum()) for axis in (0, 1))
    upright = _BASIS @ small @ _BASIS.T
    signs = np.where(_FREQUENCIES % 2, -1, 1).astype(np.float32)
    every = np.stack([
        (upright.T if transposed else upright) * (signs[:, None] if rows else 1) * (signs if columns else 1)
        for transposed, rows, columns in _TURNS
    ]).reshape(len(_TURNS), -1)  # fmt: skip
    middle = _KEPT**2 // 2 - 1
    medians = np.partition(every, middle)[:, middle, None]
    return np.packbits((every > medians)[:, ::-1], axis=1), min(100, steps // 90)


def _shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Luminance smoothed twice by boxes of half a 64th of each side, and taken at 64 × 64 places; float32[64, 64]."""
    luma = cv2.transform(pixels.astype(np.float32), _LUMA)
    for axis in (1, 0, 1, 0):
        luma = _smoothed(luma, axis)
    rows, columns = (((np.arange(_SIDE) + 0.5) * length / _SIDE).astype(int) for length in luma.shape)
    return np.asarray(luma[np.ix_(rows, columns)], np.float32)


def _smoothed(luma: Any, axis: int) -> Any:
    """The mean of a window along one axis, of which only what lies in the picture counts."""
    length = luma.shape[axis]
    window = (length + 2 * _SIDE - 1) // (2 * _SIDE)
    before = window - (window + 2) // 2
    at = np.arange(length)
    counts = (np.minimum(at + window - before, length) - np.maximum(at - before, 0)).astype(np.float32)
    size, anchor = ((window, 1), (before, 0)) if axis else ((1, window), (0, before))
    sums = cv2.boxFilter(luma, cv2.CV_32F, size, anchor=anchor, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return sums / (counts if axis else counts[:, None])


def turned(pdq: bytes) -> NDArray[np.uint8]:
    """What the hash of a picture would be in the eight orientations, from the hash alone; good to a few bits.

    A bit says whether a coefficient of the cosine transform is above the median of all, which is near zero: a mirrored
    picture has those of every other row or column with the other sign, and a transposed one has them transposed.

    Args:
        pdq: 32 bytes.
    Returns:
        uint8[8, 32] in the order of ``ORIENTATIONS``.
    """
    bits = np.unpackbits(np.frombuffer(pdq, np.uint8)).reshape(_KEPT, _KEPT)
    odd = (_FREQUENCIES % 2).astype(np.uint8)[::-1]  # the highest frequency comes first
    every = [
        (bits.T if transposed else bits) ^ odd[:, None] * np.uint8(rows) ^ odd * np.uint8(columns)
        for transposed, rows, columns in _TURNS
    ]
    return np.packbits(np.reshape(every, (len(_TURNS), -1)), axis=1)


def hamming(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[Any]:
    """Differing bits along the last axis of two uint8 arrays."""
    return np.asarray(np.bitwise_count(np.bitwise_xor(first, second)).sum(axis=-1))
