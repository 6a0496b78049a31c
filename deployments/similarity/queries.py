"""What readers are asked and what they answer. Knows nothing of LanceDB: who only asks need not load it."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Query:
    """One picture to search for.

    Args:
        vectors: for each space by name, float32[q, dim] or uint8[q, 32].
        min_scores: for each space, the least score of a hit.
        exclude: id of the picture itself, if it is stored.
        k: hits at most for each query vector.
        members: the images that are members of banks, up to the member of this id at least, are searched by themselves
            too, ``k`` hits for each vector; None does not.
        within: stored images with ids above the first, up to and with the second; None is all.
    """

    vectors: dict[str, NDArray[Any]]
    min_scores: dict[str, float]
    exclude: int | None = None
    k: int = 100
    members: int | None = None
    within: tuple[int, int] | None = None


@dataclass(frozen=True)
class Hit:
    """One stored vector near one of the query's: the box is the stored region as shares of width and height.

    ``member`` says that it was found among the members of banks.
    """

    space: str
    image_id: int
    query_row: int
    region: int
    box: tuple[float, float, float, float]
    score: float
    member: bool = False
