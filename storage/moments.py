"""Times that callers give. Imports errors only."""

from datetime import UTC, datetime

from storage.errors import InvalidInput


def utc_of(value: datetime, field: str) -> datetime:
    """A time in UTC.

    Raises:
        InvalidInput: without a time zone, or outside of the years 1 to 9999 in UTC.
    """
    if value.tzinfo is None:
        raise InvalidInput(f"{field} needs a time zone, such as 2030-01-01T00:00:00+03:00", field)
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise InvalidInput(f"{field}: there is no such time", field) from error
