"""An installation as the command line opens it: settings, an engine that answers, the model that is meant. May import storage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import ModelRegistry, load_models
from configs.settings import Settings, default_home, load_settings
from storage.database import create_engine, ping
from storage.errors import InvalidInput


@asynccontextmanager
async def opened(home: Path | None) -> AsyncIterator[tuple[Settings, AsyncEngine]]:
    """Settings and an engine that answers.

    Raises:
        Unavailable: the database does not answer.
    """
    settings = load_settings(home or default_home())
    engine = create_engine(settings, pool_size=1)
    try:
        await ping(engine)
        yield settings, engine
    finally:
        await engine.dispose()


def chosen_model(settings: Settings, model_name: str | None) -> tuple[ModelRegistry, str]:
    """The models and the name of the one that is meant; None means the default.

    Raises:
        InvalidInput: there is no such model.
    """
    registry = load_models(settings.models_file)
    name = model_name or registry.default
    if name not in registry:
        raise InvalidInput(f"{name!r} is no model of models.yaml; known are {', '.join(registry.known())}")
    return registry, name
