"""A receiver of webhooks as a customer would have it: a real HTTP server in this process that keeps what it was told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """Takes every message.

    Args:
        refusals: so many are answered 500 first.
    """

    def __init__(self, *, refusals: int = 0) -> None:
        self.refused = 0
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if outer.refused < refusals:
                    outer.refused += 1
                    self.send_response(500)
                else:
                    outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                    outer.bodies.append(body)
                    outer.taken.append((self.headers["webhook-id"], json.loads(body)))
                    self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def ids(self) -> set[str]:
        """The ``webhook-id`` of all that was taken."""
        return {number for number, _ in list(self.taken)}

    def events(self, kind: str, image_id: int | None = None) -> list[dict[str, Any]]:
        """Data of the events of one kind, in the order in which they came, each once."""
        seen: dict[str, dict[str, Any]] = {}
        for number, event in list(self.taken):
            if event["type"] == kind and (image_id is None or event["data"]["image_id"] == image_id):
                seen.setdefault(number, event["data"])
        return list(seen.values())

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def receiving(*, refusals: int = 0) -> Iterator[Receiver]:
    """A receiver until the end."""
    made = Receiver(refusals=refusals)
    try:
        yield made
    finally:
        made.close()
