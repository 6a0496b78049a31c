"""Who may call, declared on the route: ``Annotated[Principal, Scope("image:read")]``. Knows no route."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from deployments.ingress.context import UsesEngine
from storage.errors import Forbidden, Unauthenticated
from storage.keys import SCOPES, Principal, authenticate

_bearer = HTTPBearer(auto_error=False, scheme_name="Bearer", description="`Authorization: Bearer <key>`")
_header = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="ApiKey", description="the same key")


async def principal(
    engine: UsesEngine,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    header: Annotated[str | None, Security(_header)],
) -> Principal:
    """The caller, by either header; ``Authorization`` wins.

    Raises:
        Unauthenticated: no key, or one that is unknown, expired or revoked.
        RateLimited: the key's limit is used up.
    """
    key = bearer.credentials if bearer is not None else header
    if not key:
        raise Unauthenticated("send a key as `Authorization: Bearer <key>` or `X-API-Key: <key>`")
    return await authenticate(engine, key)


def _allows(scope: str) -> Callable[[Principal], Awaitable[Principal]]:
    async def check(caller: Annotated[Principal, Depends(principal)]) -> Principal:
        if scope not in caller.scopes and "admin" not in caller.scopes:
            raise Forbidden(f"this key lacks the scope {scope}")
        return caller

    return check


def Scope(name: str) -> Any:  # reads as a type in annotations
    """A dependency that lets only keys with this scope (or ``admin``) pass.

    Raises:
        ValueError: there is no such scope (a mistake in the code, seen at start).
    """
    if name not in SCOPES:
        raise ValueError(f"no such scope: {name}")
    return Depends(_allows(name))
