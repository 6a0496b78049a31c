"""Edits that draw the picture anew: pencil, painting, edges."""

import cv2
import numpy as np
from PIL import Image

from benchmarks.edits.types import Others, Picture, Random


def _bgr(picture: Picture) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])


def pencil_sketch(picture: Picture, rng: Random, _others: Others) -> Picture:
    """OpenCV's pencil sketch (domain transform of Gastal & Oliveira 2011)."""
    grey, _ = cv2.pencilSketch(
        _bgr(picture), sigma_s=float(rng.uniform(30, 80)), sigma_r=0.07, shade_factor=float(rng.uniform(0.03, 0.06))
    )
    return Image.fromarray(np.asarray(grey, np.uint8)).convert("RGB")


def painting(picture: Picture, rng: Random, _others: Others) -> Picture:
    """OpenCV's stylisation: smooth areas, drawn contours."""
    painted = cv2.stylization(_bgr(picture), sigma_s=float(rng.uniform(40, 90)), sigma_r=float(rng.uniform(0.35, 0.6)))
    return Image.fromarray(np.asarray(painted[:, :, ::-1], np.uint8))


def edge_map(picture: Picture, rng: Random, _others: Others) -> Picture:
    """Canny edges, white on black or black on white; thresholds about the median brightness."""
    grey = cv2.GaussianBlur(np.asarray(picture.convert("L")), (0, 0), 1.2)
    middle = float(np.median(grey))
    edges = cv2.Canny(grey, 0.5 * middle, max(1.0, 1.1 * middle))
    return Image.fromarray(np.asarray(edges if rng.random() < 0.5 else 255 - edges, np.uint8)).convert("RGB")
