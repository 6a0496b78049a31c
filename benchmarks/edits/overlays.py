"""Edits that write over the picture or put a frame around it: text, emoji, meme, border, a screenshot."""

from PIL import Image, ImageDraw, ImageFont, ImageOps

from benchmarks.edits.types import Others, Picture, Random


def colour(rng: Random) -> tuple[int, int, int]:
    """Any colour."""
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def _caption(draw: ImageDraw.ImageDraw, text: str, width: int, y: float, size: float) -> None:
    draw.text((width / 2, y), text, fill="black", anchor="mm", font=ImageFont.load_default(max(4, size)))


def meme(picture: Picture, _rng: Random, _others: Others) -> Picture:
    """White bars with a caption above and below."""
    bar = max(1, picture.height // 6)
    framed = Image.new("RGB", (picture.width, picture.height + 2 * bar), "white")
    framed.paste(picture, (0, bar))
    draw = ImageDraw.Draw(framed)
    _caption(draw, "WHEN YOU THINK", picture.width, bar / 2, bar * 0.5)
    _caption(draw, "NOBODY WILL NOTICE", picture.width, picture.height + bar * 3 / 2, bar * 0.5)
    return framed


def border(picture: Picture, rng: Random, _others: Others) -> Picture:
    """A coloured frame of 8 % on each side."""
    return ImageOps.expand(picture, max(1, max(picture.size) * 8 // 100), colour(rng))


def overlay_text(picture: Picture, _rng: Random, _others: Others) -> Picture:
    """A watermark across the middle."""
    marked = picture.copy()
    ImageDraw.Draw(marked).text(
        (picture.width / 2, picture.height / 2), "@repost_daily", fill="white", anchor="mm",
        font=ImageFont.load_default(max(12, picture.width // 9)), stroke_width=2, stroke_fill="black",
    )  # fmt: skip
    return marked


def _face(draw: ImageDraw.ImageDraw, x: int, y: int, side: int) -> None:
    draw.ellipse((x, y, x + side, y + side), "#ffcc33", "#b8860b", max(1, side // 30))
    for eye in (0.32, 0.68):
        centre, radius = (x + side * eye, y + side * 0.38), side * 0.07
        draw.ellipse((centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius), "#4a2c00")
    draw.arc((x + side * 0.25, y + side * 0.3, x + side * 0.75, y + side * 0.8), 20, 160, "#4a2c00", max(1, side // 14))


def _heart(draw: ImageDraw.ImageDraw, x: int, y: int, side: int) -> None:
    half = side / 2
    draw.pieslice((x, y, x + half, y + half), 180, 360, "#e0245e")
    draw.pieslice((x + half, y, x + side, y + half), 180, 360, "#e0245e")
    draw.polygon([(x, y + half * 0.5), (x + side, y + half * 0.5), (x + half, y + side)], "#e0245e")


def emoji(picture: Picture, rng: Random, _others: Others) -> Picture:
    """Two to four faces and hearts, each 15 to 30 % of the short side."""
    marked = picture.copy()
    draw = ImageDraw.Draw(marked)
    for _ in range(int(rng.integers(2, 5))):
        side = max(4, round(min(picture.size) * rng.uniform(0.15, 0.3)))
        x, y = (int(rng.integers(0, max(1, length - side))) for length in picture.size)
        (_face if rng.random() < 0.6 else _heart)(draw, x, y, side)
    return marked


def screenshot(picture: Picture, rng: Random, _others: Others) -> Picture:
    """A page of a social network, photographed from the screen: the picture has 35 to 55 % of its area."""
    dark = rng.random() < 0.4
    ground, ink, faint = ("#15202b", "#e8e8e8", "#38444d") if dark else ("#ffffff", "#14171a", "#dfe5ea")
    width = 480
    inside = width - 40
    picture = picture.crop((0, 0, picture.width, min(picture.height, 4 * picture.width)))  # as feeds cut tall ones
    shown = picture.resize((inside, max(8, round(picture.height * inside / picture.width))))
    share = rng.uniform(0.35, 0.55)
    height = max(round(shown.width * shown.height / share / width), shown.height + 150)
    page = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, width, 34), faint)
    draw.text((12, 8), "9:41      news feed", fill=ink, font=ImageFont.load_default(16))
    draw.ellipse((20, 48, 64, 92), colour(rng))
    draw.text((76, 50), "Somebody  @somebody", fill=ink, font=ImageFont.load_default(17))
    draw.text((76, 72), "3 h ago", fill=ink, font=ImageFont.load_default(13))
    page.paste(shown, (20, 104))
    y = 104 + shown.height + 12
    for place in range(4):
        draw.ellipse((24 + place * 110, y, 46 + place * 110, y + 22), outline=ink, width=2)
    y += 36
    while y < height - 12:
        draw.text((20, y), "look what I have found today, is this not great", fill=ink, font=ImageFont.load_default(15))
        y += 26
    return page
