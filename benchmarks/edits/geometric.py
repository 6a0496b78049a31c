"""Edits of the frame: crops, turns, mirror, perspective."""

import cv2
import numpy as np
from PIL import Image, ImageOps

from benchmarks.edits.types import Edit, Others, Picture, Random


def crop_to(share: float) -> Edit:
    """A part of that share of the area, anywhere, of the same aspect."""

    def edit(picture: Picture, rng: Random, _others: Others) -> Picture:
        width, height = (max(1, round(side * share**0.5)) for side in picture.size)
        x = int(rng.integers(0, picture.width - width + 1))
        y = int(rng.integers(0, picture.height - height + 1))
        return picture.crop((x, y, x + width, y + height))

    return edit


def mirror(picture: Picture, _rng: Random, _others: Others) -> Picture:
    """Left and right exchanged."""
    return ImageOps.mirror(picture)


def quarter_turn(picture: Picture, _rng: Random, _others: Others) -> Picture:
    """Turned by 90°."""
    return picture.transpose(Image.Transpose.ROTATE_90)


def rotate15(picture: Picture, rng: Random, _others: Others) -> Picture:
    """Turned by 15° either way; black corners."""
    return picture.rotate(15 if rng.random() < 0.5 else -15, Image.Resampling.BICUBIC, expand=True)


def perspective(picture: Picture, rng: Random, _others: Others) -> Picture:
    """Photographed from the side: each corner moves inwards by up to a fifth of the side."""
    width, height = picture.size
    corners = np.asarray([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    inward = np.asarray([[1, 1], [-1, 1], [-1, -1], [1, -1]], np.float32) * (width, height)
    moved = (corners + rng.uniform(0.0, 0.2, (4, 2)) * inward).astype(np.float32)
    seen = cv2.warpPerspective(np.asarray(picture), cv2.getPerspectiveTransform(corners, moved), (width, height))
    return Image.fromarray(np.asarray(seen, np.uint8))
