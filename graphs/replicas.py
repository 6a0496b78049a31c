"""The replicas of the running service one by one: where each is, what its process does, and how one is ended."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from configs.settings import default_home, load_settings
from graphs.cluster import RayCluster
from storage.errors import ConfigurationError, NotFound

_WATCH_S = 1.0


@dataclass(frozen=True)
class Replica:
    """One replica.

    Args:
        id: as in the label ``replica`` of Ray's metrics.
        state: as Serve says, such as RUNNING.
        node: address of its machine.
        pid: of its process there, None before it has one.
        started_at: Unix time.
        log: path below Ray's folder of logs.
        activity: what its process does, where it is one of this machine; else None.
    """

    deployment: str
    id: str
    state: str
    node: str
    pid: int | None
    started_at: float
    log: str
    activity: "Activity | None" = None


@dataclass(frozen=True)
class Activity:
    """What a process did for a second: share of a processor, resident bytes, and its state, such as sleeping or stopped."""

    cpu: float
    memory_bytes: int
    state: str


def replicas_of(applications: dict[str, Any]) -> Iterator[Replica]:
    """Those that Serve tells of, by deployment."""
    for application in applications.values():
        for deployment, detail in application.get("deployments", {}).items():
            for one in detail.get("replicas", []):
                yield Replica(
                    deployment, str(one["replica_id"]), str(one["state"]), str(one.get("node_ip") or ""), one.get("pid"),
                    float(one.get("start_time_s") or 0.0), str(one.get("log_file_path") or ""),
                )  # fmt: skip


def replicas(home: Path | None, wanted: str | None = None) -> list[Replica]:
    """All replicas, or the one of an id, with what their processes do. Takes a second.

    Raises:
        Unavailable: the Ray dashboard does not answer.
        NotFound: there is no replica of that id.
    """
    found = [one for one in replicas_of(_cluster(home).applications()) if wanted in (None, one.id)]
    if wanted is not None and not found:
        raise NotFound(f"there is no replica {wanted}")
    return list(_watched(found))


def end(home: Path | None, wanted: str) -> Replica:
    """Ends a replica's process at once; Serve starts another one, and what was in work is tried again.

    Raises:
        Unavailable, NotFound: as ``replicas``.
        ConfigurationError: it runs on another machine, or has no process.
    """
    one = next((one for one in replicas_of(_cluster(home).applications()) if one.id == wanted), None)
    if one is None:
        raise NotFound(f"there is no replica {wanted}")
    if _process(one) is None or one.pid is None:
        raise ConfigurationError(f"{one.id} is no process of this machine: on {one.node}, kill -9 {one.pid}")
    os.kill(one.pid, signal.SIGKILL)
    return one


def _cluster(home: Path | None) -> RayCluster:
    return RayCluster(load_settings(home or default_home()))


def _process(one: Replica) -> psutil.Process | None:
    """Its process, where this machine runs it. In pods numbers are small and titles alike: the address tells them apart."""
    here = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    if one.node and one.node not in here:
        return None
    try:
        process = psutil.Process(one.pid) if one.pid else None
        title = " ".join(process.cmdline()[:1]) if process else ""
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return None
    return process if title.startswith("ray::ServeReplica:") and f":{one.deployment}" in title else None


def _watched(found: list[Replica]) -> Iterator[Replica]:
    before = {one.id: (process, _cpu_s(process)) for one in found if (process := _process(one))}
    begun = time.monotonic()
    time.sleep(_WATCH_S if before else 0.0)
    for one in found:
        seen = None
        if one.id in before:
            process, used = before[one.id]
            with contextlib.suppress(psutil.NoSuchProcess):
                cpu = (_cpu_s(process) - used) / (time.monotonic() - begun)
                seen = Activity(cpu, process.memory_info().rss, str(process.status()))
        yield replace(one, node=one.node or socket.gethostname(), activity=seen)


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
