"""The application over real PostgreSQL and S3, called in-process; clients with keys of chosen scopes."""

import asyncio
import io
import itertools
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import load_models
from configs.settings import Settings
from deployments.ingress.app import create_app
from deployments.ingress.context import Context
from deployments.ingress.hma.fetching import Fetcher
from deployments.pipeline.bank_hashes import BankHashes
from deployments.pipeline.found import Found
from deployments.vision.decoding import decode
from deployments.vision.pdq import pdq_hashes
from deployments.vision.sandbox import Sandbox
from deployments.webhooks.addresses import Guard, SystemResolver
from deployments.webhooks.client import trusted
from storage import image_members
from storage.errors import NotFound, SearchesFull, Unavailable, UnsupportedImage
from storage.keys import create_key
from storage.objects import ObjectStore
from storage.queues import UploadSignal

_seeds = itertools.count(1)


def picture(size: tuple[int, int] = (96, 64), *, seed: int | None = None, kind: str = "PNG") -> bytes:
    """A file with smooth random content; another one on each call unless seeded."""
    numbers = np.random.default_rng(next(_seeds) if seed is None else seed)
    coarse = Image.fromarray(numbers.integers(0, 256, (8, 12, 3), np.uint8))
    file = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(file, kind)
    return file.getvalue()


class PdqPlatform:
    """A platform in this process: searches all stored pictures by PDQ; networks and vectors run elsewhere."""

    def __init__(self, engine: AsyncEngine, objects: ObjectStore) -> None:
        self._engine = engine
        self._objects = objects
        self.removed: list[int] = []
        self.submitted: list[int] = []
        self.down = self.crowded = False

    def _up(self) -> None:
        if self.down:
            raise Unavailable("the platform is switched off")

    async def search(self, data: bytes, model_name: str, k: int, exclude: int | None) -> list[Found]:
        if self.crowded:
            raise SearchesFull("many search", 3.0)
        self._up()
        hashes, _ = pdq_hashes(decode(data, max_pixels=10**8, long_side=512).pixels)
        async with self._engine.connect() as connection:
            rows = (
                await connection.execute(text("SELECT id, name, s3_path FROM image WHERE uploaded_at > 'epoch'"))
            ).all()
        found = []
        for row in rows:
            if row.id == exclude:
                continue
            try:
                other = decode(await self._objects.get(row.s3_path), max_pixels=10**8, long_side=512).pixels
            except (NotFound, UnsupportedImage):  # tests of other folders leave rows and files of all kinds
                continue
            distance = int(np.unpackbits(hashes[0] ^ pdq_hashes(other)[0][0]).sum())
            if distance <= 60:
                score, kind = 1 - distance / 256, "exact" if distance == 0 else "copy"
                evidence = {"distance": distance}
                found.append(Found(row.id, row.name, row.s3_path, kind, "pdq", score, 1 - 60 / 256, evidence))
        ranked = sorted(found, key=lambda one: (-one.score, one.image_id))
        return [one for kind in ("exact", "copy") for one in [hit for hit in ranked if hit.relation == kind][:k]]

    async def near_members(self, pdq: bytes, newest: int, k: int) -> dict[int, int]:
        self._up()
        found = {}
        for _, image_id in await image_members.since(self._engine, 0):
            async with self._engine.connect() as connection:
                path = await connection.scalar(text("SELECT s3_path FROM image WHERE id = :id"), {"id": image_id})
            pixels = decode(await self._objects.get(path), max_pixels=10**8, long_side=512).pixels
            found[image_id] = int(np.unpackbits(np.frombuffer(pdq, np.uint8) ^ pdq_hashes(pixels)[0][0]).sum())
        nearest = sorted(found.items(), key=lambda one: one[1])[:k]
        return {image_id: bits for image_id, bits in nearest if bits <= 64}

    async def remove(self, image_ids: list[int]) -> None:
        self._up()
        self.removed += image_ids

    async def submit_job(self, job_id: int) -> None:
        self._up()
        self.submitted.append(job_id)

    async def index_info(self) -> dict[str, Any]:
        self._up()
        return {"pdq@1": {"rows": 0, "version": 1, "age_s": 0.0, "exists": True}}

    async def check_models(self) -> None:
        self._up()


MakeApp = Callable[..., Awaitable[FastAPI]]
MakeClient = Callable[..., Awaitable[httpx.AsyncClient]]
Upload = Callable[..., Awaitable[int]]


@pytest.fixture
def platform(engine: AsyncEngine, objects: ObjectStore) -> PdqPlatform:
    return PdqPlatform(engine, objects)


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    return trusted()


@pytest.fixture
async def make_app(
    engine: AsyncEngine,
    objects: ObjectStore,
    servers: Settings,
    platform: PdqPlatform,
    sandbox: Sandbox,
    tls: ssl.SSLContext,
) -> AsyncIterator[MakeApp]:
    signals = []
    names = SystemResolver()

    async def make(collaborators: dict[str, Any] | None = None, **settings: Any) -> FastAPI:
        options = servers.model_copy(update=settings)
        signal = UploadSignal(options)
        signals.append(signal)
        await signal.start()
        parts = {
            "engine": engine, "objects": objects, "settings": options, "signal": signal, "platform": platform,
            "registry": load_models(options.models_file), "sandbox": sandbox,
            "hashes": BankHashes(engine), "guard": Guard(options, names), "fetcher": Fetcher(options, names, tls),
            **(collaborators or {}),
        }  # fmt: skip
        return create_app(Context(**parts))

    yield make
    for signal in signals:
        await signal.close()
    names.close()


@pytest.fixture
async def busy_threads() -> AsyncIterator[None]:
    """The loop's own threads do something that does not end."""
    loop, end = asyncio.get_running_loop(), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        loop.set_default_executor(threads)
        loop.run_in_executor(None, end.wait)
        yield
        end.set()
    loop.set_default_executor(ThreadPoolExecutor())


@pytest.fixture
async def app(make_app: MakeApp) -> FastAPI:
    return await make_app()


@pytest.fixture
async def make_client(engine: AsyncEngine, app: FastAPI) -> AsyncIterator[MakeClient]:
    """Clients: ``await make_client("image:read", ...)``; no scope is no key."""
    clients = []

    async def make(*scopes: str, target: FastAPI | None = None) -> httpx.AsyncClient:
        headers = {}
        if scopes:
            headers["Authorization"] = f"Bearer {await create_key(engine, str(uuid4()), scopes, actor='test')}"
        transport = httpx.ASGITransport(target or app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://restapi:8000/api/v1", headers=headers)
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
async def client(make_client: MakeClient) -> httpx.AsyncClient:
    return await make_client("image:read", "image:write", "image:process")


@pytest.fixture
def queue() -> str:
    """A model_name that nothing else uses."""
    return f"queue-{uuid4()}"


@pytest.fixture
def upload(client: httpx.AsyncClient, queue: str) -> Upload:
    """Stores a picture; returns its id."""

    async def send(data: bytes | None = None, name: str = "image1.jpg", model_name: str = queue) -> int:
        answer = await client.post(
            "/image", data={"name": name, "model_name": model_name}, files={"file": ("a", data or picture())}
        )
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    return send


def is_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Checks the form of a problem and that nothing internal is in it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert found["type"].startswith("urn:problem-type:") and found["title"] and found["detail"]
    for internal in ("Traceback", "SELECT", "sqlalchemy", "asyncpg", ".py"):
        assert internal not in answer.text
    if status in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    return found
