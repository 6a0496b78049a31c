"""A process that works look-backs of hashes off, two images a step, until it is killed; needs no networks.

python -m tests.deployments.pipeline.lookback_process VERSIONS
"""

import asyncio
import json
import sys
from typing import Any

from configs.models import load_models
from configs.settings import load_settings
from deployments.pipeline.bank_hashes import BankHashes
from deployments.pipeline.generations import Generations
from deployments.pipeline.limits import Limits
from deployments.pipeline.linking import Linker
from deployments.pipeline.lookback_work import LookBackWorker
from deployments.pipeline.processor import Processor
from deployments.pipeline.verification import Verifier
from deployments.similarity.queries import Hit, Query
from deployments.similarity.reader import VectorReader
from deployments.similarity.replicas import known_spaces
from deployments.vision.sandbox import sandbox_of
from storage import lookback_claims
from storage.database import create_engine
from storage.objects import ObjectStore


class ReaderOnly:
    """The vectors as they were when the process was started; the writer lives in its parent."""

    def __init__(self, reader: VectorReader, versions: dict[str, int]) -> None:
        self._reader, self._versions = reader, versions

    async def add(self, rows: dict[str, Any], replace: list[int]) -> dict[str, int]:
        assert not rows and not replace
        return self._versions

    async def search(self, queries: list[Query], versions: dict[str, int] | None) -> list[list[Hit]]:
        return await self._reader.search(queries, versions)


async def main() -> None:
    """Steps with a pause after each, so that whoever watches can kill in between and within; it waits for that after a few."""
    settings = load_settings()
    registry = load_models(settings.models_file)
    engine, objects = create_engine(settings), ObjectStore(settings)
    index = ReaderOnly(VectorReader(settings, known_spaces(registry)), json.loads(sys.argv[1]))
    linker = Linker(Verifier(engine, objects, max_pixels=10**8, long_side=1024), Limits(engine))
    networks: Any = None
    processor = Processor(
        engine, objects, settings, registry, networks, index, linker, {}, Generations(engine, registry),
        BankHashes(engine), sandbox_of(settings),
    )  # fmt: skip
    worker = LookBackWorker(processor, span=2)
    held = await lookback_claims.claim(engine, lease_s=60, max_attempts=3)
    worker.begin()
    for pause_s in (0.1, 0.1, 600.0):
        assert held is not None, "there is more to do"
        held = await worker.step(held)
        await asyncio.sleep(pause_s)


if __name__ == "__main__":
    asyncio.run(main())
