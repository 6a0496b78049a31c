"""Which ports the processes of one installation listen on, and who can reach them. May import storage."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import psutil

from graphs.haproxy import REPLICA_PORTS

_GUARDED = {
    "ray_gcs": "Ray's control service: gRPC with the cluster's token",
    "ray_node": "Ray's node manager: gRPC with the cluster's token",
    "ray_objects": "Ray's object manager: gRPC with the cluster's token",
    "ray_agent_grpc": "Ray's agent: gRPC with the cluster's token",
    "ray_dashboard": "Ray dashboard: the cluster's token",
    "ray_worker": "Ray's workers and the replicas on them: gRPC with the cluster's token",
    "postgresql": "PostgreSQL: passwords as SCRAM-SHA-256",
    "s3_s3": "S3: signed requests",
    "s3_filer": "files of S3: signed tokens",
    "http": "REST API: keys",
}
"""What asks everybody for a secret; anything else must be on loopback."""
_NAMES = {
    "ray_agent": "Ray's agent",
    "ray_runtime_env": "Ray's environments of jobs",
    "ray_metrics": "metrics of Ray",
    "ray_autoscaler_metrics": "metrics of Ray's autoscaler",
    "ray_dashboard_metrics": "metrics of Ray's dashboard",
    "haproxy_stats": "statistics of HAProxy",
    "haproxy_metrics": "metrics of HAProxy",
    "ingress_replicas": "replicas of the REST API",
    "serve_fallback": "Serve's own proxy, for while no replica is there",
}
_RAY = ("ray::", "/site-packages/ray/", "-m ray.", "ray-dashboard-", "-m graphs.backfill")
_BEGINNING = 4
"""What the first arguments of Ray's programs, workers and drivers have in them; folders named by others prove nothing."""


@dataclass(frozen=True)
class Listening:
    """One open port.

    Args:
        name: as in ports.json; ``ray_worker`` and ``other`` for what takes any free port.
        address: of the interface; ``0.0.0.0`` and ``::`` are all.
        guard: what asks callers for a secret; None where nothing does.
    """

    name: str
    address: str
    port: int
    program: str
    guard: str | None

    @property
    def local(self) -> bool:
        """Only programs of this machine can reach it."""
        return is_loopback(self.address)

    @property
    def text(self) -> str:
        """What it is, for people."""
        return self.guard or _NAMES.get(self.name, self.program)


def is_loopback(address: str) -> bool:
    """True for addresses and names that never leave this machine."""
    if address == "localhost":
        return True
    try:
        parsed = ip_address(address.strip("[]"))
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


def listening(home: Path, processes: Iterable[psutil.Process]) -> list[Listening]:
    """Every port that some processes listen on, sorted by port.

    Args:
        home: its ports.json has the names.
        processes: of the installation, see ``cluster.py`` and ``EmbeddedServers``.
    """
    try:
        known: dict[str, int] = json.loads((home / "ports.json").read_text())
    except (OSError, ValueError):
        known = {}
    names = {port: name for name, port in known.items()}
    first = known.get("ingress_replicas")
    if first is not None:
        names |= {port: "ingress_replicas" for port in range(first, first + REPLICA_PORTS + 1)}
    found = {}
    for process in processes:
        try:
            program, connections = process.name(), process.net_connections("inet")
            ray = any(mark in " ".join(process.cmdline()[:_BEGINNING]) for mark in _RAY)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        for one in connections:
            if one.status != psutil.CONN_LISTEN:
                continue
            name = names.get(one.laddr.port, "ray_worker" if ray else "other")
            found[one.laddr.ip, one.laddr.port] = Listening(
                name, one.laddr.ip, one.laddr.port, program, _GUARDED.get(name)
            )
    return sorted(found.values(), key=lambda one: (one.port, one.address))
