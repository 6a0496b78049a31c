"""What may be said of a bank and its members: names, notes, relations, thresholds, times. Pure; below the deployments."""

import math
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime

from configs.facts import BankKind
from storage.errors import InvalidInput
from storage.moments import utc_of
from storage.tables import Relation

NAME_LENGTH, DESCRIPTION_LENGTH, NOTE_LENGTH, SOURCE_LENGTH = 120, 2000, 1000, 200
"""Characters."""
PDQ_DISTANCE = 31
"""Bits of 256 within which two PDQ hashes are a copy, as the authors of PDQ recommend (ThreatExchange, pdq/README.md)."""
MOST_PDQ_DISTANCE = 64
"""Unrelated pictures are 128 bits apart on average: limits near that would make everything a copy."""
RELATIONS = (Relation.EXACT.value, Relation.COPY.value)
"""Those that count in a bank unless it says otherwise."""
_LINES = frozenset("\n\r\t")


def printable(value: str, field: str, most: int, *, lines: bool = True) -> str:
    """``value``, if it can be stored and shown.

    Args:
        field: its name, for the message.
        most: characters.
        lines: whether it may have several lines.
    Raises:
        InvalidInput: too long, or control characters in it.
    """
    if len(value) > most:
        raise InvalidInput(f"{field} has {len(value)} characters; at most {most} are kept", field)
    if value.isprintable():
        return value
    for place, one in enumerate(value, 1):
        if unicodedata.category(one) in ("Cc", "Cs") and not (lines and one in _LINES):
            raise InvalidInput(f"{field} has the control character U+{ord(one):04X} at place {place}", field)
    return value


def name_of(value: str) -> str:
    """A bank's name: any language, quotes and signs, upper and lower case apart.

    Raises:
        InvalidInput: blank, over 120 characters, with control characters or with spaces around it.
    """
    if not value.strip():
        raise InvalidInput("name must not be blank", "name")
    if value != value.strip():
        raise InvalidInput("name must not begin or end with spaces", "name")
    return printable(value, "name", NAME_LENGTH, lines=False)


def kind_of(value: str) -> str:
    """A ``BankKind``.

    Raises:
        InvalidInput: something else.
    """
    known = [one.value for one in BankKind]
    if value not in known:
        raise InvalidInput(f"kind must be {' or '.join(known)}, not {value!r}", "kind")
    return value


def relations_of(values: Iterable[str]) -> list[str]:
    """Relations in one order, each once.

    Raises:
        InvalidInput: none, or an unknown one.
    """
    known = [one.value for one in Relation]
    wanted = list(values)
    for one in wanted:
        if one not in known:
            raise InvalidInput(f"{one!r} is no relation; known are {', '.join(known)}", "relations")
    if not wanted:
        raise InvalidInput("relations must name at least one", "relations")
    return [one for one in known if one in wanted]


def distance_of(value: int) -> int:
    """Hamming bits for PDQ members.

    Raises:
        InvalidInput: not between 0 and ``MOST_PDQ_DISTANCE``.
    """
    if not 0 <= value <= MOST_PDQ_DISTANCE:
        raise InvalidInput(f"pdq_distance must be between 0 and {MOST_PDQ_DISTANCE}, not {value}", "pdq_distance")
    return value


def score_of(value: float | None, field: str) -> float | None:
    """A least score, 0 to 1; None: the threshold of the link.

    Raises:
        InvalidInput: out of range.
    """
    if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
        raise InvalidInput(f"{field} must be between 0 and 1, not {value}", field)
    return value


def until_of(value: datetime, *, now: datetime | None = None) -> datetime:
    """When a bank is to be in force again, in UTC.

    Args:
        now: with a time zone; the clock's without.
    Raises:
        InvalidInput: past, or see ``storage.moments.utc_of``.
    """
    until = utc_of(value, "disabled_until")
    if until <= (now or datetime.now(UTC)):
        raise InvalidInput("disabled_until must lie in the future", "disabled_until")
    return until
