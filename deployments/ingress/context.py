"""What routes work with, handed to each by dependencies. Knows nothing of Ray."""

from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import ModelRegistry
from configs.settings import Settings
from deployments.ingress.hma.fetching import Fetcher
from deployments.pipeline.bank_hashes import BankHashes
from deployments.pipeline.found import Found
from deployments.vision.sandbox import Sandbox
from deployments.webhooks.addresses import Guard
from storage.objects import ObjectStore
from storage.queues import UploadSignal


class Platform(Protocol):
    """The parts that need networks or vectors, wherever they run. Every call ends within a limit of time."""

    async def search(self, data: bytes, model_name: str, k: int, exclude: int | None) -> list[Found]:
        """Ranked matches of a picture, best first.

        Args:
            data: the file.
            model_name: a model of models.yaml.
            k: matches at most of each relation.
            exclude: a stored image to leave out.
        Raises:
            UnsupportedImage, TooLarge: the picture cannot be read.
            SearchesFull: as many as may wait do.
            Unavailable: a part does not answer.
        """

    async def remove(self, image_ids: list[int]) -> None:
        """Deletes the vectors of images.

        Raises:
            Unavailable: the writer does not answer.
        """

    async def submit_job(self, job_id: int) -> None:
        """Starts a runner of a bulk job; a second one of the same job ends by itself.

        Raises:
            Unavailable: Ray takes no jobs now.
        """

    async def near_members(self, pdq: bytes, newest: int, k: int) -> dict[int, int]:
        """Stored images that are members of banks, in force or not, and whose PDQ hash is near one: image id -> bits.

        Args:
            pdq: 32 bytes.
            newest: see ``storage.image_members.newest``.
            k: the nearest, at most.
        Raises:
            Unavailable: no reader answers.
        """

    async def index_info(self) -> dict[str, Any]:
        """For each vector table: rows, version, age_s (seconds since it was looked at), exists.

        Raises:
            Unavailable: no reader answers.
        """

    async def check_models(self) -> None:
        """Returns when each part that runs the networks has a replica that passes Serve's health checks.

        One that hangs counts until Serve gives it up, which takes some of its checks.

        Raises:
            Unavailable: one of them has none.
        """


@dataclass(frozen=True)
class Context:
    """The collaborators of one ingress.

    Args:
        guard: checks addresses of webhooks.
        fetcher: reads pictures at addresses that clients give.
    """

    engine: AsyncEngine
    objects: ObjectStore
    settings: Settings
    registry: ModelRegistry
    signal: UploadSignal
    platform: Platform
    hashes: BankHashes
    sandbox: Sandbox
    guard: Guard
    fetcher: Fetcher


# Coroutines, though they await nothing: FastAPI would send plain functions to its thread pool.
async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


async def _engine(context: Annotated[Context, Depends(_context)]) -> AsyncEngine:
    return context.engine


async def _objects(context: Annotated[Context, Depends(_context)]) -> ObjectStore:
    return context.objects


async def _settings(context: Annotated[Context, Depends(_context)]) -> Settings:
    return context.settings


async def _registry(context: Annotated[Context, Depends(_context)]) -> ModelRegistry:
    return context.registry


async def _signal(context: Annotated[Context, Depends(_context)]) -> UploadSignal:
    return context.signal


async def _hashes(context: Annotated[Context, Depends(_context)]) -> BankHashes:
    return context.hashes


async def _platform(context: Annotated[Context, Depends(_context)]) -> Platform:
    return context.platform


async def _sandbox(context: Annotated[Context, Depends(_context)]) -> Sandbox:
    return context.sandbox


async def _guard(context: Annotated[Context, Depends(_context)]) -> Guard:
    return context.guard


async def _fetcher(context: Annotated[Context, Depends(_context)]) -> Fetcher:
    return context.fetcher


UsesEngine = Annotated[AsyncEngine, Depends(_engine)]
UsesObjects = Annotated[ObjectStore, Depends(_objects)]
UsesSettings = Annotated[Settings, Depends(_settings)]
UsesRegistry = Annotated[ModelRegistry, Depends(_registry)]
UsesSignal = Annotated[UploadSignal, Depends(_signal)]
UsesPlatform = Annotated[Platform, Depends(_platform)]
UsesHashes = Annotated[BankHashes, Depends(_hashes)]
UsesSandbox = Annotated[Sandbox, Depends(_sandbox)]
UsesGuard = Annotated[Guard, Depends(_guard)]
UsesFetcher = Annotated[Fetcher, Depends(_fetcher)]
