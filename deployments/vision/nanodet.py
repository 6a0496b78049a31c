"""From NanoDet's outputs to boxes: distances as distributions over bins, then non-maximum suppression. Knows nothing of Ray."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from deployments.vision.interfaces import Box

LABELS = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""The 80 classes of COCO, in its order."""
BINS = 11
"""Distances are distributions over 0..10 strides (generalised focal loss, Li et al. 2020, as in NanoDet)."""


def boxes(
    outputs: Sequence[NDArray[np.float32]],
    size: tuple[int, int],
    *,
    side: int,
    min_score: float,
    max_overlap: float,
) -> list[Box]:
    """Boxes of one picture.

    Args:
        outputs: for each level float32[cells, 80] class scores and float32[cells, 4 × 11] distance bins, in any order.
        size: width and height in pixels of the picture as displayed.
        side: of the square that the network saw, pixels.
        min_score: weaker boxes are dropped.
        max_overlap: intersection over union above which the weaker of two boxes of one class is dropped.
    Returns:
        Boxes inside the picture, surest first.
    """
    scores = {len(output): output for output in outputs if output.shape[1] == len(LABELS)}
    bins = {len(output): output for output in outputs if output.shape[1] == 4 * BINS}
    corners, sure, classes = [], [], []
    for cells in scores:
        across = round(cells**0.5)
        stride = side / across
        best = scores[cells].max(axis=1)
        (kept,) = np.nonzero(best > min_score)
        spread = bins[cells][kept].reshape(-1, 4, BINS)
        weights = np.exp(spread - spread.max(axis=2, keepdims=True))
        distances = (weights @ np.arange(BINS, dtype=np.float32)) / weights.sum(axis=2) * stride
        x, y = (kept % across + 0.5) * stride, (kept // across + 0.5) * stride
        left, top, right, bottom = distances.T
        corners.append(np.stack([x - left, y - top, x + right, y + bottom], axis=1))
        sure.append(best[kept])
        classes.append(scores[cells][kept].argmax(axis=1))
    scale = np.asarray([size[0] / side, size[1] / side] * 2, np.float32)
    limits = np.asarray([size[0], size[1]] * 2, np.float32)
    found = np.clip(np.concatenate(corners).clip(0, side) * scale, 0, limits)
    confidence, labels = np.concatenate(sure), np.concatenate(classes)
    if not len(found):
        return []
    wide = np.concatenate([found[:, :2], found[:, 2:] - found[:, :2]], axis=1)
    # Suppression is the same at any scale, but OpenCV compares in pixels: use those of the picture.
    left_over = cv2.dnn.NMSBoxesBatched(wide.tolist(), confidence.tolist(), labels.tolist(), min_score, max_overlap)
    order = sorted(np.asarray(left_over).reshape(-1).tolist(), key=lambda place: -confidence[place])
    return [
        Box(LABELS[labels[i]], float(confidence[i]), *(float(value) for value in found[i]))
        for i in order
        if wide[i, 2] >= 1 and wide[i, 3] >= 1
    ]
