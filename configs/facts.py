"""What is known of one image when a policy judges it: plain values, kept with each decision so it can be replayed.

Imports nothing of ours.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class BankKind(StrEnum):
    """What a bank's members are: not to be spread, or explicitly allowed."""

    UNACCEPTABLE = "unacceptable"
    ALLOWED = "allowed"


@dataclass(frozen=True)
class BankMatch:
    """The image is a member of a bank, or was found to be a copy of one.

    Args:
        bank: its name.
        kind: a ``BankKind``.
        member: id of the member.
        image_id: the stored image that the member is; None of a hash.
        relation: exact, copy, semantic or external.
        method: what found it: sha256, pdq, descriptor, …
        score: 0 to 1, 1 is the same.
        threshold: the score that it had to reach.
    """

    bank: str
    kind: str
    member: int
    image_id: int | None
    relation: str
    method: str
    score: float
    threshold: float


@dataclass(frozen=True)
class SeenObject:
    """A person or object; ``share`` is its box's share of the picture's area."""

    label: str
    score: float
    share: float


@dataclass(frozen=True)
class Facts:
    """All that a policy may judge an image by.

    Args:
        content_scores: filter name@version -> 0 to 1, how unsafe; empty where no filter has seen the image.
        objects: surest first.
        matches: in banks that were in force, the surest relation first.
    """

    image_id: int
    model_name: str
    media_type: str
    size_bytes: int
    width: int
    height: int
    content_scores: dict[str, float] = field(default_factory=dict)
    objects: tuple[SeenObject, ...] = ()
    matches: tuple[BankMatch, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    def digest(self) -> str:
        """SHA-256 in hexadecimal of the facts with sorted keys: equal facts have equal digests."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Facts":
        """The inverse of ``as_dict``.

        Raises:
            TypeError: a field is missing or unknown.
        """
        return cls(
            **{
                **stored,
                "objects": tuple(SeenObject(**one) for one in stored["objects"]),
                "matches": tuple(BankMatch(**one) for one in stored["matches"]),
            }
        )
