"""Counts answers and their time, by the template of the route: what clients put into addresses is never a label."""

import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.metrics.meters import meters

UNMATCHED = "none"
"""The route of requests that reached no route."""
_REFUSED = {
    401: "unauthenticated",
    403: "forbidden",
    413: "too-large",
    429: "limited",
    503: "unavailable",
    507: "full",
}
_CROWDED = "crowded"
"""The reason of a 503 to which ``turned_away`` was said: there is no room at present, and nothing is wrong."""


class RequestMeter:
    """The outermost middleware.

    Args:
        app: what it wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 500  # an exception that comes through here becomes a 500

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            reason = _CROWDED if scope.get("state", {}).get(_CROWDED) else _REFUSED.get(status)
            _count(route_of(scope), status, reason, time.monotonic() - began)


def turned_away(request: Request) -> None:
    """Says of the answer to come that it is given since too much is asked at present."""
    setattr(request.state, _CROWDED, True)


def route_of(scope: Scope) -> str:
    """Method and template of the route that a request reached, such as ``GET /image/{image_id}``."""
    path = getattr(scope.get("route"), "path", None)
    return f"{scope['method']} {path}" if path else UNMATCHED


def _count(route: str, status: int, reason: str | None, seconds: float) -> None:
    held = meters()
    held.add("safeguard_http_requests_total", route=route, status=f"{status // 100}xx")
    held.add("safeguard_http_seconds_total", seconds, route=route)
    held.observe("safeguard_http_latency_seconds", seconds)
    if reason is not None:
        held.add("safeguard_http_refusals_total", reason=reason)
