"""Waiting for a part of the platform that is down: an outage stops a bulk job for a while, and costs no picture."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from storage.errors import Refused
from storage.objects import ListedPage, ObjectStore
from storage.outages import part_is_down

_log = logging.getLogger(__name__)
OUTAGE_S = 300.0
T = TypeVar("T")


def is_outage(error: Exception) -> bool:
    """Whether a part of the platform is down, rather than something wrong with what was asked."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        return is_outage(error.cause)
    return (part_is_down(error) or isinstance(error, RayError | RayServeException)) and not isinstance(error, Refused)


class PatientLister:
    """Lists as ``ObjectStore.page`` does, and waits for an outage in the middle of a long listing."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def page(self, prefix: str, *, bucket: str | None, token: str | None, delimiter: str) -> ListedPage:
        """See ``ObjectStore.page``."""
        return await patiently(lambda: self._objects.page(prefix, bucket=bucket, token=token, delimiter=delimiter))


async def patiently(call: Callable[[], Awaitable[T]], *, limit_s: float = OUTAGE_S) -> T:
    """The result of ``call``, which is made again, with growing pauses, as long as a part is down.

    Args:
        limit_s: seconds after which the outage is raised.
    Raises:
        Exception: whatever ``call`` raises that is no outage, or still is one after the limit.
    """
    end, pause = time.monotonic() + limit_s, 0.5
    while True:
        try:
            return await call()
        except Exception as error:
            if not is_outage(error) or time.monotonic() + pause > end:
                raise
            _log.warning("waiting %.1f s: %s: %s", pause, type(error).__name__, error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, 10.0)
