"""A bulk job on a cluster of three Ray nodes on this machine: the work spreads, and a node that is killed loses nothing.

    python -m benchmarks.backfill_nodes PHOTOS [--pictures 300]

The head and two further nodes (no CPUs for Serve, two for bulk jobs each) in a folder of their own, removed afterwards.
Prints the nodes that the workers of each stage ran on, kills one of the further nodes with everything on it in the middle
of indexing, and ends with 1 unless every picture is PROCESSED and `safeguard check` finds nothing.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks.backfill_faults import SOURCE, follow, put_corpus
from benchmarks.pictures import corpus
from benchmarks.servers import installation
from configs.settings import Settings
from deployments.job_submission import ask_dashboard
from graphs.check import check
from graphs.cluster import RayCluster
from graphs.jobs import show, start
from graphs.service import up
from storage.embedded.ports import Ports
from storage.job_tables import JobStatus


class Node:
    """One further Ray node of an installation, in a session of its own so that all of it can be killed at once."""

    def __init__(self, settings: Settings, number: int, console: Console) -> None:
        ports = Ports(settings.home)
        given = [
            f"--{option}={ports.take(f'node_{number}_{option}')}"
            for option in (
                "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port",
                "metrics-export-port", "node-manager-port", "object-manager-port",
            )
        ]  # fmt: skip
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", f"--address=127.0.0.1:{ports.get('ray_gcs')}", "--block",
            "--node-ip-address=127.0.0.1", "--disable-usage-stats", "--num-cpus=0", '--resources={"bulk": 2}',
            f"--node-name=node-{number}", f"--object-store-memory={100 * 2**20}", "--min-worker-port=0",
            "--max-worker-port=0", *given,
        ]  # fmt: skip
        log = (settings.home / f"node-{number}.log").open("wb")
        environment = os.environ | RayCluster(settings).environment()
        self.name = f"node-{number}"
        self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        console.print(f"{self.name} started (process {self._process.pid})")

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


def wait_for_nodes(settings: Settings, count: int, limit_s: float = 120.0) -> None:
    """Returns when the cluster has so many nodes.

    Raises:
        TimeoutError: it has not; the nodes' logs lie in the home.
    """
    cluster = RayCluster(settings)
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        content = ask_dashboard(cluster.dashboard, cluster.token_file, "GET", "/nodes?view=summary")
        alive = [one for one in content["data"]["summary"] if one.get("raylet", {}).get("state") == "ALIVE"]
        if len(alive) >= count:
            return
        time.sleep(1)
    raise TimeoutError(f"the cluster has {len(alive)} nodes of {count} after {limit_s:.0f} s")


def _stage(process: psutil.Process) -> str | None:
    try:
        title = " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return None
    return title.partition("MapBatches(")[2].partition(")")[0] if "MapWorker(MapBatches(" in title else None


def main() -> None:
    """Runs it and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=300)
    options = parser.parse_args()
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"  # a head on loopback alone takes no further nodes
    console = Console(width=110, highlight=False)
    data = corpus(options.photos, options.pictures)
    with installation() as home:
        running = up(home, say=lambda _: None)
        asyncio.run(put_corpus(running.settings, data))
        nodes = [Node(running.settings, number, console) for number in (1, 2)]
        wait_for_nodes(running.settings, 1 + len(nodes))
        job = asyncio.run(
            start(home, SOURCE, model_name=None, cpus=5, gpus=0, reads_per_s=None, niceness=0, segment_units=1024)
        )
        assert job.id is not None
        spread: dict[str, Counter[str]] = {node.name: Counter() for node in nodes}
        killed = False
        while (now := asyncio.run(show(home, job.id))).status not in (JobStatus.DONE, JobStatus.FAILED):
            for node in nodes:
                spread[node.name] |= node.workers()
            if not killed and now.indexed >= options.pictures // 4:
                count = nodes[1].kill()
                console.print(f"{now.indexed} pictures indexed: killed {nodes[1].name}, {count} processes")
                killed = True
            time.sleep(0.5)
        follow(home, job.id, 5)
        ended = asyncio.run(show(home, job.id))
        report = check(home, repair=False, grace_s=None)
        for node in nodes:
            node.kill()
    for name, stages in spread.items():
        console.print(f"workers on {name}: {dict(stages)}")
    console.print(
        f"job {ended.status}: {ended.done} of {len(data)} pictures done, {ended.failed} broken objects failed"
    )
    console.print("check: consistent" if report.clean else f"check: {report.as_dict()}")
    good = killed and ended.status == JobStatus.DONE and ended.done == len(data) and report.clean
    good = good and all(stages for stages in spread.values())
    console.print("nothing was lost" if good else "NOT as it should be")
    sys.exit(not good)


if __name__ == "__main__":
    main()
