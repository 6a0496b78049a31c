"""Looking at pictures: decode once, let the networks see small tensors, embed whole and regions. Knows nothing of Ray."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from configs.models import ModelSpec
from deployments.vision.decoding import decode
from deployments.vision.interfaces import Box, prepare_square
from deployments.vision.pdq import pdq_hashes
from storage.errors import SafeGuardError


@dataclass(frozen=True)
class Look:
    """All that was seen in one picture.

    Args:
        sha256: 32 bytes of the file.
        pdq: uint8[8, 32], one hash for each orientation; the first is the picture as it is.
        pdq_quality: 0 to 100; featureless pictures are near 0.
        boxes: people and objects, surest first, in pixels as displayed.
        unsafe: 0 to 1; None where no filter is configured.
        regions: float32[1 + r, 4], the whole picture (0, 0, 1, 1) and then the regions, as shares of width and height.
        vectors: float32[1 + r, dim] of length 1, one for each region.
    """

    sha256: bytes
    pdq: NDArray[np.uint8]
    pdq_quality: int
    boxes: list[Box]
    unsafe: float | None
    regions: NDArray[np.float32]
    vectors: NDArray[np.float32]


class Networks(Protocol):
    """The networks, wherever they run: calls take and give whole batches."""

    async def detect(
        self,
        model: ModelSpec,
        frames: NDArray[np.uint8],
        filter_frames: NDArray[np.uint8] | None,
        sizes: list[tuple[int, int]],
    ) -> tuple[list[list[Box]], list[float] | None]:
        """Boxes and unsafe scores of n pictures; sizes are (width, height) as displayed."""

    async def embed(self, model: ModelSpec, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32[n, dim] of uint8[n, s, s, 3]."""


@dataclass(frozen=True)
class _Prepared:
    sha256: bytes
    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    pdq: NDArray[np.uint8]
    pdq_quality: int
    frames: dict[str, NDArray[np.uint8]]


def _prepare(data: bytes, model: ModelSpec, max_pixels: int, long_side: int, judge: bool) -> _Prepared:
    image = decode(data, max_pixels=max_pixels, long_side=long_side)
    hashes, quality = pdq_hashes(image.pixels)
    frames = {
        "descriptor": prepare_square(image.pixels, model.descriptor.input_size),
        "detector": prepare_square(image.pixels, model.detector.input_size),
    }
    if model.content_filter is not None and judge:
        frames["filter"] = prepare_square(image.pixels, model.content_filter.input_size)
    return _Prepared(hashlib.sha256(data).digest(), image.pixels, (image.width, image.height), hashes, quality, frames)


def choose_regions(boxes: Sequence[Box], size: tuple[int, int], *, most: int, min_share: float) -> NDArray[np.float32]:
    """The regions worth a vector of their own.

    Args:
        boxes: detections in pixels.
        size: width and height in pixels.
        most: regions at most.
        min_share: least share of the picture's area.
    Returns:
        float32[r, 4] as shares of width and height, best (score × root of the area) first. A region that covers
        nearly all of the picture is left out: it would repeat the whole.
    """
    width, height = size
    ranked = []
    for box in boxes:
        x0, y0 = max(0.0, box.x0 / width), max(0.0, box.y0 / height)
        x1, y1 = min(1.0, box.x1 / width), min(1.0, box.y1 / height)
        share = max(0.0, x1 - x0) * max(0.0, y1 - y0)
        if min_share <= share <= 0.9:
            ranked.append((box.score * share**0.5, (x0, y0, x1, y1)))
    ranked.sort(reverse=True)
    return np.asarray([shares for _, shares in ranked[:most]], np.float32).reshape(-1, 4)


def _crop(pixels: NDArray[np.uint8], shares: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    x0, y0 = int(shares[0] * width), int(shares[1] * height)
    x1, y1 = max(x0 + 1, round(float(shares[2]) * width)), max(y0 + 1, round(float(shares[3]) * height))
    return prepare_square(pixels[y0:y1, x0:x1], side)


async def look(
    networks: Networks,
    model: ModelSpec,
    pictures: Sequence[bytes],
    *,
    max_pixels: int,
    long_side: int,
    judge: bool = True,
) -> list[Look | SafeGuardError]:
    """Looks at several pictures at once; each that cannot be read fails alone.

    Args:
        model: which networks and how many regions.
        pictures: files as sent.
        max_pixels, long_side: limits of decoding.
        judge: ask the content filter too; a search does not need it.
    Returns:
        For each picture what was seen, or why it cannot be read.
    """

    def prepare(data: bytes) -> _Prepared | SafeGuardError:
        try:
            return _prepare(data, model, max_pixels, long_side, judge)
        except SafeGuardError as error:
            return error

    prepared = await asyncio.gather(*(asyncio.to_thread(prepare, data) for data in pictures))
    good = [item for item in prepared if isinstance(item, _Prepared)]
    if not good:
        return [item for item in prepared if isinstance(item, SafeGuardError)]
    judged = model.content_filter is not None and judge
    filter_frames = np.stack([item.frames["filter"] for item in good]) if judged else None
    # Whole pictures are embedded while the detector works; only regions have to wait for it.
    (boxes, unsafe), wholes = await asyncio.gather(
        networks.detect(
            model, np.stack([item.frames["detector"] for item in good]), filter_frames, [item.size for item in good]
        ),
        networks.embed(model, np.stack([item.frames["descriptor"] for item in good])),
    )
    regions = [
        choose_regions(found, item.size, most=model.max_regions, min_share=model.min_region_share)
        for found, item in zip(boxes, good, strict=True)
    ]

    def crops() -> NDArray[np.uint8]:
        return np.stack(
            [
                _crop(item.pixels, region, model.descriptor.input_size)
                for item, shares in zip(good, regions, strict=True)
                for region in shares
            ]
        )

    parts = wholes[:0]
    if any(len(shares) for shares in regions):
        parts = await networks.embed(model, await asyncio.to_thread(crops))
    looks = iter(_joined(good, boxes, unsafe, regions, wholes, parts))
    return [item if isinstance(item, SafeGuardError) else next(looks) for item in prepared]


def _joined(
    good: list[_Prepared], boxes: list[list[Box]], unsafe: list[float] | None, regions: list[NDArray[np.float32]],
    wholes: NDArray[np.float32], parts: NDArray[np.float32],
) -> list[Look]:  # fmt: skip
    ends = np.cumsum([len(shares) for shares in regions])
    whole = np.asarray([[0, 0, 1, 1]], np.float32)
    return [
        Look(
            item.sha256, item.pdq, item.pdq_quality, boxes[i], unsafe[i] if unsafe else None,
            np.concatenate([whole, regions[i]]),
            np.concatenate([wholes[i : i + 1], parts[ends[i] - len(regions[i]) : ends[i]]]),
        )
        for i, item in enumerate(good)
    ]  # fmt: skip
