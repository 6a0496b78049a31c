"""An outage is waited for; a mistake is not."""

import time

import pytest
from sqlalchemy.exc import InterfaceError, ProgrammingError

from deployments.bulk.patience import is_outage, patiently
from storage.errors import InvalidInput, NotFound, Refused, StaleClaim, Unavailable


class Failing:
    """Raises some errors, one a call, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def test_outages_are_waited_for() -> None:
    call = Failing(Unavailable("S3"), ConnectionRefusedError("PostgreSQL"))
    begun = time.monotonic()
    assert await patiently(call) == "done"
    assert time.monotonic() - begun >= 1.4, "0.5 s and 1 s between the tries"


async def test_not_for_ever() -> None:
    with pytest.raises(Unavailable, match="third"):
        await patiently(Failing(Unavailable("first"), Unavailable("second"), Unavailable("third")), limit_s=3.4)


@pytest.mark.parametrize(
    "error",
    [
        NotFound("a"),
        Refused("a"),
        StaleClaim("a"),
        InvalidInput("a"),
        ValueError("a"),
        ProgrammingError("a", {}, Exception()),
    ],
)
async def test_mistakes_are_raised_at_once(error: Exception) -> None:
    call = Failing(error, error)
    with pytest.raises(type(error)):
        await patiently(call)
    assert len(call.errors) == 1, "it was called once"


def test_a_lost_connection_is_an_outage() -> None:
    assert is_outage(InterfaceError("a", {}, Exception()))
    assert is_outage(TimeoutError())
    assert not is_outage(KeyError("a"))
