"""Seconds that looking back takes: judging all stored images anew, searching them for new members, and for new hashes.

    python -m benchmarks.lookback PHOTOS [--stored 10000] [--members 5] [--hashes 500] [--looked 100]

Real PostgreSQL, S3 and vector tables in a folder of their own (removed afterwards), the pipeline's own code in this
process. The members and their edited copies are real pictures; the other stored images are rows whose vectors are those
of real photographs with noise, so that about as many of them come near a member as of real strangers. Per million
images is what was measured, times as many images: searches take ranges of images of a fixed size. CPU seconds are those
of this process, without PostgreSQL and S3.
"""

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.accuracy.dataset import encoded, read_pictures
from benchmarks.edits import EVERYDAY
from benchmarks.servers import own_servers
from configs.models import ModelSpec, load_models
from configs.settings import Settings
from deployments.pipeline.bank_hashes import BankHashes
from deployments.pipeline.generations import Generations
from deployments.pipeline.limits import Limits
from deployments.pipeline.linking import Linker
from deployments.pipeline.look import Look
from deployments.pipeline.lookback_work import LookBackWorker
from deployments.pipeline.networks import LocalNetworks
from deployments.pipeline.processor import Processor, vector_rows
from deployments.pipeline.verification import Verifier
from deployments.similarity.queries import Hit, Query
from deployments.similarity.reader import VectorReader
from deployments.similarity.replicas import known_spaces
from deployments.similarity.writer import VectorWriter
from deployments.vision.factory import build_shapes
from deployments.vision.sandbox import sandbox_of
from storage import lookback_claims, lookbacks
from storage.bank_changes import change_banks
from storage.database import create_engine
from storage.features import features_key
from storage.lookback_tables import LookBack, LookBackKind
from storage.objects import ObjectStore
from storage.policy_changes import ensure_active
from storage.vector_rows import VectorRows

NOISE = 0.35
"""Length of the noise that is added to the vectors of length 1 of real strangers."""
EDITS = ("mirror", "crop70", "recolour", "meme", "quarter_turn")
_PAGE = 500

_IMAGES = text("""
INSERT INTO image (id, name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at,
                   processed_at)
OVERRIDING SYSTEM VALUE
SELECT id, 'picture', 'PROCESSED', :model, path, sha256(path::bytea), 100000, 'image/jpeg', 512, 384, now(), now()
FROM unnest(CAST(:ids AS bigint[]), CAST(:paths AS text[])) AS made(id, path)
""")
_SCORES = text(
    "INSERT INTO content_score (image_id, model, score) SELECT id, :filter, 0.01 FROM unnest(CAST(:ids AS bigint[])) AS made(id)"
)
_BANK = text("""
INSERT INTO bank (name, kind, relations, pdq_distance, created_by)
VALUES (:name, 'unacceptable', '{exact,copy}', 31, 'benchmark') RETURNING id
""")
_MEMBER = text("""
INSERT INTO bank_member (bank_id, added_by, image_id, pdq) VALUES (:bank, 'benchmark', :image, :pdq) RETURNING id
""")


class Aliased(ObjectStore):
    """The details of made-up images are those of the photograph that their vectors come from: read anew each time."""

    sources: dict[str, str]

    async def get(self, key: str, *arguments: Any, **options: Any) -> bytes:
        return await super().get(self.sources.get(key, key), *arguments, **options)


class LocalIndex:
    """Writer and reader of the vectors in this process."""

    def __init__(self, writer: VectorWriter, reader: VectorReader) -> None:
        self._writer, self._reader = writer, reader

    async def add(self, rows: dict[str, VectorRows], replace: list[int]) -> dict[str, int]:
        return await self._writer.add(rows, replace=replace)

    async def search(self, queries: list[Query], versions: dict[str, int] | None) -> list[list[Hit]]:
        return await self._reader.search(queries, versions)


def noisy(rows: VectorRows, rng: np.random.Generator) -> VectorRows:
    """The same rows with other vectors nearby; of bit strings a third of the bits is turned."""
    vectors: NDArray[Any] = rows.vectors
    if vectors.dtype == np.uint8:
        vectors = vectors ^ np.packbits(rng.random((len(vectors), vectors.shape[1] * 8)) < 1 / 3, axis=1)
    else:
        noise = rng.normal(size=vectors.shape)
        vectors = vectors + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return VectorRows(rows.image_ids, rows.regions, rows.boxes, vectors)


async def see(processor: Processor, model: ModelSpec, files: list[bytes]) -> list[Look]:
    """Looks, eight at a time."""
    looks: list[Look] = []
    for start in range(0, len(files), 8):
        for found in await processor.look(model, files[start : start + 8], judge=False):
            assert isinstance(found, Look), found
            looks.append(found)
    return looks


async def store_rows(engine: AsyncEngine, model: ModelSpec, ids: list[int], paths: list[str]) -> None:
    """Processed images that a filter has seen."""
    async with engine.begin() as connection:
        await connection.execute(_IMAGES, {"model": model.name, "ids": ids, "paths": paths})
        await connection.execute(_SCORES, {"filter": model.filter_name, "ids": ids})


async def worked(processor: Processor, lookback: int) -> LookBack:
    """Works a look-back off."""
    worker = LookBackWorker(processor)
    held = await lookback_claims.claim(processor.engine, lease_s=600, max_attempts=3)
    worker.begin()
    while held is not None:
        held = await worker.step(held)
    return await lookbacks.get(processor.engine, lookback)


async def add(engine: AsyncEngine, members: list[dict[str, Any]]) -> int:
    """A new bank with members, and its look-back."""
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        bank = int((await connection.execute(_BANK, {"name": f"bank of {len(members)}"})).scalar_one())
        ids = [(await connection.execute(_MEMBER, {"bank": bank, **one})).scalar_one() for one in members]
        return await lookbacks.begin(
            connection, LookBackKind.MEMBERS, cause="added", actor="benchmark", bank_id=bank, members=(ids[0], ids[-1])
        )


async def blocked(engine: AsyncEngine) -> set[int]:
    """Images that are blocked now."""
    async with engine.connect() as connection:
        return set(
            (await connection.execute(text("SELECT image_id FROM moderation WHERE verdict = 'block'"))).scalars()
        )


async def measure(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Fills the tables, looks back, prints."""
    registry = load_models(settings.models_file)
    model = registry[registry.default]
    engine, objects = create_engine(settings), Aliased(settings)
    objects.sources = {}
    await objects.ensure_buckets(settings.s3_vectors_bucket)
    await ensure_active(engine, actor="benchmark")
    writer = VectorWriter(engine, settings, known_spaces(registry), holder="benchmark")
    await writer.start()
    verifier = Verifier(engine, objects, max_pixels=10**8, long_side=settings.decode_long_side, held=0)
    processor = Processor(
        engine, objects, settings, registry, LocalNetworks(model, settings),
        LocalIndex(writer, VectorReader(settings, known_spaces(registry))), Linker(verifier, Limits(engine)),
        build_shapes(registry), Generations(engine, registry), BankHashes(engine), sandbox_of(settings),
    )  # fmt: skip
    await processor.generations.start()
    rng = np.random.default_rng(1)
    pictures = [picture for _, picture in read_pictures(options.photos)[0][: options.members + options.looked]]
    originals, strangers = pictures[: options.members], pictures[options.members :]
    files = [encoded(one) for one in originals]
    for one in originals:
        files += [encoded(EVERYDAY[edit](one, rng, strangers)) for edit in EDITS]
    real = await see(processor, model, files)
    sources = await see(processor, model, [encoded(one) for one in strangers])

    # The real ones lie among the others: every hundredth or so.
    every = max(1, options.stored // (len(real) + 1))
    real_ids = [every * (n + 1) for n in range(len(real))]
    for image_id, found, data in zip(real_ids, real, files, strict=True):
        path = f"images/real_{image_id}.jpg"
        await objects.put(path, data, "image/jpeg")
        async with engine.begin() as connection:
            await connection.execute(_IMAGES, {"model": model.name, "ids": [image_id], "paths": [path]})
            await connection.execute(
                text("UPDATE image SET sha256 = :digest WHERE id = :id"), {"digest": found.sha256, "id": image_id}
            )
            await connection.execute(_SCORES, {"filter": model.filter_name, "ids": [image_id]})
        assert found.details is not None
        await verifier.store(path, found.sha256, found.details)
    await writer.add(vector_rows(model, list(zip(real_ids, real, strict=True))))
    for number, found in enumerate(sources):
        assert found.details is not None
        await verifier.store(f"images/source_{number}.jpg", found.sha256, found.details)
    others = [n for n in range(1, options.stored + 1) if n not in set(real_ids)]
    for start in range(0, len(others), _PAGE):
        ids = others[start : start + _PAGE]
        chosen = rng.integers(0, len(sources), len(ids))
        paths = [f"images/made_up_{n}.jpg" for n in ids]
        await store_rows(engine, model, ids, paths)
        for path, number in zip(paths, chosen, strict=True):
            objects.sources[features_key(path)] = features_key(f"images/source_{number}.jpg")
        rows = vector_rows(model, [(n, sources[number]) for n, number in zip(ids, chosen, strict=True)])
        await writer.add({name: noisy(some, rng) for name, some in rows.items()})

    table = Table("look-back", "seconds", "CPU seconds", "images", "changed", "seconds per million images")

    async def timed(name: str, lookback: int) -> None:
        began, used = time.perf_counter(), time.process_time()
        done = await worked(processor, lookback)
        seconds, used = time.perf_counter() - began, time.process_time() - used
        assert done.state == "done" and not done.skipped, done
        million = f"{seconds * 1e6 / options.stored:.0f}"
        table.add_row(name, f"{seconds:.2f}", f"{used:.2f}", str(done.images_done), str(done.verdicts_changed), million)

    await timed("all images judged", await lookbacks.start(engine, bank_id=None, actor="benchmark", reason="first"))
    await timed(
        "again, nothing changed", await lookbacks.start(engine, bank_id=None, actor="benchmark", reason="again")
    )
    wanted = await add(engine, [{"image": n, "pdq": None} for n in real_ids[: options.members]])
    await timed(f"{options.members} members", wanted)
    found = await blocked(engine)
    copies = set(real_ids[options.members :])
    hashes = [{"image": None, "pdq": found.pdq[0].tobytes()} for found in real[: options.members]]
    hashes += [{"image": None, "pdq": rng.bytes(32)} for _ in range(options.hashes - len(hashes))]
    await timed(f"{options.hashes} hashes", await add(engine, hashes))
    console.print(table)
    console.print(
        f"{len(found & copies)} of {len(copies)} edited copies ({', '.join(EDITS)}) among {options.stored} images found,"
        f" {len(found - set(real_ids))} strangers blocked"
    )
    await writer.close()
    objects.close()
    await engine.dispose()


def main() -> None:
    """Starts the servers, measures, removes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--stored", type=int, default=10_000, help="images")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--hashes", type=int, default=500)
    parser.add_argument("--looked", type=int, default=100, help="real strangers whose vectors the others get")
    options = parser.parse_args()
    with own_servers() as settings:
        asyncio.run(measure(settings, options, Console(width=110, highlight=False)))


if __name__ == "__main__":
    main()
