"""From bytes to pixels, within limits: what is not an image we read, or a damaged one, ends in a clear error."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from storage.errors import TooLarge, UnsupportedImage

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""MPO, the stereo JPEG of phones, is opened as JPEG: Pillow registers no opener under its name."""
MEDIA_TYPES = frozenset(f"image/{one.lower()}" for one in FORMATS)
_MEDIA_TYPES = {"MPO": "image/jpeg"}
_PROBE_PIXELS = 25_000_000
"""Larger pictures that cannot be decoded at a reduced size are only checked, not decoded, when they are uploaded. Damage
inside them is found by the pipeline, which says so. Larger PNGs are decoded all the same: Pillow looks for EXIF data behind
their pixels. What an upload may take at most is bounded by ``max_pixels``, in a process of its own (sandbox.py)."""


@dataclass(frozen=True)
class ImageInfo:
    """Format, as sniffed from the bytes, and size in pixels as displayed (EXIF orientation applied)."""

    media_type: str
    width: int
    height: int


@dataclass(frozen=True)
class DecodedImage:
    """``pixels`` uint8[h, w, 3] RGB at a reduced size; ``width`` and ``height`` of the original as displayed."""

    pixels: NDArray[np.uint8]
    width: int
    height: int
    media_type: str


class Decode(Protocol):
    """``decode``, wherever it is done."""

    def __call__(self, data: bytes, *, max_pixels: int, long_side: int) -> DecodedImage: ...


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata and the size that is checked just below
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise TooLarge(f"{image.width} × {image.height} pixels are over the limit of {max_pixels}")
                if image.width < 1 or image.height < 1:
                    raise UnsupportedImage("the image has no pixels")
                yield image
    except (TooLarge, UnsupportedImage):
        raise
    except Image.DecompressionBombError as error:
        raise TooLarge(f"the image has more pixels than the limit of {max_pixels}") from error
    except UnidentifiedImageError as error:
        raise UnsupportedImage(f"not an image of a kind that is read: {', '.join(FORMATS)}") from error
    except MemoryError as error:
        raise TooLarge("the image does not fit into memory") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UnsupportedImage("the image is damaged or cut short") from error


def _displayed(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if image.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (width, height)


def _media_type(image: Image.Image) -> str:
    kind = image.format or ""
    return _MEDIA_TYPES.get(kind, Image.MIME[kind])


def probe(data: bytes, *, max_bytes: int, max_pixels: int, max_frames: int) -> ImageInfo:
    """Makes sure, at little cost, that the bytes are an image that can be decoded. Blocking.

    Args:
        data: the file as sent.
        max_bytes, max_pixels, max_frames: limits.
    Raises:
        TooLarge: too many bytes, pixels or frames.
        UnsupportedImage: not an image we read, damaged, or cut short.
    """
    if len(data) > max_bytes:
        raise TooLarge(f"{len(data)} bytes are over the limit of {max_bytes}")
    with _opened(data, max_pixels) as image:
        info = ImageInfo(_media_type(image), *_displayed(image))
        frames = getattr(image, "n_frames", 1)
        if frames > max_frames:
            raise TooLarge(f"{frames} frames are over the limit of {max_frames}")
        reduced = image.draft(None, (1, 1)) is not None
        if reduced or image.width * image.height <= _PROBE_PIXELS:
            image.load()
        else:
            image.verify()
    return info


def _eight_bit_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        values = np.asarray(image, np.float64)
        # Integers of TIFF and PNG use 16 of the 32 bits; floats have no fixed range, so they are stretched.
        low, high = (0.0, 65535.0) if image.mode == "I" else (float(np.nanmin(values)), float(np.nanmax(values)))
        shares = np.nan_to_num((values - low) / max(high - low, 1e-12))
        return Image.fromarray((np.clip(shares, 0, 1) * 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def decode(data: bytes, *, max_pixels: int, long_side: int) -> DecodedImage:
    """The picture as it is displayed: first frame, upright, on white where it is transparent. Blocking.

    JPEG files are decoded at a reduced size where that is enough. Colour profiles are ignored.

    Args:
        data: the file as sent.
        max_pixels: width × height at most.
        long_side: pixels; a larger picture is shrunk to it.
    Raises:
        TooLarge, UnsupportedImage: see ``probe``.
    """
    with _opened(data, max_pixels) as image:
        width, height = _displayed(image)
        media_type = _media_type(image)
        image.draft("RGB", (long_side, long_side))
        image.load()
        orientation = image.getexif().get(0x0112, 1)
        upright = ImageOps.exif_transpose(image) if orientation != 1 else image
        picture = _eight_bit_rgb(upright)
        if max(picture.size) > long_side:
            share = long_side / max(picture.size)
            size = max(1, round(picture.width * share)), max(1, round(picture.height * share))
            picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        return DecodedImage(np.asarray(picture, np.uint8), width, height, media_type)
