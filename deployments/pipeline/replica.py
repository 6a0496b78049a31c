"""The Pipeline replica: claims and processes by itself, and looks at pictures for searches. Ray Serve around processor.py."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from numpy.typing import NDArray
from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError

from configs.models import DescriptorSpec, ModelSpec, load_models
from configs.settings import load_settings
from deployments.detector import DetectCall, Detected
from deployments.idle_memory import give_back_when_idle
from deployments.logs import log_to_replica
from deployments.metrics.meters import stage
from deployments.pipeline.answering import Answering
from deployments.pipeline.bank_hashes import BankHashes
from deployments.pipeline.found import Found
from deployments.pipeline.generations import Generations
from deployments.pipeline.limits import Limits
from deployments.pipeline.linking import Linker
from deployments.pipeline.lookback import LookBackLoop
from deployments.pipeline.loop import ClaimLoop
from deployments.pipeline.processor import Processor
from deployments.pipeline.scaling import IN_WORK, OLDEST_S, WAITING
from deployments.pipeline.search import search
from deployments.pipeline.verification import Verifier
from deployments.similarity.queries import Hit, Query
from deployments.vision.factory import build_shapes
from deployments.vision.interfaces import Box
from deployments.vision.opencv import limit_opencv_threads
from deployments.vision.sandbox import sandbox_of
from storage.database import create_engine
from storage.errors import Unavailable
from storage.lookbacks import LOOKBACK_CHANNEL
from storage.objects import ObjectStore
from storage.policy_changes import ensure_active
from storage.queues import UploadSignal, demand
from storage.signals import Signal
from storage.vector_rows import VectorRows

_REFUSALS = (RayServeException,)
"""A full queue, no replica. The death of a network's replica is none: the picture may have caused it."""

_MOST_COUNTED = 10_000
"""Waiting images of a model that count for the number of pipelines: more ask for no more than these."""


@asynccontextmanager
async def _answered(timeout_s: float, blameless: tuple[type[Exception], ...]) -> AsyncIterator[None]:
    """A time limit, and what no picture can be at fault for as Unavailable."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except blameless as error:
        raise Unavailable("a deployment takes no calls now") from error


class RemoteNetworks:
    """Networks behind Serve handles; frames travel as small uint8 arrays, several pictures in one call."""

    def __init__(self, embedder: DeploymentHandle, detector: DeploymentHandle, timeout_s: float) -> None:
        self._embedder = embedder
        self._detector = detector
        self._timeout_s = timeout_s

    async def detect(
        self, model: ModelSpec, frames: NDArray[np.uint8], filter_frames: NDArray[np.uint8] | None,
        sizes: list[tuple[int, int]],
    ) -> tuple[list[list[Box]], list[float] | None]:  # fmt: skip
        """See ``Networks.detect``."""
        async with _answered(self._timeout_s, _REFUSALS):
            content_filter = model.filter_name if filter_frames is not None else None
            call = DetectCall(model.detector_name, content_filter, frames, filter_frames, sizes)
            with stage("detect", len(frames)):
                found: Detected = await self._detector.detect.remote(call)
        return found.boxes, found.unsafe

    async def embed(self, descriptor: DescriptorSpec, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Networks.embed``."""
        async with _answered(self._timeout_s, _REFUSALS):
            with stage("embed", len(frames)):
                return np.asarray(await self._embedder.embed.remote(descriptor.name, frames))


class RemoteIndex:
    """The vectors behind Serve handles."""

    def __init__(self, readers: DeploymentHandle, writer: DeploymentHandle, timeout_s: float) -> None:
        self._readers = readers
        self._writer = writer
        self._timeout_s = timeout_s

    async def add(self, rows: dict[str, VectorRows], replace: list[int]) -> dict[str, int]:
        """See ``Index.add``."""
        async with _answered(self._timeout_s, (*_REFUSALS, RayActorError)):
            versions: dict[str, int] = await self._writer.add.remote(rows, replace)
            return versions

    async def search(self, queries: list[Query], versions: dict[str, int] | None) -> list[list[Hit]]:
        """See ``Index.search``."""
        async with _answered(self._timeout_s, (*_REFUSALS, RayActorError)):
            with stage("search", len(queries)):
                hits: list[list[Hit]] = await self._readers.search.remote(queries, versions)
            return hits


class Pipeline:
    """Claims waiting images as long as it has room, works look-backs off beside them, and answers searches.

    Args:
        embedder, detector, readers, writer: handles of the deployments it drives.
        batch_size: images claimed at a time.
        batches: batches in work at a time.
        beside_searches: images in work at most while searches are answered; 0: no limit.
        call_timeout_s: limit of each call to another deployment, seconds.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it on the replica's own loop
        self,
        embedder: DeploymentHandle,
        detector: DeploymentHandle,
        readers: DeploymentHandle,
        writer: DeploymentHandle,
        *,
        batch_size: int = 16,
        batches: int = 3,
        beside_searches: int = 0,
        call_timeout_s: float = 60.0,
    ) -> None:
        log_to_replica()
        give_back_when_idle()
        self._settings = settings = load_settings()
        registry = load_models(settings.models_file)
        limit_opencv_threads()
        engine, objects = create_engine(settings), ObjectStore(settings)
        self._processor = Processor(
            engine,
            objects,
            settings,
            registry,
            RemoteNetworks(embedder, detector, call_timeout_s),
            RemoteIndex(readers, writer, call_timeout_s),
            Linker(
                Verifier(
                    engine,
                    objects,
                    max_pixels=settings.max_pixels,
                    long_side=settings.decode_long_side,
                    held=settings.features_held,
                ),
                Limits(engine),
            ),
            build_shapes(registry),
            Generations(engine, registry),
            BankHashes(engine),
            sandbox_of(settings),
        )
        await ensure_active(engine, actor="pipeline")
        await self._processor.generations.start()
        self._signal = UploadSignal(settings)
        self._answering = Answering()
        self._loop = ClaimLoop(
            self._processor, self._signal, batch_size=batch_size, batches=batches, asked=self._answering,
            beside_searches=beside_searches,
        )  # fmt: skip
        self._begun = Signal(settings, LOOKBACK_CHANNEL)
        self._lookbacks = LookBackLoop(self._processor, self._begun, busy=lambda: self._loop.in_work > 0)
        for part in (self._signal, self._loop, self._begun, self._lookbacks):
            await part.start()

    async def search(self, data: bytes, model_name: str, k: int, exclude: int | None) -> list[Found]:
        """Ranked matches of a picture that is not stored.

        Args:
            data: the file.
            model_name: whose networks and thresholds.
            k: matches at most of each relation.
            exclude: a stored image to leave out (the picture itself).
        Raises:
            UnsupportedImage, TooLarge: the picture cannot be read.
        """
        with self._answering.call():
            return await search(self._processor, data, model_name, k=k, exclude=exclude)

    async def check_health(self) -> None:
        """Fails if a loop has died. Says nothing of PostgreSQL or S3: their outage must not restart replicas."""
        self._loop.check()
        self._lookbacks.check()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Serve every two seconds where an ``autoscaling_config`` is set: what ``scaling.FollowQueue`` goes by."""
        try:
            names = self._processor.registry.known()
            waiting, oldest_s = await demand(self._processor.engine, names, most=_MOST_COUNTED)
        except (OSError, TimeoutError, SQLAlchemyError):  # the number of pipelines then stays as it is
            return {}
        return {WAITING: waiting, OLDEST_S: oldest_s, IN_WORK: self._loop.in_work}

    async def __del__(self) -> None:
        """Graceful shutdown: claims no more, finishes what is in work."""
        for part in (self._lookbacks, self._loop, self._begun, self._signal):
            await part.close()
        self._processor.sandbox.close()
