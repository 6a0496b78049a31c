"""Real photographs that a wheel ships, and edited copies of them, as files."""

import io
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

from benchmarks.edits import EVERYDAY

NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "camera.png", "motorcycle_left.png", "rocket.jpg", "coins.png")


def photo(name: str) -> Image.Image:
    """One of NAMES."""
    return Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")


def jpeg(picture: Image.Image, quality: int = 90) -> bytes:
    """A JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def edited(name: str, edit: str, seed: int = 0) -> bytes:
    """A file of one of NAMES under one of EVERYDAY."""
    others = [photo(other) for other in NAMES if other != name]
    return jpeg(EVERYDAY[edit](photo(name), np.random.default_rng(seed), others))


def variants(count: int) -> list[bytes]:
    """``count`` different files: small crops and recolourings of the photographs, many of them copies of one another."""
    rng = np.random.default_rng(5)
    photos = [photo(name) for name in NAMES]
    files = []
    for turn in range(count):
        picture = photos[turn % len(photos)]
        edge = int(rng.integers(0, 24))
        cut = picture.crop((edge, edge, picture.width - edge, picture.height - edge)).resize((320, 240))
        files.append(jpeg(cut, int(rng.integers(60, 95))))
    return files
