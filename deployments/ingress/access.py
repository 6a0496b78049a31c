"""Who may call, declared on the route: ``Annotated[Principal, Scope("image:read")]``. Knows no route."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from deployments.ingress.context import UsesEngine, UsesSettings
from deployments.ingress.guessing import WrongKeys, client_address
from storage.errors import Forbidden, Unauthenticated
from storage.keys import SCOPES, Principal, authenticate

_bearer = HTTPBearer(auto_error=False, scheme_name="Bearer", description="`Authorization: Bearer <key>`")
_header = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="ApiKey", description="the same key")


async def principal(
    request: Request,
    engine: UsesEngine,
    settings: UsesSettings,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    header: Annotated[str | None, Security(_header)],
) -> Principal:
    """The caller, by either header; ``Authorization`` wins.

    Raises:
        Unauthenticated: no key, or one that is unknown, expired or revoked.
        RateLimited: the key's limit is used up, or too many wrong keys came from the caller's address.
    """
    key = bearer.credentials if bearer is not None else header
    if not key:
        raise Unauthenticated("send a key as `Authorization: Bearer <key>` or `X-API-Key: <key>`")
    wrong: WrongKeys = request.app.state.wrong_keys
    address = client_address(request, settings.trusted_proxies)
    wrong.check(address)
    try:
        return await authenticate(engine, key)
    except Unauthenticated:
        wrong.count(address)
        raise


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
