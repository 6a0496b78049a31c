"""Counts answers and their time, by the template of the route: what clients put into addresses is never a label."""

import time

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
            _count(route_of(scope), status, time.monotonic() - began)


def route_of(scope: Scope) -> str:
    """Method and template of the route that a request reached, such as ``GET /image/{image_id}``."""
    path = getattr(scope.get("route"), "path", None)
    return f"{scope['method']} {path}" if path else UNMATCHED


def _count(route: str, status: int, seconds: float) -> None:
    held = meters()
    held.add("safeguard_http_requests_total", route=route, status=f"{status // 100}xx")
    held.add("safeguard_http_seconds_total", seconds, route=route)
    held.observe("safeguard_http_latency_seconds", seconds)
    if status in _REFUSED:
        held.add("safeguard_http_refusals_total", reason=_REFUSED[status])
