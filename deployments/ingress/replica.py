"""The Ingress replica: makes the collaborators on its own loop and serves the application. Ray Serve around app.py."""

from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from configs.models import load_models
from configs.settings import load_settings
from deployments.idle_memory import give_back_when_idle
from deployments.ingress.app import create_app
from deployments.ingress.context import Context
from deployments.ingress.hma.fetching import Fetcher
from deployments.ingress.remote import RemotePlatform
from deployments.logs import log_to_replica
from deployments.pipeline.bank_hashes import BankHashes
from deployments.vision.sandbox import sandbox_of
from deployments.webhooks.addresses import Guard, SystemResolver
from deployments.webhooks.client import trusted
from storage.database import create_engine
from storage.objects import ObjectStore
from storage.queues import UploadSignal


class Ingress:
    """Bound by graphs/serving.py with ``serve.ingress()``, which asks the made replica for its application.

    Args:
        pipeline, reader, writer: handles of the deployments it calls.
        sender: handle of the WebhookSender; nobody calls it, but Serve deploys only what is bound.
        call_timeout_s: limit of each such call, seconds.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it on the replica's own loop
        self,
        pipeline: DeploymentHandle,
        reader: DeploymentHandle,
        writer: DeploymentHandle,
        sender: DeploymentHandle,
        *,
        call_timeout_s: float = 30.0,
    ) -> None:
        log_to_replica()
        give_back_when_idle()
        settings = load_settings()
        engine = create_engine(settings)
        self._names = SystemResolver()
        self._context = Context(
            engine=engine,
            objects=ObjectStore(settings),
            settings=settings,
            registry=load_models(settings.models_file),
            signal=UploadSignal(settings),
            platform=RemotePlatform(settings, pipeline, reader, writer, call_timeout_s),
            hashes=BankHashes(engine),
            sandbox=sandbox_of(settings),
            guard=Guard(settings, self._names),
            fetcher=Fetcher(settings, self._names, trusted()),
        )
        await self._context.signal.start()

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """Asked by Serve once, after ``__init__``."""
        return create_app(self._context)

    async def check_health(self) -> None:
        """Passes as long as the loop turns: an outage of PostgreSQL or S3 must not restart replicas."""

    async def __del__(self) -> None:
        """Graceful shutdown, after the last request."""
        await self._context.signal.close()
        self._context.sandbox.close()
        self._context.objects.close()
        self._names.close()
        await self._context.engine.dispose()
