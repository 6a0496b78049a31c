"""The descriptors that each model is searched and written with now, as ModelSpecs. Knows nothing of Ray."""

import asyncio
import logging
import time
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import ModelRegistry, ModelsFileError, ModelSpec
from storage.errors import ConfigurationError, Unavailable
from storage.generations import ensure_live, generations
from storage.tables import Generation

_log = logging.getLogger(__name__)


def specs_of(registry: ModelRegistry, model_name: str, held: Sequence[Generation]) -> list[ModelSpec]:
    """A model with each of its descriptors, the live one first; that of models.yaml where the database knows none.

    Raises:
        ConfigurationError: models.yaml does not know one of them.
    """
    try:
        found = [registry.with_descriptor(model_name, one.descriptor) for one in held]
    except ModelsFileError as error:
        raise ConfigurationError(
            f"the database says that {model_name} is written with "
            f"{' and '.join(f'{one.descriptor} ({one.state})' for one in held)}, but {error}. "
            "Put it back into models.yaml; one that is building or previous can also be dropped"
        ) from error
    return found or [registry[model_name]]


async def live_spec(engine: AsyncEngine, registry: ModelRegistry, model_name: str) -> ModelSpec:
    """A model with its live descriptor, read once.

    Raises:
        ConfigurationError: models.yaml does not know it.
    """
    return specs_of(registry, model_name, (await generations(engine, model_name)).get(model_name, []))[0]


class Generations:
    """Reads the generations once a second; while the database does not answer, the last ones hold.

    Uploads that are written with what holds no longer are refused by ``storage.claims.finish`` and tried again.

    Args:
        engine: where they are kept.
        registry: models.yaml, whose descriptors become live where none is.
        fresh_s: seconds after which they are read again.
    """

    def __init__(self, engine: AsyncEngine, registry: ModelRegistry, *, fresh_s: float = 1.0) -> None:
        self._engine, self._registry, self._fresh_s = engine, registry, fresh_s
        self._held: dict[str, list[Generation]] | None = None
        self._read_at = -float("inf")
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Makes the descriptors of models.yaml live where none is, and says where another one is.

        A database that does not answer yet is no reason to fail: all this happens on the first use then.

        Raises:
            ConfigurationError: models.yaml does not know a descriptor that a model is written with.
        """
        try:
            await self._current()
        except Unavailable as error:
            _log.warning("%s", error)
            return
        for name in self._registry:
            await self.of(name)

    async def of(self, model_name: str) -> list[ModelSpec]:
        """A model with each descriptor that its uploads are written with, the live one first.

        Raises:
            ConfigurationError: models.yaml does not know one of them.
            Unavailable: the database does not answer and has never done so.
        """
        return specs_of(self._registry, model_name, (await self._current()).get(model_name, []))

    async def live(self, model_name: str) -> ModelSpec:
        """A model with the descriptor that searches use; the rest as ``of``."""
        return (await self.of(model_name))[0]

    def waiting(self, model_name: str) -> bool:
        """Whether uploads were said to wait for one of its descriptors, when the generations were last read."""
        return any(one.held_up is not None for one in (self._held or {}).get(model_name, []))

    async def _current(self) -> dict[str, list[Generation]]:
        async with self._lock:
            if self._held is None or time.monotonic() - self._read_at > self._fresh_s:
                try:
                    await self._read()
                except Exception as error:
                    if self._held is None:
                        raise Unavailable("the database does not say which descriptors are live") from error
                    _log.warning("the generations cannot be read: %s", type(error).__name__)
                self._read_at = time.monotonic()
            return self._held or {}

    async def _read(self) -> None:
        first = self._held is None
        if first:
            await ensure_live(self._engine, {name: model.descriptor_name for name, model in self._registry.items()})
        self._held = await generations(self._engine)
        for name, model in self._registry.items() if first else ():
            live = self._held[name][0].descriptor
            if live != model.descriptor_name:
                _log.warning("%s is live with %s; models.yaml says %s", name, live, model.descriptor_name)
