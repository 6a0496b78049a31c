"""The Embedder replica: descriptors of prepared frames, merged over concurrent calls. May import vision and below."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve

from configs.models import ModelRegistry, load_models
from configs.settings import Settings, load_settings
from deployments.batching import each_alone_on_failure
from deployments.idle_memory import give_back_when_idle
from deployments.logs import log_to_replica
from deployments.metrics.meters import busy, slots
from deployments.pipeline.generations import specs_of
from deployments.vision.factory import build_descriptor, release
from deployments.vision.interfaces import Descriptor
from storage.database import create_engine
from storage.generations import generations
from storage.tables import Generation

_log = logging.getLogger(__name__)
Call = tuple[str, NDArray[np.uint8]]


def _in_use(registry: ModelRegistry, settings: Settings) -> set[str]:
    """The descriptors that searches need now; those of models.yaml where the database does not say. Blocking."""

    async def read() -> dict[str, list[Generation]]:
        engine = create_engine(settings, pool_size=1)
        try:
            return await generations(engine)
        finally:
            await engine.dispose()

    try:
        with ThreadPoolExecutor(1) as thread:  # the loop of the replica may be running in this one
            held = thread.submit(asyncio.run, read()).result()
    except Exception as error:
        _log.warning("the database does not say which descriptors are live: %s", type(error).__name__)
        held = {}
    live = [specs_of(registry, name, held.get(name, []))[0] for name in registry]
    return {spec.name for model in live for spec in (model.descriptor, model.semantic) if spec}


class Embedder:
    """Holds descriptors: at first those that are live, any other of models.yaml from its first use on.

    Args:
        max_batch_frames: frames in one pass of the network; larger merged batches are cut.
        threads: of one network call; 0 takes the setting's.
    Raises:
        ConfigurationError: a live descriptor cannot be loaded, or models.yaml does not know it.
    """

    def __init__(self, max_batch_frames: int = 32, threads: int = 0) -> None:
        log_to_replica()
        slots("Embedder", 1)
        settings = load_settings()
        self._settings = settings.model_copy(update={"model_threads": threads or settings.model_threads})
        self._known = load_models(settings.models_file)
        self._max_batch_frames = max_batch_frames
        self._descriptors: dict[str, Descriptor] = {}
        self._canaries: dict[str, NDArray[np.uint8]] = {}
        self._expected: dict[str, NDArray[np.float32]] = {}
        self._loading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        for name in _in_use(self._known, settings):
            self._load(name)
        give_back_when_idle(lambda: release(list(self._descriptors.values())))

    def _load(self, name: str) -> None:
        """Blocking. Nothing is kept of a network that cannot be loaded, so that a later call tries again."""
        network = build_descriptor(self._known.available_descriptors[name], self._settings)
        side = network.input_size
        canary = np.random.default_rng(7).integers(0, 256, (1, side, side, 3), np.uint8)
        self._expected[name] = network.forward(canary)
        self._canaries[name], self._descriptors[name] = canary, network

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
        Raises:
            KeyError: models.yaml does not know it.
            ConfigurationError: it cannot be loaded; the others still work.
        """
        if name not in self._descriptors:
            async with self._loading[name]:
                if name not in self._descriptors:
                    await asyncio.to_thread(self._load, name)
        result = await self._merged((name, frames))
        if isinstance(result, Exception):
            raise result
        return np.asarray(result, np.float32)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.002)  # type: ignore[untyped-decorator]
    async def _merged(self, calls: list[Call]) -> list[Any]:
        return await each_alone_on_failure(self._run, calls)

    def _run(self, calls: Sequence[Call]) -> list[NDArray[np.float32]]:
        with busy("Embedder"):
            return self._vectors(calls)

    def _vectors(self, calls: Sequence[Call]) -> list[NDArray[np.float32]]:
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
        for name, frames in list(self._canaries.items()):
            vector = await self.embed(name, frames)
            if not np.allclose(vector, self._expected[name], atol=0.05):
                raise RuntimeError(f"the canary of {name} changed its descriptor")
