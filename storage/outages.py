"""Telling a part that is down from a picture, a look-back or a job that is at fault. Imports the database and errors only."""

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.database import storage_full
from storage.errors import NotFound, Refused, TooLarge, Unavailable, UnsupportedImage

_SAYS_SO = (
    Unavailable, OSError, TimeoutError, PoolTimeout, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError,
)  # fmt: skip
_STATES = ("08", "57P", "53300")
"""SQLSTATE of a lost connection, of a server that starts or stops, and of one that has no connection left."""


def part_is_down(error: BaseException) -> bool:
    """Whether an error says by itself that a part of the platform does not answer, or has no room left.

    A statement that the database has refused is none: it would be refused again.
    """
    if isinstance(error, _SAYS_SO) or storage_full(error) is not None:
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated or str(getattr(error.orig, "sqlstate", None)).startswith(_STATES):
        return True
    misused = isinstance(getattr(error.orig, "__cause__", None), ValueError)  # a value that asyncpg does not take
    return isinstance(error, InterfaceError | OperationalError) and not misused


def picture_at_fault(error: BaseException) -> bool:
    """Whether a stored picture could not be read because of what it is: gone, not for our keys, too large, or no picture.

    Another try would end the same.
    """
    if isinstance(error, Refused):
        return not error.account
    return isinstance(error, NotFound | TooLarge | UnsupportedImage)
