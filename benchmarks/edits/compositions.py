"""Edits that put several pictures together: pasted, collage, blend, another background."""

import cv2
import numpy as np
from PIL import Image

from benchmarks.edits.types import Others, Picture, Random


def another(rng: Random, others: Others, size: tuple[int, int]) -> Picture:
    """Some other picture in that size."""
    return others[int(rng.integers(len(others)))].convert("RGB").resize(size)


def pasted(picture: Picture, rng: Random, others: Others) -> Picture:
    """Onto another picture, at 40 % of its area."""
    ground = another(rng, others, (640, 480))
    share = (0.4 * 640 * 480 / (picture.width * picture.height)) ** 0.5
    small = picture.resize(
        (max(8, min(620, round(picture.width * share))), max(8, min(460, round(picture.height * share))))
    )
    x = int(rng.integers(0, 640 - small.width + 1))
    y = int(rng.integers(0, 480 - small.height + 1))
    ground.paste(small, (x, y))
    return ground


def collage4(picture: Picture, rng: Random, others: Others) -> Picture:
    """One of four in a grid."""
    grid = Image.new("RGB", (640, 480))
    ours = int(rng.integers(4))
    for place in range(4):
        cell = picture.resize((320, 240)) if place == ours else another(rng, others, (320, 240))
        grid.paste(cell, (place % 2 * 320, place // 2 * 240))
    return grid


def blend50(picture: Picture, rng: Random, others: Others) -> Picture:
    """Half this picture, half another."""
    return Image.blend(picture, another(rng, others, picture.size), 0.5)


def background_swap(picture: Picture, rng: Random, others: Others) -> Picture:
    """What GrabCut takes for the foreground of the middle 80 %, before another picture; an ellipse where it finds none."""
    scale = 256 / max(picture.size)
    small = np.asarray(picture.resize([max(8, round(side * scale)) for side in picture.size]))
    height, width = small.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    box = (width // 10, height // 10, max(1, width * 8 // 10), max(1, height * 8 // 10))
    cv2.setRNGSeed(int(rng.integers(2**31)))
    try:
        cv2.grabCut(small[:, :, ::-1].copy(), mask, box, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_RECT)
        front = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    except cv2.error:  # too flat for its colour models
        front = np.zeros((height, width), np.float32)
    if not 0.1 <= front.mean() <= 0.75:
        front = np.zeros((height, width), np.float32)
        centre, axes = (width // 2, height // 2), (max(1, width * 38 // 100), max(1, height * 38 // 100))
        cv2.ellipse(front, centre, axes, 0, 0, 360, 1.0, -1)
    front = cv2.GaussianBlur(front, (0, 0), 1.5)
    opacity = Image.fromarray((front * 255).astype(np.uint8)).resize(picture.size)
    return Image.composite(picture, another(rng, others, picture.size), opacity)
