"""Recall, time and size of approximate indexes against exact search, on vectors that resemble descriptors.

    python -m benchmarks.index [--rows 60000] [--dim 256] [--queries 200] [--from-s3 | --together]

The vectors come in clusters (pictures of one topic) with near duplicates (cosine .8 to .95) among them; the queries are
further near duplicates. Times are those of one query, as ratios to exact search in memory in the same run. The tables lie
in a local folder; with ``--from-s3`` they lie in an S3 server of this machine, and the index that the service builds is
asked as a pipeline asks: several vectors of a picture at a time, with a least score, the picture itself left out. With
``--together`` exact search in memory is asked for eight pictures one by one, and for all of them, as bulk jobs do.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import lancedb
import numpy as np
from lancedb.index import HnswSq, IvfPq, IvfSq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.servers import own_servers
from configs.settings import Settings
from deployments.similarity.index import Ask, ExactIndex
from storage.objects import ObjectStore
from storage.vector_index import SearchEffort, build_index, nearest
from storage.vector_rows import VectorRows, VectorSpace
from storage.vectors import VectorTable, connect, schema_of

K = 10


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows brought to length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def alike(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Near duplicates of unit vectors: cosines of .8 to .95."""
    noise = unit(rng.normal(size=vectors.shape))
    cosines = rng.uniform(0.8, 0.95, (len(vectors), 1))
    return unit(vectors * cosines + noise * np.sqrt(1 - cosines**2))


def descriptors(rows: int, dim: int, queries: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """float32[rows, dim] in clusters of about 50 with pairs of near duplicates, and float32[queries, dim] near some of them."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(max(1, rows // 50), dim)))
    own = unit(rng.normal(size=(rows, dim)))
    held = unit(0.6 * centres[rng.integers(0, len(centres), rows)] + 0.8 * own)
    held[rows // 2 : rows // 2 + rows // 10] = alike(held[: rows // 10], rng)
    return held, alike(held[rng.choice(rows, queries, replace=False)], rng)


async def _timed(
    call: Callable[[NDArray[np.float32]], Awaitable[set[int]]], queries: NDArray[np.float32]
) -> tuple[list[set[int]], float]:
    await call(queries[0])
    times, found = [], []
    for query in queries:
        began = time.perf_counter()
        found.append(await call(query))
        times.append(time.perf_counter() - began)
    return found, float(np.median(times))


def _held(vectors: NDArray[np.float32], image_ids: NDArray[np.int64]) -> tuple[VectorSpace, VectorRows, ExactIndex]:
    """Vectors as the rows of a table, and as they are searched in memory."""
    space = VectorSpace("bench@1", vectors.shape[1])
    whole = np.tile(np.asarray([[0, 0, 1, 1]], np.float32), (len(vectors), 1))
    rows = VectorRows(image_ids, np.zeros(len(vectors), np.int16), whole, vectors)
    exact = ExactIndex(space)
    exact.extend(rows)
    return space, rows, exact


async def compare(options: argparse.Namespace, folder: Path, console: Console) -> None:
    """Builds each index and searches it."""
    held, queries = descriptors(options.rows, options.dim, options.queries, seed=1)
    space, rows, exact = _held(held, np.arange(len(held)))

    async def in_memory(query: NDArray[np.float32]) -> set[int]:
        return {row[0] for row in exact.search(query[None], k=K, min_score=-1.0)}

    truth, base = await _timed(in_memory, queries)
    table = Table("index", title=f"{options.rows} × {options.dim}, {options.queries} queries; exact in memory: 1.0")
    for column in ("build s", "MB beside the table", "search", "recall@1", f"recall@{K}", "p50 ÷ exact in memory"):
        table.add_column(column, justify="right")
    connection = await lancedb.connect_async(str(folder))
    kinds = {
        "none (exact on disk)": None,
        "IVF_PQ, its defaults": IvfPq(distance_type="cosine"),
        "IVF_SQ": IvfSq(distance_type="cosine", num_partitions=max(1, int(options.rows**0.5) // 2)),
        "IVF_HNSW_SQ": HnswSq(distance_type="cosine", num_partitions=1),
    }
    efforts = {
        "none (exact on disk)": [None],
        "IVF_PQ, its defaults": [SearchEffort(ef=K, refine=1, probes=20)],
        "IVF_SQ": [SearchEffort(ef=K, refine=r, probes=p) for p, r in ((10, 2), (30, 2), (60, 2))],
        "IVF_HNSW_SQ": [SearchEffort(ef=ef, refine=r, probes=1) for ef, r in ((64, 2), (150, 3), (300, 5), (600, 5))],
    }
    for number, (name, config) in enumerate(kinds.items()):
        made = await connection.create_table(f"t{number}", schema=schema_of(space))
        vectors = VectorTable(space, made)
        await vectors.append(rows, 0)
        size = sum(path.stat().st_size for path in (folder / f"t{number}.lance").rglob("*") if path.is_file())
        began = time.perf_counter()
        if config is not None:
            await made.create_index("vector", config=config)
        built = time.perf_counter() - began
        grown = sum(path.stat().st_size for path in (folder / f"t{number}.lance").rglob("*") if path.is_file()) - size
        for effort in efforts[name]:

            async def through(
                query: NDArray[np.float32], vectors: VectorTable = vectors, effort: SearchEffort | None = effort
            ) -> set[int]:
                return {row[0] for row in await nearest(vectors, query[None], k=K, effort=effort)}

            found, median = await _timed(through, queries)
            first = [{exact.search(query[None], k=1, min_score=-1.0)[0][0]} for query in queries]
            said = f"ef {effort.ef}, refine {effort.refine}, probes {effort.probes}" if effort else "–"
            table.add_row(
                name, f"{built:.1f}", f"{grown / 1e6:.0f}", said,
                f"{np.mean([bool(a & b) for a, b in zip(first, found, strict=True)]):.3f}",
                f"{np.mean([len(a & b) / K for a, b in zip(truth, found, strict=True)]):.3f}", f"{median / base:.2f}",
            )  # fmt: skip
        await connection.drop_table(f"t{number}")
    console.print(table)


VECTORS = 8
"""Of one picture, in a search."""
PICTURES = 8
"""Asked for together by bulk jobs (deployments/bulk/matching.py)."""


def together(options: argparse.Namespace, console: Console) -> None:
    """Times of pictures one by one and together; which comes first takes turns."""
    held, _ = descriptors(options.rows, options.dim, 1, seed=1)
    *_, exact = _held(held, np.arange(len(held)) // VECTORS)
    pictures = np.random.default_rng(2).choice(options.rows // VECTORS, options.queries, replace=False)
    times: dict[str, list[float]] = {"alone": [], "together": []}
    for first in range(0, len(pictures) - PICTURES + 1, PICTURES):
        part = pictures[first : first + PICTURES]
        asks = [Ask(held[one * VECTORS : (one + 1) * VECTORS], 12, 0.5, exclude=int(one)) for one in part]
        ways = {"alone": [[ask] for ask in asks], "together": [asks]}
        for way in sorted(ways, reverse=bool(first // PICTURES % 2)):
            began = time.perf_counter()
            found = [len(near) for some in ways[way] for near, _ in exact.search_many(some)]
            times[way].append(time.perf_counter() - began)
            assert len(found) == PICTURES
    each = {name: 1000 * float(np.median(some)) / PICTURES for name, some in times.items()}
    console.print(
        f"{options.rows} × {options.dim} in memory, {len(pictures)} pictures of {VECTORS} vectors: p50 {each['alone']:.1f} ms "
        f"one by one, {each['together']:.1f} ms each for {PICTURES} together ({each['together'] / each['alone']:.2f} of it)"
    )


async def from_s3(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    """Times of pictures, exact in memory and through the service's index."""
    held, _ = descriptors(options.rows, options.dim, 1, seed=1)
    space, rows, exact = _held(held, np.arange(len(held)) // VECTORS)
    objects = ObjectStore(settings)
    await objects.ensure_buckets(settings.s3_vectors_bucket)
    objects.close()
    vectors = await VectorTable.open(await connect(settings), space, create=True)
    assert vectors is not None
    await vectors.append(rows, 0)
    built = await build_index(vectors, options.rows)
    effort = SearchEffort(settings.index_ef, settings.index_refine, settings.index_probes)
    pictures = np.random.default_rng(2).choice(options.rows // VECTORS, options.queries, replace=False)
    times: dict[str, list[float]] = {"exact": [], "index": []}
    shared = []
    for one in pictures:
        asked = {"k": 12, "min_score": 0.5, "exclude": int(one)}
        queries = held[one * VECTORS : (one + 1) * VECTORS]
        began = time.perf_counter()
        wanted = {row[:2] for row in exact.search(queries, **asked)}
        times["exact"].append(time.perf_counter() - began)
        began = time.perf_counter()
        found = {row[:2] for row in await nearest(vectors, queries, effort=effort, **asked)}
        times["index"].append(time.perf_counter() - began)
        shared += [one in found for one in wanted]
    medians = {name: float(np.median(some)) for name, some in times.items()}
    console.print(
        f"{options.rows} × {options.dim} in S3, {len(pictures)} pictures of {VECTORS} vectors, built in {built:.0f} s: "
        f"p50 {1000 * medians['exact']:.0f} ms exact in memory, {1000 * medians['index']:.0f} ms through the index "
        f"({medians['index'] / medians['exact']:.1f} of it), which found {np.mean(shared):.3f} of the same {len(shared)} hits"
    )


def main() -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=200)
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--from-s3", action="store_true")
    others.add_argument("--together", action="store_true")
    options = parser.parse_args()
    if options.together:
        if not PICTURES <= options.queries <= options.rows // VECTORS:
            parser.error(f"--queries must be {PICTURES} to {options.rows // VECTORS}, the pictures of these rows")
        together(options, Console(width=130))
        return
    if options.from_s3:
        with own_servers() as settings:
            asyncio.run(from_s3(options, settings, Console(width=130)))
        return
    folder = Path(tempfile.mkdtemp(prefix="sg-index-"))
    try:
        asyncio.run(compare(options, folder, Console(width=130)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
