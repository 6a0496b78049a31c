"""Edits of light and quality: compression, size, blur, colour."""

import io

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from benchmarks.edits.types import Others, Picture, Random


def jpeg10(picture: Picture, _rng: Random, _others: Others) -> Picture:
    """JPEG of quality 10."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=10)
    return Image.open(buffer).convert("RGB")


def shrink(picture: Picture, _rng: Random, _others: Others) -> Picture:
    """A thumbnail of a quarter of the side."""
    return picture.resize((max(64, picture.width // 4), max(64, picture.height // 4)), Image.Resampling.LANCZOS)


def blur(picture: Picture, _rng: Random, _others: Others) -> Picture:
    """Gaussian blur of 1 % of the long side."""
    return picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 100))


def recolour(picture: Picture, rng: Random, _others: Others) -> Picture:
    """Warmer or colder, more colour, more contrast, brighter."""
    gains = rng.uniform(0.75, 1.25, 3)
    tinted = Image.fromarray(np.clip(np.asarray(picture) * gains, 0, 255).astype(np.uint8))
    return ImageEnhance.Contrast(ImageEnhance.Color(tinted).enhance(1.6)).enhance(1.2)


def strong_colour(picture: Picture, rng: Random, _others: Others) -> Picture:
    """Hue turned by 60° to 300°, saturation doubled, gamma of 0.6 or 1.7."""
    hue, saturation, value = picture.convert("HSV").split()
    turn = int(rng.integers(43, 213))
    hue = hue.point([(level + turn) % 256 for level in range(256)])
    saturation = saturation.point([min(255, level * 2) for level in range(256)])
    gamma = 0.6 if rng.random() < 0.5 else 1.7
    value = value.point([round(255 * (level / 255) ** gamma) for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def greyscale(picture: Picture, _rng: Random, _others: Others) -> Picture:
    """Without colour."""
    return ImageOps.grayscale(picture).convert("RGB")
