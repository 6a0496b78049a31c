"""The networks in this process, without Ray: for measurements and as the plain loop that the service is compared with."""

import numpy as np
from numpy.typing import NDArray

from configs.models import ModelSpec
from configs.settings import Settings
from deployments.vision.factory import build_descriptor, build_detector, build_filter
from deployments.vision.interfaces import Box


class LocalNetworks:
    """The networks of one model; calls block the loop they run on."""

    def __init__(self, model: ModelSpec, settings: Settings) -> None:
        self._descriptor = build_descriptor(model.descriptor, settings)
        self._detector = build_detector(model.detector, settings)
        self._filter = build_filter(model.content_filter, settings) if model.content_filter else None

    async def detect(
        self, model: ModelSpec, frames: NDArray[np.uint8], filter_frames: NDArray[np.uint8] | None,
        sizes: list[tuple[int, int]],
    ) -> tuple[list[list[Box]], list[float] | None]:  # fmt: skip
        """See ``deployments.pipeline.look.Networks.detect``."""
        boxes = self._detector.finish(self._detector.forward(frames), sizes)
        if self._filter is None or filter_frames is None:
            return boxes, None
        return boxes, [float(score) for score in self._filter.forward(filter_frames)]

    async def embed(self, model: ModelSpec, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``deployments.pipeline.look.Networks.embed``."""
        return self._descriptor.forward(frames)
