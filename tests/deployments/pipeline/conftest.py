"""The parts of the pipeline in this process: real networks, real vectors, one model name for each test."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import DescriptorSpec, ModelRegistry, ModelSpec, load_models
from configs.settings import Settings
from deployments.pipeline.bank_hashes import BankHashes
from deployments.pipeline.generations import Generations
from deployments.pipeline.limits import Limits
from deployments.pipeline.linking import Linker
from deployments.pipeline.networks import LocalNetworks
from deployments.pipeline.processor import Processor
from deployments.pipeline.verification import Verifier
from deployments.similarity.members import Members
from deployments.similarity.queries import Hit, Query
from deployments.similarity.reader import VectorReader
from deployments.similarity.replicas import known_spaces
from deployments.similarity.writer import VectorWriter
from deployments.vision.decoding import probe
from deployments.vision.factory import build_shapes
from deployments.vision.interfaces import Box
from deployments.vision.sandbox import Sandbox
from storage import claims
from storage.claims import Claim
from storage.objects import ObjectStore
from storage.tables import Image
from storage.uploads import NewImage, upload
from storage.vector_rows import VectorRows

Upload = Callable[..., Awaitable[Image]]


class LocalIndex:
    """Writer and reader of the vectors in this process."""

    def __init__(self, writer: VectorWriter, reader: VectorReader) -> None:
        self.writer = writer
        self._reader = reader

    async def add(self, rows: dict[str, VectorRows], replace: list[int]) -> dict[str, int]:
        return await self.writer.add(rows, replace=replace)

    async def search(self, queries: list[Query], versions: dict[str, int] | None) -> list[list[Hit]]:
        return await self._reader.search(queries, versions)


class Choosy:
    """Networks that raise while a condition on the detector's frames holds; the rest is done by real ones."""

    def __init__(self, inner: LocalNetworks, error: Exception, refuses: Callable[[NDArray], bool]) -> None:
        self._inner = inner
        self._error = error
        self.refuses = refuses
        self.calls: list[int] = []

    async def detect(
        self, model: ModelSpec, frames: NDArray, filter_frames: NDArray | None, sizes: list[tuple[int, int]]
    ) -> tuple[list[list[Box]], list[float] | None]:
        self.calls.append(len(frames))
        if any(self.refuses(frame) for frame in frames):
            raise self._error
        return await self._inner.detect(model, frames, filter_frames, sizes)

    async def embed(self, descriptor: DescriptorSpec, frames: NDArray) -> NDArray:
        return await self._inner.embed(descriptor, frames)


@pytest.fixture(scope="session")
def shipped() -> ModelSpec:
    """The default model of models.yaml."""
    registry = load_models(Settings.model_fields["models_file"].default)
    return registry[registry.default]


@pytest.fixture(scope="session")
def networks(shipped: ModelSpec) -> LocalNetworks:
    """Its networks, loaded once."""
    return LocalNetworks(shipped, Settings())


@pytest.fixture
def model(shipped: ModelSpec) -> ModelSpec:
    """The default model under a name, and with vectors, of its own."""
    unique = f"test-{uuid4().hex[:10]}"
    descriptor = shipped.descriptor.model_copy(update={"name": f"{unique}@1"})
    shape = shipped.shape.model_copy(update={"name": f"{unique}-shape@1"}) if shipped.shape else None
    return shipped.model_copy(update={"name": unique, "descriptor": descriptor, "shape": shape})


@pytest.fixture
def other(model: ModelSpec) -> DescriptorSpec:
    """A descriptor that the model could use: the same network with float16 weights."""
    exact = {"name": f"{model.name}@2", "path": "models/lite0-copy-2.onnx", "sha256": None}
    return model.descriptor.model_copy(update=exact)


@pytest_asyncio.fixture
async def processor(
    engine: AsyncEngine, objects: ObjectStore, servers: Settings, model: ModelSpec, networks: LocalNetworks,
    other: DescriptorSpec, sandbox: Sandbox,
) -> AsyncIterator[Processor]:  # fmt: skip
    """Everything real, with short pauses between attempts."""
    settings = servers.model_copy(update={"retry_delay_s": 0.0, "max_attempts": 3})
    registry = ModelRegistry({model.name: model}, model.name, {other.name: other})
    writer = VectorWriter(engine, settings, known_spaces(registry), holder="test")
    await writer.start()
    index = LocalIndex(writer, VectorReader(settings, known_spaces(registry), Members(engine)))
    verifier = Verifier(engine, objects, max_pixels=settings.max_pixels, long_side=settings.decode_long_side)
    yield Processor(
        engine,
        objects,
        settings,
        registry,
        networks,
        index,
        Linker(verifier, Limits(engine, fresh_s=0.0)),
        build_shapes(registry),
        Generations(engine, registry, fresh_s=0.0),
        BankHashes(engine),
        sandbox,
    )
    await writer.close()
    await empty(engine, model.name)


async def empty(engine: AsyncEngine, model_name: str) -> None:
    """Takes the images of one queue out of the way of other tests: their bytes are the same."""
    mine = "(SELECT id FROM image WHERE model_name = :name)"
    async with engine.begin() as connection:
        await connection.execute(text(f"DELETE FROM bank_member WHERE image_id IN {mine}"), {"name": model_name})
        await connection.execute(text("DELETE FROM image WHERE model_name = :name"), {"name": model_name})


@pytest.fixture
def put(engine: AsyncEngine, objects: ObjectStore, model: ModelSpec) -> Upload:
    """Uploads a file to the model's queue; ``checked=False`` stores bytes that the API would refuse."""

    async def store(data: bytes, name: str = "picture.jpg", *, checked: bool = True) -> Image:
        size, kind = (1, 1), "image/jpeg"
        if checked:
            info = probe(data, max_bytes=10**8, max_pixels=10**8, max_frames=1000)
            size, kind = (info.width, info.height), info.media_type
        return await upload(engine, objects, NewImage(name, model.name, data, kind, *size), caller=0)

    return store


async def claim_all(processor: Processor, limit: int = 50, *, lease_s: float = 60.0) -> list[Claim]:
    """What the claim loop would take."""
    names = processor.registry.known()
    return await claims.claim(
        processor.engine, names, limit, lease_s=lease_s, max_attempts=processor.settings.max_attempts
    )


async def run_queue(processor: Processor, rounds: int = 1) -> None:
    """Claims and processes, some times over."""
    for _ in range(rounds):
        if held := await claim_all(processor):
            await processor.process(held)


async def state(engine: AsyncEngine, image: Image) -> tuple[str, int, str | None]:
    """Status, counted attempts and reason of failure of an image."""
    async with engine.connect() as connection:
        statement = text("SELECT status, attempt, failure FROM image WHERE id = :id")
        row = (await connection.execute(statement, {"id": image.id})).one()
    return row.status, row.attempt, row.failure


def with_networks(processor: Processor, choosy: Choosy) -> Processor:
    """The same processor with other networks."""
    return replace(processor, networks=choosy)


async def as_corpus(processor: Processor, image: Image) -> str:
    """Names the picture of a row as an object of somebody else; returns its address."""
    address = processor.objects.address(image.s3_path)
    async with processor.engine.begin() as connection:
        statement = text("UPDATE image SET s3_path = :address WHERE id = :id")
        await connection.execute(statement, {"address": address, "id": image.id})
    return address


@contextmanager
def refused(processor: Processor, *addresses: str) -> Iterator[Processor]:
    """The same processor with an object store that answers 403 for some objects."""
    settings = processor.settings
    store = ObjectStore(settings)
    places = [store._place(one) for one in addresses]
    denied = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}

    def refuse(params: dict[str, str], **_: object) -> None:
        if params in places:
            raise ClientError(denied, "GetObject")

    store._client.meta.events.register("provide-client-params.s3.GetObject", refuse)
    verifier = Verifier(processor.engine, store, max_pixels=settings.max_pixels, long_side=settings.decode_long_side)
    yield replace(processor, objects=store, linker=Linker(verifier, processor.linker.limits))
    store.close()
