"""Photos and edited copies of them, as files, for the measurements that need links to find and to lose."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.edits import EVERYDAY


def pictures(folder: Path, count: int) -> list[tuple[str, bytes]]:
    """Photos of a folder, from its first on, and edited copies of them, in turns, so that there are links to lose."""
    return with_copies(sorted(folder.glob("*.jpg"))[: count // 2])


def with_copies(files: Sequence[Path]) -> list[tuple[str, bytes]]:
    """Each photo and an edited copy of it."""
    rng = np.random.default_rng(3)
    names = ("jpeg10", "mirror", "recolour", "greyscale", "crop70")
    photos = [Image.open(path).convert("RGB") for path in files]
    made: list[tuple[str, bytes]] = []
    for number, (path, photo) in enumerate(zip(files, photos, strict=True)):
        buffer = io.BytesIO()
        EVERYDAY[names[number % len(names)]](photo, rng, photos).save(buffer, "JPEG", quality=90)
        made += [(path.name, path.read_bytes()), (f"edited-{path.name}", buffer.getvalue())]
    return made


def corpus(folder: Path, count: int) -> list[tuple[str, bytes]]:
    """Photos and edited copies; beyond the folder's pictures, further ones that differ in their bytes and a strip."""
    return list(stream(folder, count))


def stream(folder: Path, count: int) -> Iterator[tuple[str, bytes]]:
    """The same, each picture made when it is asked for."""
    base = pictures(folder, min(count, 2 * len(list(folder.glob("*.jpg")))))
    yield from base
    for number in range(len(base), count):
        yield _marked(base[number % len(base)], number)


def _marked(item: tuple[str, bytes], number: int) -> tuple[str, bytes]:
    name, content = item
    with Image.open(io.BytesIO(content)) as opened:
        pixels = np.array(opened.convert("RGB"))
    strip = np.random.default_rng(number).integers(0, 256, (pixels.shape[0] // 5, pixels.shape[1], 3), np.uint8)
    pixels[: len(strip)] = strip
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return f"{number}-{name}", buffer.getvalue()
