"""What bulk jobs write, measured apart: rows a second into PostgreSQL, vectors a second into LanceDB on S3, bytes of both.

    python -m benchmarks.bulk_writes [--pictures 20000]

Made-up pictures with the numbers of detections, scores, links and vectors that photographs have; one writer, the embedded
servers in a folder of their own (removed afterwards).
"""

import argparse
import asyncio
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.servers import own_servers
from configs.models import load_models
from configs.settings import Settings
from deployments.similarity.replicas import spaces_of
from deployments.similarity.writer import VectorWriter
from storage import bulk, job_units, jobs
from storage.bulk import BulkImage, IndexedUnit
from storage.claims import FoundObject
from storage.corpus import CorpusObject
from storage.database import create_engine
from storage.links import Link
from storage.objects import ObjectStore
from storage.policy_changes import ensure_active
from storage.vector_rows import VectorRows

UNIT, LINKS, DETECTIONS = 16, 2, 2
REGIONS = {"pdq": 1, "lite0": 7, "shape": 10}
"""Rows of a picture in each kind of table."""


async def postgres(engine: AsyncEngine, pictures: int, units_a_commit: int) -> dict[str, float]:
    """Seconds for the rows of images and of links."""
    rng = np.random.default_rng(1)
    source = f"s3://made-up-{units_a_commit}/"
    job = await jobs.create(engine, source=source, model_name="m", options={}, created_by="benchmark")
    assert job.id is not None
    token = await jobs.take(engine, job.id, lease_s=3600)
    found = [CorpusObject(f"{source}{n // 1000:05}/{n:09}.jpg", f"{n:032x}", 100_000) for n in range(pictures)]
    seconds = {}
    begun = time.perf_counter()
    for start in range(0, pictures, 4096):
        await job_units.add_listed(engine, job.id, token, found[start : start + 4096], unit_size=UNIT)
    seconds["ledger"] = time.perf_counter() - begun
    numbers = list(range(-(-pictures // UNIT)))
    held = await job_units.units(engine, job.id, numbers)
    outcomes = []
    for unit in held:
        images = []
        for image_id, path, etag, size in zip(unit.image_ids, unit.paths, unit.etags, unit.sizes, strict=True):
            objects = [FoundObject("person", 0.9, (1.0, 2.0, 300.0, 400.0), "nanodet@1")] * DETECTIONS
            digest = rng.bytes(32)
            images.append(BulkImage(image_id, path, etag, digest, size, "image/jpeg", 1024, 768, objects, {"f@1": 0.1}))
        outcomes.append(IndexedUnit(unit.number, images, []))
    begun = time.perf_counter()
    for start in range(0, len(outcomes), units_a_commit):
        await bulk.store_indexed(engine, job.id, token, "m", outcomes[start : start + units_a_commit])
    seconds["images"] = time.perf_counter() - begun
    evidence = {
        "confidence": {"copy": 0.99, "semantic": 0.99},
        "descriptor": {
            "name": "lite0-copy@2",
            "score": 0.91,
            "view": "whole",
            "boxes": {"1": [0, 0, 1, 1], "2": [0, 0, 1, 1]},
        },
        "geometry": {"inliers": 40, "coverage": 0.5, "residual": 0.8, "transform": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]},
    }
    everyone = [image_id for unit in held for image_id in unit.image_ids]
    begun = time.perf_counter()
    for unit in held:
        others = rng.choice(everyone, (len(unit.image_ids), LINKS))
        links = [
            (image_id, Link(int(other), "copy", "geometry", 0.99, 0.98, evidence))
            for image_id, row in zip(unit.image_ids, others, strict=True)
            for other in row
            if other != image_id
        ]
        await bulk.store_links(engine, job.id, token, unit.number, unit.image_ids, links, descriptors=())
    seconds["links"] = time.perf_counter() - begun
    return seconds


async def table_bytes(engine: AsyncEngine, *tables: str) -> int:
    """Of tables with their indexes."""
    async with engine.connect() as connection:
        sizes = [
            await connection.scalar(text("SELECT pg_total_relation_size(:name)"), {"name": name}) for name in tables
        ]
    return sum(int(size or 0) for size in sizes)


async def vectors(engine: AsyncEngine, settings: Settings, pictures: int, a_commit: int) -> float:
    """Seconds for the vectors of all tables."""
    registry = load_models(settings.models_file)
    spaces = spaces_of(registry)
    writer = VectorWriter(engine, settings, spaces, holder="benchmark", optimize_every=50)
    await writer.start()
    rng = np.random.default_rng(2)
    pool = rng.standard_normal((10 * a_commit, 256)).astype(np.float32)
    begun = time.perf_counter()
    for start in range(0, pictures, a_commit):
        rows = {}
        for space in spaces:
            each = next(count for kind, count in REGIONS.items() if space.name.startswith(kind))
            ids = np.repeat(np.arange(start, start + a_commit), each)
            held = (
                rng.integers(0, 256, (len(ids), space.dim), np.uint8) if space.binary else pool[: len(ids), : space.dim]
            )
            boxes = np.tile(np.asarray([[0, 0, 1, 1]], np.float32), (len(ids), 1))
            rows[space.name] = VectorRows(ids, np.tile(np.arange(each, dtype=np.int16), a_commit), boxes, held)
        await writer.add(rows)
    seconds = time.perf_counter() - begun
    await writer.close()
    return seconds


async def measure(settings: Settings, pictures: int, console: Console) -> None:
    """Everything, printed."""
    engine = create_engine(settings, pool_size=3)
    await ensure_active(engine, actor="benchmark")
    objects = ObjectStore(settings)
    await objects.ensure_buckets(settings.s3_vectors_bucket)
    table = Table(title=f"{pictures} pictures")
    for column in ("what", "a commit", "pictures/s", "rows or vectors/s"):
        table.add_column(column, justify="left" if column == "what" else "right")
    rows = {"ledger": 1 / UNIT, "images": 2 + DETECTIONS, "links": LINKS}
    for units_a_commit in (4, 64):
        seconds = await postgres(engine, pictures, units_a_commit)
        for what, taken in seconds.items():
            commit = {"ledger": 4096, "images": units_a_commit * UNIT, "links": UNIT}[what]
            rate = pictures / taken
            table.add_row(f"PostgreSQL: {what}", str(commit), f"{rate:.0f}", f"{rate * rows[what]:.0f}")
    each = sum(REGIONS.values())
    for a_commit in (64, 1024):
        taken = await vectors(engine, settings, pictures, a_commit)
        table.add_row("LanceDB: vectors", str(a_commit), f"{pictures / taken:.0f}", f"{each * pictures / taken:.0f}")
    console.print(table)
    async with engine.connect() as connection:
        counted = int(await connection.scalar(text("SELECT count(*) FROM image")) or 1)
    sizes = {
        "images, detections, scores": await table_bytes(engine, "image", "detection", "content_score"),
        "links": await table_bytes(engine, "image_match"),
        "verdicts": await table_bytes(engine, "moderation", "decision"),
        "audit and events": await table_bytes(engine, "audit", "event"),
        "ledger": await table_bytes(engine, "job_unit"),
    }
    console.print(
        "PostgreSQL bytes a picture, with indexes: " + ", ".join(f"{k} {v / counted:.0f}" for k, v in sizes.items())
    )
    objects.close()
    await engine.dispose()


def main() -> None:
    """Starts the servers, measures, removes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=20_000)
    options = parser.parse_args()
    with own_servers() as settings:
        asyncio.run(measure(settings, options.pictures // 1024 * 1024 or 1024, Console(width=100, highlight=False)))


if __name__ == "__main__":
    main()
