"""The similarity deployments: any number of readers, exactly one writer. Ray Serve around reader.py and writer.py."""

import os
import socket
from collections.abc import Iterable
from typing import Any

from configs.models import ModelRegistry, ModelSpec, load_models
from configs.settings import load_settings
from deployments.idle_memory import give_back_when_idle
from deployments.logs import log_to_replica
from deployments.metrics.meters import slots
from deployments.refusing import refuse
from deployments.similarity.members import Members
from deployments.similarity.metering import measured, show
from deployments.similarity.queries import Hit, Query
from deployments.similarity.reader import VectorReader
from deployments.similarity.writer import VectorWriter
from storage.database import create_engine
from storage.errors import ConfigurationError, Conflict
from storage.generations import ensure_live
from storage.vector_rows import PDQ_SPACE, VectorRows, VectorSpace


def spaces_of_model(model: ModelSpec) -> list[VectorSpace]:
    """The vector tables in which each processed image of a model has rows: those that ``vector_rows`` fills."""
    parts = (model.descriptor, model.shape, model.semantic)
    return [PDQ_SPACE, *(VectorSpace(part.name, part.dim) for part in parts if part)]


def spaces_of_models(models: Iterable[ModelSpec]) -> list[VectorSpace]:
    """Those of several models, each once: that of PDQ, then by name."""
    used = {space for model in models for space in spaces_of_model(model)} - {PDQ_SPACE}
    return [PDQ_SPACE, *sorted(used, key=lambda space: space.name)]


def spaces_of(registry: ModelRegistry) -> list[VectorSpace]:
    """The vector tables that the models of a registry use."""
    return spaces_of_models(registry.values())


def known_spaces(registry: ModelRegistry) -> list[VectorSpace]:
    """Those, and the tables of descriptors that a model could use."""
    others = registry.available_descriptors.keys() - registry.descriptors.keys()
    return spaces_of(registry) + [
        VectorSpace(name, registry.available_descriptors[name].dim) for name in sorted(others)
    ]


class SimilarityReader:
    """Answers searches from its own handle on the tables, at a version no older than asked for.

    Args:
        stale_s: without a version asked for, the tables are looked at again after so many seconds.
    """

    def __init__(self, stale_s: float = 1.0) -> None:
        log_to_replica()
        give_back_when_idle()
        refuse("pandas")  # pyarrow loads it with the first array; nothing here uses it
        settings = load_settings()
        members = Members(create_engine(settings, pool_size=2))
        self._reader = VectorReader(settings, known_spaces(load_models(settings.models_file)), members, stale_s=stale_s)

    async def search(self, queries: list[Query], versions: dict[str, int] | None = None) -> list[list[Hit]]:
        """See ``VectorReader.search``."""
        with measured(len(queries)):
            hits = await self._reader.search(queries, versions)
        show(self._reader.info())
        return hits

    async def info(self) -> dict[str, Any]:
        """Rows, version and age in seconds of each table, looked at anew.

        Raises:
            Unavailable: the tables cannot be read.
        """
        await self._reader.refresh()
        return self._reader.info()


class SimilarityWriter:
    """The one writer; a second one that starts shuts the first out through the fence in PostgreSQL.

    Args:
        optimize_every: commits between two rounds of merging small files.
    """

    def __init__(self, optimize_every: int = 50) -> None:
        log_to_replica()
        give_back_when_idle()
        refuse("pandas")  # pyarrow loads it with the first array; nothing here uses it
        settings = load_settings()
        slots("SimilarityWriter", 1)
        self._registry = load_models(settings.models_file)
        self._engine = create_engine(settings, pool_size=3)
        self._writer = VectorWriter(
            self._engine,
            settings,
            known_spaces(self._registry),
            holder=f"{socket.gethostname()}:{os.getpid()}",
            optimize_every=optimize_every,
        )
        self._started = False

    async def _start(self) -> None:
        # __init__ may run outside the loop that serves requests; the first health check or call comes from it.
        if not self._started:
            self._started = True
            try:
                await self._writer.start()
            except BaseException:
                self._started = False
                raise

    async def add(self, rows: dict[str, VectorRows], replace: list[int]) -> dict[str, int]:
        """See ``VectorWriter.add``."""
        await self._start()
        return await self._writer.add(rows, replace=replace)

    async def remove(self, image_ids: list[int]) -> dict[str, int]:
        """See ``VectorWriter.remove``."""
        await self._start()
        return await self._writer.remove(image_ids)

    async def drop(self, descriptor: str) -> None:
        """Drops the vectors of a descriptor that no model is written with; see ``VectorWriter.drop``.

        Raises:
            Conflict: a model is written with it, or uses it for subjects.
            ConfigurationError: models.yaml does not know it.
        """
        await self._start()
        if descriptor not in self._registry.available_descriptors:
            raise ConfigurationError(f"{descriptor} is not among the descriptors of models.yaml")
        semantic = [
            name for name, model in self._registry.items() if model.semantic and model.semantic.name == descriptor
        ]
        if semantic:
            raise Conflict(f"{descriptor} is the semantic descriptor of {', '.join(semantic)}")
        await ensure_live(self._engine, {name: model.descriptor_name for name, model in self._registry.items()})
        await self._writer.drop(descriptor)

    async def info(self) -> dict[str, Any]:
        """See ``VectorWriter.info``."""
        await self._start()
        return await self._writer.info()

    async def check_health(self) -> None:
        """Fails once another writer has taken over, so that Ray replaces this replica."""
        if self._writer.fenced_out:
            raise RuntimeError("another similarity writer has taken over")

    async def __del__(self) -> None:
        """Graceful shutdown: what waits is still written."""
        await self._writer.close()
