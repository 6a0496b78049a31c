"""Restyling of training pictures: what is drawn stays, its texture and colours go. Breaks the texture bias of ImageNet networks.

Geirhos et al. 2019, "ImageNet-trained CNNs are biased towards texture". All take and give uint8[h, w, 3].
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Random = np.random.Generator


def clipped(values: NDArray[np.float32]) -> Picture:
    """To 0..255."""
    return np.clip(values, 0, 255).astype(np.uint8)


def resized(picture: Picture, width: int, height: int) -> Picture:
    """Area averaging when it gets smaller, linear when larger."""
    smaller = width < picture.shape[1]
    size = (max(4, int(width)), max(4, int(height)))
    return np.asarray(
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR), np.uint8
    )


def like(style: Picture, picture: Picture) -> Picture:
    """The style picture in the size of the other."""
    return resized(style, picture.shape[1], picture.shape[0])


def palette(picture: Picture, style: Picture, rng: Random) -> Picture:
    """Mean and covariance of the colours of another picture (Reinhard et al. 2001; Pitié & Kokaram 2007), partly."""
    content = picture.reshape(-1, 3).astype(np.float32)
    other = style.reshape(-1, 3)[:: max(1, style.size // 9000)].astype(np.float32)
    mean, goal = content.mean(0), other.mean(0)
    values, axes = np.linalg.eigh(np.cov(content[::7].T) + 4 * np.eye(3))
    goal_values, goal_axes = np.linalg.eigh(np.cov(other.T) + 4 * np.eye(3))
    scale = np.sqrt(np.maximum(goal_values, 1) / np.maximum(values, 1))
    moved = (content - mean) @ (axes * np.clip(scale, 0.3, 3)) @ goal_axes.T + goal
    # Along the brightest axis the sign of an eigenvector is arbitrary: keep light what was light.
    light, before = moved[::7].sum(1), content[::7].sum(1)
    if float((light - light.mean()) @ (before - before.mean())) < 0:
        moved = 2 * goal - moved
    share = rng.uniform(0.5, 1)
    return clipped((share * moved + (1 - share) * content).reshape(picture.shape))


def amplitude(picture: Picture, style: Picture, rng: Random) -> Picture:
    """The amplitude spectrum of another picture, the phase kept (Yang & Soatto 2020; Xu et al. 2021), partly."""
    spectrum = np.fft.rfft2(picture.astype(np.float32), axes=(0, 1))
    other = np.abs(np.fft.rfft2(like(style, picture).astype(np.float32), axes=(0, 1)))
    share = rng.uniform(0.5, 1)
    own = np.abs(spectrum)
    mixed = spectrum / (own + 1e-3) * (own ** (1 - share) * other**share)
    mixed[0, 0] = spectrum[0, 0]
    out = np.fft.irfft2(mixed, s=picture.shape[:2], axes=(0, 1)).astype(np.float32)
    out = (out - out.mean()) / (out.std() + 1e-3) * rng.uniform(35, 65) + rng.uniform(100, 155)
    return clipped(out)


def pyramid(picture: Picture, style: Picture, rng: Random) -> Picture:
    """Energy and marginal statistics of the bands of another picture's Laplacian pyramid (after Heeger & Bergen 1995)."""
    content, other = picture.astype(np.float32), like(style, picture).astype(np.float32)
    bands = []
    for _ in range(4):
        if min(content.shape[:2]) < 8:
            break
        down, other_down = cv2.pyrDown(content), cv2.pyrDown(other)
        size = (content.shape[1], content.shape[0])
        band = content - cv2.pyrUp(down, dstsize=size)
        other_band = other - cv2.pyrUp(other_down, dstsize=size)
        gain = np.clip((other_band.std((0, 1)) + 1) / (band.std((0, 1)) + 1), 0.2, 5)
        bands.append(band * gain + other_band * rng.uniform(0, 0.7))
        content, other = down, other_down
    spread = (other.std((0, 1)) + 5) / (content.std((0, 1)) + 5)
    content = (content - content.mean((0, 1))) * np.clip(spread, 0.5, 2) + other.mean((0, 1))
    for band in reversed(bands):
        content = cv2.pyrUp(content, dstsize=(band.shape[1], band.shape[0])) + band
    return clipped(content)


def random_filters(picture: Picture, rng: Random) -> Picture:
    """A random convolution over colours and neighbours (RandConv, Xu et al. 2021)."""
    side = int(rng.choice([1, 3, 3, 5, 7]))
    content = picture.astype(np.float32) - 127
    kernels = rng.normal(0, 1, (3, 3, side, side)).astype(np.float32)
    out = np.zeros_like(content)
    for target in range(3):
        for source in range(3):
            out[:, :, target] += cv2.filter2D(content[:, :, source], -1, kernels[target, source])
    out = (out - out.mean((0, 1))) / (out.std((0, 1)) + 1e-3) * rng.uniform(35, 65) + rng.uniform(90, 165, 3)
    share = rng.uniform(0, 0.5)
    return clipped(share * picture + (1 - share) * out.astype(np.float32))


def patches(picture: Picture, style: Picture, rng: Random) -> Picture:
    """Every patch becomes the nearest one of the style picture (style swap of Chen & Schmidt 2016, on pixels).

    Patches are compared by their structure: zero mean, unit length, brightness only.
    """
    side, step = int(rng.choice([5, 7, 9])), 3
    longest = 112 / max(picture.shape[:2])
    small = resized(picture, picture.shape[1] * longest, picture.shape[0] * longest)
    source = resized(style, small.shape[1] * 0.8, small.shape[0] * 0.8)

    def cut(image: Picture, stride: int) -> NDArray[np.uint8]:
        windows = np.lib.stride_tricks.sliding_window_view(image, (side, side), axis=(0, 1))[::stride, ::stride]
        return windows.reshape(-1, 3, side, side)

    if min(*source.shape[:2], *small.shape[:2]) <= side:
        return picture
    dictionary = cut(source, 2)
    dictionary = dictionary[rng.permutation(len(dictionary))[:900]]
    places = cut(small, step)

    def structure(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        grey = windows.mean(1).reshape(len(windows), -1).astype(np.float32)
        level = grey.mean(1, keepdims=True)
        flat = grey - level
        flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 40
        return np.concatenate([flat, level / 255 * 1.5], axis=1)

    ours, theirs = structure(places), structure(dictionary)
    nearest = (ours @ theirs.T - 0.5 * (theirs**2).sum(1)).argmax(1)
    canvas = np.zeros(small.shape, np.float32)
    weight = np.full((*small.shape[:2], 1), 1e-3, np.float32)
    rows = (small.shape[0] - side) // step + 1
    columns = (small.shape[1] - side) // step + 1
    chosen = dictionary[nearest].transpose(0, 2, 3, 1).reshape(rows, columns, side, side, 3)
    for dy in range(side):
        for dx in range(side):
            ys, xs = slice(dy, dy + rows * step, step), slice(dx, dx + columns * step, step)
            canvas[ys, xs] += chosen[:, :, dy, dx]
            weight[ys, xs] += 1
    out = canvas / weight
    share = rng.uniform(0.6, 1)
    return resized(clipped(share * out + (1 - share) * small), picture.shape[1], picture.shape[0])


def brush(picture: Picture, rng: Random) -> Picture:
    """Strokes: a median of posterised brightness, or a Kuwahara-like choice of the calmest neighbourhood."""
    if rng.random() < 0.5:
        return np.asarray(cv2.medianBlur(picture, int(rng.choice([5, 7, 9]))) // 24 * 24 + 12, np.uint8)
    side = int(rng.integers(2, 5))
    content = picture.astype(np.float32)
    grey = content.mean(2)
    mean = cv2.blur(content, (side + 1, side + 1))
    spread = cv2.blur(grey * grey, (side + 1, side + 1)) - cv2.blur(grey, (side + 1, side + 1)) ** 2
    out, least = mean, np.full(grey.shape, np.inf, np.float32)
    for dy in (-side // 2, side // 2):
        for dx in (-side // 2, side // 2):
            shifted, other = np.roll(spread, (dy, dx), (0, 1)), np.roll(mean, (dy, dx), (0, 1))
            better = shifted < least
            out, least = np.where(better[:, :, None], other, out), np.where(better, shifted, least)
    return clipped(out)


def line_drawing(picture: Picture, rng: Random) -> Picture:
    """Sketches, edges, contours and threshold prints, dark on light or light on dark."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    kind = rng.random()
    if kind < 0.25:  # colour dodge
        blurred = cv2.GaussianBlur(255 - grey, (0, 0), rng.uniform(1.5, 7))
        out = cv2.divide(grey, 255 - blurred, scale=256)
    elif kind < 0.45:
        smooth = cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.5, 1.8))
        magnitude = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
        out = 255 - clipped(magnitude * rng.uniform(0.4, 1.8))
    elif kind < 0.65:
        low = rng.uniform(20, 110)
        edges = cv2.Canny(cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.4, 1.6)), low, low * rng.uniform(1.5, 3))
        if rng.random() < 0.4:
            edges = cv2.dilate(edges, np.ones((2, 2), np.uint8))
        out = 255 - edges
    elif kind < 0.85:  # extended difference of Gaussians (Winnemöller et al. 2012)
        sigma = rng.uniform(0.6, 2)
        content = grey.astype(np.float32) / 255
        sharp = (1 + 20) * cv2.GaussianBlur(content, (0, 0), sigma) - 20 * cv2.GaussianBlur(
            content, (0, 0), 1.6 * sigma
        )
        out = clipped(255 * (1 + np.tanh(rng.uniform(4, 20) * (sharp - rng.uniform(0.3, 0.7)))) / 2)
    else:
        kernel = int(rng.choice([9, 11, 15, 21]))
        out = cv2.adaptiveThreshold(
            cv2.GaussianBlur(grey, (3, 3), 0), 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, kernel,
            float(rng.uniform(2, 8)),
        )  # fmt: skip
    if rng.random() < 0.35:
        out = 255 - out
    drawn = cv2.cvtColor(np.asarray(out, np.uint8), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.2:  # pencil on tinted paper, or coloured pencils
        share = rng.uniform(0.5, 1)
        drawn = clipped(drawn.astype(np.float32) * (1 - share + share * picture.astype(np.float32) / 255))
    return np.asarray(drawn, np.uint8)


def posterised(picture: Picture, rng: Random) -> Picture:
    """Few levels of each colour, or a gradient map of the brightness between random colours."""
    if rng.random() < 0.5:
        step = 256 // int(rng.integers(2, 6))
        return np.asarray(np.minimum(cv2.medianBlur(picture, 5) // step * step + step // 2, 255), np.uint8)
    levels = int(rng.integers(2, 7))
    table = np.asarray(rng.uniform(0, 255, (levels, 3)))
    table = table[np.argsort(table.sum(1))]
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if rng.random() < 0.5:
        return np.asarray(table[(grey.astype(int) * levels) // 256], np.uint8)
    places = np.linspace(0, 255, levels)
    ramp = np.stack([np.interp(np.arange(256), places, table[:, channel]) for channel in range(3)], 1)
    return np.asarray(ramp[grey], np.uint8)


def restyled(picture: Picture, style: Picture, rng: Random) -> Picture:
    """One or two of the above that take another picture's style."""
    longest = max(picture.shape[:2])
    if longest > 200:
        picture = resized(picture, picture.shape[1] * 200 / longest, picture.shape[0] * 200 / longest)
    kind = rng.random()
    if kind < 0.15:
        return palette(picture, style, rng)
    if kind < 0.3:
        return amplitude(picture, style, rng)
    if kind < 0.5:
        return pyramid(palette(picture, style, rng), style, rng)
    if kind < 0.65:
        return random_filters(picture, rng)
    if kind < 0.9:
        return patches(picture, style, rng)
    return palette(brush(picture, rng), style, rng)
