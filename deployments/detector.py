"""The Detector replica: people, objects and unsafe content in prepared frames, merged over calls. May import vision."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve

from configs.models import load_models
from configs.settings import load_settings
from deployments.batching import each_alone_on_failure
from deployments.idle_memory import give_back_when_idle
from deployments.logs import log_to_replica
from deployments.metrics.meters import busy, slots
from deployments.vision.factory import build_detector, build_filter, release
from deployments.vision.interfaces import Box


@dataclass(frozen=True)
class DetectCall:
    """Frames of some pictures.

    Args:
        detector: ``name@version``.
        content_filter: ``name@version``, None for none.
        frames: uint8[n, s, s, 3] RGB for the detector.
        filter_frames: uint8[n, f, f, 3] RGB for the filter.
        sizes: width and height in pixels of each picture as displayed.
    """

    detector: str
    content_filter: str | None
    frames: NDArray[np.uint8]
    filter_frames: NDArray[np.uint8] | None
    sizes: list[tuple[int, int]]


@dataclass(frozen=True)
class Detected:
    """For each picture the boxes, surest first, and how unsafe it is (0 to 1; None without a filter)."""

    boxes: list[list[Box]]
    unsafe: list[float] | None


class Detector:
    """Holds every detector and content filter that a model of the registry uses.

    Args:
        max_batch_frames: frames in one pass of a network.
        threads: of one network call; 0 takes the setting's.
    """

    def __init__(self, max_batch_frames: int = 16, threads: int = 0) -> None:
        log_to_replica()
        slots("Detector", 1)
        settings = load_settings()
        settings = settings.model_copy(update={"model_threads": threads or settings.model_threads})
        registry = load_models(settings.models_file)
        models = [registry[name] for name in registry.known()]
        self._detectors = {
            name: build_detector(registry.detectors[name], settings) for name in {m.detector_name for m in models}
        }
        self._filters = {
            name: build_filter(registry.filters[name], settings) for name in {m.filter_name for m in models} if name
        }
        self._max_batch_frames = max_batch_frames
        give_back_when_idle(lambda: release([*self._detectors.values(), *self._filters.values()]))

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Applied in place: ``max_batch_calls`` and ``batch_wait_s`` of the merging of calls."""
        self._merged.set_max_batch_size(int(user_config.get("max_batch_calls", 8)))
        self._merged.set_batch_wait_timeout_s(float(user_config.get("batch_wait_s", 0.002)))

    async def detect(self, call: DetectCall) -> Detected:
        """Boxes and unsafe scores of prepared frames."""
        result = await self._merged(call)
        if isinstance(result, Exception):
            raise result
        assert isinstance(result, Detected)
        return result

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.002)  # type: ignore[untyped-decorator]
    async def _merged(self, calls: list[DetectCall]) -> list[Any]:
        return await each_alone_on_failure(self._run, calls)

    def _run(self, calls: Sequence[DetectCall]) -> list[Detected]:
        with busy("Detector"):
            return self._found(calls)

    def _found(self, calls: Sequence[DetectCall]) -> list[Detected]:
        groups: defaultdict[tuple[str, str | None], list[int]] = defaultdict(list)
        for place, call in enumerate(calls):
            groups[call.detector, call.content_filter].append(place)
        results: dict[int, Detected] = {}
        for (detector, content_filter), places in groups.items():
            members = [calls[place] for place in places]
            boxes = self._boxes(detector, members)
            unsafe = self._unsafe(content_filter, members) if content_filter else None
            start = 0
            for place, call in zip(places, members, strict=True):
                end = start + len(call.sizes)
                results[place] = Detected(boxes[start:end], unsafe[start:end] if unsafe is not None else None)
                start = end
        return [results[place] for place in range(len(calls))]

    def _boxes(self, name: str, calls: Sequence[DetectCall]) -> list[list[Box]]:
        detector = self._detectors[name]
        frames = np.concatenate([call.frames for call in calls])
        sizes = [size for call in calls for size in call.sizes]
        step = self._max_batch_frames
        boxes: list[list[Box]] = []
        for start in range(0, len(frames), step):
            boxes += detector.finish(detector.forward(frames[start : start + step]), sizes[start : start + step])
        return boxes

    def _unsafe(self, name: str, calls: Sequence[DetectCall]) -> list[float]:
        frames = np.concatenate([call.filter_frames for call in calls if call.filter_frames is not None])
        step = self._max_batch_frames
        forward = self._filters[name].forward
        return [
            float(score) for start in range(0, len(frames), step) for score in forward(frames[start : start + step])
        ]

    async def check_health(self) -> None:
        """A canary through each network; Ray replaces the replica if it raises."""
        for name, detector in self._detectors.items():
            size = detector.input_size
            await self.detect(DetectCall(name, None, np.zeros((1, size, size, 3), np.uint8), None, [(size, size)]))
        for name, content_filter in self._filters.items():
            size = content_filter.input_size
            detector_name, detector = next(iter(self._detectors.items()))
            frames = np.zeros((1, detector.input_size, detector.input_size, 3), np.uint8)
            found = await self.detect(
                DetectCall(detector_name, name, frames, np.zeros((1, size, size, 3), np.uint8), [(size, size)])
            )
            if not found.unsafe or not 0.0 <= found.unsafe[0] <= 1.0:
                raise RuntimeError(f"the canary of {name} gave no score between 0 and 1")
