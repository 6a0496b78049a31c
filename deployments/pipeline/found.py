"""What a search answers. The REST API needs no more of the pipeline."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Found:
    """One match of a search."""

    image_id: int
    name: str
    s3_path: str
    relation: str
    method: str
    score: float
    threshold: float
    evidence: dict[str, Any]
