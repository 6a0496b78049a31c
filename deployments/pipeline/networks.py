"""The networks of one model in this process: for bulk jobs, which hold them in actors of their own. Knows nothing of Ray."""

import numpy as np
from numpy.typing import NDArray

from configs.models import DescriptorSpec, ModelSpec
from configs.settings import Settings
from deployments.vision.factory import build_descriptor, build_detector, build_filter
from deployments.vision.interfaces import Box


class LocalNetworks:
    """See ``deployments.pipeline.look.Networks``; calls block the loop they run on. Other descriptors load on first use.

    Args:
        model: whose networks are loaded.
        settings: device and threads.
        max_batch_frames: frames in one pass of a network.
    Raises:
        ConfigurationError: a network cannot be loaded.
    """

    def __init__(self, model: ModelSpec, settings: Settings, *, max_batch_frames: int = 32) -> None:
        self._step = max_batch_frames
        self._settings = settings
        specs = [spec for spec in (model.descriptor, model.semantic) if spec]
        self._descriptors = {spec.path: build_descriptor(spec, settings) for spec in specs}
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

    async def embed(self, descriptor: DescriptorSpec, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``deployments.pipeline.look.Networks.embed``."""
        if descriptor.path not in self._descriptors:
            self._descriptors[descriptor.path] = build_descriptor(descriptor, self._settings)
        forward = self._descriptors[descriptor.path].forward
        return np.concatenate(
            [forward(frames[start : start + self._step]) for start in range(0, len(frames), self._step)]
        )
