"""The canonical form of an audit entry and its hash, which covers the hash of the entry before. Pure; below storage.audit.

The form is JSON (RFC 8259) as RFC 8785 has it, but for keys and numbers: no spaces, keys sorted by code point, UTF-8, only
the escapes that JSON demands, and each number in full: digits, a point only where a fraction follows, no exponent, no
trailing zeros. So a value looks the same before PostgreSQL stores it as jsonb and after: 1.0 is 1, -0.0 is 0, 1e-7 is
0.0000001, and integers of any size keep each digit. Hashed is the object of ``entry_hash``.
"""

import hashlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from storage.errors import InvalidInput

FIRST_PREVIOUS = bytes(32)
"""What the first entry has for the hash of the entry before."""
_DIGITS = 1000
_MAX_INT = 10**_DIGITS
"""Numbers have at most so many digits: PostgreSQL's jsonb and readers of the log take them without a thought."""
_DEPTH = 100
_quoted = json.JSONEncoder(ensure_ascii=False).encode


def canonical(value: Any, *, depth: int = _DEPTH) -> str:
    """The one text of a JSON value.

    Args:
        value: dict with str keys, list, tuple, str, bool, int, float, None, or a Decimal of ``parsed``.
        depth: levels of nesting that are allowed.
    Raises:
        InvalidInput: something else, NaN or infinity, a number of over 1,000 digits, too deep a nesting, U+0000 or half a
            surrogate pair.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", False: "false", True: "true"}[value]
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | float | Decimal):
        return _number(value)
    if not depth:
        raise InvalidInput(f"an audit detail is nested deeper than {_DEPTH} levels")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise InvalidInput("the keys of an audit detail must be texts")
        return "{" + ",".join(f"{_string(key)}:{canonical(value[key], depth=depth - 1)}" for key in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(canonical(one, depth=depth - 1) for one in value) + "]"
    raise InvalidInput(f"an audit detail cannot hold a {type(value).__name__}")


def _string(value: str) -> str:
    if "\0" in value:
        raise InvalidInput("U+0000 cannot be kept in the audit")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("half a surrogate pair cannot be kept in the audit") from error
    return _quoted(value)


def _number(value: int | float | Decimal) -> str:
    if isinstance(value, int):
        if abs(value) >= _MAX_INT:
            raise InvalidInput(f"a number of over {_DIGITS} digits cannot be kept in the audit")
        return str(int(value))
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    if not exact.is_finite():
        raise InvalidInput(f"{exact} cannot be kept in the audit")
    text = format(exact, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def parsed(text: str) -> Any:
    """A JSON value as PostgreSQL prints it, with each digit of its numbers."""
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)


def written_time(at: datetime) -> str:
    """A moment in UTC with six digits for its microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def entry_hash(
    previous_hash: bytes, sequence: int, at: datetime, actor: str, action: str, subject: str, detail: Any
) -> bytes:
    """SHA-256 of the canonical form of an entry.

    Args:
        previous_hash: bytes[32] of the entry before, ``FIRST_PREVIOUS`` for the first.
        sequence: 1, 2, 3, … without gaps.
        at: with time zone.
    Returns:
        bytes[32].
    Raises:
        InvalidInput: see ``canonical``.
    """
    entry = {
        "previous_hash": previous_hash.hex(),
        "sequence": sequence,
        "at": written_time(at),
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": detail,
    }
    return hashlib.sha256(canonical(entry).encode()).digest()
