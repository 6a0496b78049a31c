"""What a reader says of its searches and of the tables that it holds."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from deployments.metrics.meters import meters

_SHOWN = {
    "rows": "safeguard_index_rows",
    "unindexed_rows": "safeguard_index_unindexed_rows",
    "version": "safeguard_index_reader_version",
}


@contextmanager
def measured(queries: int) -> Iterator[None]:
    """One search call of some queries, however it ends."""
    began = time.monotonic()
    try:
        yield
    finally:
        seconds, held = time.monotonic() - began, meters()
        held.add("safeguard_index_search_seconds_total", seconds)
        held.add("safeguard_index_queries_total", queries)
        held.observe("safeguard_index_latency_seconds", seconds)


def show(tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Says how large, how far indexed and how new the tables are; those that are not there are left out.

    Args:
        tables: ``VectorReader.info``.
    """
    there = {name: said for name, said in tables.items() if said["exists"]}
    for member, metric in _SHOWN.items():
        meters().replace(metric, {(name,): said[member] for name, said in there.items()})
