"""Two views of each training picture: one hardly changed, as it is stored; one strongly edited, as it comes back."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from tools.descriptor.restyle import (
    Picture,
    Random,
    brush,
    clipped,
    line_drawing,
    posterised,
    resized,
    restyled,
)


def crop(picture: Picture, rng: Random, low: float, high: float, ratio: float = 1.4) -> Picture:
    """A random part of ``low`` to ``high`` of the area, its aspect changed by up to ``ratio``."""
    height, width = picture.shape[:2]
    share, aspect = rng.uniform(low, high), np.exp(rng.uniform(-np.log(ratio), np.log(ratio)))
    tall = max(8, min(height, int(height * (share / aspect) ** 0.5)))
    wide = max(8, min(width, int(width * (share * aspect) ** 0.5)))
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    return picture[top : top + tall, left : left + wide]


def colour(picture: Picture, rng: Random, strength: float = 1.0) -> Picture:
    """Brightness, contrast, saturation and hue."""
    out = picture.astype(np.float32) * np.exp(rng.uniform(-0.6, 0.6) * strength)
    level = out.mean()
    out = (out - level) * np.exp(rng.uniform(-0.7, 0.6) * strength) + level
    grey = out.mean(2, keepdims=True)
    edited = clipped(grey + (out - grey) * rng.uniform(0.2, 1 + strength))
    if rng.random() < 0.7:
        hsv = cv2.cvtColor(edited, cv2.COLOR_RGB2HSV)
        hsv[:, :, 0] = (hsv[:, :, 0].astype(np.int16) + int(rng.uniform(-90, 90) * strength)) % 180
        edited = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
    return edited


def grey(picture: Picture) -> Picture:
    """Without colour."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def compressed(picture: Picture, rng: Random) -> Picture:
    """JPEG of quality 5 to 50."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(5, 51))])
    return np.asarray(cv2.imdecode(data, 1), np.uint8)


def _fill(rng: Random) -> tuple[int, int, int]:
    kind = rng.random()
    if kind < 0.6:
        return (0, 0, 0) if kind < 0.25 else (255, 255, 255)
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def rotated(picture: Picture, rng: Random) -> Picture:
    """Turned by up to 35° about the centre."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-35, 35), rng.uniform(0.75, 1.2))
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), borderValue=_fill(rng)), np.uint8)


def perspective(picture: Picture, rng: Random) -> Picture:
    """Seen from the side."""
    height, width = picture.shape[:2]
    corners = np.asarray([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    inward = np.asarray([[1, 1], [-1, 1], [-1, -1], [1, -1]], np.float32)
    moved = corners + rng.uniform(-0.05, 0.25, (4, 2)).astype(np.float32) * inward * (width, height)
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return np.asarray(cv2.warpPerspective(picture, matrix, (width, height), borderValue=_fill(rng)), np.uint8)


def text(picture: Picture, rng: Random) -> Picture:
    """One to four lines of letters."""
    out = np.ascontiguousarray(picture).copy()
    height, width = out.shape[:2]
    for _ in range(int(rng.integers(1, 5))):
        letters = "".join(
            chr(int(rng.integers(65, 123))) if rng.random() > 0.2 else " " for _ in range(int(rng.integers(4, 19)))
        )
        place = (int(rng.uniform(-0.1, 0.5) * width), int(rng.uniform(0.08, 0.98) * height))
        cv2.putText(
            out, letters, place, int(rng.integers(0, 8)), rng.uniform(0.4, 1.6) * height / 200, _fill(rng),
            int(rng.integers(1, 4)), cv2.LINE_AA,
        )  # fmt: skip
    return out


def sticker(picture: Picture, rng: Random, other: Picture) -> Picture:
    """Faces, bubbles and other pictures stuck on, up to half the short side."""
    out = np.ascontiguousarray(picture).copy()
    height, width = out.shape[:2]
    for _ in range(int(rng.integers(1, 4))):
        side = int(min(height, width) * rng.uniform(0.12, 0.5))
        if side < 6:
            continue
        top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
        centre, radius = (left + side // 2, top + side // 2), side // 2
        kind = rng.random()
        if kind < 0.5:
            cv2.circle(
                out, centre, radius, (255, int(rng.integers(170, 230)), int(rng.integers(0, 90))), -1, cv2.LINE_AA
            )
            for eye in (-1, 1):
                cv2.circle(
                    out, (centre[0] + eye * radius // 3, centre[1] - radius // 4), max(1, radius // 7), (60, 40, 20), -1
                )
            cv2.ellipse(out, centre, (radius // 2, radius // 2), 0, 20, 160, (60, 40, 20), max(1, radius // 8))
        elif kind < 0.75:
            cv2.ellipse(
                out, centre, (radius, max(2, int(radius * rng.uniform(0.4, 1)))), 0, 0, 360, _fill(rng), -1, cv2.LINE_AA
            )
        else:
            out[top : top + side, left : left + side] = resized(other, side, side)
    return out


def padded(picture: Picture, rng: Random) -> Picture:
    """Bars on one, two or all sides; broad ones carry text."""
    height, width = picture.shape[:2]
    shares = rng.uniform(0, 0.5, 4)
    kind = rng.random()
    if kind < 0.3:
        shares[1:] = 0
    elif kind < 0.55:
        shares[2:] = 0
    elif kind < 0.8:
        shares[:] = shares[0] * 0.5
    top, bottom, left, right = (
        int(share * side) for share, side in zip(shares, (height, height, width, width), strict=True)
    )
    out = cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=_fill(rng))
    if top > 14 and rng.random() < 0.8:
        out[:top] = text(out[:top], rng)
    if bottom > 14 and rng.random() < 0.5:
        out[-bottom:] = text(out[-bottom:], rng)
    return np.asarray(out, np.uint8)


def onto(picture: Picture, rng: Random, ground: Picture) -> Picture:
    """Pasted onto another picture, or a drawn page, at 25 to 70 % of its area."""
    side = 224
    if rng.random() < 0.25:
        page = np.full((side, side, 3), _fill(rng), np.uint8)
        for _ in range(int(rng.integers(2, 9))):
            y, x = (int(value) for value in rng.integers(0, side, 2))
            cv2.rectangle(page, (x, y), (x + int(rng.integers(10, 160)), y + int(rng.integers(3, 20))), _fill(rng), -1)
        below = text(page, rng)
    else:
        below = resized(crop(ground, rng, 0.4, 1), side, side)
    share = rng.uniform(0.25, 0.7)
    aspect = float(np.clip(picture.shape[1] / picture.shape[0], 0.6, 1.7))
    tall, wide = min(side, int((share / aspect) ** 0.5 * side)), min(side, int((share * aspect) ** 0.5 * side))
    top, left = int(rng.integers(0, side - tall + 1)), int(rng.integers(0, side - wide + 1))
    below[top : top + tall, left : left + wide] = resized(picture, wide, tall)
    return below


def new_ground(picture: Picture, rng: Random, ground: Picture) -> Picture:
    """The middle of the picture, or what stands before its plain background, on another picture."""
    height, width = picture.shape[:2]
    corners = np.concatenate([picture[:3].reshape(-1, 3), picture[-3:].reshape(-1, 3)]).astype(np.float32)
    if corners.std(0).mean() < 12:
        mask = (np.abs(picture - corners.mean(0)).max(2) > 25).astype(np.float32)
        mask = cv2.medianBlur(mask, 5)
    else:
        ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
        centre = rng.uniform(0.4, 0.6, 2) * (height, width)
        radius = rng.uniform(0.28, 0.48, 2) * (height, width)
        mask = (((ys - centre[0]) / radius[0]) ** 2 + ((xs - centre[1]) / radius[1]) ** 2 < 1).astype(np.float32)
    mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 3))[:, :, None]
    return clipped(picture * mask + resized(ground, width, height) * (1 - mask))


def collage(picture: Picture, rng: Random, others: Sequence[Picture]) -> Picture:
    """Two beside or above each other, or four."""
    side = 112
    if rng.random() < 0.5:
        two = [picture, others[0]]
        order = rng.permutation(2)
        if rng.random() < 0.5:
            return np.hstack([resized(two[i], side, 2 * side) for i in order])
        return np.vstack([resized(two[i], 2 * side, side) for i in order])
    four = [resized(one, side, side) for one in (picture, *others[:3])]
    a, b, c, d = (four[i] for i in rng.permutation(4))
    return np.vstack([np.hstack([a, b]), np.hstack([c, d])])


def blended(picture: Picture, rng: Random, other: Picture) -> Picture:
    """Another picture shining through."""
    share = rng.uniform(0.42, 0.75)
    over = resized(other, picture.shape[1], picture.shape[0])
    return np.asarray(cv2.addWeighted(picture, share, over, 1 - share, 0), np.uint8)


def strong(picture: Picture, rng: Random, others: Sequence[Picture], side: int) -> Picture:
    """uint8[side, side, 3]: several edits in random order; ``others`` are three other pictures.

    A view on which nothing is left to see is made again, a few times at most.
    """
    for _ in range(4):
        out = _strong(picture, rng, others, side)
        if out.std() > 12:
            break
    return out


def _strong(picture: Picture, rng: Random, others: Sequence[Picture], side: int) -> Picture:
    out = crop(picture, rng, 0.15, 1) if rng.random() < 0.55 else picture
    if rng.random() < 0.35:
        out = out[:, ::-1]
    if rng.random() < 0.12:
        out = np.rot90(out, int(rng.integers(1, 4)))
    out = np.ascontiguousarray(out)
    longest = max(out.shape[:2])
    if longest > 200:
        out = resized(out, out.shape[1] * 200 / longest, out.shape[0] * 200 / longest)
    edits: list[Callable[[Picture], Picture]] = []
    kind = rng.random()
    if kind < 0.16:
        edits.append(lambda one: line_drawing(one, rng))
    elif kind < 0.38:
        edits.append(lambda one: restyled(one, others[2], rng))
    elif kind < 0.44:
        edits.append(lambda one: posterised(one, rng))
    elif kind < 0.48:
        edits.append(lambda one: brush(one, rng))
    elif kind < 0.58:
        edits.append(grey)
    elif kind < 0.9:
        edits.append(lambda one: colour(one, rng))
    for chance, edit in (
        (0.2, lambda one: text(one, rng)),
        (0.2, lambda one: sticker(one, rng, others[1])),
        (0.18, lambda one: rotated(one, rng)),
        (0.13, lambda one: perspective(one, rng)),
    ):
        if rng.random() < chance:
            edits.append(edit)
    kind = rng.random()
    if kind < 0.11:
        edits.append(lambda one: onto(one, rng, others[0]))
    elif kind < 0.2:
        edits.append(lambda one: collage(one, rng, others))
    elif kind < 0.32:
        edits.append(lambda one: blended(one, rng, others[0]))
    elif kind < 0.38:
        edits.append(lambda one: new_ground(one, rng, others[0]))
    elif kind < 0.54:
        edits.append(lambda one: padded(one, rng))
    for place in rng.permutation(len(edits)):
        out = edits[place](out)
    if rng.random() < 0.2:
        out = np.asarray(cv2.GaussianBlur(out, (0, 0), rng.uniform(0.5, 3.5)), np.uint8)
    out = resized(out, side, side)
    return compressed(out, rng) if rng.random() < 0.25 else out


def weak(picture: Picture, rng: Random, side: int) -> Picture:
    """uint8[side, side, 3]: at most a slight crop and a slight change of colour."""
    out = crop(picture, rng, 0.6, 1) if rng.random() < 0.5 else picture
    out = resized(np.ascontiguousarray(out), side, side)
    return colour(out, rng, 0.25) if rng.random() < 0.3 else out
