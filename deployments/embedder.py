"""The Embedder replica: descriptors of prepared frames, merged over concurrent calls. May import vision and below."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve

from configs.models import load_models
from configs.settings import load_settings
from deployments.batching import each_alone_on_failure
from deployments.logs import log_to_replica
from deployments.vision.factory import build_descriptor

Call = tuple[str, NDArray[np.uint8]]


class Embedder:
    """Holds every descriptor that a model of the registry uses.

    Args:
        max_batch_frames: frames in one pass of the network; larger merged batches are cut.
        threads: of one network call; 0 takes the setting's.
    """

    def __init__(self, max_batch_frames: int = 32, threads: int = 0) -> None:
        log_to_replica()
        settings = load_settings()
        settings = settings.model_copy(update={"model_threads": threads or settings.model_threads})
        registry = load_models(settings.models_file)
        self._descriptors = {name: build_descriptor(spec, settings) for name, spec in registry.descriptors.items()}
        self._max_batch_frames = max_batch_frames
        self._canaries = {
            name: np.random.default_rng(7).integers(0, 256, (1, size, size, 3), np.uint8)
            for name, descriptor in self._descriptors.items()
            for size in (descriptor.input_size,)
        }
        self._expected = {name: self._embed_one(name, frames) for name, frames in self._canaries.items()}

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Applied in place: ``max_batch_calls`` and ``batch_wait_s`` of the merging of calls."""
        self._merged.set_max_batch_size(int(user_config.get("max_batch_calls", 8)))
        self._merged.set_batch_wait_timeout_s(float(user_config.get("batch_wait_s", 0.002)))

    async def embed(self, name: str, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Descriptors of prepared frames.

        Args:
            name: descriptor ``name@version``.
            frames: uint8[n, s, s, 3] RGB.
        Returns:
            float32[n, dim] of length 1.
        """
        result = await self._merged((name, frames))
        if isinstance(result, Exception):
            raise result
        return np.asarray(result, np.float32)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.002)  # type: ignore[untyped-decorator]
    async def _merged(self, calls: list[Call]) -> list[Any]:
        return await each_alone_on_failure(self._run, calls)

    def _run(self, calls: Sequence[Call]) -> list[NDArray[np.float32]]:
        places: defaultdict[str, list[int]] = defaultdict(list)
        for place, (name, _) in enumerate(calls):
            places[name].append(place)
        results: list[NDArray[np.float32]] = [np.empty((0, 0), np.float32)] * len(calls)
        for name, indices in places.items():
            vectors = self._embed_one(name, np.concatenate([calls[index][1] for index in indices]))
            ends = np.cumsum([len(calls[index][1]) for index in indices])
            for index, end in zip(indices, ends, strict=True):
                results[index] = vectors[end - len(calls[index][1]) : end]
        return results

    def _embed_one(self, name: str, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        forward = self._descriptors[name].forward
        step = self._max_batch_frames
        return np.concatenate([forward(frames[start : start + step]) for start in range(0, len(frames), step)])

    async def check_health(self) -> None:
        """A canary through each network; Ray replaces the replica if it raises."""
        for name, frames in self._canaries.items():
            vector = await self.embed(name, frames)
            if not np.allclose(vector, self._expected[name], atol=0.05):
                raise RuntimeError(f"the canary of {name} changed its descriptor")
