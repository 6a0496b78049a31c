"""Edits that give a picture another picture's style: by a network, by its patches, by its spectrum, by its palette."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.exposure import match_histograms

from benchmarks.edits.compositions import another
from benchmarks.edits.geometric import crop_to
from benchmarks.edits.overlays import border, meme
from benchmarks.edits.types import Edit, Others, Picture, Random


def style_neural(picture: Picture, rng: Random, others: Others) -> Picture:
    """Painted in the texture of another picture by a neural network, long side 176."""
    from benchmarks.edits.neural import paint  # loads torch, which the other edits do without

    return paint(picture, others[int(rng.integers(len(others)))])


def style_palette(picture: Picture, rng: Random, others: Others) -> Picture:
    """The colours of another picture (their histograms) and the brush of an oil painter (a mode filter)."""
    style = np.asarray(another(rng, others, picture.size))
    matched = match_histograms(np.asarray(picture), style, channel_axis=-1).clip(0, 255).astype(np.uint8)
    painted = cv2.pyrMeanShiftFiltering(np.ascontiguousarray(matched), 8, 28)
    return Image.fromarray(np.asarray(painted, np.uint8))


def style_spectrum(picture: Picture, rng: Random, others: Others) -> Picture:
    """The amplitudes of another picture's spectrum with this one's phases (Oppenheim & Lim 1981), three quarters of it."""
    pixels = np.asarray(picture, np.float32)
    style = np.asarray(another(rng, others, picture.size), np.float32)
    spectrum = np.fft.fft2(pixels, axes=(0, 1))
    amplitude = np.abs(np.fft.fft2(style, axes=(0, 1)))
    mixed = (0.25 * np.abs(spectrum) + 0.75 * amplitude) * np.exp(1j * np.angle(spectrum))
    out = np.real(np.fft.ifft2(mixed, axes=(0, 1)))
    low, high = np.percentile(out, (1, 99))
    return Image.fromarray(((out - low) / max(1.0, high - low) * 255).clip(0, 255).astype(np.uint8))


def _windows(pixels: NDArray[np.float32], side: int, step: int) -> NDArray[np.float32]:
    view = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), axis=(0, 1))[::step, ::step]
    return np.ascontiguousarray(view.transpose(0, 1, 3, 4, 2))


def style_patches(picture: Picture, rng: Random, others: Others) -> Picture:
    """Built from overlapping patches of another picture that come nearest in brightness (Efros & Freeman 2001)."""
    scale = 192 / max(picture.size)
    width, height = (max(32, round(side * scale)) for side in picture.size)
    content = np.asarray(picture.resize((width, height)), np.float32)
    style = np.asarray(another(rng, others, (160, 160)), np.float32)
    side, step = 12, 6
    content = np.pad(content, ((0, side), (0, side), (0, 0)), mode="edge")
    grey = cv2.GaussianBlur(content.mean(2), (0, 0), 1)
    ranks = np.sort(style.mean(2).ravel())
    levels = np.searchsorted(np.sort(grey.ravel()), grey) / grey.size
    goal = ranks[(levels * (len(ranks) - 1)).astype(int)].astype(np.float32)[:, :, None]
    places = _windows(goal, side, step)
    dictionary = _windows(style, side, 3).reshape(-1, side, side, 3)
    theirs = dictionary.mean(3).reshape(len(dictionary), -1)
    ours = places.reshape(-1, side * side)
    nearest = (ours @ theirs.T - 0.5 * (theirs**2).sum(1)).argmax(1)
    ramp = np.hanning(side + 2)[1:-1]
    window = (ramp[:, None] * ramp[None])[:, :, None]
    canvas, weight = np.zeros_like(content), np.full((*content.shape[:2], 1), 1e-6)
    columns = places.shape[1]
    for place, chosen in enumerate(nearest):
        y, x = place // columns * step, place % columns * step
        canvas[y : y + side, x : x + side] += dictionary[chosen] * window
        weight[y : y + side, x : x + side] += window
    return Image.fromarray((canvas / weight)[:height, :width].clip(0, 255).astype(np.uint8))


METHODS: dict[str, Edit] = {
    "style_neural": style_neural,
    "style_patches": style_patches,
    "style_spectrum": style_spectrum,
    "style_palette": style_palette,
}


def _any_style(picture: Picture, rng: Random, others: Others) -> Picture:
    return list(METHODS.values())[int(rng.integers(len(METHODS)))](picture, rng, others)


def style_crop(picture: Picture, rng: Random, others: Others) -> Picture:
    """Restyled by one of the methods, then cropped to half the area."""
    return crop_to(0.5)(_any_style(picture, rng, others), rng, others)


def style_frame(picture: Picture, rng: Random, others: Others) -> Picture:
    """Restyled by one of the methods, then with the bars of a meme or a border."""
    styled = _any_style(picture, rng, others)
    return (meme if rng.random() < 0.5 else border)(styled, rng, others)
