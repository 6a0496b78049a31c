"""Where contours run in a picture and in which direction, whatever its colours, texture and style. Knows nothing of Ray.

Gradient magnitudes, normalised by their neighbourhood, in six directions without their sign: a relative of HOG (Dalal &
Triggs 2005). The shape descriptor and template matching both look at pictures through these layers.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

WORK, DIRECTIONS = 160, 6
_FINE, _COARSE, _NEIGHBOURHOOD, _FLOOR = 1.2, 2.5, 10.0, 6.0
_RESIZABLE = 4
"""Channels that OpenCV resizes by area at once."""


def grey_square(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8[160, 160] of uint8[h, w, 3] RGB."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (WORK, WORK), interpolation=cv2.INTER_AREA), np.uint8)


def gradient_layers(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32[h, w, 6] of uint8[h, w]: strength in each direction, smoothed. Blocking."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), _FINE)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    strength = cv2.magnitude(across, down)
    strength /= cv2.GaussianBlur(strength, (0, 0), _NEIGHBOURHOOD) + _FLOOR
    # Cosine and sine of twice the angle: directions have no sign.
    square = across * across + down * down + np.float32(1e-12)
    cosine, sine = (across * across - down * down) / square, 2 * across * down / square
    layers = np.empty((*grey.shape, DIRECTIONS), np.float32)
    for direction, angle in enumerate(2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS):
        facing = np.maximum(0, cosine * np.float32(np.cos(angle)) + sine * np.float32(np.sin(angle)))
        layers[:, :, direction] = facing * facing * strength
    return np.asarray(cv2.GaussianBlur(layers, (0, 0), _COARSE), np.float32)


def resized(layers: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """float32[side, side, 6] of float32[h, w, 6], by averaging."""
    parts = (layers[:, :, :_RESIZABLE], layers[:, :, _RESIZABLE:])
    return np.concatenate(
        [cv2.resize(np.ascontiguousarray(part), (side, side), interpolation=cv2.INTER_AREA) for part in parts], axis=2
    )


def mirrored(layers: NDArray[np.float32]) -> NDArray[np.float32]:
    """The layers of the mirror image: places change sides, every direction turns the other way round."""
    return layers[:, ::-1, -np.arange(DIRECTIONS) % DIRECTIONS]


def turned(layers: NDArray[np.float32], turns: int) -> NDArray[np.float32]:
    """The layers of the picture after quarter turns counter-clockwise; directions repeat after half a turn."""
    return np.roll(np.rot90(layers, turns), turns % 2 * DIRECTIONS // 2, axis=2)
