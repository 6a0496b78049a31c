"""The processes of one installation by the part that they are, for measurements that kill, stop or count them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from configs.settings import load_settings
from graphs.cluster import RayCluster
from storage.embedded.stack import EmbeddedServers

REPLICAS = ("Ingress", "Pipeline", "Embedder", "Detector", "SimilarityReader", "SimilarityWriter", "WebhookSender")
_ACTORS = {"ServeController": "Serve controller", "ProxyActor": "Serve proxy", "HAProxyManager": "HAProxy manager"}
_PROGRAMS = {"haproxy": "HAProxy", "raylet": "raylet", "gcs_server": "GCS"}
SANDBOX = "sandbox"
PARTS = (*REPLICAS, *_ACTORS.values(), *_PROGRAMS.values(), "dashboard", "PostgreSQL", "S3", SANDBOX)
"""Of PostgreSQL the postmaster; ``family`` has the others."""
_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


def part_of(name: str, command: Sequence[str]) -> str | None:
    """The part of Ray and Serve that a process is, by its name and its arguments; None for all others."""
    title = command[0] if command else ""
    if title.startswith("ray::ServeReplica:"):
        deployment = title.split(":")[4].split(".")[0].split()[0]
        return deployment if deployment in REPLICAS else None
    if title.startswith("ray::"):
        return _ACTORS.get(title.removeprefix("ray::").split(".")[0].split()[0])
    if any(word.endswith("/ray/dashboard/dashboard.py") for word in command):
        return "dashboard"
    return _PROGRAMS.get(name)


def processes(home: Path) -> dict[str, list[psutil.Process]]:
    """All processes of an installation that are a part, oldest first."""
    found: dict[str, list[psutil.Process]] = {part: [] for part in PARTS}
    for process in RayCluster(load_settings(home)).processes():
        try:
            part = part_of(process.name(), process.cmdline())
            if part is not None:
                found[part].append(process)
            if part in ("Ingress", "Pipeline"):
                found[SANDBOX] += [one for one in process.children() if "sandboxed" in " ".join(one.cmdline())]
        except _GONE:
            continue
    servers = EmbeddedServers(home)
    for part, server in (("PostgreSQL", servers.postgres), ("S3", servers.objects)):
        if server.process.pid is not None:
            with suppress(psutil.NoSuchProcess):
                found[part] = [psutil.Process(server.process.pid)]
    return {part: sorted(some, key=lambda one: one.create_time()) for part, some in found.items()}


def census(home: Path) -> Counter[str]:
    """How many processes each part has; those that decode come and go and are left out."""
    return Counter({part: len(some) for part, some in processes(home).items() if some and part != SANDBOX})


def process_of(home: Path, part: str) -> psutil.Process | None:
    """The oldest process of a part, None where there is none now."""
    return next(iter(processes(home)[part]), None)


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all below it."""
    return [process, *process.children(recursive=True)]


@contextmanager
def stopped(some: Sequence[psutil.Process]) -> Iterator[None]:
    """SIGSTOP of some processes, parents first; SIGCONT at the end."""
    try:
        for one in some:
            one.suspend()
        yield
    finally:
        for one in reversed(some):
            with suppress(psutil.NoSuchProcess):
                one.resume()
