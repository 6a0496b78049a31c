"""Headers that tell browsers what they must not do with our answers; on every one, errors included. Knows no route."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_DOCS = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page of Swagger UI starts itself by a script within the page; nothing that users sent is ever shown there."""


class SecurityHeaders:
    """Middleware around everything else.

    Args:
        app: what it wraps.
        hsts_s: how long browsers shall only come by TLS, seconds; 0 says nothing of it.
        docs: address of the page that may run scripts.
    """

    def __init__(self, app: ASGIApp, *, hsts_s: int, docs: str = "/docs") -> None:
        self._app = app
        self._hsts_s = hsts_s
        self._docs = docs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and adds the headers to its answer; those that a route has set stay."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = _DOCS if scope["path"] == self._docs else _NOTHING

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", policy)
                if self._hsts_s:
                    headers.setdefault("Strict-Transport-Security", f"max-age={self._hsts_s}")
                if "json" in headers.get("content-type", ""):
                    # Keys, webhooks' secrets, signed addresses, what people decided: nothing of it for caches.
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, with_headers)
