"""Local features of a picture: SIFT key points, kept small enough to store with every picture. Knows nothing of Ray."""

import struct
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""Of what ``LocalFeatures.to_bytes`` writes and of how it was extracted; another version is extracted anew."""
LONG_SIDE = 320
"""Pixels: at this size a picture of a screen's width and its thumbnail give the same points."""
MOST = 400
_HEADER = struct.Struct("<4sHHH")
_MAGIC = b"SGLF"


@dataclass(frozen=True)
class LocalFeatures:
    """Points and what surrounds them.

    Args:
        points: float32[n, 2], x and y in pixels of a picture whose long side is ``LONG_SIDE``.
        descriptors: uint8[n, 128], RootSIFT × 512.
        size: width and height of that picture in pixels.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.points)

    def mirrored(self) -> "LocalFeatures":
        """Those of the mirror image, without extracting anything.

        A descriptor has 4 × 4 cells of 8 directions, turned to the point's own direction: in a mirror image the rows of
        cells across that direction change places, and every direction turns the other way round.
        """
        cells = self.descriptors.reshape(-1, 4, 4, 8)[:, ::-1][..., -np.arange(8) % 8]
        points = np.stack([self.size[0] - 1 - self.points[:, 0], self.points[:, 1]], axis=1)
        return LocalFeatures(
            np.asarray(np.clip(points, 0, 1023), np.float32), np.ascontiguousarray(cells.reshape(-1, 128)), self.size
        )

    def to_bytes(self) -> bytes:
        """132 bytes a point and a header of 10."""
        header = _HEADER.pack(_MAGIC, VERSION, *self.size)
        return header + np.round(self.points * 64).astype("<u2").tobytes() + self.descriptors.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "LocalFeatures":
        """What ``to_bytes`` wrote.

        Raises:
            ValueError: cut short, damaged, or of another version.
        """
        if len(data) < _HEADER.size or (len(data) - _HEADER.size) % 132:
            raise ValueError(f"{len(data)} bytes are not local features: cut short")
        magic, version, width, height = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != VERSION:
            raise ValueError(f"local features of version {version}, not {VERSION}")
        count = (len(data) - _HEADER.size) // 132
        points = np.frombuffer(data, "<u2", 2 * count, _HEADER.size).reshape(-1, 2).astype(np.float32) / np.float32(64)
        descriptors = np.frombuffer(data, np.uint8, 128 * count, _HEADER.size + 4 * count).reshape(-1, 128)
        return cls(points, descriptors, (width, height))


def local_features(pixels: NDArray[np.uint8], *, long_side: int = LONG_SIDE, most: int = MOST) -> LocalFeatures:
    """The strongest key points of a picture. Blocking; ``benchmarks.stages`` prints the time.

    Args:
        pixels: uint8[h, w, 3] RGB.
        long_side: pixels to which the picture is brought, up or down.
        most: points at most.
    Source:
        Lowe, "Distinctive image features from scale-invariant keypoints", 2004; RootSIFT: Arandjelović & Zisserman 2012.
    """
    height, width = pixels.shape[:2]
    scale = long_side / max(height, width)
    size = max(8, round(width * scale)), max(8, round(height * scale))
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    # A low contrast threshold: soft and dark pictures must have points too; the strongest are kept.
    sift = cv2.SIFT.create(nfeatures=most, contrastThreshold=0.01, edgeThreshold=12)
    found, described = sift.detectAndCompute(grey, None)
    if described is None or not len(found):
        return LocalFeatures(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8), size)
    described = np.asarray(described[:most], np.float32)
    rooted = np.sqrt(described / np.maximum(described.sum(axis=1, keepdims=True), 1e-6))
    points = np.asarray([point.pt for point in found[:most]], np.float32)
    return LocalFeatures(np.clip(points, 0, 1023), np.minimum(np.round(rooted * 512), 255).astype(np.uint8), size)
