"""Looking at pictures: decode once, hash, describe the whole and its views, find people and objects. Knows nothing of Ray."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from configs.models import DescriptorSpec, ModelSpec
from deployments.metrics.meters import stage
from deployments.vision.decoding import Decode, decode
from deployments.vision.details import Details, details_of
from deployments.vision.gradients import gradient_layers, grey_square
from deployments.vision.interfaces import Box, prepare_square
from deployments.vision.margins import inner_box
from deployments.vision.pdq import pdq_hashes
from deployments.vision.sandbox import Sandbox
from deployments.vision.shape import ShapeDescriptor
from deployments.vision.views import WHOLE, BoxShares, View, frames_of, views_of
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
        views: what was described, those that are stored first; the first is the whole picture.
        vectors: for each descriptor by name float32[v, dim] of length 1, one for each view.
        shape_views: what the shape was described of, those that are stored first. Empty without a shape descriptor.
        shapes: float32[s, dim], one for each of them.
        semantic: float32[1, dim] of the whole picture by the semantic descriptor, where the model has one.
        details: what verification compares of stored pictures; None where candidates are not verified.
        grey, inner: uint8[160, 160], and the part without margins as shares: what is looked for in stored pictures.
    """

    sha256: bytes
    pdq: NDArray[np.uint8]
    pdq_quality: int
    boxes: list[Box]
    unsafe: float | None
    views: list[View]
    vectors: dict[str, NDArray[np.float32]]
    shape_views: list[View]
    shapes: NDArray[np.float32]
    semantic: NDArray[np.float32] | None
    details: Details | None
    grey: NDArray[np.uint8]
    inner: BoxShares | None

    @property
    def stored(self) -> int:
        """How many of the views are stored; they are the first."""
        return sum(view.stored for view in self.views)

    @property
    def stored_shapes(self) -> int:
        """How many of the shapes are stored; they are the first."""
        return sum(view.stored for view in self.shape_views)


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

    async def embed(self, descriptor: DescriptorSpec, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32[n, dim] of uint8[n, s, s, 3]."""


@dataclass(frozen=True)
class Prepared:
    """A decoded picture, ready for the networks: what needs none of them is in it already."""

    sha256: bytes
    media_type: str
    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    pdq: NDArray[np.uint8]
    pdq_quality: int
    frames: dict[str, NDArray[np.uint8]]
    inner: BoxShares | None
    shape_views: list[View]
    shapes: NDArray[np.float32]
    details: Details | None
    grey: NDArray[np.uint8]


def prepare(
    data: bytes,
    model: ModelSpec,
    shape: ShapeDescriptor | None,
    *,
    max_pixels: int,
    long_side: int,
    judge: bool = True,
    decode: Decode = decode,
) -> Prepared:
    """Decodes a picture and makes all that needs no network. Blocking.

    Args:
        judge: for the content filter too.
        decode: in this process, or in one that can be killed.
    Raises:
        UnsupportedImage, TooLarge: the picture cannot be read.
    """
    image = decode(data, max_pixels=max_pixels, long_side=long_side)
    pixels = image.pixels
    hashes, quality = pdq_hashes(pixels)
    frames = {"detector": prepare_square(pixels, model.detector.input_size)}
    if model.content_filter is not None and judge:
        frames["filter"] = prepare_square(pixels, model.content_filter.input_size)
    inner = inner_box(pixels) if model.views else None
    grey = grey_square(pixels)
    layers = gradient_layers(grey) if shape is not None or model.verified else None
    shape_views: list[View] = []
    shapes = np.empty((0, 0), np.float32)
    if shape is not None and layers is not None:
        shape_views, shapes = shape.describe(pixels, layers, inner)
    details = details_of(pixels, layers) if model.verified else None
    size = (image.width, image.height)
    digest = hashlib.sha256(data).digest()
    return Prepared(
        digest, image.media_type, pixels, size, hashes, quality, frames, inner, shape_views, shapes, details, grey
    )


def choose_regions(boxes: Sequence[Box], size: tuple[int, int], *, most: int, min_share: float) -> list[BoxShares]:
    """The regions worth a vector of their own.

    Args:
        boxes: detections in pixels.
        size: width and height in pixels.
        most: regions at most.
        min_share: least share of the picture's area.
    Returns:
        Boxes as shares of width and height, best (score × root of the area) first. A region that covers nearly all of
        the picture is left out: it would repeat the whole.
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
    return [shares for _, shares in ranked[:most]]


async def look(
    networks: Networks,
    model: ModelSpec,
    shape: ShapeDescriptor | None,
    pictures: Sequence[bytes],
    *,
    max_pixels: int,
    long_side: int,
    judge: bool = True,
    others: Sequence[DescriptorSpec] = (),
    sandbox: Sandbox | None = None,
) -> list[Look | SafeGuardError]:
    """Looks at several pictures at once; each that cannot be read fails alone.

    Args:
        model: which networks and how many regions.
        shape: the shape descriptor of the model.
        pictures: files as sent.
        max_pixels, long_side: limits of decoding.
        judge: ask the content filter too; a search does not need it.
        others: descriptors of the views beside the model's own.
        sandbox: decodes pictures that nobody has decoded before, or that may have killed a process.
    Returns:
        For each picture what was seen, or why it cannot be read.
    """

    def attempt(data: bytes) -> Prepared | SafeGuardError:
        try:
            return prepare(
                data, model, shape, max_pixels=max_pixels, long_side=long_side, judge=judge,
                decode=sandbox.decode if sandbox else decode,
            )  # fmt: skip
        except SafeGuardError as error:
            return error

    run = sandbox.run if sandbox else asyncio.to_thread
    with stage("decode", len(pictures)):
        prepared = await asyncio.gather(*(run(partial(attempt, data)) for data in pictures))
    good = [item for item in prepared if isinstance(item, Prepared)]
    looks = iter(await describe(networks, model, good, others=others))
    return [item if isinstance(item, SafeGuardError) else next(looks) for item in prepared]


async def describe(
    networks: Networks, model: ModelSpec, good: Sequence[Prepared], *, others: Sequence[DescriptorSpec] = ()
) -> list[Look]:
    """What the networks see in prepared pictures, all in a few calls; ``others`` as for ``look``."""
    if not good:
        return []
    judged = "filter" in good[0].frames
    filter_frames = np.stack([item.frames["filter"] for item in good]) if judged else None
    # The views that need no detection are embedded while the detector works; only its regions have to wait for it.
    descriptors = [model.descriptor, *others]
    first = [views_of([], item.inner) if model.views else [WHOLE] for item in good]
    (boxes, unsafe), early, meanings = await asyncio.gather(
        networks.detect(
            model, np.stack([item.frames["detector"] for item in good]), filter_frames, [item.size for item in good]
        ),
        _embed(networks, descriptors, good, first),
        _embed(networks, [model.semantic] if model.semantic else [], good, [[WHOLE]] * len(good)),
    )
    regions = [
        [
            View("region", box)
            for box in choose_regions(found, item.size, most=model.max_regions, min_share=model.min_region_share)
        ]
        for found, item in zip(boxes, good, strict=True)
    ]
    late = await _embed(networks, descriptors, good, regions)
    return [
        _joined(item, boxes[place], unsafe[place] if unsafe else None, first[place] + regions[place],
                {name: np.concatenate([vectors, late[place][name]]) for name, vectors in early[place].items()},
                meanings[place][model.semantic.name] if model.semantic else None)
        for place, item in enumerate(good)
    ]  # fmt: skip


async def _embed(
    networks: Networks, descriptors: Sequence[DescriptorSpec], pictures: Sequence[Prepared], views: list[list[View]]
) -> list[dict[str, NDArray[np.float32]]]:
    """For each picture and descriptor float32[views, dim], all in one call of each network."""
    counts = [len(some) for some in views]
    if not sum(counts):
        return [{one.name: np.empty((0, one.dim), np.float32) for one in descriptors} for _ in pictures]

    def frames(side: int) -> NDArray[np.uint8]:
        return np.stack(
            [frame for item, some in zip(pictures, views, strict=True) for frame in frames_of(item.pixels, some, side)]
        )

    prepared = {side: await asyncio.to_thread(frames, side) for side in {one.input_size for one in descriptors}}
    vectors = await asyncio.gather(*(networks.embed(one, prepared[one.input_size]) for one in descriptors))
    parts = [np.split(some, np.cumsum(counts)[:-1]) for some in vectors]
    names = [one.name for one in descriptors]
    return [dict(zip(names, (some[place] for some in parts), strict=True)) for place in range(len(pictures))]


def _joined(
    item: Prepared,
    boxes: list[Box],
    unsafe: float | None,
    views: list[View],
    vectors: dict[str, NDArray[np.float32]],
    semantic: NDArray[np.float32] | None,
) -> Look:
    order = sorted(range(len(views)), key=lambda place: not views[place].stored)
    return Look(
        item.sha256, item.pdq, item.pdq_quality, boxes, unsafe, [views[place] for place in order],
        {name: some[order] for name, some in vectors.items()}, item.shape_views, item.shapes, semantic, item.details,
        item.grey, item.inner,
    )  # fmt: skip
