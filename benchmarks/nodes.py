"""Further Ray nodes of an installation on this machine, beside the head that `up` starts."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import psutil

from configs.settings import Settings
from deployments.job_submission import ask_dashboard
from graphs.cluster import RayCluster
from storage.embedded.ports import Ports

MORE_NODES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 1 in the environment of `up`: a head on loopback alone takes no further nodes."""


class Node:
    """One further Ray node of an installation, in a session of its own so that all of it can be killed at once.

    Args:
        settings: of the installation.
        number: tells it from others.
        head: where the head is reached from it.
        address: where the head reaches it.
        within: a command that runs another one, such as in a network namespace.
        environment: beside that of the cluster.
        bulk: CPUs that it offers to bulk jobs; it has none for Serve.
    """

    def __init__(
        self,
        settings: Settings,
        number: int,
        *,
        head: str = "127.0.0.1",
        address: str = "127.0.0.1",
        within: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        bulk: int = 2,
    ) -> None:
        ports = Ports(settings.home)
        given = [
            f"--{option}={ports.take(f'node_{number}_{option}')}"
            for option in (
                "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port",
                "metrics-export-port", "node-manager-port", "object-manager-port",
            )
        ]  # fmt: skip
        command = [
            *within, sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={head}:{ports.get('ray_gcs')}",
            "--block", f"--node-ip-address={address}", "--disable-usage-stats", "--num-cpus=0",
            f'--resources={{"bulk": {bulk}}}', f"--node-name=node-{number}",
            f"--object-store-memory={100 * 2**20}", "--min-worker-port=0", "--max-worker-port=0", *given,
        ]  # fmt: skip
        self.name = f"node-{number}"
        everything = os.environ | RayCluster(settings).environment() | dict(environment or {})
        with (settings.home / f"{self.name}.log").open("wb") as log:
            self._process = subprocess.Popen(command, env=everything, stdout=log, stderr=log, start_new_session=True)

    @property
    def pid(self) -> int:
        """Of the process that all of it is below."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """All processes below it."""
        try:
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def workers(self) -> Counter[str]:
        """Workers of the job's stages that run on it now."""
        return Counter(stage for process in self.processes() for stage in [_stage(process)] if stage)

    def kill(self) -> int:
        """kill -9 of everything on it; returns how many processes that were."""
        everything = self.processes()
        for process in everything:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait()
        return len(everything)


def living_nodes(settings: Settings) -> list[str]:
    """The names of the nodes that the head holds for alive; its own is the empty one, or an address."""
    cluster = RayCluster(settings)
    content = ask_dashboard(cluster.dashboard, cluster.token_file, "GET", "/nodes?view=summary")
    raylets = [one.get("raylet", {}) for one in content["data"]["summary"]]
    return [str(one.get("nodeName", "")) for one in raylets if one.get("state") == "ALIVE"]


def wait_for_nodes(settings: Settings, count: int, limit_s: float = 120.0) -> None:
    """Returns when the cluster has so many nodes.

    Raises:
        TimeoutError: it has not; the nodes' logs lie in the home.
    """
    end = time.monotonic() + limit_s
    while (alive := len(living_nodes(settings))) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"the cluster has {alive} nodes of {count} after {limit_s:.0f} s")
        time.sleep(1)


def _stage(process: psutil.Process) -> str | None:
    try:
        title = " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return None
    return title.partition("MapBatches(")[2].partition(")")[0] if "MapWorker(MapBatches(" in title else None
