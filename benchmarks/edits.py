"""What people do to pictures before they post them again: named edits for the demo and the measurements.

Each takes and gives a PIL image; other pictures and a numpy generator make them differ. In the spirit of DISC21 and
Copydays-strong.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Picture = Image.Image
Edit = Callable[[Picture, np.random.Generator, Sequence[Picture]], Picture]


def _jpeg(quality: int) -> Edit:
    def edit(picture: Picture, _rng: np.random.Generator, _others: Sequence[Picture]) -> Picture:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return edit


def _crop(share: float) -> Edit:
    def edit(picture: Picture, rng: np.random.Generator, _others: Sequence[Picture]) -> Picture:
        width, height = (round(side * share**0.5) for side in picture.size)
        x = int(rng.integers(0, picture.width - width + 1))
        y = int(rng.integers(0, picture.height - height + 1))
        return picture.crop((x, y, x + width, y + height))

    return edit


def shrink(picture: Picture, _rng: np.random.Generator, _others: Sequence[Picture]) -> Picture:
    """A thumbnail of a quarter of the side."""
    return picture.resize((max(64, picture.width // 4), max(64, picture.height // 4)), Image.Resampling.LANCZOS)


def mirror(picture: Picture, _rng: np.random.Generator, _others: Sequence[Picture]) -> Picture:
    """Left and right exchanged."""
    return ImageOps.mirror(picture)


def quarter_turn(picture: Picture, _rng: np.random.Generator, _others: Sequence[Picture]) -> Picture:
    """Turned by 90°."""
    return picture.transpose(Image.Transpose.ROTATE_90)


def blur(picture: Picture, _rng: np.random.Generator, _others: Sequence[Picture]) -> Picture:
    """Gaussian blur of 1 % of the long side."""
    return picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 100))


def recolour(picture: Picture, rng: np.random.Generator, _others: Sequence[Picture]) -> Picture:
    """Warmer or colder, more colour, more contrast, brighter."""
    gains = rng.uniform(0.75, 1.25, 3)
    tinted = Image.fromarray(np.clip(np.asarray(picture) * gains, 0, 255).astype(np.uint8))
    return ImageEnhance.Contrast(ImageEnhance.Color(tinted).enhance(1.6)).enhance(1.2)


def greyscale(picture: Picture, _rng: np.random.Generator, _others: Sequence[Picture]) -> Picture:
    """Without colour."""
    return ImageOps.grayscale(picture).convert("RGB")


def _caption(draw: ImageDraw.ImageDraw, text: str, width: int, y: int, size: float) -> None:
    font = ImageFont.load_default(size)
    draw.text((width / 2, y), text, fill="black", anchor="mm", font=font)


def meme(picture: Picture, _rng: np.random.Generator, _others: Sequence[Picture]) -> Picture:
    """White bars with a caption above and below."""
    bar = picture.height // 6
    framed = Image.new("RGB", (picture.width, picture.height + 2 * bar), "white")
    framed.paste(picture, (0, bar))
    draw = ImageDraw.Draw(framed)
    _caption(draw, "WHEN YOU THINK", picture.width, bar // 2, bar * 0.5)
    _caption(draw, "NOBODY WILL NOTICE", picture.width, picture.height + bar * 3 // 2, bar * 0.5)
    return framed


def border(picture: Picture, rng: np.random.Generator, _others: Sequence[Picture]) -> Picture:
    """A coloured frame of 8 % on each side."""
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    return ImageOps.expand(picture, max(picture.size) * 8 // 100, colour)


def overlay_text(picture: Picture, _rng: np.random.Generator, _others: Sequence[Picture]) -> Picture:
    """A watermark across the middle."""
    marked = picture.copy()
    size = max(12, picture.width // 9)
    ImageDraw.Draw(marked).text(
        (picture.width / 2, picture.height / 2), "@repost_daily", fill="white", anchor="mm",
        font=ImageFont.load_default(size), stroke_width=2, stroke_fill="black",
    )  # fmt: skip
    return marked


def pasted(picture: Picture, rng: np.random.Generator, others: Sequence[Picture]) -> Picture:
    """Onto another picture, at 40 % of its area."""
    ground = others[int(rng.integers(len(others)))].resize((640, 480)).convert("RGB")
    share = (0.4 * 640 * 480 / (picture.width * picture.height)) ** 0.5
    small = picture.resize((min(620, round(picture.width * share)), min(460, round(picture.height * share))))
    x = int(rng.integers(0, 640 - small.width + 1))
    y = int(rng.integers(0, 480 - small.height + 1))
    ground.paste(small, (x, y))
    return ground


EDITS: dict[str, Edit] = {
    "jpeg10": _jpeg(10),
    "shrink": shrink,
    "crop70": _crop(0.7),
    "crop50": _crop(0.5),
    "mirror": mirror,
    "quarter_turn": quarter_turn,
    "blur": blur,
    "recolour": recolour,
    "greyscale": greyscale,
    "meme": meme,
    "border": border,
    "overlay_text": overlay_text,
    "pasted": pasted,
}
