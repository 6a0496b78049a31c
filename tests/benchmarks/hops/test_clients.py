"""The clients that measure hops, against a real server."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.hops.clients import Times, get, joined

PAUSE_S = 0.05
TICK_S = 0.02
"""By so much a clock may be coarse."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connections = 0

    def setup(self) -> None:
        super().setup()
        type(self).connections += 1

    def do_GET(self) -> None:
        time.sleep(PAUSE_S)
        wanted = self.headers["Authorization"] == "Bearer right" and self.path == "/here"
        self.send_response(200 if wanted else 404)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    Handler.connections = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_each_client_keeps_one_connection_and_waits_for_its_answer(port: int) -> None:
    begun = time.perf_counter()
    times = get(port, "/here", "right", clients=3, seconds=2.0)
    assert Handler.connections == 3
    assert time.perf_counter() - begun >= 2.0 - TICK_S
    assert min(times.taken_s) >= PAUSE_S - TICK_S and times.ms(0.5) >= 1000 * (PAUSE_S - TICK_S)
    assert 3 <= len(times.taken_s) <= 3 * 2.0 / (PAUSE_S - TICK_S) + 3
    assert times.per_s == pytest.approx(len(times.taken_s) / 2.0)


@pytest.mark.parametrize(("path", "key"), [("/here", "wrong"), ("/there", "right")])
def test_another_answer_than_200_is_no_time(port: int, path: str, key: str) -> None:
    with pytest.raises(RuntimeError, match="404"):
        get(port, path, key, clients=1, seconds=30.0)  # the first answer ends it


def test_rounds_are_joined() -> None:
    both = joined([Times([0.001, 0.003], 20), Times([0.002], 10)])
    assert both.ms(0.5) == pytest.approx(2.0) and both.per_s == 15
