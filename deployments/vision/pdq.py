"""PDQ, the perceptual hash of 256 bits that trust-and-safety teams exchange, in eight orientations. Knows nothing of Ray."""

from typing import Any

import cv2
import numpy as np
import pdqhash
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


def pdq_hashes(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """The hash of a picture as it is and in the seven other orientations.

    Args:
        pixels: uint8[h, w, 3] RGB.
    Returns:
        uint8[8, 32] in the order of ``ORIENTATIONS`` (the bytes of the usual hexadecimal form), and the quality, 0 to
        100: pictures below 50 have too little structure.
    Source:
        Davis and Rosen, "PDQ & TMK+PDQF", Facebook 2019; the code of ThreatExchange, through ``pdqhash``.
    """
    share = _LONG_SIDE / max(pixels.shape[:2])
    if share < 1:
        size = max(1, round(pixels.shape[1] * share)), max(1, round(pixels.shape[0] * share))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    bits, quality = pdqhash.compute_dihedral(np.ascontiguousarray(pixels))
    return np.packbits(np.asarray(bits, np.uint8), axis=1), int(quality)


def turned(pdq: bytes) -> NDArray[np.uint8]:
    """What the hash of a picture would be in the eight orientations, from the hash alone; good to a few bits.

    A bit says whether a coefficient of the cosine transform is above the median of all, which is near zero: a mirrored
    picture has those of every other row or column with the other sign, and a transposed one has them transposed.

    Args:
        pdq: 32 bytes.
    Returns:
        uint8[8, 32] in no order but that the first is the hash itself.
    """
    bits = np.unpackbits(np.frombuffer(pdq, np.uint8)).reshape(16, 16)
    odd = np.arange(16, dtype=np.uint8) % 2
    signs = [np.zeros((16, 16), np.uint8), np.tile(odd, (16, 1)), np.tile(odd[:, None], (1, 16))]
    signs.append(signs[1] ^ signs[2])
    return np.packbits([(some ^ sign).reshape(-1) for some in (bits, bits.T) for sign in signs], axis=1)


def hamming(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[Any]:
    """Differing bits along the last axis of two uint8 arrays."""
    return np.asarray(np.bitwise_count(np.bitwise_xor(first, second)).sum(axis=-1))
