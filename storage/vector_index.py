"""The approximate index of a vector table: IVF_HNSW_SQ on S3, its search, its recall against exact search."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from lancedb.index import HnswSq
from numpy.typing import NDArray

from storage.errors import Unavailable
from storage.vectors import VectorTable

KIND = "IVF_HNSW_SQ"
_NAME = "vector_idx"
_ROWS_OF_PARTITION = 1_000_000
_COLUMNS = ["image_id", "region", "box", "query_index", "_distance"]
_BROKEN = (OSError, RuntimeError, ValueError)
Row = tuple[int, int, int, tuple[float, float, float, float], float]
"""Image id, query row, stored region, stored box, score."""


@dataclass(frozen=True)
class SearchEffort:
    """How thoroughly the index is searched; ``python -m benchmarks.index`` compares values.

    Args:
        ef: candidates that a walk through the graph keeps, or k of them where that is more.
        refine: times k candidates are scored again with the full vectors, but no more than ``ef`` where k is large: each is
            a read of S3.
        probes: partitions that are searched.
    """

    ef: int = 300
    refine: int = 5
    probes: int = 4


@dataclass(frozen=True)
class IndexState:
    """Rows that the index covers, and the tail that is searched exactly."""

    indexed: int
    unindexed: int


async def index_state(table: VectorTable) -> IndexState | None:
    """What the index of a table covers, None where there is none."""
    found = await table.handle.index_stats(_NAME)
    return None if found is None else IndexState(int(found.num_indexed_rows), int(found.num_unindexed_rows))


async def build_index(table: VectorTable, rows: int) -> float:
    """Builds the index anew over all rows; returns the seconds that it took. Appends may go on meanwhile.

    Args:
        rows: of the table, for the number of partitions.
    Raises:
        Unavailable: the object store does not answer.
    """
    began = time.monotonic()
    config = HnswSq(distance_type="cosine", num_partitions=max(1, rows // _ROWS_OF_PARTITION))
    try:
        await table.handle.create_index("vector", config=config, replace=True, name=_NAME)
    except _BROKEN as error:
        raise Unavailable("the vector index cannot be built now") from error
    return time.monotonic() - began


async def nearest(
    table: VectorTable,
    queries: NDArray[np.float32],
    *,
    k: int,
    min_score: float = -1.0,
    exclude: int | None = None,
    within: tuple[int, int] | None = None,
    effort: SearchEffort | None,
) -> list[Row]:
    """The nearest rows of several vectors, through the index and, behind it, exactly over the rows it does not cover yet.

    Args:
        queries: float32[q, dim] of length 1.
        k: rows at most for each query vector.
        min_score: rows whose dot product is below are left out.
        exclude: an image whose rows are left out.
        effort: None searches exactly.
    Returns:
        Best first.
    """
    if not len(queries):
        return []
    vectors = [np.ascontiguousarray(query, np.float32) for query in queries]
    query = table.handle.query().nearest_to(vectors if len(vectors) > 1 else vectors[0])
    # What is left out is left out here: LanceDB's own filters make a search several times as slow.
    limit = k if exclude is None else k + len(queries)  # a picture has as many rows as it is asked with
    query = query.distance_type("cosine").limit(limit)
    if effort is None:
        query = query.bypass_vector_index()
    else:
        refine = max(1, min(effort.refine, effort.ef // limit))
        query = query.nprobes(effort.probes).ef(max(effort.ef, limit * refine)).refine_factor(refine)
    if within is not None:
        query = query.where(f"image_id > {int(within[0])} AND image_id <= {int(within[1])}")
    columns = _COLUMNS if len(vectors) > 1 else [name for name in _COLUMNS if name != "query_index"]
    found = (await query.select(columns).to_arrow()).to_pylist()
    rows = [
        (one["image_id"], one.get("query_index", 0), one["region"], tuple(one["box"]), 1.0 - one["_distance"])
        for one in found
        if one["image_id"] != exclude and 1.0 - one["_distance"] >= min_score - 1e-6
    ]
    return best(sorted(rows, key=lambda row: -row[4]), k)


def best(rows: Iterable[Row], k: int) -> list[Row]:
    """The first ``k`` rows of each query vector."""
    seen: Counter[int] = Counter()
    chosen = []
    for row in rows:
        seen[row[1]] += 1
        if seen[row[1]] <= k:
            chosen.append(row)
    return chosen


async def measure_recall(table: VectorTable, *, k: int = 10, sample: int = 100, effort: SearchEffort) -> float:
    """Recall@k of the index against exact search, over stored vectors drawn at random.

    Args:
        sample: vectors asked for; each costs one exact search of the whole table.
    """
    rows = await table.count()
    chosen = np.sort(np.random.default_rng().choice(rows, min(sample, rows), replace=False))
    drawn: Any = await table.handle.take_offsets([int(number) for number in chosen]).select(["vector"]).to_arrow()
    flat = drawn["vector"].combine_chunks().flatten().to_numpy()
    queries = flat.reshape(-1, table.space.dim).astype(np.float32)
    hit = wanted = 0
    for query in queries:
        exact = await nearest(table, query[None], k=k, effort=None)
        found = await nearest(table, query[None], k=k, effort=effort)
        truth = {(row[0], row[2]) for row in exact}
        hit += len(truth & {(row[0], row[2]) for row in found})
        wanted += len(truth)
    return hit / wanted if wanted else 1.0
