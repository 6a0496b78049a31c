"""The one tree of errors that the platform raises on purpose. Mapped to HTTP in one place: deployments/ingress/problems.py.

SafeGuardError
├── NotFound            no such picture (404)
├── Conflict            the state does not allow it (409)
│   └── StaleClaim      the lease has expired or was never given (409)
├── InvalidInput        a value is malformed (422)
├── TooLarge            too many bytes or pixels (413)
├── UnsupportedImage    not an image we read, or a broken one (415)
├── Unauthenticated     no valid key (401)
├── Forbidden           the key lacks the scope (403)
├── NotNow              too much is asked at present; says when to try again
│   ├── RateLimited     the key's limit is used up (429)
│   ├── QueueFull       too many images wait already (503)
│   └── SearchesFull    too many searches wait already (503)
├── Unavailable         a part we need does not answer (503)
│   ├── Crowded         as many calls as may wait for it do
│   ├── FencedOut       another writer has taken over
│   ├── Refused         the object store's keys have no right to what is asked
│   └── StorageFull     the database or the object store has no room left (507)
└── ConfigurationError  an option, model file or folder is wrong (raised at start, never to clients)
"""

from functools import partial
from typing import Any


class SafeGuardError(Exception):
    """Base of all. ``str(error)`` is written for the reader of an API answer: no path, no SQL, no secret."""


class NotFound(SafeGuardError):
    """There is nothing under that name or id."""


class Conflict(SafeGuardError):
    """The request contradicts the present state."""


class StaleClaim(Conflict):
    """The claim on a picture is not, or no longer, the caller's; nothing was changed."""


class InvalidInput(SafeGuardError):
    """A value is malformed; ``errors`` has the name and mistake of each field, where fields are at fault.

    Args:
        detail: what is wrong, for the reader.
        field: name of the field, where one is at fault.
    """

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field
        self.errors = [(field, detail)] if field else []


class TooLarge(SafeGuardError):
    """Too many bytes or pixels."""


class UnsupportedImage(SafeGuardError):
    """The bytes are not an image we read, or a damaged one."""


class Unauthenticated(SafeGuardError):
    """The key is missing, unknown, expired or revoked."""


class Forbidden(SafeGuardError):
    """The key is valid but lacks the scope."""


class NotNow(SafeGuardError):
    """Too much is asked at present; the same request may be right later.

    Args:
        detail: what is limited.
        retry_after_s: seconds until another try makes sense.
    """

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type["NotNow"], tuple[str, float]]:
        return type(self), (str(self), self.retry_after_s)


class RateLimited(NotNow):
    """The key's limit is used up."""


class QueueFull(NotNow):
    """As many images as may wait for processing do; nothing was stored."""


class SearchesFull(NotNow):
    """As many searches as may wait for a pipeline do."""


class Unavailable(SafeGuardError):
    """The database, the object store or a replica does not answer; a retry may succeed."""


class Crowded(Unavailable):
    """As many calls as may wait for a replica do."""


class FencedOut(Unavailable):
    """Another similarity writer has taken over; this one must stop."""


class Refused(Unavailable):
    """The object store refuses what is asked of it with the keys that the settings give.

    Args:
        detail: for the reader.
        account: the keys themselves are refused, or what is our own, not one object of somebody else.
    """

    def __init__(self, detail: str, *, account: bool = False) -> None:
        super().__init__(detail)
        self.account = account

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), account=self.account), (str(self),)


class StorageFull(Unavailable):
    """The database or the object store, which the message names, has no room left; nothing is lost, nothing was stored."""


class ConfigurationError(SafeGuardError):
    """An option, a model file or a folder is wrong; the message says which and how to mend it."""
