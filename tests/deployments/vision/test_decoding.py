"""Bytes to pixels: formats, orientations and depths give the picture; damage and bombs give a clear error."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from deployments.vision.decoding import decode, probe
from storage.errors import TooLarge, UnsupportedImage

LIMITS = {"max_bytes": 10**7, "max_pixels": 10**6, "max_frames": 50}


def halves(width: int = 80, height: int = 40) -> Image.Image:
    """Left half red, right half blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    return Image.fromarray(pixels)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def look(data: bytes, long_side: int = 1024) -> np.ndarray:
    return decode(data, max_pixels=10**6, long_side=long_side).pixels


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"])
def test_every_format_gives_the_picture(kind: str) -> None:
    data = saved(halves(), kind)
    info = probe(data, **LIMITS)
    assert (info.media_type, info.width, info.height) == (f"image/{kind.lower()}", 80, 40)
    pixels = look(data).astype(int)
    assert pixels.shape == (40, 80, 3)
    assert np.abs(pixels[20, 10] - (255, 0, 0)).max() < 30
    assert np.abs(pixels[20, 70] - (0, 0, 255)).max() < 30


def test_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to display
    data = saved(halves(), "JPEG", exif=exif)
    info = probe(data, **LIMITS)
    assert (info.width, info.height) == (40, 80)
    decoded = decode(data, max_pixels=10**6, long_side=1024)
    assert (decoded.width, decoded.height, decoded.pixels.shape) == (40, 80, (80, 40, 3))
    assert decoded.pixels[10, 20, 0] > 200 > 60 > decoded.pixels[70, 20, 0]


def test_cmyk_grey_palette_and_sixteen_bits_become_rgb() -> None:
    ramp = (np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16)
    deep = look(saved(Image.fromarray(ramp), "PNG")).astype(int)
    assert np.abs(deep[..., 0] - (ramp >> 8)).max() <= 1
    cmyk = look(saved(halves().convert("CMYK"), "JPEG", quality=95)).astype(int)
    assert np.abs(cmyk[20, 10] - (255, 0, 0)).max() < 40
    assert look(saved(halves().convert("L"), "JPEG")).shape == (40, 80, 3)
    palette = look(saved(halves().convert("P", palette=Image.Palette.ADAPTIVE), "PNG")).astype(int)
    assert np.abs(palette[20, 70] - (0, 0, 255)).max() < 20
    floats = look(saved(Image.fromarray(np.linspace(-3, 9, 64 * 64, dtype=np.float32).reshape(64, 64)), "TIFF"))
    assert floats.min() == 0 and floats.max() == 255


def test_transparency_is_white() -> None:
    image = halves().convert("RGBA")
    image.putalpha(0)
    assert (look(saved(image, "PNG")) == 255).all()


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert look(data)[16, 16, 0] > 200


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "AVIF"])
def test_frames_are_limited(kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in range(0, 255, 5)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:50])
    assert probe(data, **LIMITS).width == 32
    with pytest.raises(TooLarge, match="51 frames are over the limit of 50"):
        probe(saved(frames[0], kind, save_all=True, append_images=frames[1:]), **LIMITS)


def test_large_pictures_are_shrunk_and_keep_their_size_on_record() -> None:
    decoded = decode(saved(halves(1000, 500), "JPEG"), max_pixels=10**6, long_side=300)
    assert (decoded.width, decoded.height) == (1000, 500)
    assert decoded.pixels.shape == (150, 300, 3)
    thin = decode(saved(halves(1000, 1), "PNG"), max_pixels=10**6, long_side=300)
    assert thin.pixels.shape == (1, 300, 3)


def test_bombs_are_refused_before_they_are_decoded() -> None:
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(bytes(10**6))}
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )
    for read in (lambda: probe(bomb, **LIMITS), lambda: decode(bomb, max_pixels=10**6, long_side=512)):
        with pytest.raises(TooLarge):
            read()
    with pytest.raises(TooLarge, match="1001 × 1000 pixels are over the limit of 1000000"):
        probe(saved(halves(1001, 1000), "PNG"), **LIMITS)
    with pytest.raises(TooLarge, match="bytes are over"):
        probe(b"x" * 11, max_bytes=10, max_pixels=10, max_frames=1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_cut_files_are_unsupported(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 256, (200, 200, 3), np.uint8))
    data = saved(noise, kind)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(UnsupportedImage):
            probe(data[: int(len(data) * share)], **LIMITS)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"%PDF-1.7\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\xff\xd8\xff"]
)
def test_what_is_no_image_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        probe(data, **LIMITS)


def test_mutated_files_end_in_a_picture_or_a_clear_error() -> None:
    rng = np.random.default_rng(5)
    sources = [saved(halves(), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")]
    outcomes = {True: 0, False: 0}
    for turn in range(600):
        data = bytearray(sources[turn % len(sources)])
        for place in rng.integers(0, len(data), 4):
            data[place] = int(rng.integers(256))
        try:
            probe(bytes(data), **LIMITS)
            look(bytes(data))
            outcomes[True] += 1
        except (UnsupportedImage, TooLarge):
            outcomes[False] += 1
    assert min(outcomes.values()) > 20  # both ends were reached; anything else would have raised
