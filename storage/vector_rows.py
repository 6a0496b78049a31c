"""What tables of vectors hold, in memory. Knows nothing of LanceDB: who only sends vectors need not load it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PDQ_BYTES = 32


@dataclass(frozen=True)
class VectorSpace:
    """What one table holds.

    Args:
        name: descriptor ``name@version``.
        dim: numbers a vector (bytes for a binary one).
        binary: uint8 bit strings compared by Hamming distance; else float16 compared by dot product.
    """

    name: str
    dim: int
    binary: bool = False

    @property
    def table_name(self) -> str:
        """The LanceDB table; letters, digits, ``_ - .`` only."""
        return self.name.replace("@", "-v")


PDQ_SPACE = VectorSpace("pdq@1", PDQ_BYTES, binary=True)


@dataclass(frozen=True)
class VectorRows:
    """Rows of one table.

    Args:
        image_ids: int64[n].
        regions: int16[n]; 0 is the whole picture.
        boxes: float32[n, 4], the region as shares of width and height (x0, y0, x1, y1).
        vectors: float[n, dim] of length 1, or uint8[n, 32].
    """

    image_ids: NDArray[np.int64]
    regions: NDArray[np.int16]
    boxes: NDArray[np.float32]
    vectors: NDArray[Any]

    def __len__(self) -> int:
        return len(self.image_ids)

    def without(self, image_ids: Iterable[int]) -> "VectorRows":
        """The rows of other images."""
        kept = ~np.isin(self.image_ids, np.fromiter(image_ids, np.int64))
        return VectorRows(self.image_ids[kept], self.regions[kept], self.boxes[kept], self.vectors[kept])

    @staticmethod
    def concatenate(parts: Sequence["VectorRows"]) -> "VectorRows":
        """All rows of ``parts``, in order."""
        return VectorRows(
            np.concatenate([part.image_ids for part in parts]),
            np.concatenate([part.regions for part in parts]),
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.vectors for part in parts]),
        )
