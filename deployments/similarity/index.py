"""Exact search in memory over the rows of one vector table. Knows nothing of Ray or S3."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.vector_rows import VectorRows, VectorSpace

Ids = NDArray[np.int64]
_BLOCK = 4096
"""Rows whose least and largest id are kept: whoever asks for a range of ids reads the blocks that may hold some."""
_NOBODY = -1
"""In place of an image's id: rows that others have replaced."""
_AT_ONCE = 2**23
"""Scores made at once at most, 32 MiB; ``python -m benchmarks.index --together`` prints what that saves."""
Row = tuple[int, int, int, tuple[float, float, float, float], float]
"""Image id, query row, stored region, stored box, score."""


@dataclass(frozen=True, eq=False)
class Ask:
    """What is looked for in one table.

    Args:
        queries: vectors of one picture, float[q, dim] of length 1, or uint8[q, bytes].
        k: rows at most for each of them.
        min_score: rows below are left out.
        exclude: an image whose rows are left out (the picture itself).
        within: only images with ids above the first, up to and with the second.
        images: ids of images whose best rows are wanted besides, which costs next to nothing more; the same array again while
            they are the same.
    """

    queries: NDArray[Any]
    k: int
    min_score: float
    exclude: int | None = None
    within: tuple[int, int] | None = None
    images: Ids | None = None


class ExactIndex:
    """Rows of one table, held in memory and compared one by one: recall is 1 by construction.

    Floating vectors are scored by dot product (-1 to 1), bit strings by 1 - 2 × Hamming distance / bits, so that
    random strings score about 0. Rows can be added, also while another thread searches; a full reload replaces the index.
    An image is written whole: rows that come for it later take the place of those held.
    """

    def __init__(self, space: VectorSpace) -> None:
        self._space = space
        self._size = 0
        self._newest = _NOBODY
        self._replaced = False
        width, dtype = (space.dim // 8, np.uint64) if space.binary else (space.dim, np.float32)
        self._vectors: NDArray[Any] = np.empty((0, width), dtype)
        self._image_ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._regions: NDArray[np.int16] = np.empty(0, np.int16)
        self._boxes: NDArray[np.float32] = np.empty((0, 4), np.float32)
        self._spans: NDArray[np.int64] = np.empty((0, 2), np.int64)
        self._marked: tuple[Ids, NDArray[np.bool_]] = (np.empty(0, np.int64), np.empty(0, np.bool_))

    def __len__(self) -> int:
        return self._size

    def _packed(self, vectors: NDArray[Any]) -> NDArray[Any]:
        if self._space.binary:
            return np.ascontiguousarray(vectors, np.uint8).view(np.uint64)
        return np.ascontiguousarray(vectors, np.float32)

    def extend(self, rows: VectorRows) -> None:
        """Adds rows; memory grows by half at a time, so adding is cheap."""
        if not len(rows):
            return
        before = self._size
        needed = before + len(rows)
        if needed > len(self._image_ids):
            capacity = max(needed, len(self._image_ids) * 3 // 2, 1024)
            for name in ("_vectors", "_image_ids", "_regions", "_boxes"):
                held = getattr(self, name)
                grown = np.empty((capacity, *held.shape[1:]), held.dtype)
                grown[:before] = held[:before]
                setattr(self, name, grown)
        place = slice(before, needed)
        self._vectors[place] = self._packed(rows.vectors)
        self._image_ids[place], self._regions[place], self._boxes[place] = rows.image_ids, rows.regions, rows.boxes
        self._size = needed
        if rows.image_ids.min() <= self._newest:
            ids = self._image_ids[:before]
            earlier = np.isin(ids, rows.image_ids)
            self._replaced |= bool(earlier.any())
            ids[earlier] = _NOBODY
        self._newest = max(self._newest, int(rows.image_ids.max()))

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
    ) -> list[Row]:
        """The best rows for the vectors of one picture, best first; see ``Ask``."""
        return self.search_many([Ask(queries, k, min_score, exclude, within)])[0][0]

    def search_many(self, asks: Sequence[Ask]) -> list[tuple[list[Row], list[Row]]]:
        """The best rows for each of several pictures, and of the images that it names, best first.

        Vectors of numbers are compared with all rows in one product for as many pictures as ``_AT_ONCE`` lets through; the
        scores differ from those of one picture alone by rounding (below 1e-6).
        """
        found: list[tuple[list[Row], list[Row]]] = []
        while len(found) < len(asks):
            size = self._size  # read once for all of these: rows may be added meanwhile, behind them
            some = _together(asks[len(found) :], size)
            if not size or not len(some[0].queries):
                found.append(([], []))
                continue
            rows: Any = slice(0, size) if some[0].within is None else self._rows_within(some[0].within, size)
            packed = [self._packed(ask.queries) for ask in some]
            scores = self._scores(np.concatenate(packed), rows)
            if self._replaced:
                scores[:, self._image_ids[rows] == _NOBODY] = -np.inf
            ends = np.cumsum([len(one) for one in packed])[:-1]
            found += [self._best(ask, own, rows, size) for ask, own in zip(some, np.split(scores, ends), strict=True)]
        return found

    def _best(self, ask: Ask, scores: NDArray[np.float32], rows: Any, size: int) -> tuple[list[Row], list[Row]]:
        if ask.exclude is not None:
            scores[:, self._image_ids[rows] == ask.exclude] = -np.inf
        theirs = None if ask.images is None else self._marks(ask.images, size)[rows]
        found: tuple[list[Row], list[Row]] = ([], [])
        for row, line in enumerate(scores):
            above = np.flatnonzero(line >= ask.min_score)
            chosen = [above] if theirs is None else [above, above[theirs[above]]]
            for some, into in zip(chosen, found, strict=False):
                best = some if len(some) <= ask.k else some[np.argpartition(line[some], len(some) - ask.k)[-ask.k :]]
                places = best if ask.within is None else rows[best]
                into += [
                    self._row(int(place), row, float(score)) for place, score in zip(places, line[best], strict=True)
                ]
        for one in found:
            one.sort(key=lambda hit: -hit[4])
        return found

    def _rows_within(self, within: tuple[int, int], size: int) -> Ids:
        """Places of the rows of a range of ids. Ids mostly grow with the place, so few blocks are read."""
        spans, whole = self._spans, size // _BLOCK
        if len(spans) < whole:
            more = self._image_ids[len(spans) * _BLOCK : whole * _BLOCK].reshape(-1, _BLOCK)
            spans = self._spans = np.concatenate([spans, np.stack([more.min(axis=1), more.max(axis=1)], axis=1)])
        hit = np.flatnonzero((spans[:whole, 0] <= within[1]) & (spans[:whole, 1] > within[0]))
        blocks = [(int(one) * _BLOCK, (int(one) + 1) * _BLOCK) for one in hit] + [(whole * _BLOCK, size)]
        places = []
        for first, last in blocks:
            ids = self._image_ids[first:last]
            places.append(first + np.flatnonzero((ids > within[0]) & (ids <= within[1])))
        return np.concatenate(places)

    def _row(self, place: int, query_row: int, score: float) -> Row:
        x0, y0, x1, y1 = (float(value) for value in self._boxes[place])
        return int(self._image_ids[place]), query_row, int(self._regions[place]), (x0, y0, x1, y1), score

    def _marks(self, images: Ids, size: int) -> NDArray[np.bool_]:
        """Which rows are of some images; kept until other images are asked for."""
        held, marks = self._marked
        if held is not images:
            marks = np.empty(0, np.bool_)
        if len(marks) < size:
            marks = np.concatenate([marks, np.isin(self._image_ids[len(marks) : size], images)])
            self._marked = (images, marks)
        return marks[:size]


def _together(asks: Sequence[Ask], size: int) -> Sequence[Ask]:
    """The first of some asks, and those behind it whose scores are made with its own; ranges and empty ones stay alone."""
    vectors = 0
    for number, ask in enumerate(asks):
        vectors += len(ask.queries)
        alone = any(one.within is not None or not len(one.queries) for one in (asks[0], ask))
        if number and (alone or size * vectors > _AT_ONCE):
            return asks[:number]
    return asks
