"""Pictures that are wrong in the ways in which strangers make them wrong; each is told by its seed and number."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

Mutation = Callable[[bytes, np.random.Generator], bytes]
_LIES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 60_000, 20_000)


def files_of(picture: Image.Image) -> dict[str, bytes]:
    """One picture in every format that is read, and in several ways of each."""
    rgb = picture.convert("RGB")
    rgb.thumbnail((256, 256))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    deep = Image.fromarray((np.asarray(rgb.convert("L"), np.uint16) << 8) + 7)
    clear = rgb.convert("RGBA")
    clear.putalpha(rgb.convert("L"))
    frames = [rgb.rotate(turn).quantize(32) for turn in (0, 90, 180)]
    more = {"save_all": True, "append_images": frames[1:]}
    wanted: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "jpeg": (rgb, "JPEG", {"quality": 80, "exif": exif}),
        "jpeg progressive": (rgb, "JPEG", {"progressive": True, "icc_profile": bytes(500)}),
        "jpeg cmyk": (rgb.convert("CMYK"), "JPEG", {}),
        "mpo": (rgb, "MPO", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        "png": (rgb, "PNG", {"pnginfo": None}),
        "png palette": (rgb.quantize(16), "PNG", {"transparency": 3}),
        "png 16": (deep, "PNG", {}),
        "png clear": (clear, "PNG", {}),
        "apng": (frames[0], "PNG", more),
        "webp": (rgb, "WEBP", {"exif": exif}),
        "webp lossless": (clear, "WEBP", {"lossless": True}),
        "webp frames": (frames[0], "WEBP", more),
        "gif": (frames[0], "GIF", more),
        "bmp": (rgb, "BMP", {}),
        "tiff": (rgb, "TIFF", {}),
        "tiff lzw": (rgb, "TIFF", {"compression": "tiff_lzw"}),
        "tiff jpeg": (rgb, "TIFF", {"compression": "jpeg"}),
        "tiff pages": (frames[0], "TIFF", {**more, "compression": "tiff_adobe_deflate"}),
        "avif": (clear, "AVIF", {"quality": 60, "speed": 10}),
    }
    files = {}
    for name, (image, kind, options) in wanted.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files[name] = buffer.getvalue()
    return files


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bits are others."""
    mutated = bytearray(data)
    for place in rng.integers(0, len(data), int(rng.integers(1, 33))):
        mutated[place] ^= 1 << int(rng.integers(8))
    return bytes(mutated)


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """The end, the beginning or a piece of the middle is missing."""
    first, last = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    return (data[:last], data[first:], data[:first] + data[last:])[int(rng.integers(3))]


def repeated(data: bytes, rng: np.random.Generator) -> bytes:
    """A piece comes many times: as segments, frames or pages would."""
    first, last = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    return data[:last] + data[first:last][:4096] * int(rng.integers(1, 200)) + data[last:]


def lied_in_the_header(data: bytes, rng: np.random.Generator) -> bytes:
    """A number near the beginning is another: a size, a count, an offset."""
    mutated = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        form = (">I", "<I", ">H", "<H", "B")[int(rng.integers(5))]
        value = int(rng.choice(_LIES)) & (2 ** (8 * struct.calcsize(form)) - 1)
        place = int(rng.integers(0, max(1, min(len(data), 200) - 4)))
        if place + struct.calcsize(form) <= len(mutated):
            struct.pack_into(form, mutated, place, value)
    return bytes(mutated)


def noisy(data: bytes, rng: np.random.Generator) -> bytes:
    """A piece is noise or zeros."""
    first, last = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    piece = rng.bytes(last - first) if rng.random() < 0.5 else bytes(last - first)
    return data[:first] + piece + data[last:]


def _chunks(data: bytes) -> list[bytes]:
    """The parts that a PNG, a JPEG or a RIFF file consists of; others in pieces of equal length."""
    parts, place = [], 0
    if data.startswith(b"\x89PNG"):
        place = 8
        parts.append(data[:8])
        while place + 8 <= len(data):
            length = struct.unpack_from(">I", data, place)[0] + 12
            parts.append(data[place : place + length])
            place += length
    elif data.startswith(b"\xff\xd8"):
        place = 2
        parts.append(data[:2])
        while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
            length = struct.unpack_from(">H", data, place + 2)[0] + 2
            parts.append(data[place : place + length])
            place += length
        parts.append(data[place:])
    else:
        size = max(1, len(data) // 8)
        parts = [data[start : start + size] for start in range(0, len(data), size)]
    return parts


def swapped(data: bytes, rng: np.random.Generator) -> bytes:
    """Parts of the file change places, come twice or are missing."""
    parts = _chunks(data)
    first, second = (int(one) for one in rng.integers(0, len(parts), 2))
    match int(rng.integers(3)):
        case 0:
            parts[first], parts[second] = parts[second], parts[first]
        case 1:
            parts.insert(second, parts[first])
        case _:
            del parts[first]
    return b"".join(parts)


def huge(data: bytes, rng: np.random.Generator) -> bytes:
    """Width and height are other ones, with the checksum that fits them."""
    width, height = (int(one) for one in rng.choice([1, 2, 3000, 9999, 16_383, 65_535, 2**31 - 1], 2))
    mutated = bytearray(data)
    if data.startswith(b"\x89PNG") and len(data) > 33:
        struct.pack_into(">II", mutated, 16, width, height)
        struct.pack_into(">I", mutated, 29, zlib.crc32(mutated[12:29]))
    elif data.startswith(b"\xff\xd8"):
        place = next((at for sof in (b"\xff\xc0", b"\xff\xc2") if (at := data.find(sof)) > 0), 0)
        if 0 < place < len(data) - 9:
            struct.pack_into(">HH", mutated, place + 5, height & 0xFFFF, width & 0xFFFF)
    elif data.startswith(b"GIF"):
        struct.pack_into("<HH", mutated, 6, width & 0xFFFF, height & 0xFFFF)
    elif data.startswith(b"BM") and len(data) > 26:
        struct.pack_into("<II", mutated, 18, width, height)
    else:
        return lied_in_the_header(data, rng)
    return bytes(mutated)


def circular(data: bytes, rng: np.random.Generator) -> bytes:
    """A TIFF whose pages lead back to earlier ones; what is none has offsets changed."""
    if data[:4] != b"II*\x00" or len(data) < 16:
        return lied_in_the_header(data, rng)
    mutated, place, seen = bytearray(data), struct.unpack_from("<I", data, 4)[0], []
    while 0 < place < len(data) - 2 and len(seen) < 50:
        seen.append(place)
        after = place + 2 + 12 * struct.unpack_from("<H", data, place)[0]
        if after + 4 > len(data):
            break
        following = struct.unpack_from("<I", data, after)[0]
        if following == 0:
            struct.pack_into("<I", mutated, after, int(rng.choice([4, place, *seen])))
            break
        place = following
    return bytes(mutated)


MUTATIONS: dict[str, Mutation] = {
    "bits flipped": flipped,
    "cut": cut,
    "pieces repeated": repeated,
    "lies in the header": lied_in_the_header,
    "noise": noisy,
    "parts swapped": swapped,
    "huge": huge,
    "circular pages": circular,
}


def mutated(files: dict[str, bytes], seed: int, number: int) -> tuple[str, str, bytes]:
    """One mutated picture; the same for the same files, seed and number.

    Returns:
        Which file, what was done to it, and the bytes: one mutation, sometimes several, or two files as one.
    """
    rng = np.random.default_rng([seed, number])
    names = sorted(files)
    name = names[number % len(names)]
    if rng.random() < 0.08:
        other = files[names[int(rng.integers(len(names)))]]
        head = int(rng.integers(4, 64))
        zipped = b"PK\x03\x04" + bytes(26) + b"<script>alert(1)</script>%PDF-1.7"
        two = (files[name] + other, files[name][:head] + other[head:], files[name] + zipped, zipped + files[name])
        return name, "polyglot", two[int(rng.integers(4))]
    kinds = list(MUTATIONS)
    kind = kinds[int(rng.integers(len(kinds)))]
    data = MUTATIONS[kind](files[name], rng)
    while data and rng.random() < 0.3:
        data = MUTATIONS[kinds[int(rng.integers(len(kinds)))]](data, rng)
    return name, kind, data
