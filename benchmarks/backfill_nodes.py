"""A bulk job on a cluster of three Ray nodes on this machine: the work spreads, and a node that is killed loses nothing.

    python -m benchmarks.backfill_nodes PHOTOS [--pictures 300]

The head and two further nodes (no CPUs for Serve, two for bulk jobs each) in a folder of their own, removed afterwards.
Prints the nodes that the workers of each stage ran on, kills one of the further nodes with everything on it in the middle
of indexing, and ends with 1 unless every picture is PROCESSED and `safeguard check` finds nothing.
"""

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path

from rich.console import Console

from benchmarks.backfill_faults import SOURCE, follow, put_corpus
from benchmarks.nodes import MORE_NODES, Node, wait_for_nodes
from benchmarks.pictures import corpus
from benchmarks.servers import installation
from graphs.check import check
from graphs.jobs import show, start
from graphs.service import up
from storage.job_tables import JobStatus


def main() -> None:
    """Runs it and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=300)
    options = parser.parse_args()
    os.environ[MORE_NODES] = "1"
    console = Console(width=110, highlight=False)
    data = corpus(options.photos, options.pictures)
    with installation() as home:
        running = up(home, say=lambda _: None)
        asyncio.run(put_corpus(running.settings, data))
        nodes = [Node(running.settings, number) for number in (1, 2)]
        for node in nodes:
            console.print(f"{node.name} started (process {node.pid})")
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
