"""Exact search among PDQ hashes in memory, each within a distance of its own. Knows nothing of banks, Ray or PostgreSQL.

Multi-index hashing (Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index hashing", CVPR 2012): of
the 16 parts of two hashes that differ in at most 31 bits, one differs in at most one bit, so 17 looks into the table of
each part find every pair. What is wider, or too new to be in the tables, is compared one by one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BYTES = 32
PARTS = 16
_VALUES = 2**16
TABLED_LIMIT = 2 * PARTS - 1
"""Bits: up to here the tables find everything."""
_FLIPS = np.asarray([0, *(1 << bit for bit in range(16))], np.uint16)
_SLAB = 2**16
"""Pairs compared at once, which keeps what is between in the cache."""
_LEAST_TABLED = 4096
_TAIL_SHARE = 64


@dataclass(frozen=True)
class _Tables:
    """For each part the rows ordered by its value.

    Args:
        rows: int32[t], ascending: what the tables cover.
        order: int32[16 * t], places in ``rows``.
        starts: int64[16, 65537], where the rows of a value begin in ``order``.
    """

    rows: NDArray[np.int32]
    order: NDArray[np.int32]
    starts: NDArray[np.int64]


class HashIndex:
    """Hashes with ids and limits. It is never changed, so threads may share it.

    Args:
        hashes: uint8[n, 32].
        ids: int64[n].
        limits: int16[n], the most bits of 256 in which a query may differ.
    """

    def __init__(self, hashes: NDArray[np.uint8], ids: NDArray[np.int64], limits: NDArray[np.int16]) -> None:
        self._words = _words(hashes)
        self._ids = np.ascontiguousarray(ids, np.int64)
        self._limits = np.ascontiguousarray(limits, np.int16)
        self._tables, self._others = _split(self._words, self._limits)

    @classmethod
    def empty(cls) -> "HashIndex":
        """An index of nothing."""
        return cls(np.empty((0, BYTES), np.uint8), np.empty(0, np.int64), np.empty(0, np.int16))

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> NDArray[np.int64]:
        """int64[n], in the order in which they were given."""
        return self._ids

    @property
    def hashes(self) -> NDArray[np.uint8]:
        """uint8[n, 32], in the same order."""
        return self._words.view(np.uint8)

    def with_limits(self, limits: NDArray[np.int16]) -> "HashIndex":
        """The same hashes with other limits."""
        return HashIndex(self.hashes, self._ids, limits)

    def extended(self, hashes: NDArray[np.uint8], ids: NDArray[np.int64], limits: NDArray[np.int16]) -> "HashIndex":
        """This index with more hashes; the tables are made anew only where the additions have become many."""
        made = object.__new__(HashIndex)
        made._words = np.concatenate([self._words, _words(hashes)])
        made._ids = np.concatenate([self._ids, np.asarray(ids, np.int64)])
        made._limits = np.concatenate([self._limits, np.asarray(limits, np.int16)])
        fresh = np.arange(len(self), len(made), dtype=np.int32)
        made._tables, made._others = self._tables, np.concatenate([self._others, fresh])
        tabled = len(self._tables.rows) if self._tables else 0
        if np.count_nonzero(made._limits[made._others] <= TABLED_LIMIT) > max(_LEAST_TABLED, tabled // _TAIL_SHARE):
            made._tables, made._others = _split(made._words, made._limits)
        return made

    def search(self, queries: NDArray[np.uint8]) -> dict[int, int]:
        """Everything that is near one picture.

        Args:
            queries: uint8[q, 32], its hashes: one, or one for each orientation.
        Returns:
            For each hash that one of the queries is within the limit of: id -> least distance in bits.
        """
        found: dict[int, int] = {}
        if not len(self) or not len(queries):
            return found
        words = _words(queries)
        near = [self._scanned(words, self._others)]
        if self._tables is not None:
            near.append(self._looked_up(words, self._tables))
        for rows, distances in near:
            for row, distance in zip(rows.tolist(), distances.tolist(), strict=True):
                one = int(self._ids[row])
                found[one] = min(distance, found.get(one, distance))
        return found

    def _scanned(self, queries: NDArray[np.uint64], rows: NDArray[np.int32]) -> "_Near":
        parts = []
        for start in range(0, len(rows), _SLAB):
            some = rows[start : start + _SLAB]
            words, limits = self._words[some], self._limits[some]
            for query in queries:
                distances = _distances(words, query)
                hits = np.flatnonzero(distances <= limits)
                parts.append((some[hits], distances[hits]))
        return _joined(parts)

    def _looked_up(self, queries: NDArray[np.uint64], tables: _Tables) -> "_Near":
        values = queries.view(np.uint16)[:, :, None] ^ _FLIPS  # uint16[q, 16, 17]
        part = np.arange(PARTS)[None, :, None]
        first, last = (
            tables.starts[part, values].reshape(-1),
            tables.starts[part, values.astype(np.int64) + 1].reshape(-1),
        )
        counts = last - first
        ends = np.cumsum(counts)
        if ends[-1] > 2 * len(tables.rows):  # very many alike: one by one is cheaper
            return self._scanned(queries, tables.rows)
        asked = np.repeat(np.arange(len(queries), dtype=np.int32), PARTS * len(_FLIPS))
        whose = np.repeat(asked, counts)
        places = np.repeat(first - (ends - counts), counts) + np.arange(ends[-1])
        candidates = tables.rows[tables.order[places]]
        parts = []
        for start in range(0, len(candidates), _SLAB):
            rows, query = candidates[start : start + _SLAB], whose[start : start + _SLAB]
            distances = _distances(self._words[rows], queries[query])
            hits = np.flatnonzero(distances <= self._limits[rows])
            parts.append((rows[hits], distances[hits]))
        return _joined(parts)


_Near = tuple[NDArray[np.int32], NDArray[np.int16]]
"""Rows and distances."""


def _joined(parts: list[_Near]) -> _Near:
    if not parts:
        return np.empty(0, np.int32), np.empty(0, np.int16)
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([bits for _, bits in parts])


def _words(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    if hashes.ndim != 2 or hashes.shape[1] != BYTES:
        raise ValueError(f"hashes are [n, {BYTES}] bytes, got {list(hashes.shape)}")
    return np.ascontiguousarray(hashes, np.uint8).view(np.uint64)


def _distances(words: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.int16]:
    """Bits in which uint64[n, 4] differ from one or as many others; by columns, which is faster than a sum."""
    bits = np.bitwise_count(words ^ others)
    return np.asarray(bits[:, 0].astype(np.int16) + bits[:, 1] + bits[:, 2] + bits[:, 3], np.int16)


def _split(words: NDArray[np.uint64], limits: NDArray[np.int16]) -> tuple[_Tables | None, NDArray[np.int32]]:
    """Tables of the rows that they can serve, and the other rows."""
    narrow = limits <= TABLED_LIMIT
    rows = np.flatnonzero(narrow).astype(np.int32)
    if len(rows) <= _LEAST_TABLED:
        return None, np.arange(len(limits), dtype=np.int32)
    values = words[rows].view(np.uint16)
    order = np.empty((PARTS, len(rows)), np.int32)
    starts = np.empty((PARTS, _VALUES + 1), np.int64)
    for part in range(PARTS):
        column = np.ascontiguousarray(values[:, part])
        order[part] = np.argsort(column, kind="stable")
        starts[part, 0] = 0
        starts[part, 1:] = np.cumsum(np.bincount(column, minlength=_VALUES))
        starts[part] += part * len(rows)
    return _Tables(rows, order.reshape(-1), starts), np.flatnonzero(~narrow).astype(np.int32)
