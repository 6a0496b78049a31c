"""Exact search in memory over the rows of one vector table. Knows nothing of Ray or S3."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.vectors import VectorRows, VectorSpace


class ExactIndex:
    """Rows of one table, held in memory and compared one by one: recall is 1 by construction.

    Floating vectors are scored by dot product (-1 to 1), bit strings by 1 - 2 × Hamming distance / bits, so that
    random strings score about 0. Rows can be added, also while another thread searches; a full reload replaces the index.
    """

    def __init__(self, space: VectorSpace) -> None:
        self._space = space
        self._size = 0
        width, dtype = (space.dim // 8, np.uint64) if space.binary else (space.dim, np.float32)
        self._vectors: NDArray[Any] = np.empty((0, width), dtype)
        self._image_ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._regions: NDArray[np.int16] = np.empty(0, np.int16)
        self._boxes: NDArray[np.float32] = np.empty((0, 4), np.float32)

    def __len__(self) -> int:
        return self._size

    def _packed(self, vectors: NDArray[Any]) -> NDArray[Any]:
        if self._space.binary:
            return np.ascontiguousarray(vectors, np.uint8).view(np.uint64)
        return np.ascontiguousarray(vectors, np.float32)

    def extend(self, rows: VectorRows) -> None:
        """Adds rows; memory grows by half at a time, so adding is cheap."""
        needed = self._size + len(rows)
        if needed > len(self._image_ids):
            capacity = max(needed, len(self._image_ids) * 3 // 2, 1024)
            for name in ("_vectors", "_image_ids", "_regions", "_boxes"):
                held = getattr(self, name)
                grown = np.empty((capacity, *held.shape[1:]), held.dtype)
                grown[: self._size] = held[: self._size]
                setattr(self, name, grown)
        place = slice(self._size, needed)
        self._vectors[place] = self._packed(rows.vectors)
        self._image_ids[place], self._regions[place], self._boxes[place] = rows.image_ids, rows.regions, rows.boxes
        self._size = needed

    def rows_of(self, image_ids: Sequence[int]) -> VectorRows:
        """All rows of some images."""
        size = self._size
        places = np.flatnonzero(np.isin(self._image_ids[:size], np.asarray(image_ids, np.int64)))
        vectors = self._vectors[places]
        return VectorRows(
            self._image_ids[places], self._regions[places], self._boxes[places],
            vectors.view(np.uint8) if self._space.binary else vectors,
        )  # fmt: skip

    def _scores(self, query: NDArray[Any], rows: Any) -> NDArray[np.float32]:
        held = self._vectors[rows]
        if not self._space.binary:
            return np.asarray(query @ held.T, np.float32)
        scores = np.empty((len(query), len(held)), np.float32)
        for row, bits in enumerate(query):
            scores[row] = np.bitwise_count(held ^ bits).sum(axis=1, dtype=np.int32)
        return np.asarray(1.0 - scores / (4 * self._space.dim), np.float32)

    def search(
        self,
        queries: NDArray[Any],
        *,
        k: int,
        min_score: float,
        exclude: int | None = None,
        within: tuple[int, int] | None = None,
    ) -> list[tuple[int, int, int, tuple[float, float, float, float], float]]:
        """The best rows for each of several vectors of one picture.

        Args:
            queries: float[q, dim] of length 1, or uint8[q, bytes].
            k: rows at most for each query vector.
            min_score: rows below are left out.
            exclude: an image whose rows are left out (the query itself).
            within: only images with ids above the first, up to and with the second.
        Returns:
            (image id, query row, stored region, stored box, score), best first.
        """
        size = self._size  # read once: rows may be added meanwhile, behind these
        if not size or not len(queries):
            return []
        rows: Any = slice(0, size)
        if within is not None:
            ids = self._image_ids[:size]
            rows = np.flatnonzero((ids > within[0]) & (ids <= within[1]))
        scores = self._scores(self._packed(queries), rows)
        if exclude is not None:
            scores[:, self._image_ids[rows] == exclude] = -np.inf
        places = np.arange(size)[rows]
        found = []
        for row, line in enumerate(scores):
            above = np.flatnonzero(line >= min_score)
            if len(above) > k:
                above = above[np.argpartition(line[above], len(above) - k)[-k:]]
            for hit, score in zip(places[above], line[above], strict=True):
                x0, y0, x1, y1 = (float(value) for value in self._boxes[hit])
                found.append((int(self._image_ids[hit]), row, int(self._regions[hit]), (x0, y0, x1, y1), float(score)))
        return sorted(found, key=lambda hit: -hit[4])
