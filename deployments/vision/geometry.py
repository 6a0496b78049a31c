"""Geometric verification: do the local features of two pictures lie as one view of the same thing would? Knows nothing of Ray."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from deployments.vision.local_features import LocalFeatures

RATIO = 0.88
"""Nearest against second nearest distance; looser than Lowe's 0.8, for the geometry discards what does not fit."""
TOLERANCE = 5.0
"""Pixels that an inlier may lie off, at a long side of 320."""
MIN_MATCHES = 4


@dataclass(frozen=True)
class Alignment:
    """How one picture lies in another.

    Args:
        inliers: matched points that agree with the transform.
        coverage: share of the key points inside the common area that are inliers, of the picture that has fewer there.
            Edited copies agree everywhere; two shots of one product agree on the product only.
        matches: points matched by their surroundings.
        transform: float64[3, 3], from the query's to the stored picture's coordinates, both as shares of width and height.
        query_overlap, stored_overlap: share of each picture's area that the two have in common, 0 to 1.
        scale: of the query's pixels in the stored picture.
        residual: median distance in pixels, at a long side of 320, of inliers from where the transform puts them. An
            edited copy fits to a fraction of a pixel, another shot of the same thing does not.
        mirrored: the query matched as its mirror image.
    """

    inliers: int
    coverage: float
    matches: int
    transform: NDArray[np.float64]
    query_overlap: float
    stored_overlap: float
    scale: float
    residual: float
    mirrored: bool = False


def _matches(query: LocalFeatures, stored: LocalFeatures) -> NDArray[np.int64]:
    """int[m, 2]: points of the query and of the stored picture that match, each stored point once."""
    if len(query) < MIN_MATCHES or len(stored) < MIN_MATCHES:
        return np.empty((0, 2), np.int64)
    ours, theirs = query.descriptors.astype(np.float32), stored.descriptors.astype(np.float32)
    squares = (ours**2).sum(1)[:, None] + (theirs**2).sum(1)[None] - 2 * ours @ theirs.T
    rows = np.arange(len(ours))
    nearest = squares.argmin(1)
    first = squares[rows, nearest]
    squares[rows, nearest] = np.inf
    second = squares.min(1)
    good = np.flatnonzero(first < RATIO**2 * second)
    good = good[np.argsort(first[good] / np.maximum(second[good], 1e-6), kind="stable")]
    _, once = np.unique(nearest[good], return_index=True)
    good = good[np.sort(once)]
    return np.stack([good, nearest[good]], axis=1)


def _plausible(affine: NDArray[np.float64]) -> float | None:
    """The scale of an affine transform, None where it squeezes or mirrors as no view of a flat picture does."""
    values = np.linalg.svd(affine[:, :2], compute_uv=False)
    determinant = float(np.linalg.det(affine[:, :2]))
    if determinant <= 0 or values[1] < 1e-3 or values[0] / values[1] > 3.0:
        return None
    scale = determinant**0.5
    return scale if 0.08 < scale < 12 else None


def _overlap(transform: NDArray[np.float64]) -> tuple[float, float]:
    """Shares of the query and of the stored picture (unit squares) that lie in each other."""
    square = np.asarray([[[0, 0], [1, 0], [1, 1], [0, 1]]], np.float32)
    landed = cv2.perspectiveTransform(square, transform).astype(np.float32)
    area = abs(float(cv2.contourArea(landed)))
    common, _ = cv2.intersectConvexConvex(landed[0], square[0])
    if area < 1e-6 or not np.isfinite(area):
        return 0.0, 0.0
    return min(1.0, float(common) / area), min(1.0, float(common))


def align(query: LocalFeatures, stored: LocalFeatures, *, mirrored: bool = False) -> Alignment | None:
    """Fits one transform to the matching points of two pictures. Blocking.

    Args:
        query: features of the picture asked about (of its mirror image where ``mirrored``).
        stored: features of a candidate.
    Returns:
        The alignment with the most inliers, None where fewer than four points agree. Two unrelated pictures reach 4
        to 6 inliers by chance.
    Source:
        MAGSAC++ (Barath et al. 2020) as in OpenCV; an affine transform first, for it needs fewer points, then a
        homography from its inliers.
    """
    pairs = _matches(query, stored)
    if len(pairs) < MIN_MATCHES:
        return None
    source, target = query.points[pairs[:, 0]], stored.points[pairs[:, 1]]
    cv2.setRNGSeed(1)
    affine, mask = cv2.estimateAffine2D(
        source, target, method=cv2.USAC_MAGSAC, ransacReprojThreshold=TOLERANCE, maxIters=2000, confidence=0.999
    )
    if affine is None or mask is None:
        return None
    scale = _plausible(affine)
    if scale is None:
        return None
    inside = mask.ravel().astype(bool)
    inliers = _distinct(source, target, inside)
    transform = np.vstack([affine, [0.0, 0.0, 1.0]])
    if inliers >= 8:
        bent, mask = cv2.findHomography(source, target, cv2.USAC_MAGSAC, TOLERANCE, maxIters=2000, confidence=0.999)
        if bent is not None and mask is not None and abs(bent[2, 0]) + abs(bent[2, 1]) < 0.01:
            fits = mask.ravel().astype(bool)
            agreed = _distinct(source, target, fits)
            if agreed > 1.15 * inliers and np.linalg.det(bent) > 0:
                inliers, transform, inside = agreed, bent, fits
    if inliers < MIN_MATCHES or abs(float(np.linalg.det(transform))) < 1e-9:
        return None
    common = min(_inside(query, transform, stored.size), _inside(stored, np.linalg.inv(transform), query.size))
    into = np.diag([1 / stored.size[0], 1 / stored.size[1], 1.0])
    shares = into @ transform @ np.diag([query.size[0], query.size[1], 1.0])
    query_overlap, stored_overlap = _overlap(shares)
    coverage = min(1.0, inliers / max(1, common))
    residual = _residual(source[inside], target[inside], transform)
    return Alignment(inliers, coverage, len(pairs), shares, query_overlap, stored_overlap, scale, residual, mirrored)


def _residual(source: NDArray[np.float32], target: NDArray[np.float32], transform: NDArray[np.float64]) -> float:
    """Median distance between points and their partners, in the pixels of whichever picture is the coarser."""
    landed = np.asarray(cv2.perspectiveTransform(source[None].astype(np.float64), transform)[0])
    scale = math.sqrt(abs(float(np.linalg.det(transform[:2, :2]))))
    distance = float(np.median(np.linalg.norm(landed - target, axis=1)))
    return distance / max(1.0, scale)


def _inside(features: LocalFeatures, transform: NDArray[np.float64], size: tuple[int, int]) -> int:
    """How many points land inside a picture of that size."""
    landed = cv2.perspectiveTransform(features.points[None].astype(np.float64), transform)[0]
    return int(((landed >= 0) & (landed < size)).all(axis=1).sum())


def _distinct(source: NDArray[np.float32], target: NDArray[np.float32], inside: NDArray[np.bool_]) -> int:
    """Inliers at places of their own: several points within 3 pixels count once, on either side."""
    if not inside.any():
        return 0
    return min(len(np.unique(np.round(side[inside] / 3), axis=0)) for side in (source, target))
